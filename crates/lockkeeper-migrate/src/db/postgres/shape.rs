//! What lockkeeper's own tables look like, and whether those that are here look so.

use sqlx::{PgConnection, Row};

use super::session::{ask, literal};
use crate::db::DbError;

/// A table's columns with their types. Further columns do not matter.
type Shape = (&'static str, &'static [(&'static str, &'static str)]);

/// The tables of format 1, as far as this release reads and writes them.
pub(super) const FIRST: &[Shape] = &[
    (
        "lockkeeper_gate",
        &[
            ("one", "boolean"),
            ("identity", "text"),
            ("generation", "bigint"),
            ("revision", "bigint"),
            ("leader_id", "text"),
            ("gate_epoch", "bigint"),
            ("opened", "bigint"),
            ("version", "text"),
            ("executor_session", "text"),
            ("executor_started", "text"),
            ("executor_who", "text"),
            ("rollout", "text"),
            ("changed_at", "timestamp with time zone"),
        ],
    ),
    (
        "lockkeeper_ledger",
        &[
            ("version", "text"),
            ("name", "text"),
            ("checksum", "text"),
            ("layout", "text"),
            ("applied_at", "timestamp with time zone"),
            ("duration_ms", "bigint"),
            ("applied_by", "text"),
            ("generation", "bigint"),
            ("revision", "bigint"),
            ("warnings", "bigint"),
        ],
    ),
    (
        "lockkeeper_journal",
        &[
            ("version", "text"),
            ("direction", "text"),
            ("position", "integer"),
            ("hash", "text"),
            ("state", "text"),
            ("started_at", "timestamp with time zone"),
            ("finished_at", "timestamp with time zone"),
        ],
    ),
];

/// What the table of the format itself has in every format: read before anything else is believed.
pub(super) const META: Shape = (
    "lockkeeper_meta",
    &[("format", "bigint"), ("made_by", "text"), ("ledger", "text")],
);

/// What format 2 has besides.
pub(super) const SECOND: &[Shape] = &[
    ("lockkeeper_ledger", &[("how", "text"), ("place", "bigint")]),
    (
        "lockkeeper_edits",
        &[
            ("place", "bigint"),
            ("version", "text"),
            ("was", "text"),
            ("now", "text"),
            ("accepted_by", "text"),
            ("accepted_at", "timestamp with time zone"),
            ("reason", "text"),
        ],
    ),
];

/// The columns of lockkeeper's tables in one schema.
#[derive(Debug)]
pub(super) struct Columns(Vec<Column>);

#[derive(Debug)]
struct Column {
    table: String,
    kind: String,
    name: String,
    type_name: String,
}

impl Columns {
    pub(super) async fn read(conn: &mut PgConnection, schema: &str) -> Result<Self, DbError> {
        let query = format!(
            "SELECT c.relname::text, c.relkind::text, a.attname::text, format_type(a.atttypid, NULL) \
             FROM pg_class c \
             JOIN pg_namespace n ON n.oid = c.relnamespace \
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
             WHERE n.nspname = {} AND c.relname IN ('lockkeeper_gate', 'lockkeeper_ledger', \
                 'lockkeeper_journal', 'lockkeeper_meta', 'lockkeeper_edits')",
            literal(schema)
        );
        let rows = ask(conn, query).await?;
        let column = |row: &sqlx::postgres::PgRow| Column {
            table: row.get(0),
            kind: row.get(1),
            name: row.get(2),
            type_name: row.get(3),
        };
        Ok(Self(rows.iter().map(column).collect()))
    }

    pub(super) fn has(&self, table: &str) -> bool {
        self.0.iter().any(|column| column.table == table)
    }

    pub(super) fn check(&self, shapes: &[Shape]) -> Result<(), DbError> {
        shapes
            .iter()
            .try_for_each(|(table, columns)| self.check_table(table, columns))
    }

    fn check_table(&self, table: &str, expected: &[(&str, &str)]) -> Result<(), DbError> {
        let foreign = |detail: String| {
            Err(DbError::ForeignTable {
                table: table.to_owned(),
                detail: format!("{detail}; it is not lockkeeper's, or a newer release made it"),
            })
        };
        for (name, type_name) in expected {
            match self.0.iter().find(|c| c.table == table && c.name == *name) {
                None => return foreign(format!("column {name} is missing")),
                Some(column) if column.kind != "r" => return foreign("it is no ordinary table".to_owned()),
                Some(column) if column.type_name != *type_name => {
                    return foreign(format!("column {name} is {}, not {type_name}", column.type_name));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}
