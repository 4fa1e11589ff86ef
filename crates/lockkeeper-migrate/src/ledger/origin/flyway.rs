//! Flyway's `flyway_schema_history`: rows are only ever added, and the last word on a version counts.

use lockkeeper_core::version::SchemaVersion;

use super::{Change, Column, Event, Origin, Row, Tool, ToolSum, Value, sums};
use crate::dialect::Dialect;
use crate::ledger::{EntryState, Extent, Fingerprint, How, LedgerEntry};
use crate::source::{Direction, Migration, MigrationKind, Script};

/// Longest description that the column takes.
const DESCRIPTION_MAX: usize = 200;

#[derive(Debug)]
pub(super) struct Flyway;

impl Origin for Flyway {
    fn tool(&self) -> Tool {
        Tool::Flyway
    }

    fn table(&self) -> &'static str {
        "flyway_schema_history"
    }

    fn create(&self, dialect: Dialect) -> &'static [&'static str] {
        match dialect {
            Dialect::Postgres => &[
                "CREATE TABLE {table} (installed_rank INT NOT NULL, version VARCHAR(50), \
                 description VARCHAR(200) NOT NULL, type VARCHAR(20) NOT NULL, script VARCHAR(1000) NOT NULL, \
                 checksum INTEGER, installed_by VARCHAR(100) NOT NULL, \
                 installed_on TIMESTAMP NOT NULL DEFAULT now(), execution_time INTEGER NOT NULL, \
                 success BOOLEAN NOT NULL)",
                "ALTER TABLE {table} ADD CONSTRAINT flyway_schema_history_pk PRIMARY KEY (installed_rank)",
                "CREATE INDEX flyway_schema_history_s_idx ON {table} (success)",
            ],
            Dialect::MySql => &[
                "CREATE TABLE {table} (installed_rank INT NOT NULL, version VARCHAR(50), \
                 description VARCHAR(200) NOT NULL, type VARCHAR(20) NOT NULL, script VARCHAR(1000) NOT NULL, \
                 checksum INT, installed_by VARCHAR(100) NOT NULL, \
                 installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, execution_time INT NOT NULL, \
                 success BOOL NOT NULL, CONSTRAINT flyway_schema_history_pk PRIMARY KEY (installed_rank))",
                "CREATE INDEX flyway_schema_history_s_idx ON {table} (success)",
            ],
            Dialect::Sqlite => &[
                "CREATE TABLE {table} (installed_rank INT NOT NULL PRIMARY KEY, version VARCHAR(50), \
                 description VARCHAR(200) NOT NULL, type VARCHAR(20) NOT NULL, script VARCHAR(1000) NOT NULL, \
                 checksum INT, installed_by VARCHAR(100) NOT NULL, \
                 installed_on TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f','now')), \
                 execution_time INT NOT NULL, success BOOLEAN NOT NULL)",
                "CREATE INDEX flyway_schema_history_s_idx ON flyway_schema_history (success)",
            ],
        }
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::plain("version"),
                Column::plain("description"),
                Column::plain("type"),
                Column::plain("checksum"),
                Column::plain("installed_by"),
                Column::time("installed_on"),
                Column::plain("execution_time"),
                Column::boolean("success"),
                Column::plain("installed_rank"),
                Column::plain("script"),
            ]
        }
    }

    fn oldest_first(&self) -> &'static str {
        "installed_rank"
    }

    fn read(&self, rows: &[Row]) -> Result<Vec<LedgerEntry>, String> {
        let mut entries = Vec::<LedgerEntry>::new();
        for row in rows {
            let [version, name, Some(kind), ..] = row.as_slice() else {
                return Err("a row has no type".to_owned());
            };
            // The row that says that Flyway made the schema.
            if kind == "SCHEMA" {
                continue;
            }
            let entry = entry(row, version.as_deref(), name.as_deref().unwrap_or_default());
            entries.retain(|older| older.version != entry.version);
            let taken_back = kind.starts_with("UNDO") || kind == "DELETE";
            if !taken_back {
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    fn finish(&self, _dialect: Dialect, event: &Event<'_>) -> Vec<Change> {
        let migration = &event.facts.migration;
        let (kind, script) = match (event.direction, &migration.down) {
            (Direction::Down, Some(down)) => ("UNDO_SQL", down),
            (Direction::Down, None) => ("UNDO_SQL", &migration.up),
            (Direction::Up, _) if migration.kind == MigrationKind::Baseline => {
                ("SQL_BASELINE", &migration.up)
            }
            (Direction::Up, _) => ("SQL", &migration.up),
        };
        let milliseconds = i32::try_from(event.duration.as_millis()).unwrap_or(i32::MAX);
        vec![Change::Insert(vec![
            ("installed_rank", Value::Next),
            ("version", version(migration)),
            ("description", Value::Text(description(migration))),
            ("type", Value::text(kind)),
            ("script", Value::Text(file_name(script))),
            ("checksum", Value::Number(sums::crc32(&script.raw()))),
            ("installed_by", Value::CurrentUser),
            ("execution_time", Value::Number(milliseconds.to_string())),
            ("success", Value::Boolean(true)),
        ])]
    }

    /// What `flyway repair` does.
    fn accept_edit(&self, migration: &Migration) -> Vec<Change> {
        vec![Change::Update {
            set: vec![
                ("description", Value::Text(description(migration))),
                ("checksum", Value::Number(sums::crc32(&migration.up.raw()))),
            ],
            column: "version",
            value: version(migration),
        }]
    }
}

/// A repeatable migration has no version: its description tells it from others.
fn version(migration: &Migration) -> Value {
    match migration.kind {
        MigrationKind::Repeatable => Value::Null,
        MigrationKind::Versioned | MigrationKind::Late | MigrationKind::Baseline => {
            Value::text(migration.version.as_str())
        }
    }
}

fn description(migration: &Migration) -> String {
    migration
        .name
        .replace('_', " ")
        .chars()
        .take(DESCRIPTION_MAX)
        .collect()
}

fn file_name(script: &Script) -> String {
    script
        .path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn entry(row: &Row, version: Option<&str>, description: &str) -> LedgerEntry {
    let column = |at: usize| row.get(at).cloned().flatten();
    let version = match version {
        Some(version) => SchemaVersion::from(version),
        None => SchemaVersion::repeatable(&description.replace(' ', "_")),
    };
    let number = |at: usize| column(at).and_then(|t| t.parse::<i64>().ok()).unwrap_or(0);
    let baseline = column(2).is_some_and(|kind| kind.ends_with("BASELINE"));
    let state = if column(7).as_deref() == Some("1") {
        EntryState::Applied
    } else {
        EntryState::Dirty(Tool::Flyway)
    };
    LedgerEntry {
        name: description.to_owned(),
        checksum_up: column(3).map_or(Fingerprint::Unknown, |sum| Fingerprint::Tool(ToolSum::Crc32(sum))),
        applied_at_unix_ms: number(5),
        duration_ms: number(6),
        applied_by: column(4).unwrap_or_default(),
        state,
        how: if baseline { How::Baseline } else { How::Ran },
        extent: if baseline { Extent::UpTo } else { Extent::One },
        ..LedgerEntry::of_tool(Tool::Flyway, version.as_str())
    }
}
