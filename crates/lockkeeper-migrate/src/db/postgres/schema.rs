//! Lockkeeper's own tables: finding them, making them, bringing older ones up to date.

use std::time::Duration;

use sqlx::{Connection, PgConnection, Row};
use tokio::time::{Instant, sleep};

use super::book::Book;
use super::identity::identity;
use super::session::{ask, code, db_error, quote, run};
use super::shape::{Columns, FIRST, META, SECOND};
use crate::db::DbError;
use crate::db::types::other_ledgers_literals;
use crate::ledger::format::{FORMAT, MADE_BY};
use crate::ledger::{ChoiceError, LedgerChoice};

pub(super) const TABLES_SQL: &str = include_str!("../../../../../migrations/lockkeeper/postgres.sql");
/// From format 1 to 2.
const UPGRADE_SQL: &str = include_str!("../../../../../migrations/lockkeeper/upgrades/2.postgres.sql");

/// How often the making of the tables is tried again when other processes make them at the same time. Each try
/// loses only to another one that got further, so a few are enough.
const MAKE_TRIES: u32 = 50;

/// Where the own tables are, quoted and with their schema: a script may change the search path.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// Not quoted.
    pub(super) schema: String,
    pub(super) gate: String,
    pub(super) ledger: String,
    pub(super) journal: String,
    pub(super) meta: String,
    pub(super) edits: String,
    /// May be missing: made with the first one.
    pub(super) guests: String,
    /// The format of the tables.
    pub(super) format: i64,
    /// The ledger that holds the history.
    pub(super) kept: LedgerChoice,
    /// The ledger that was chosen.
    pub(super) book: Book,
}

impl Names {
    fn in_schema(schema: String, (format, kept): (i64, LedgerChoice), book: Book) -> Self {
        let table = |name: &str| format!("{}.{name}", quote(&schema));
        Self {
            gate: table("lockkeeper_gate"),
            ledger: table("lockkeeper_ledger"),
            journal: table("lockkeeper_journal"),
            meta: table("lockkeeper_meta"),
            edits: table("lockkeeper_edits"),
            guests: table("lockkeeper_guest"),
            schema,
            format,
            kept,
            book,
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
    let rows = ask(conn, query).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The tables, if they are there and ours. `None` when lockkeeper has never been here.
pub(super) async fn find(conn: &mut PgConnection, choice: LedgerChoice) -> Result<Option<Names>, DbError> {
    let schema = schema_of(conn).await?;
    let columns = Columns::read(conn, &schema).await?;
    let format = if columns.has(META.0) {
        columns.check(&[META])?;
        format(conn, &schema).await?
    } else {
        (1, LedgerChoice::Own)
    };
    if !FIRST.iter().all(|(table, _)| columns.has(table)) {
        return Ok(None);
    }
    columns.check(FIRST)?;
    if format.0 >= 2 {
        columns.check(SECOND)?;
    }
    let book = Book::find(conn, choice, &schema).await?;
    Ok(Some(Names::in_schema(schema, format, book)))
}

/// The format and the kept ledger, as the tables say themselves.
async fn format(conn: &mut PgConnection, schema: &str) -> Result<(i64, LedgerChoice), DbError> {
    let query = format!(
        "SELECT format, made_by, ledger FROM {}.lockkeeper_meta",
        quote(schema)
    );
    let rows = ask(conn, query).await?;
    // Whoever makes the tables writes the row with them; without it they are as old as tables can be.
    let Some(row) = rows.first() else {
        return Ok((1, LedgerChoice::Own));
    };
    let found: i64 = row.get(0);
    if found > FORMAT {
        return Err(DbError::NewerFormat {
            found,
            known: FORMAT,
            made_by: row.get(1),
        });
    }
    let kept = row
        .get::<String, _>(2)
        .parse()
        .map_err(|error: ChoiceError| DbError::ForeignTable {
            table: META.0.to_owned(),
            detail: error.to_string(),
        })?;
    Ok((found, kept))
}

/// The tables and the one gate row, made when they are missing and brought up to date when they are older.
pub(super) async fn ensure(
    conn: &mut PgConnection,
    choice: LedgerChoice,
    deadline: Instant,
) -> Result<Names, DbError> {
    for _ in 0..MAKE_TRIES {
        let made = match find(conn, choice).await? {
            Some(names) if names.format == FORMAT => {
                insert_row(conn, &names).await?;
                return Ok(names);
            }
            Some(names) => upgrade(conn, &names).await,
            None => make(conn, choice).await,
        };
        match made {
            Ok(()) => {}
            // IF NOT EXISTS looks and makes in two steps: whoever comes second between them gets one of these.
            Err(error)
                if matches!(
                    code(&error),
                    Some("23505" | "42P07" | "42710" | "XX000" | "55P03" | "42701" | "40P01")
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

async fn make(conn: &mut PgConnection, choice: LedgerChoice) -> Result<(), DbError> {
    let identity = identity(conn).await?;
    let mut tx = conn.begin().await.map_err(db_error)?;
    run(
        &mut tx,
        "SET LOCAL lock_timeout = '2s'; SET LOCAL client_min_messages = warning",
    )
    .await?;
    run(&mut tx, TABLES_SQL).await?;
    // A table of that name that is somebody else's is left alone.
    let schema = schema_of(&mut tx).await?;
    Columns::read(&mut tx, &schema).await?.check(FIRST)?;
    // With its row at once: whoever looks in between would take a gate without one for a broken one.
    sqlx::query("INSERT INTO lockkeeper_gate (identity) VALUES ($1) ON CONFLICT DO NOTHING")
        .bind(identity.0)
        .execute(&mut *tx)
        .await
        .map_err(db_error)?;
    insert_meta(&mut tx, choice).await?;
    tx.commit().await.map_err(db_error)
}

async fn upgrade(conn: &mut PgConnection, names: &Names) -> Result<(), DbError> {
    let mut tx = conn.begin().await.map_err(db_error)?;
    // The scripts name no schema: the tables may lie in another one than where new objects go.
    let prepare = format!(
        "SET LOCAL lock_timeout = '2s'; SET LOCAL client_min_messages = warning; SET LOCAL search_path = {}; \
         LOCK TABLE {} IN ACCESS EXCLUSIVE MODE",
        quote(&names.schema),
        names.ledger
    );
    run(&mut tx, prepare).await?;
    run(&mut tx, UPGRADE_SQL).await?;
    run(&mut tx, TABLES_SQL).await?;
    insert_meta(&mut tx, LedgerChoice::Own).await?;
    tx.commit().await.map_err(db_error)
}

async fn insert_meta(tx: &mut PgConnection, kept: LedgerChoice) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO lockkeeper_meta (format, made_by, ledger) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    )
    .bind(FORMAT)
    .bind(MADE_BY)
    .bind(kept.as_str())
    .execute(tx)
    .await
    .map_err(db_error)?;
    Ok(())
}

async fn insert_row(conn: &mut PgConnection, names: &Names) -> Result<(), DbError> {
    if !ask(conn, format!("SELECT 1 FROM {}", names.gate))
        .await?
        .is_empty()
    {
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
    let rows = ask(
        conn,
        "SELECT coalesce( \
             (SELECT n.nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
              WHERE c.oid = to_regclass('lockkeeper_gate')), \
             current_schema()::text)",
    )
    .await?;
    let schema = rows.first().and_then(|row| row.get::<Option<String>, _>(0));
    schema.ok_or_else(|| {
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
