//! What a statement does to others while it runs, as plain data. Looked at in rehearsals only: it costs questions
//! between the statements.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How much is looked at while a migration runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Detail {
    /// What running it well needs.
    #[default]
    Plain,
    /// Besides, each statement is told as [`Event::Measured`](super::Event::Measured). A script runs statement by
    /// statement then, in the transaction that it would run in anyway.
    Measured,
}

/// What one statement did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measurement {
    /// Its number in the script, from 1.
    pub index: usize,
    /// Its line in the script, from 1.
    pub line: usize,
    /// Its first line, shortened.
    pub text: String,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// Rows inserted, changed, deleted or copied; `None` when the server counts none for such a statement.
    pub rows: Option<u64>,
    /// The locks that it took, or took in a stronger mode than the transaction held before. The strongest first.
    pub locks: Vec<LockTaken>,
    /// Tables and indexes that were there before and whose storage was written anew.
    pub rewritten: Vec<Rewritten>,
    /// MariaDB and MySQL: the cheapest way in which the server can do this ALTER TABLE.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub algorithm: Option<Algorithm>,
}

/// A lock on something that was there before the migration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LockTaken {
    /// What ordinary traffic waits for it.
    pub blocks: Blocks,
    /// As the server calls it.
    pub mode: String,
    /// On what.
    pub object: String,
    /// How it is known.
    pub evidence: Evidence,
}

/// Which sessions of others wait for a lock, from harmless to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Blocks {
    /// None that read and write rows, and few others.
    Nothing,
    /// Those that change the schema, or maintain the table.
    SchemaChanges,
    /// Those that write rows.
    Writes,
    /// All.
    ReadsAndWrites,
}

impl fmt::Display for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Nothing => "nothing",
            Self::SchemaChanges => "schema changes",
            Self::Writes => "writes",
            Self::ReadsAndWrites => "reads and writes",
        })
    }
}

/// How something is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// The server said so of this session, after the statement.
    Seen,
    /// The server said so at some moment while the statement ran. A lock that is held shortly may have been missed.
    Sampled,
    /// Not looked at: what the server's manual says of such a statement.
    Documented,
}

/// A table or index whose storage was written anew.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rewritten {
    /// Which.
    pub object: String,
    /// How it is known.
    pub evidence: Evidence,
}

/// How MariaDB or MySQL can do an ALTER TABLE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Algorithm {
    /// `INSTANT`, `NOCOPY`, `INPLACE` or `COPY`.
    pub name: String,
    /// The weakest `LOCK=` that the server accepts with it: `NONE`, `SHARED` or `EXCLUSIVE`.
    pub lock: String,
}

/// What one statement did, before it has a place in its script.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Effects {
    pub(crate) duration: std::time::Duration,
    pub(crate) rows: Option<u64>,
    pub(crate) locks: Vec<LockTaken>,
    pub(crate) rewritten: Vec<Rewritten>,
    pub(crate) algorithm: Option<Algorithm>,
}

/// Longest excerpt of a statement, in characters.
const EXCERPT: usize = 100;

impl Effects {
    /// Of the statement at `position` (from 0) of its script.
    pub(crate) fn of(self, position: usize, statement: &crate::sql::Statement) -> Measurement {
        let mut locks = self.locks;
        // The worst first; among equals by name.
        locks.sort_by(|a, b| {
            (b.blocks, &b.mode)
                .cmp(&(a.blocks, &a.mode))
                .then_with(|| a.object.cmp(&b.object))
        });
        let first_line = statement.shown().lines().next().unwrap_or_default();
        Measurement {
            index: position + 1,
            line: statement.line as usize,
            text: first_line.chars().take(EXCERPT).collect(),
            duration_us: u64::try_from(self.duration.as_micros()).unwrap_or(u64::MAX),
            rows: self.rows,
            locks,
            rewritten: self.rewritten,
            algorithm: self.algorithm,
        }
    }
}
