//! sqlx' `_sqlx_migrations`.

use super::{Change, Column, Event, Origin, Row, Tool, ToolSum, Value, sums};
use crate::dialect::Dialect;
use crate::ledger::{EntryState, Fingerprint, How, LedgerEntry};
use crate::source::{Direction, Migration};

#[derive(Debug)]
pub(super) struct Sqlx;

impl Origin for Sqlx {
    fn tool(&self) -> Tool {
        Tool::Sqlx
    }

    fn table(&self) -> &'static str {
        "_sqlx_migrations"
    }

    fn create(&self, dialect: Dialect) -> &'static [&'static str] {
        match dialect {
            Dialect::Postgres => &[
                "CREATE TABLE {table} (version BIGINT PRIMARY KEY, description TEXT NOT NULL, \
                 installed_on TIMESTAMPTZ NOT NULL DEFAULT now(), success BOOLEAN NOT NULL, \
                 checksum BYTEA NOT NULL, execution_time BIGINT NOT NULL)",
            ],
            Dialect::MySql | Dialect::Sqlite => &["CREATE TABLE {table} (version BIGINT PRIMARY KEY, \
                 description TEXT NOT NULL, installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, \
                 success BOOLEAN NOT NULL, checksum BLOB NOT NULL, execution_time BIGINT NOT NULL)"],
        }
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::plain("version"),
                Column::plain("description"),
                Column::time("installed_on"),
                Column::boolean("success"),
                Column::bytes("checksum"),
                Column::plain("execution_time"),
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
        let version = event.number();
        vec![match event.direction {
            Direction::Up => Change::Insert(vec![
                ("version", version),
                (
                    "description",
                    Value::Text(event.facts.migration.name.replace('_', " ")),
                ),
                ("success", Value::Boolean(true)),
                ("checksum", checksum(&event.facts.migration)),
                ("execution_time", Value::Number(nanoseconds(event))),
            ]),
            Direction::Down => Change::Delete {
                column: "version",
                value: version,
            },
        }]
    }

    fn accept_edit(&self, migration: &Migration) -> Vec<Change> {
        vec![Change::Update {
            set: vec![("checksum", checksum(migration))],
            column: "version",
            value: Value::number(migration.version.as_str()),
        }]
    }
}

fn checksum(migration: &Migration) -> Value {
    Value::Bytes(hex::decode(sums::sha384(&migration.up.raw())).unwrap_or_default())
}

/// -1 stands for what did not run.
fn nanoseconds(event: &Event<'_>) -> String {
    match event.how {
        How::Baseline => "-1".to_owned(),
        How::Ran | How::Adopted => event.duration.as_nanos().to_string(),
    }
}

fn entry(row: &Row) -> Result<LedgerEntry, String> {
    let [Some(version), name, time, success, Some(checksum), duration] = row.as_slice() else {
        return Err("a row has no version or no checksum".to_owned());
    };
    let number = |text: &Option<String>| text.as_deref().and_then(|t| t.parse::<i64>().ok()).unwrap_or(0);
    let state = if success.as_deref() == Some("1") {
        EntryState::Applied
    } else {
        EntryState::Dirty(Tool::Sqlx)
    };
    Ok(LedgerEntry {
        name: name.clone().unwrap_or_default(),
        checksum_up: Fingerprint::Tool(ToolSum::Sha384(checksum.clone())),
        applied_at_unix_ms: number(time),
        duration_ms: number(duration).max(0) / 1_000_000,
        state,
        ..LedgerEntry::of_tool(Tool::Sqlx, version)
    })
}
