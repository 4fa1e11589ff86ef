//! golang-migrate's `schema_migrations`: one row with the current version.

use lockkeeper_core::version::SchemaVersion;

use super::{Change, Column, Event, Origin, Row, Tool, Value};
use crate::dialect::Dialect;
use crate::ledger::{EntryState, Extent, LedgerEntry};
use crate::source::Direction;

#[derive(Debug)]
pub(super) struct GolangMigrate;

impl Origin for GolangMigrate {
    fn tool(&self) -> Tool {
        Tool::GolangMigrate
    }

    fn table(&self) -> &'static str {
        "schema_migrations"
    }

    fn create(&self, dialect: Dialect) -> &'static [&'static str] {
        match dialect {
            Dialect::Postgres | Dialect::MySql => {
                &["CREATE TABLE {table} (version bigint not null primary key, dirty boolean not null)"]
            }
            Dialect::Sqlite => &[
                "CREATE TABLE {table} (version uint64,dirty bool)",
                "CREATE UNIQUE INDEX IF NOT EXISTS version_unique ON schema_migrations (version)",
            ],
        }
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::plain("version"), Column::boolean("dirty")] }
    }

    fn oldest_first(&self) -> &'static str {
        "version"
    }

    fn read(&self, rows: &[Row]) -> Result<Vec<LedgerEntry>, String> {
        let [row] = rows else {
            return match rows.len() {
                0 => Ok(Vec::new()),
                count => Err(format!("it has {count} rows, and golang-migrate keeps one")),
            };
        };
        let [version, dirty] = row.as_slice() else {
            return Err("a row has another number of columns".to_owned());
        };
        let state = if dirty.as_deref() == Some("1") {
            EntryState::Dirty(Tool::GolangMigrate)
        } else {
            EntryState::Applied
        };
        Ok(vec![LedgerEntry {
            state,
            extent: Extent::UpTo,
            ..LedgerEntry::of_tool(Tool::GolangMigrate, version.as_deref().unwrap_or_default())
        }])
    }

    /// The row says `dirty` while the file runs: triggers on the table, and the file itself, can see it.
    fn begin(&self, _dialect: Dialect, event: &Event<'_>) -> Vec<Change> {
        // Without a version to go back to, the tool writes this one.
        let target = target(event).unwrap_or_else(|| Value::Number("-1".to_owned()));
        vec![Change::Clear, row(target, true)]
    }

    fn finish(&self, _dialect: Dialect, event: &Event<'_>) -> Vec<Change> {
        let row = target(event).map(|version| row(version, false));
        [Some(Change::Clear), row].into_iter().flatten().collect()
    }
}

/// The version that stands afterwards.
fn target(event: &Event<'_>) -> Option<Value> {
    match event.direction {
        Direction::Up => Some(event.number()),
        Direction::Down => event
            .facts
            .below
            .as_ref()
            .map(SchemaVersion::as_str)
            .map(Value::number),
    }
}

fn row(version: Value, dirty: bool) -> Change {
    Change::Insert(vec![("version", version), ("dirty", Value::Boolean(dirty))])
}
