//! refinery's `refinery_schema_history`.

use super::{Change, Column, Event, Origin, Row, Tool, ToolSum, Value, sums};
use crate::dialect::Dialect;
use crate::ledger::{Fingerprint, LedgerEntry};
use crate::source::{Direction, Migration};

#[derive(Debug)]
pub(super) struct Refinery;

impl Origin for Refinery {
    fn tool(&self) -> Tool {
        Tool::Refinery
    }

    fn table(&self) -> &'static str {
        "refinery_schema_history"
    }

    fn create(&self, _dialect: Dialect) -> &'static [&'static str] {
        &[
            "CREATE TABLE {table}(version INT4 PRIMARY KEY, name VARCHAR(255), applied_on VARCHAR(255), \
           checksum VARCHAR(255))",
        ]
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::plain("version"),
                Column::plain("name"),
                Column::plain("applied_on"),
                Column::plain("checksum"),
            ]
        }
    }

    fn oldest_first(&self) -> &'static str {
        "version"
    }

    fn read(&self, rows: &[Row]) -> Result<Vec<LedgerEntry>, String> {
        rows.iter().map(entry).collect()
    }

    fn finish(&self, _dialect: Dialect, event: &Event<'_>) -> Vec<Change> {
        let migration = &event.facts.migration;
        vec![match event.direction {
            Direction::Up => Change::Insert(vec![
                ("version", event.number()),
                ("name", Value::text(&migration.name)),
                ("applied_on", Value::Text(rfc3339(event.at_unix_ms))),
                ("checksum", Value::Text(sums::sip13(migration))),
            ]),
            Direction::Down => Change::Delete {
                column: "version",
                value: event.number(),
            },
        }]
    }

    fn accept_edit(&self, migration: &Migration) -> Vec<Change> {
        vec![Change::Update {
            set: vec![
                ("name", Value::text(&migration.name)),
                ("checksum", Value::Text(sums::sip13(migration))),
            ],
            column: "version",
            value: Value::number(migration.version.as_str()),
        }]
    }
}

/// As refinery writes it, and needs it to read the row again.
fn rfc3339(unix_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(unix_ms)
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .to_string()
}

fn entry(row: &Row) -> Result<LedgerEntry, String> {
    let [Some(version), name, applied_on, Some(checksum)] = row.as_slice() else {
        return Err("a row has no version or no checksum".to_owned());
    };
    let time = applied_on
        .as_deref()
        .and_then(|t| t.parse::<jiff::Timestamp>().ok());
    Ok(LedgerEntry {
        name: name.clone().unwrap_or_default(),
        checksum_up: Fingerprint::Tool(ToolSum::Sip13(checksum.clone())),
        applied_at_unix_ms: time.map_or(0, jiff::Timestamp::as_millisecond),
        ..LedgerEntry::of_tool(Tool::Refinery, version)
    })
}
