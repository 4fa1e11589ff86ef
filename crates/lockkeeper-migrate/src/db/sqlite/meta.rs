//! The format of lockkeeper's own tables, and which ledger holds the history.

use super::gate::{integer, text};
use super::session::Session;
use crate::db::DbError;
use crate::ledger::format::{FORMAT, MADE_BY};
use crate::ledger::{ChoiceError, LedgerChoice};

/// From format 1 to 2.
const UPGRADE: &str = include_str!("../../../../../migrations/lockkeeper/upgrades/2.sqlite.sql");
const TABLES: &str = include_str!("../../../../../migrations/lockkeeper/sqlite.sql");

/// What `lockkeeper_meta` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) format: i64,
    /// The ledger that holds the history.
    pub(super) kept: LedgerChoice,
}

/// Columns that this release reads and writes, per table and format. Further columns do not matter.
const SHAPE: &[(i64, &str, &[&str])] = &[
    (
        1,
        "lockkeeper_gate",
        &[
            "one",
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
            "changed_at",
        ],
    ),
    (
        1,
        "lockkeeper_ledger",
        &[
            "version",
            "name",
            "checksum",
            "layout",
            "applied_at",
            "duration_ms",
            "applied_by",
            "generation",
            "revision",
        ],
    ),
    (
        1,
        "lockkeeper_journal",
        &[
            "version",
            "direction",
            "position",
            "hash",
            "state",
            "started_at",
            "finished_at",
        ],
    ),
    (2, "lockkeeper_ledger", &["how"]),
    (
        2,
        "lockkeeper_edits",
        &[
            "place",
            "version",
            "was",
            "now",
            "accepted_by",
            "accepted_at",
            "reason",
        ],
    ),
];

/// Reads it, and refuses tables of a newer format or of another shape. The three oldest tables are there.
pub(super) async fn read(session: &Session) -> Result<Meta, DbError> {
    let meta = if columns(session, "lockkeeper_meta").await?.is_empty() {
        None
    } else {
        row(session).await?
    };
    // Without the row the tables are as old as they can be.
    let meta = meta.unwrap_or(Meta {
        format: 1,
        kept: LedgerChoice::Own,
    });
    for (_, table, expected) in SHAPE.iter().filter(|(format, ..)| *format <= meta.format) {
        let found = columns(session, table).await?;
        if let Some(missing) = expected.iter().find(|name| !found.iter().any(|f| f == *name)) {
            return Err(foreign(
                table,
                format!("it has the columns {}; {missing} is missing", found.join(", ")),
            ));
        }
    }
    Ok(meta)
}

async fn row(session: &Session) -> Result<Option<Meta>, DbError> {
    let rows = session
        .rows(sqlx::query("SELECT format, made_by, ledger FROM lockkeeper_meta"))
        .await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let found = integer(row, "format")?;
    if found > FORMAT {
        return Err(DbError::NewerFormat {
            found,
            known: FORMAT,
            made_by: text(row, "made_by")?,
        });
    }
    let kept = text(row, "ledger")?.parse();
    let kept = kept.map_err(|error: ChoiceError| foreign("lockkeeper_meta", error.to_string()))?;
    Ok(Some(Meta { format: found, kept }))
}

/// Makes the tables that are missing, and brings older ones up to date. The caller holds the write lock.
pub(super) async fn ensure(session: &Session, chosen: LedgerChoice) -> Result<Meta, DbError> {
    let kept = if super::gate::exist(session).await? {
        let meta = read(session).await?;
        if meta.format == FORMAT {
            return Ok(meta);
        }
        session.execute(UPGRADE).await?;
        meta.kept
    } else {
        chosen
    };
    session.execute(TABLES).await?;
    let sql = "INSERT OR IGNORE INTO lockkeeper_meta (format, made_by, ledger) VALUES (?, ?, ?)";
    let query = sqlx::query(sql).bind(FORMAT).bind(MADE_BY).bind(kept.as_str());
    session.rows(query).await?;
    read(session).await
}

/// From now on the history is in this ledger. The caller holds the write lock.
pub(super) async fn keep(session: &Session, chosen: LedgerChoice) -> Result<(), DbError> {
    let sql = "UPDATE lockkeeper_meta SET ledger = ?, changed_at = strftime('%Y-%m-%d %H:%M:%f', 'now')";
    session
        .rows(sqlx::query(sql).bind(chosen.as_str()))
        .await
        .map(drop)
}

async fn columns(session: &Session, table: &'static str) -> Result<Vec<String>, DbError> {
    let rows = session
        .rows(sqlx::query("SELECT name FROM pragma_table_info(?)").bind(table))
        .await?;
    rows.iter().map(|row| text(row, "name")).collect()
}

pub(super) fn foreign(table: &str, detail: String) -> DbError {
    DbError::ForeignTable {
        table: table.to_owned(),
        detail,
    }
}
