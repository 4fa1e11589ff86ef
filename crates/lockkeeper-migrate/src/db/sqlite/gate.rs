//! Lockkeeper's tables in the file, and the gate row.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use lockkeeper_core::epoch::{GateEpoch, LeaderEpoch};
use lockkeeper_core::version::SchemaVersion;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::meta;
use super::session::{self, Session};
use crate::db::{Claim, DbError, ExecutorId, GateRow, ServerIdentity, TakeError};

/// What tells this file from a copy of it: its inode. The device number is left out, since it may change when
/// the machine starts again, and the path, since it differs from container to container.
pub(super) fn identity(path: &Path) -> Result<ServerIdentity, DbError> {
    // Only ever stat: closing a second descriptor of the file would drop every SQLite lock of this process.
    let metadata = std::fs::metadata(path).map_err(|error| DbError::Unreachable {
        place: session::place(path),
        reason: error.to_string(),
    })?;
    Ok(ServerIdentity(format!("sqlite inode {}", metadata.ino())))
}

/// Makes the gate row when it is missing. The caller holds the write lock and has made the tables.
pub(super) async fn ensure_row(session: &Session, identity: &ServerIdentity) -> Result<(), DbError> {
    let sql =
        "INSERT INTO lockkeeper_gate (identity) SELECT ? WHERE NOT EXISTS (SELECT 1 FROM lockkeeper_gate)";
    session
        .rows(sqlx::query(sql).bind(identity.0.clone()))
        .await
        .map(|_| ())
}

/// Whether lockkeeper has been here.
pub(super) async fn exist(session: &Session) -> Result<bool, DbError> {
    let sql = "SELECT count(*) AS n FROM sqlite_master WHERE type = 'table' \
               AND name IN ('lockkeeper_gate', 'lockkeeper_ledger', 'lockkeeper_journal')";
    let rows = session.rows(sqlx::query(sql)).await?;
    Ok(count(&rows)? == 3)
}

/// The gate row; `None` when there is none yet.
pub(super) async fn read(session: &Session) -> Result<Option<GateRow>, DbError> {
    if !exist(session).await? {
        return Ok(None);
    }
    meta::read(session).await?;
    rows_of(session).await?.first().map(gate_row).transpose()
}

/// The gate row of a file whose tables are known to be there.
pub(super) async fn read_row(session: &Session) -> Result<GateRow, DbError> {
    let rows = rows_of(session).await?;
    rows.first()
        .map(gate_row)
        .transpose()?
        .ok_or_else(|| foreign("lockkeeper_gate has no row".to_owned()))
}

/// Who runs the registered executor, for people.
pub(super) async fn executor_who(session: &Session) -> Result<Option<String>, DbError> {
    let rows = session
        .rows(sqlx::query("SELECT executor_who FROM lockkeeper_gate"))
        .await?;
    rows.first().map_or(Ok(None), |row| optional(row, "executor_who"))
}

/// When the row was changed last, UTC.
pub(super) async fn changed_at(session: &Session) -> Result<Option<String>, DbError> {
    let rows = session
        .rows(sqlx::query("SELECT changed_at FROM lockkeeper_gate"))
        .await?;
    rows.first().map_or(Ok(None), |row| optional(row, "changed_at"))
}

async fn rows_of(session: &Session) -> Result<Vec<SqliteRow>, DbError> {
    let sql = "SELECT identity, generation, revision, leader_id, gate_epoch, opened, version, \
               executor_session, executor_started, rollout FROM lockkeeper_gate";
    session.rows(sqlx::query(sql)).await
}

