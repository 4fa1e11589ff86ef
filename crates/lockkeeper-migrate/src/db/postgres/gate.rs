//! The gate row: reading it, and holding it under a claim.

use std::ops::Deref;
use std::time::Duration;

use lockkeeper_core::epoch::{GateEpoch, LeaderEpoch};
use lockkeeper_core::version::SchemaVersion;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::schema::Names;
use super::session::{ask, is_lock_failure, lock_timeout};
use crate::db::{DbError, ExecutorId, GateRow, ServerIdentity};

/// How the row is read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lock {
    /// As this statement's snapshot shows it.
    None,
    /// For a change: the newest state, and nobody changes it meanwhile.
    ForUpdate,
}

/// The row, and who the executor is, for people.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) row: GateRow,
    pub(super) who: Option<String>,
}

const COLUMNS: [&str; 11] = [
    "identity",
    "generation",
    "revision",
    "leader_id",
    "gate_epoch",
    "opened",
    "version",
    "executor_session",
    "executor_started",
    "executor_who",
    "rollout",
];

/// Reads the row.
pub(super) async fn read(conn: &mut PgConnection, names: &Names, lock: Lock) -> Result<Found, DbError> {
    let rows = ask(conn, select(names, lock)).await?;
    found(rows.first(), names)
}

fn select(names: &Names, lock: Lock) -> String {
    let lock = match lock {
        Lock::None => "",
        Lock::ForUpdate => " FOR UPDATE",
    };
    format!("SELECT {} FROM {}{lock}", COLUMNS.join(", "), names.gate)
}

fn found(row: Option<&PgRow>, names: &Names) -> Result<Found, DbError> {
    match row.filter(|row| row.len() == COLUMNS.len()) {
        Some(row) => decode(row, names),
        None => Err(foreign(
            names,
            "the gate row is missing; put it back from a backup, or drop the table",
        )),
    }
}

fn decode(row: &PgRow, names: &Names) -> Result<Found, DbError> {
    let number = |column: usize| {
        u64::try_from(row.get::<i64, _>(column)).map_err(|_| foreign(names, "an epoch is negative"))
    };
    let leader_id = match row.get::<Option<String>, _>(3) {
        Some(text) => Some(Uuid::parse_str(&text).map_err(|_| foreign(names, "leader_id is no UUID"))?),
        None => None,
    };
    let executor = match (row.get::<Option<String>, _>(7), row.get::<Option<String>, _>(8)) {
        (Some(session), Some(started)) => Some(ExecutorId { session, started }),
        _ => None,
    };
    let gate_row = GateRow {
        identity: ServerIdentity(row.get(0)),
        leader_epoch: LeaderEpoch {
            generation: number(1)?,
            revision: number(2)?,
        },
        leader_id,
        gate_epoch: GateEpoch(number(4)?),
        opened: GateEpoch(number(5)?),
        version: row.get::<Option<String>, _>(6).map(SchemaVersion),
        executor,
        rollout: row.get(10),
    };
    Ok(Found {
        row: gate_row,
        who: row.get(9),
    })
}

fn foreign(names: &Names, detail: &str) -> DbError {
    DbError::ForeignTable {
        table: names.gate.clone(),
        detail: detail.to_owned(),
    }
}

/// What a hand may rely on, asked of this dialect's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms(pub(super) lockkeeper_core::row::Terms);

impl Deref for Terms {
    type Target = lockkeeper_core::row::Terms;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Terms {
    /// Whether the row still names this hand.
    pub(super) fn check(&self, found: &Found) -> Result<(), DbError> {
        if self.stand(&found.row) {
            Ok(())
        } else {
            Err(superseded(found))
        }
    }

    /// Locks the row until the transaction ends, and checks that it still names this hand.
    pub(super) async fn hold(
        &self,
        tx: &mut PgConnection,
        names: &Names,
        limit: Duration,
    ) -> Result<GateRow, DbError> {
        Ok(self.hold_and_ask(tx, names, limit, "").await?.0)
    }

    /// The same, and in the same message what `more` asks once the row is held. Gives its rows too.
    pub(super) async fn hold_and_ask(
        &self,
        tx: &mut PgConnection,
        names: &Names,
        limit: Duration,
        more: &str,
    ) -> Result<(GateRow, Vec<PgRow>), DbError> {
        let wait = lock_timeout(limit);
        let message = format!("{wait}; {}; {more}", select(names, Lock::ForUpdate));
        let mut rows = ask(tx, message).await.map_err(|error| {
            if is_lock_failure(&error) {
                DbError::TimedOut {
                    what: "the lock on the gate row".to_owned(),
                    blockers: Vec::new(),
                }
            } else {
                error
            }
        })?;
        let row = found(rows.first(), names)?;
        self.check(&row)?;
        rows.remove(0);
        Ok((row.row, rows))
    }
}

/// Who has the target now.
pub(super) fn superseded(found: &Found) -> DbError {
    let row = &found.row;
    let who = found.who.as_deref().unwrap_or("nobody");
    let by = match &row.executor {
        Some(executor) => format!("{} ({who}, {executor})", row.leader_epoch),
        None => format!("{} (no executor registered)", row.leader_epoch),
    };
    DbError::Superseded { by }
}
