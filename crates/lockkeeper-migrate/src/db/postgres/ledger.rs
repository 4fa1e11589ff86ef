//! The ledger's rows.

use lockkeeper_core::epoch::LeaderEpoch;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::apply::Run;
use super::schema::Names;
use super::session::db_error;
use super::take::signed;
use crate::db::{DbError, LedgerWrite};
use crate::ledger::{EntryState, LedgerEntry};
use crate::source::{Checksum, Direction};

/// All entries, oldest first; behind them what the journal knows to be in doubt.
pub(super) async fn read(conn: &mut PgConnection, names: &Names) -> Result<Vec<LedgerEntry>, DbError> {
    let query = format!(
        "SELECT version, name, checksum, (extract(epoch FROM applied_at) * 1000)::bigint, duration_ms, \
                applied_by, generation, revision, layout, warnings \
         FROM {} ORDER BY applied_at, version",
        names.ledger
    );
    let rows = sqlx::query(AssertSqlSafe(query))
        .fetch_all(&mut *conn)
        .await
        .map_err(db_error)?;
    let mut entries: Vec<LedgerEntry> = rows.iter().map(entry).collect();
    let query = format!(
        "SELECT DISTINCT ON (version) version, position, (extract(epoch FROM started_at) * 1000)::bigint FROM {} \
         WHERE state = 'in doubt' ORDER BY version, position",
        names.journal
    );
    let rows = sqlx::query(AssertSqlSafe(query))
        .fetch_all(conn)
        .await
        .map_err(db_error)?;
    for row in rows {
        let state = EntryState::InDoubt {
            statement: u32::try_from(row.get::<i32, _>(1)).unwrap_or(0),
        };
        let version: String = row.get(0);
        match entries.iter_mut().find(|entry| entry.version.as_str() == version) {
            Some(entry) => entry.state = state,
            None => entries.push(doubtful(version, row.get(2), state)),
        }
    }
    Ok(entries)
}

fn entry(row: &PgRow) -> LedgerEntry {
    let number = |column: usize| u64::try_from(row.get::<i64, _>(column)).unwrap_or(0);
    let epoch = LeaderEpoch {
        generation: number(6),
        revision: number(7),
    };
    LedgerEntry {
        version: row.get::<String, _>(0).into(),
        name: row.get(1),
        checksum_up: Checksum(row.get(2)),
        applied_at_unix_ms: row.get(3),
        duration_ms: row.get(4),
        applied_by: row.get(5),
        leader_epoch: (epoch != LeaderEpoch::NONE).then(|| epoch.to_string()),
        layout: row.get(8),
        warnings: row.get(9),
        state: EntryState::Applied,
    }
}

fn doubtful(version: String, applied_at_unix_ms: i64, state: EntryState) -> LedgerEntry {
    LedgerEntry {
        version: version.into(),
        name: String::new(),
        checksum_up: Checksum(String::new()),
        applied_at_unix_ms,
        duration_ms: 0,
        applied_by: String::new(),
        leader_epoch: None,
        layout: String::new(),
        warnings: 0,
        state,
    }
}

/// Whether the ledger already says what `write` is about to make it say.
pub(super) async fn says_so(
    tx: &mut PgConnection,
    names: &Names,
    write: &LedgerWrite,
) -> Result<bool, DbError> {
    let query = format!("SELECT EXISTS (SELECT FROM {} WHERE version = $1)", names.ledger);
    let row = sqlx::query(AssertSqlSafe(query))
        .bind(write.version.as_str())
        .fetch_one(tx)
        .await
        .map_err(db_error)?;
    let there: bool = row.get(0);
    Ok(match write.direction {
        Direction::Up => there,
        Direction::Down => !there,
    })
}

/// Records that the migration was applied, or takes its record out when it was reverted; its journal goes too.
pub(super) async fn write(
    tx: &mut PgConnection,
    names: &Names,
    migration: &Run<'_>,
    epoch: LeaderEpoch,
) -> Result<(), DbError> {
    let write = migration.write;
    match write.direction {
        Direction::Up => {
            let insert = format!(
                "INSERT INTO {} (version, name, checksum, layout, duration_ms, applied_by, generation, revision, \
                    warnings) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                names.ledger
            );
            sqlx::query(AssertSqlSafe(insert))
                .bind(write.version.as_str())
                .bind(&write.name)
                .bind(&write.checksum)
                .bind(&write.layout)
                .bind(i64::try_from(migration.began.elapsed().as_millis()).unwrap_or(i64::MAX))
                .bind(&write.applied_by)
                .bind(signed(epoch.generation))
                .bind(signed(epoch.revision))
                .bind(i64::try_from(migration.heard.warnings()).unwrap_or(i64::MAX))
                .execute(&mut *tx)
                .await
                .map_err(db_error)?;
        }
        Direction::Down => {
            let delete = format!("DELETE FROM {} WHERE version = $1", names.ledger);
            sqlx::query(AssertSqlSafe(delete))
                .bind(write.version.as_str())
                .execute(&mut *tx)
                .await
                .map_err(db_error)?;
        }
    }
    let clear = format!("DELETE FROM {} WHERE version = $1", names.journal);
    sqlx::query(AssertSqlSafe(clear))
        .bind(write.version.as_str())
        .execute(tx)
        .await
        .map_err(db_error)?;
    Ok(())
}
