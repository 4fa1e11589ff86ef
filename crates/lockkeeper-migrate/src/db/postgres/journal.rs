//! The journal's rows: what became of each unit of a migration that is under way.

use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::schema::Names;
use super::session::db_error;
use super::units::{Unit, UnitKind};
use crate::db::{ApplyError, DbError, LedgerWrite};

/// How far a unit got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It was sent; its answer is not recorded.
    Started,
    /// It took effect.
    Done,
    /// It was looked at, and nobody could tell.
    InDoubt,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Done => "done",
            Self::InDoubt => "in doubt",
        }
    }
}

/// One row.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    position: i32,
    hash: String,
    pub(super) state: State,
}

/// The rows of one migration in one direction.
pub(super) async fn read(
    conn: &mut PgConnection,
    names: &Names,
    write: &LedgerWrite,
) -> Result<Vec<Mark>, DbError> {
    let query = format!(
        "SELECT position, hash, state FROM {} WHERE version = $1 AND direction = $2",
        names.journal
    );
    let rows = sqlx::query(AssertSqlSafe(query))
        .bind(write.version.as_str())
        .bind(write.direction.to_string())
        .fetch_all(conn)
        .await
        .map_err(db_error)?;
    let mark = |row: &sqlx::postgres::PgRow| Mark {
        position: row.get(0),
        hash: row.get(1),
        state: match row.get::<String, _>(2).as_str() {
            "done" => State::Done,
            "started" => State::Started,
            _ => State::InDoubt,
        },
    };
    Ok(rows.iter().map(mark).collect())
}

/// The row of a unit, if there is one. One that was written for another text is an error: the file was edited
/// while its migration was under way, and nobody can tell what the rest of it means now.
pub(super) fn take(marks: &mut Vec<Mark>, unit: &Unit<'_>) -> Result<Option<Mark>, ApplyError> {
    let position = position(unit);
    let Some(at) = marks.iter().position(|mark| mark.position == position) else {
        return Ok(None);
    };
    let mark = marks.swap_remove(at);
    if mark.hash == hash(unit) {
        return Ok(Some(mark));
    }
    Err(ApplyError::InDoubt {
        line: unit.line(),
        index: unit.first + 1,
        seen: "the journal records another text at this place: the file was edited after a part of it ran; put the \
               old text back"
            .to_owned(),
    })
}

/// Writes a unit's row.
pub(super) async fn mark(
    tx: &mut PgConnection,
    names: &Names,
    write: &LedgerWrite,
    unit: &Unit<'_>,
    state: State,
) -> Result<(), DbError> {
    if unit.kind == UnitKind::Session {
        return Ok(());
    }
    let upsert = format!(
        "INSERT INTO {} AS j (version, direction, position, hash, state, finished_at) \
         VALUES ($1, $2, $3, $4, $5, CASE WHEN $5 = 'done' THEN clock_timestamp() END) \
         ON CONFLICT (version, direction, position) \
         DO UPDATE SET state = excluded.state, finished_at = excluded.finished_at",
        names.journal
    );
    sqlx::query(AssertSqlSafe(upsert))
        .bind(write.version.as_str())
        .bind(write.direction.to_string())
        .bind(position(unit))
        .bind(hash(unit))
        .bind(state.as_str())
        .execute(tx)
        .await
        .map_err(db_error)?;
    Ok(())
}

/// Takes a unit's row out: it is known to have had no effect.
pub(super) async fn forget(
    tx: &mut PgConnection,
    names: &Names,
    write: &LedgerWrite,
    unit: &Unit<'_>,
) -> Result<(), DbError> {
    let delete = format!(
        "DELETE FROM {} WHERE version = $1 AND direction = $2 AND position = $3",
        names.journal
    );
    sqlx::query(AssertSqlSafe(delete))
        .bind(write.version.as_str())
        .bind(write.direction.to_string())
        .bind(position(unit))
        .execute(tx)
        .await
        .map_err(db_error)?;
    Ok(())
}

fn position(unit: &Unit<'_>) -> i32 {
    i32::try_from(unit.first + 1).unwrap_or(i32::MAX)
}

fn hash(unit: &Unit<'_>) -> String {
    let mut digest = Sha256::new();
    for statement in unit.statements {
        digest.update(statement.text.as_bytes());
        digest.update([0]);
        if let Some(rows) = &statement.rows {
            digest.update(rows.text.as_bytes());
            digest.update([0]);
        }
    }
    hex::encode(digest.finalize())
}
