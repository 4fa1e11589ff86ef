//! dbmate's `schema_migrations`.

use super::{Change, Column, Event, Origin, Row, Tool, Value};
use crate::dialect::Dialect;
use crate::ledger::LedgerEntry;
use crate::source::Direction;

#[derive(Debug)]
pub(super) struct Dbmate;

impl Origin for Dbmate {
    fn tool(&self) -> Tool {
        Tool::Dbmate
    }

    fn table(&self) -> &'static str {
        "schema_migrations"
    }

    fn create(&self, dialect: Dialect) -> &'static [&'static str] {
        match dialect {
            Dialect::Postgres => &["create table {table} (version varchar primary key)"],
            Dialect::MySql | Dialect::Sqlite => &["create table {table} (version varchar(128) primary key)"],
        }
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::plain("version")] }
    }

    fn oldest_first(&self) -> &'static str {
        "version"
    }

    fn read(&self, rows: &[Row]) -> Result<Vec<LedgerEntry>, String> {
        let entry = |row: &Row| {
            let version = row.first().cloned().flatten().unwrap_or_default();
            LedgerEntry::of_tool(Tool::Dbmate, &version)
        };
        Ok(rows.iter().map(entry).collect())
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
