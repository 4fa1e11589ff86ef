//! pop's `schema_migration`, as Kratos makes it.

use super::{Change, Column, Event, Origin, Row, Tool, Value};
use crate::dialect::Dialect;
use crate::ledger::{Extent, LedgerEntry};
use crate::source::Direction;

/// Rows of this many characters were written before versions had 20 digits: such a row stands for every version
/// that begins with it.
const OLD_VERSION_LENGTH: usize = 14;

#[derive(Debug)]
pub(super) struct Pop;

impl Origin for Pop {
    fn tool(&self) -> Tool {
        Tool::Pop
    }

    fn table(&self) -> &'static str {
        "schema_migration"
    }

    fn create(&self, _dialect: Dialect) -> &'static [&'static str] {
        &[
            "CREATE TABLE {table} (version VARCHAR (48) NOT NULL, version_self INT NOT NULL DEFAULT 0)",
            "CREATE UNIQUE INDEX schema_migration_version_idx ON {table} (version)",
            "CREATE INDEX schema_migration_version_self_idx ON {table} (version_self)",
        ]
    }

    fn columns(&self) -> &'static [Column] {
        // Older tables have no `version_self`, and nothing reads it.
        const { &[Column::plain("version")] }
    }

    fn oldest_first(&self) -> &'static str {
        "version"
    }

    fn read(&self, rows: &[Row]) -> Result<Vec<LedgerEntry>, String> {
        let entry = |row: &Row| {
            let version = row.first().cloned().flatten().unwrap_or_default();
            let extent = if version.len() == OLD_VERSION_LENGTH {
                Extent::Prefix
            } else {
                Extent::One
            };
            LedgerEntry {
                extent,
                ..LedgerEntry::of_tool(Tool::Pop, &version)
            }
        };
        Ok(rows.iter().map(entry).collect())
    }

    fn finish(&self, _dialect: Dialect, event: &Event<'_>) -> Vec<Change> {
        let version = event.version();
        match event.direction {
            Direction::Up => vec![Change::Insert(vec![("version", Value::text(version))])],
            // The old row goes as well, or the version would still count as applied. The versions that it stood for
            // besides have rows of their own by then.
            Direction::Down => [Some(version), version.get(..OLD_VERSION_LENGTH)]
                .into_iter()
                .flatten()
                .map(|version| Change::Delete {
                    column: "version",
                    value: Value::text(version),
                })
                .collect(),
        }
    }
}
