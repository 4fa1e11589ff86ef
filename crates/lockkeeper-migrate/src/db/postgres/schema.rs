//! Lockkeeper's own tables: finding them, making them, checking their shape.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use tokio::time::{Instant, sleep};

use super::identity::identity;
use super::session::{code, db_error, quote, run};
use crate::db::DbError;
use crate::db::types::other_ledgers_literals;

const TABLES_SQL: &str = include_str!("../../../../../migrations/lockkeeper/postgres.sql");

/// How often the making of the tables is tried again when other processes make them at the same time. Each try
/// loses only to another one that got further, so a few are enough.
const MAKE_TRIES: u32 = 50;

/// Columns that this release reads and writes, with their types. Further columns do not matter.
const SHAPE: &[(&str, &[(&str, &str)])] = &[
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

/// Where the own tables are, quoted and with their schema: a script may change the search path.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// Not quoted.
    pub(super) schema: String,
    pub(super) gate: String,
    pub(super) ledger: String,
    pub(super) journal: String,
}

impl Names {
    fn in_schema(schema: String) -> Self {
        let table = |name: &str| format!("{}.{name}", quote(&schema));
        Self {
            gate: table("lockkeeper_gate"),
            ledger: table("lockkeeper_ledger"),
            journal: table("lockkeeper_journal"),
            schema,
        }
    }

    /// An object of ours, quoted and with its schema.
    pub(super) fn own(&self, name: &str) -> String {
        format!("{}.{}", quote(&self.schema), quote(name))
    }
}

/// The tables of other migrators in the current schema.
pub(super) async fn other_ledgers(conn: &mut PgConnection) -> Result<Vec<String>, DbError> {
    let query = format!(
        "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema() AND tablename IN ({}) ORDER BY 1",
        other_ledgers_literals()
    );
    sqlx::query_scalar(AssertSqlSafe(query))
        .fetch_all(conn)
        .await
        .map_err(db_error)
}

/// The tables, if they are there and ours. `None` when lockkeeper has never been here.
pub(super) async fn find(conn: &mut PgConnection) -> Result<Option<Names>, DbError> {
    let names = Names::in_schema(schema_of(conn).await?);
    let columns = columns(conn, &names.schema).await?;
    if columns.is_empty() {
        return Ok(None);
    }
    for (table, expected) in SHAPE {
        if !columns.iter().any(|column| column.table == *table) {
            return Ok(None);
        }
        check(table, expected, &columns)?;
    }
    Ok(Some(names))
}

/// The tables and the one gate row, made when they are missing.
pub(super) async fn ensure(conn: &mut PgConnection, deadline: Instant) -> Result<Names, DbError> {
    for _ in 0..MAKE_TRIES {
        if let Some(names) = find(conn).await? {
            insert_row(conn, &names).await?;
            return Ok(names);
        }
        match make(conn).await {
            Ok(()) => {}
            // IF NOT EXISTS looks and makes in two steps: whoever comes second between them gets one of these.
            Err(error)
                if matches!(
                    code(&error),
                    Some("23505" | "42P07" | "42710" | "XX000" | "55P03")
                ) =>
            {
                if Instant::now() >= deadline {
                    return Err(error);
                }
                sleep(Duration::from_millis(fastrand::u64(5..50))).await;
            }
            Err(error) => return Err(explain(conn, error).await),
        }
    }
    Err(DbError::TimedOut {
        what: "the making of lockkeeper's tables".to_owned(),
        blockers: Vec::new(),
    })
}

async fn make(conn: &mut PgConnection) -> Result<(), DbError> {
    let mut tx = conn.begin().await.map_err(db_error)?;
    run(
        &mut tx,
        "SET LOCAL lock_timeout = '2s'; SET LOCAL client_min_messages = warning",
    )
    .await?;
    run(&mut tx, TABLES_SQL).await?;
    tx.commit().await.map_err(db_error)
}

async fn insert_row(conn: &mut PgConnection, names: &Names) -> Result<(), DbError> {
    let there = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT count(*) FROM {}",
        names.gate
    )))
    .fetch_one(&mut *conn)
    .await
    .map_err(db_error)?
    .get::<i64, _>(0);
    if there > 0 {
        return Ok(());
    }
    let identity = identity(conn).await?;
    let insert = format!(
        "INSERT INTO {} (identity) VALUES ($1) ON CONFLICT DO NOTHING",
        names.gate
    );
    sqlx::query(sqlx::AssertSqlSafe(insert))
        .bind(identity.0)
        .execute(conn)
        .await
        .map_err(db_error)?;
    Ok(())
}

/// The schema that holds the gate, or the one where new objects go.
async fn schema_of(conn: &mut PgConnection) -> Result<String, DbError> {
    let row = sqlx::query(
        "SELECT coalesce( \
             (SELECT n.nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
              WHERE c.oid = to_regclass('lockkeeper_gate')), \
             current_schema()::text)",
    )
    .fetch_one(conn)
    .await
    .map_err(db_error)?;
    row.get::<Option<String>, _>(0).ok_or_else(|| {
        DbError::Unsupported(
            "the role has no current schema: none of its search_path exists or may be used; create one, or \
             add search_path=SCHEMA to the DSN"
                .to_owned(),
        )
    })
}

async fn explain(conn: &mut PgConnection, error: DbError) -> DbError {
    let DbError::Permission { what, .. } = &error else {
        return error;
    };
    let row =
        sqlx::query("SELECT coalesce(current_schema()::text, 'SCHEMA'), current_user::text").fetch_one(conn);
    match row.await {
        Ok(row) => {
            let (schema, role): (String, String) = (row.get(0), row.get(1));
            DbError::Permission {
                what: what.clone(),
                remedy: format!(
                    "GRANT CREATE, USAGE ON SCHEMA {} TO {}",
                    quote(&schema),
                    quote(&role)
                ),
            }
        }
        Err(_) => error,
    }
}

struct Column {
    table: String,
    kind: String,
    name: String,
    type_name: String,
}

async fn columns(conn: &mut PgConnection, schema: &str) -> Result<Vec<Column>, DbError> {
    let rows = sqlx::query(
        "SELECT c.relname::text, c.relkind::text, a.attname::text, format_type(a.atttypid, NULL) \
         FROM pg_class c \
         JOIN pg_namespace n ON n.oid = c.relnamespace \
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         WHERE n.nspname = $1 \
           AND c.relname IN ('lockkeeper_gate', 'lockkeeper_ledger', 'lockkeeper_journal')",
    )
    .bind(schema)
    .fetch_all(conn)
    .await
    .map_err(db_error)?;
    let column = |row: &sqlx::postgres::PgRow| Column {
        table: row.get(0),
        kind: row.get(1),
        name: row.get(2),
        type_name: row.get(3),
    };
    Ok(rows.iter().map(column).collect())
}

fn check(table: &str, expected: &[(&str, &str)], found: &[Column]) -> Result<(), DbError> {
    let foreign = |detail: String| {
        Err(DbError::ForeignTable {
            table: table.to_owned(),
            detail: format!("{detail}; it is not lockkeeper's, or a newer release made it"),
        })
    };
    for (name, type_name) in expected {
        match found
            .iter()
            .find(|column| column.table == table && column.name == *name)
        {
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