fn gate_row(row: &SqliteRow) -> Result<GateRow, DbError> {
    let leader_id = optional(row, "leader_id")?
        .map(|id| Uuid::parse_str(&id).map_err(|_| foreign(format!("leader_id {id:?} is no id"))))
        .transpose()?;
    let executor = optional(row, "executor_session")?.zip(optional(row, "executor_started")?);
    Ok(GateRow {
        identity: ServerIdentity(text(row, "identity")?),
        leader_epoch: LeaderEpoch {
            generation: number(row, "generation")?,
            revision: number(row, "revision")?,
        },
        leader_id,
        gate_epoch: GateEpoch(number(row, "gate_epoch")?),
        opened: GateEpoch(number(row, "opened")?),
        version: optional(row, "version")?.map(SchemaVersion),
        executor: executor.map(|(session, started)| ExecutorId { session, started }),
        rollout: optional(row, "rollout")?,
    })
}

/// Writes the row back whole. The caller holds the write lock and has read the row under it.
pub(super) async fn write(session: &Session, row: &GateRow, who: Option<&str>) -> Result<(), DbError> {
    let sql = "UPDATE lockkeeper_gate SET identity = ?, generation = ?, revision = ?, leader_id = ?, \
               gate_epoch = ?, opened = ?, version = ?, executor_session = ?, executor_started = ?, \
               executor_who = ?, rollout = ?, changed_at = strftime('%Y-%m-%d %H:%M:%f', 'now')";
    let query = sqlx::query(sql)
        .bind(row.identity.0.clone())
        .bind(signed(row.leader_epoch.generation)?)
        .bind(signed(row.leader_epoch.revision)?)
        .bind(row.leader_id.map(|id| id.to_string()))
        .bind(signed(row.gate_epoch.0)?)
        .bind(signed(row.opened.0)?)
        .bind(row.version.as_ref().map(|version| version.0.clone()))
        .bind(row.executor.as_ref().map(|executor| executor.session.clone()))
        .bind(row.executor.as_ref().map(|executor| executor.started.clone()))
        .bind(who.map(str::to_owned))
        .bind(row.rollout.clone());
    session.rows(query).await.map(|_| ())
}

/// Whether `claim` may have a target whose row is `row`.
pub(super) fn check_claim(row: &GateRow, claim: &Claim) -> Result<(), TakeError> {
    match claim {
        Claim::Leader { epoch, id } => row
            .admit(*epoch, *id)
            .map_err(|refused| TakeError::refused(refused, *epoch)),
        Claim::Standalone { .. } if row.is_closed() => Err(TakeError::GateClosed {
            rollout: row.rollout.clone().unwrap_or_else(|| "(unnamed)".to_owned()),
            epoch: row.gate_epoch,
        }),
        Claim::Standalone { .. } => Ok(()),
    }
}

/// SQLite's integers are signed; epochs never come near the end of them.
pub(super) fn signed(value: u64) -> Result<i64, DbError> {
    i64::try_from(value).map_err(|_| DbError::Unsupported(format!("{value} does not fit SQLite's integers")))
}

pub(super) fn number(row: &SqliteRow, column: &str) -> Result<u64, DbError> {
    let value: i64 = row.try_get(column).map_err(|error| foreign(error.to_string()))?;
    u64::try_from(value).map_err(|_| foreign(format!("{column} is negative")))
}

pub(super) fn text(row: &SqliteRow, column: &str) -> Result<String, DbError> {
    row.try_get(column).map_err(|error| foreign(error.to_string()))
}

pub(super) fn optional(row: &SqliteRow, column: &str) -> Result<Option<String>, DbError> {
    row.try_get(column).map_err(|error| foreign(error.to_string()))
}

pub(super) fn integer(row: &SqliteRow, column: &str) -> Result<i64, DbError> {
    row.try_get(column).map_err(|error| foreign(error.to_string()))
}

/// The answer of a `SELECT count(*) AS n`.
pub(super) fn count(rows: &[SqliteRow]) -> Result<i64, DbError> {
    rows.first().map_or(Ok(0), |row| integer(row, "n"))
}

fn foreign(detail: String) -> DbError {
    DbError::ForeignTable {
        table: "lockkeeper_*".to_owned(),
        detail,
    }
}
