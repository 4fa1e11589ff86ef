//! diesel's `__diesel_schema_migrations`.

use super::{Change, Column, Event, Origin, Row, Tool, Value};
use crate::dialect::Dialect;
use crate::ledger::LedgerEntry;
use crate::source::Direction;

#[derive(Debug)]
pub(super) struct Diesel;

impl Origin for Diesel {
    fn tool(&self) -> Tool {
        Tool::Diesel
    }

    fn table(&self) -> &'static str {
        "__diesel_schema_migrations"
    }

    fn create(&self, _dialect: Dialect) -> &'static [&'static str] {
        &["CREATE TABLE {table} (version VARCHAR(50) PRIMARY KEY NOT NULL, \
           run_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)"]
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::plain("version"), Column::time("run_on")] }
    }

    fn oldest_first(&self) -> &'static str {
        // Many rows have the same second.
        "version"
    }

    fn read(&self, rows: &[Row]) -> Result<Vec<LedgerEntry>, String> {
        let entry = |row: &Row| {
            let [Some(version), time] = row.as_slice() else {
                return Err("a row has no version".to_owned());
            };
            Ok(LedgerEntry {
                applied_at_unix_ms: time.as_deref().and_then(|t| t.parse().ok()).unwrap_or(0),
                ..LedgerEntry::of_tool(Tool::Diesel, version)
            })
        };
        rows.iter().map(entry).collect()
    }

    fn finish(&self, _dialect: Dialect, event: &Event<'_>) -> Vec<Change> {
        let version = Value::text(event.version());
        vec![match event.direction {
            Direction::Up => Change::Insert(vec![("version", version)]),
            Direction::Down => Change::Delete {
                column: "version",
                value: version,
            },
        }]
    }
}
