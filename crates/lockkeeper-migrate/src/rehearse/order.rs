//! What is to be rehearsed, and where.

use std::time::Duration;

use crate::db::DatabaseOptions;
use crate::dsn::Dsn;
use crate::plan::Goal;
use crate::source::{MigrationSet, VerifyScript};

/// One rehearsal.
#[derive(Debug, Clone)]
pub struct Order<'a> {
    /// The target: read, never changed.
    pub dsn: &'a Dsn,
    /// Where the clone is made: a database on another server (or a directory of SQLite files); `None` is beside the
    /// target.
    pub scratch: Option<&'a Dsn>,
    /// How both are reached and treated.
    pub options: DatabaseOptions,
    /// The migrations.
    pub set: &'a MigrationSet,
    /// What to reach: upwards.
    pub goal: Goal,
    /// The user's scripts, which run at the end.
    pub verify: &'a [VerifyScript],
    /// What is cloned.
    pub content: Content,
    /// What is done about statements that reach beyond the clone.
    pub reach: Reach,
    /// Clones of killed rehearsals that are at least this old are dropped.
    pub sweep_age: Duration,
    /// How long cloning may take.
    pub clone_limit: Duration,
}

/// What a clone holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// The schema, and the rows of other migrators' state tables.
    Schema,
    /// Every row too.
    Rows,
}

/// What is done about statements that change the server, or another database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Nothing is rehearsed.
    Refuse,
    /// They run.
    Allow,
}

impl Order<'_> {
    /// Where the clone is made.
    pub(super) fn place(&self) -> &Dsn {
        self.scratch.unwrap_or(self.dsn)
    }
}
