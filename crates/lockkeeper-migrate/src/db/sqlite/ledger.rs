//! The ledger's rows.

use std::time::Duration;

use lockkeeper_core::epoch::LeaderEpoch;
use lockkeeper_core::version::SchemaVersion;
use sqlx::sqlite::SqliteRow;

use super::gate::{integer, number, signed, text};
use super::session::Session;
use crate::db::{DbError, LedgerWrite};
use crate::ledger::{EntryState, LedgerEntry};

/// Columns of an entry; a Julian day is turned into milliseconds since 1970.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT version, name, checksum, layout, duration_ms, applied_by, generation, revision, ",
            "CAST(round((julianday(applied_at) - 2440587.5) * 86400000) AS INTEGER) AS applied_at_ms ",
            "FROM lockkeeper_ledger ",
            $rest
        )
    };
}

/// The whole ledger, in the order in which it was written: rows leave it only from its end.
pub(super) async fn all(session: &Session) -> Result<Vec<LedgerEntry>, DbError> {
    let rows = session.rows(sqlx::query(select!("ORDER BY rowid"))).await?;
    rows.iter().map(entry).collect()
}

pub(super) async fn find(session: &Session, version: &SchemaVersion) -> Result<Option<LedgerEntry>, DbError> {
    let rows = session
        .rows(sqlx::query(select!("WHERE version = ?")).bind(version.0.clone()))
        .await?;
    rows.first().map(entry).transpose()
}

fn entry(row: &SqliteRow) -> Result<LedgerEntry, DbError> {
    let epoch = LeaderEpoch {
        generation: number(row, "generation")?,
        revision: number(row, "revision")?,
    };
    Ok(LedgerEntry {
        version: text(row, "version")?.into(),
        name: text(row, "name")?,
        checksum_up: text(row, "checksum")?.into(),
        applied_at_unix_ms: integer(row, "applied_at_ms")?,
        duration_ms: integer(row, "duration_ms")?,
        applied_by: text(row, "applied_by")?,
        leader_epoch: (epoch != LeaderEpoch::NONE).then(|| epoch.to_string()),
        layout: text(row, "layout")?,
        // SQLite gives none.
        warnings: 0,
        // A statement and its record are one transaction here: nothing is ever in doubt.
        state: EntryState::Applied,
    })
}

pub(super) async fn insert(
    session: &Session,
    write: &LedgerWrite,
    duration: Duration,
    epoch: LeaderEpoch,
) -> Result<(), DbError> {
    let sql = "INSERT INTO lockkeeper_ledger \
               (version, name, checksum, layout, duration_ms, applied_by, generation, revision) \
               VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    let query = sqlx::query(sql)
        .bind(write.version.0.clone())
        .bind(write.name.clone())
        .bind(write.checksum.clone())
        .bind(write.layout.clone())
        .bind(signed(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))?)
        .bind(write.applied_by.clone())
        .bind(signed(epoch.generation)?)
        .bind(signed(epoch.revision)?);
    session.rows(query).await.map(|_| ())
}

pub(super) async fn remove(session: &Session, version: &SchemaVersion) -> Result<(), DbError> {
    let sql = "DELETE FROM lockkeeper_ledger WHERE version = ?";
    session
        .rows(sqlx::query(sql).bind(version.0.clone()))
        .await
        .map(|_| ())
}
