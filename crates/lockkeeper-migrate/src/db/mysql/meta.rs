//! The format of lockkeeper's own tables, and which ledger holds the history.

use super::failure::Failure;
use super::session::Session;
use super::target::Target;
use super::text::literal;
use crate::db::DbError;
use crate::ledger::format::{FORMAT, MADE_BY};
use crate::ledger::{ChoiceError, LedgerChoice};

/// From format 1 to 2.
const UPGRADE_SQL: &str = include_str!("../../../../../migrations/lockkeeper/upgrades/2.mysql.sql");

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
            "superseded",
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
            "warnings",
            "doubtful",
            "place",
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

impl Meta {
    /// Reads it, and refuses tables of a newer format or of another shape. The three oldest tables are there.
    pub(super) async fn read(session: &mut Session, target: &Target) -> Result<Self, DbError> {
        let columns = own_columns(session, target).await?;
        let meta = if columns.iter().any(|(table, _)| table == "lockkeeper_meta") {
            Self::read_row(session, target).await?
        } else {
            None
        };
        // Without the row the tables are as old as they can be.
        let meta = meta.unwrap_or(Self {
            format: 1,
            kept: LedgerChoice::Own,
        });
        if meta.missing_in(&columns).is_none() {
            return Ok(meta);
        }
        // Another runner may have made the tables between the two looks.
        match meta.missing_in(&own_columns(session, target).await?) {
            None => Ok(meta),
            Some((format, table, name)) => Err(foreign(
                table,
                &format!("column {name} is missing (format {format}); it is not lockkeeper's"),
            )),
        }
    }

    /// The first column of these tables that a database of this format has and this one lacks.
    fn missing_in(&self, columns: &[(String, String)]) -> Option<(i64, &'static str, &'static str)> {
        let known = SHAPE.iter().filter(|(format, ..)| *format <= self.format);
        let named =
            known.flat_map(|(format, table, names)| names.iter().map(|name| (*format, *table, *name)));
        let is_there =
            |table: &str, name: &str| columns.iter().any(|(t, column)| t == table && column == name);
        named.into_iter().find(|(_, table, name)| !is_there(table, name))
    }

    async fn read_row(session: &mut Session, target: &Target) -> Result<Option<Self>, DbError> {
        let query = format!(
            "SELECT format, made_by, ledger FROM {}",
            target.own("lockkeeper_meta")
        );
        let Some(row) = session.row(&query).await? else {
            return Ok(None);
        };
        let [format, made_by, ledger] = <[_; 3]>::try_from(row).unwrap_or_default();
        let found = format.and_then(|f| f.parse().ok()).unwrap_or(i64::MAX);
        if found > FORMAT {
            return Err(DbError::NewerFormat {
                found,
                known: FORMAT,
                made_by: made_by.unwrap_or_default(),
            });
        }
        let kept = ledger.unwrap_or_default().parse();
        let kept = kept.map_err(|error: ChoiceError| foreign("lockkeeper_meta", &error.to_string()))?;
        Ok(Some(Self { format: found, kept }))
    }

    /// Brings older tables up to date. Any number of callers may do this at once: whoever comes second finds each
    /// step done.
    pub(super) async fn upgrade(session: &mut Session, target: &Target) -> Result<(), DbError> {
        let columns = own_columns(session, target).await?;
        if !columns
            .iter()
            .any(|(table, column)| table == "lockkeeper_ledger" && column == "how")
        {
            for statement in super::gate::statements(UPGRADE_SQL, "ALTER TABLE") {
                match session.run(statement).await {
                    Err(failure) if !failure.is_duplicate_column() => return Err(failure.into()),
                    Ok(_) | Err(_) => {}
                }
            }
        }
        super::gate::make_tables(session, target).await?;
        session.run(&Self::insert(target, LedgerChoice::Own)).await?;
        Ok(())
    }

    /// The statement that writes the row of tables that are as new as this release makes them.
    pub(super) fn insert(target: &Target, kept: LedgerChoice) -> String {
        format!(
            "INSERT IGNORE INTO {} (one, format, made_by, ledger, changed_at) \
             VALUES (1, {FORMAT}, {}, {}, UTC_TIMESTAMP(6))",
            target.own("lockkeeper_meta"),
            literal(MADE_BY),
            literal(kept.as_str())
        )
    }
}

/// The statement after which the history is in the chosen ledger.
pub(super) fn keep(target: &Target) -> String {
    format!(
        "UPDATE {} SET ledger = {}, changed_at = UTC_TIMESTAMP(6) WHERE one = 1",
        target.own("lockkeeper_meta"),
        literal(target.limits.ledger.as_str())
    )
}

pub(super) fn foreign(table: &str, detail: &str) -> DbError {
    DbError::ForeignTable {
        table: table.to_owned(),
        detail: detail.to_owned(),
    }
}

async fn own_columns(session: &mut Session, target: &Target) -> Result<Vec<(String, String)>, Failure> {
    let rows = session
        .rows(&format!(
            "SELECT TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {} AND {}",
            literal(&target.database),
            super::gate::IS_OWN
        ))
        .await?;
    let pair = |row: Vec<Option<String>>| {
        let [table, column] = <[_; 2]>::try_from(row).ok()?;
        Some((table?, column?))
    };
    Ok(rows.into_iter().filter_map(pair).collect())
}
