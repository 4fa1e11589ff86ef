//! What a person may do about a fence with nothing but the database: look at it, and release it.
//!
//! A release is an opening that no verification precedes. It is written into the gate row with who and why, so that
//! the next leader finds it, holds, and asks a person.

use std::fmt;

use async_trait::async_trait;
use lockkeeper_core::row::RELEASED_MARK;
use serde::Serialize;

use super::mysql::MySqlDatabase;
use super::postgres::Postgres;
use super::sqlite::SqliteDatabase;
use super::{Blocker, DatabaseOptions, DbError, ExecutorId, GateRow, ServerIdentity};
use crate::dialect::Dialect;
use crate::dsn::Dsn;

/// Longest text of a release in the gate row, in characters.
const MARK_MAX: usize = 255;

/// A database whose fence is looked at and released, without a fleet.
#[async_trait]
pub trait BreakGlass: Send + Sync + fmt::Debug {
    /// What stands. Changes nothing.
    async fn inspect_fence(&self) -> Result<FenceState, DbError>;

    /// Clears the executor's registration, opens the gate by one update of its row, and drops what is left of the
    /// barrier. An open gate stays as it is.
    async fn release_fence(&self, release: &Release) -> Result<Released, ReleaseError>;
}

/// The database that `dsn` names.
#[must_use]
pub fn break_glass(dsn: &Dsn) -> Box<dyn BreakGlass> {
    let options = DatabaseOptions::default();
    match dsn.dialect() {
        Dialect::Postgres => Box::new(Postgres::new(dsn, options)),
        Dialect::Sqlite => Box::new(SqliteDatabase::new(dsn.path().unwrap_or("".as_ref()), options)),
        Dialect::MySql => Box::new(MySqlDatabase::new(dsn, options)),
    }
}

/// What stands in a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FenceState {
    /// Product and release.
    pub server: String,
    /// The server as it answers now.
    pub identity: ServerIdentity,
    /// The gate row; `None`: lockkeeper has never been here.
    pub row: Option<GateRow>,
    /// Whether writers are refused.
    pub closed: bool,
    /// When the row was changed last: while the gate is closed, since when writers are refused. UTC.
    pub changed_at: Option<String>,
    /// The registered executor.
    pub executor: Option<ExecutorState>,
    /// Triggers and functions of barriers that are still there; they refuse nobody once their fence is opened.
    pub barrier: Vec<String>,
    /// Epoch tables that are there.
    pub epoch_tables: Vec<String>,
}

/// The session that may pass the barrier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExecutorState {
    /// Its identifiers.
    pub id: ExecutorId,
    /// Who runs it.
    pub who: Option<String>,
    /// Whether the server still knows it.
    pub alive: bool,
}

/// What is done about a registered executor that lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Living {
    /// The release is refused: it may be in the middle of a migration.
    Refuse,
    /// It is ended.
    End,
}

/// A person's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Why, in the person's words.
    pub reason: String,
    /// Who.
    pub who: String,
    /// What about an executor that lives.
    pub living: Living,
}

impl Release {
    /// What the gate row says afterwards; `changed_at` beside it says when.
    #[must_use]
    pub fn mark(&self) -> String {
        let text = format!("{RELEASED_MARK}{} ({})", self.reason.trim(), self.who);
        text.chars().take(MARK_MAX).collect()
    }
}

/// What a release did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Released {
    /// Whether the gate was closed.
    pub was_closed: bool,
    /// The row as it is now.
    pub row: GateRow,
    /// The executor, if it was ended.
    pub ended: Option<Blocker>,
    /// Objects of the barrier that could not be dropped yet; they refuse nobody.
    pub left: usize,
}

/// Why nothing was released.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// There is nothing to release.
    #[error("there is no gate row: lockkeeper has never been here")]
    NoGate,
    /// The executor may be in the middle of a migration.
    #[error("the registered executor lives: {executor}")]
    ExecutorLives {
        /// Its session, described.
        executor: String,
    },
    /// Something else.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Somebody has taken the target between the look and the release.
pub(super) fn taken_meanwhile() -> DbError {
    DbError::Superseded {
        by: "another session, between the look and the release: look again".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use lockkeeper_core::epoch::{GateEpoch, LeaderEpoch};

    use super::*;

    #[test]
    fn a_release_is_told_from_a_rollout() {
        let release = Release {
            reason: "all coordinators lost ".to_owned(),
            who: "ada@db1".to_owned(),
            living: Living::Refuse,
        };
        let mut row = GateRow {
            identity: ServerIdentity("x".to_owned()),
            leader_epoch: LeaderEpoch::NONE,
            leader_id: None,
            gate_epoch: GateEpoch(8),
            opened: GateEpoch(8),
            version: None,
            executor: None,
            rollout: Some(release.mark()),
        };
        assert_eq!(row.released_by_hand(), Some("all coordinators lost (ada@db1)"));
        row.opened = GateEpoch(7);
        assert_eq!(row.released_by_hand(), None);
        row.opened = GateEpoch(8);
        row.rollout = Some("shop-1".to_owned());
        assert_eq!(row.released_by_hand(), None);
    }
}
