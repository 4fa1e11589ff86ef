//! A region's database: made, filled and brought to the first version; and read out at the end.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lockkeeper_core::version::SchemaVersion;
use lockkeeper_migrate::db::{self, Claim, DatabaseOptions, Silent};
use lockkeeper_migrate::dialect::Dialect;
use lockkeeper_migrate::dsn::Dsn;
use lockkeeper_migrate::engine;
use lockkeeper_migrate::plan::Goal;
use lockkeeper_migrate::source::{self, Layout};
use sqlx::mysql::MySqlConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, MySqlConnection, PgConnection, Row, SqliteConnection,
};

use super::service;
use crate::exit::{Exit, Failure};

/// How long taking a database for the first version may take.
const TAKE_PATIENCE: Duration = Duration::from_secs(20);

/// The service's tables, in any version.
const OWN_TABLES: [&str; 2] = ["orders", "payments"];

/// Prefix of lockkeeper's own tables.
const LOCKKEEPER_PREFIX: &str = "lockkeeper_";

/// A region and its database.
#[derive(Debug, Clone)]
pub(super) struct RegionDatabase {
    /// The region.
    pub(super) region: &'static str,
    /// Its DSN. Not to be printed.
    pub(super) dsn: String,
    /// The file that holds the DSN, for those who may know it.
    pub(super) dsn_file: PathBuf,
    /// What it is, without login.
    pub(super) place: String,
}

/// One connection, on any dialect.
enum Session {
    Postgres(PgConnection),
    MySql(MySqlConnection),
    Sqlite(SqliteConnection),
}

macro_rules! on {
    ($session:expr, $connection:ident => $run:expr) => {
        match $session {
            Session::Postgres($connection) => $run,
            Session::MySql($connection) => $run,
            Session::Sqlite($connection) => $run,
        }
    };
}

impl Session {
    async fn open(text: &str, dsn: &Dsn) -> Result<Self, sqlx::Error> {
        Ok(match dsn.dialect() {
            Dialect::Postgres => Self::Postgres(text.parse::<PgConnectOptions>()?.connect().await?),
            Dialect::MySql => Self::MySql(text.parse::<MySqlConnectOptions>()?.connect().await?),
            Dialect::Sqlite => {
                let options = SqliteConnectOptions::new().filename(dsn.path().unwrap_or(Path::new("")));
                // Readers and the one writer do not disturb each other then.
                let options = options
                    .journal_mode(SqliteJournalMode::Wal)
                    .create_if_missing(true);
                Self::Sqlite(options.connect().await?)
            }
        })
    }

    /// A session beside the database, for making it.
    async fn maintenance(text: &str, dsn: &Dsn) -> Result<Self, sqlx::Error> {
        Ok(match dsn.dialect() {
            Dialect::Postgres => Self::Postgres(
                text.parse::<PgConnectOptions>()?
                    .database("postgres")
                    .connect()
                    .await?,
            ),
            Dialect::MySql => Self::MySql(
                text.parse::<MySqlConnectOptions>()?
                    .database("information_schema")
                    .connect()
                    .await?,
            ),
            Dialect::Sqlite => Self::open(text, dsn).await?,
        })
    }

    async fn execute(&mut self, sql: String) -> Result<u64, sqlx::Error> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql));
        Ok(on!(self, c => c.execute(sql).await?.rows_affected()))
    }

    async fn texts(&mut self, sql: String) -> Result<Vec<String>, sqlx::Error> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql));
        on!(self, c => c.fetch_all(sql).await?.iter().map(|row| row.try_get_unchecked(0)).collect())
    }

    async fn numbers(&mut self, sql: String) -> Result<Vec<i64>, sqlx::Error> {
        let sql = AssertSqlSafe(sql);
        on!(self, c => c.fetch_all(sqlx::query(sql)).await?.iter().map(|row| row.try_get(0)).collect())
    }

    async fn rows(&mut self, column: &str, table: &str) -> Result<Rows, sqlx::Error> {
        let new = self
            .numbers(format!("SELECT {column} FROM {table} WHERE {column} >= 0"))
            .await?;
        let old = format!("FROM {table} WHERE {column} < 0");
        let count = |counted: Vec<i64>| counted.into_iter().next().unwrap_or_default();
        let distinct = self
            .numbers(format!("SELECT count(DISTINCT {column}) {old}"))
            .await?;
        let old = self.numbers(format!("SELECT count(*) {old}")).await?;
        Ok(Rows {
            new,
            old: count(old),
            old_distinct: count(distinct),
        })
    }

    async fn close(self) -> Result<(), sqlx::Error> {
        on!(self, c => c.close().await)
    }
}

/// What stood in a database before the demo came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// There was none.
    Made,
    /// It was empty.
    Empty,
    /// It held an earlier demo, which was dropped.
    EarlierDemo,
}

impl RegionDatabase {
    /// Describes a region's database and writes its DSN to a file that only this user can read.
    pub(super) fn describe(dir: &Path, region: &'static str, dsn: Option<&str>) -> Result<Self, Failure> {
        let own = || format!("sqlite://{}", dir.join(format!("{region}.db")).display());
        let text = dsn.map_or_else(own, str::to_owned);
        let place = Dsn::parse(&text)
            .map_err(|e| Failure::usage(format!("--dsn: {e}")))?
            .place();
        let dsn_file = dir.join(format!("{region}.dsn"));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&dsn_file);
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|e| Failure::new(Exit::Error, format!("write {}: {e}", dsn_file.display())))?;
        Ok(Self {
            region,
            dsn: text,
            dsn_file,
            place,
        })
    }

    fn parsed(&self) -> Result<Dsn, Failure> {
        Dsn::parse(&self.dsn).map_err(|e| Failure::usage(format!("--dsn: {e}")))
    }

    fn failed(&self, what: &str, error: &impl std::fmt::Display) -> Failure {
        Failure::new(Exit::Error, format!("{what} {}: {error}", self.place))
    }

    /// Makes sure that the database is there and empty. Drops what an earlier demo left, and nothing else.
    pub(super) async fn make(&self) -> Result<Before, Failure> {
        let dsn = self.parsed()?;
        if dsn.dialect() == Dialect::Sqlite {
            let session = Session::open(&self.dsn, &dsn)
                .await
                .map_err(|e| self.failed("make", &e))?;
            session.close().await.map_err(|e| self.failed("make", &e))?;
            return Ok(Before::Made);
        }
        let mut session = match Session::open(&self.dsn, &dsn).await {
            Ok(session) => session,
            Err(error) if is_missing(&error) => {
                self.create(&dsn, None).await?;
                return Ok(Before::Made);
            }
            Err(error) => return Err(self.failed("connect to", &error)),
        };
        let tables = session
            .texts(tables_sql(dsn.dialect()))
            .await
            .map_err(|e| self.failed("look at", &e))?;
        session.close().await.map_err(|e| self.failed("look at", &e))?;
        let known =
            |table: &String| OWN_TABLES.contains(&table.as_str()) || table.starts_with(LOCKKEEPER_PREFIX);
        if let Some(foreign) = tables.iter().find(|table| !known(table)) {
            return Err(Failure::new(
                Exit::WrongState,
                format!("{} holds table {foreign}, which is not the demo's", self.place),
            )
            .hint("give the demo databases of its own, with other names; those that are missing are made"));
        }
        if tables.is_empty() {
            return Ok(Before::Empty);
        }
        if !tables.iter().any(|table| table.starts_with(LOCKKEEPER_PREFIX)) {
            return Err(Failure::new(
                Exit::WrongState,
                format!(
                    "{} holds a table {}, but not the demo's ledger",
                    self.place, tables[0]
                ),
            )
            .hint("give the demo databases of its own, with other names; those that are missing are made"));
        }
        self.create(&dsn, Some(Before::EarlierDemo)).await?;
        Ok(Before::EarlierDemo)
    }

    async fn create(&self, dsn: &Dsn, before: Option<Before>) -> Result<(), Failure> {
        let quote = if dsn.dialect() == Dialect::Postgres {
            "\""
        } else {
            "`"
        };
        let name = dsn
            .database()
            .unwrap_or_default()
            .replace(quote, &quote.repeat(2));
        let failed = |error: sqlx::Error| self.failed("make", &error);
        let mut session = Session::maintenance(&self.dsn, dsn).await.map_err(failed)?;
        if before.is_some() {
            session
                .execute(format!("DROP DATABASE {quote}{name}{quote}"))
                .await
                .map_err(failed)?;
        }
        session
            .execute(format!("CREATE DATABASE {quote}{name}{quote}"))
            .await
            .map_err(failed)?;
        session.close().await.map_err(failed)
    }

    /// Brings the empty database to the first version, as `lockkeeper migrate sql` would, and fills it.
    pub(super) async fn fill(&self, migrations: &Path, rows: u32) -> Result<(), Failure> {
        let dsn = self.parsed()?;
        let database = db::open(&dsn, DatabaseOptions::default());
        let failed = |error: String| self.failed("migrate", &error);
        let set = source::load(&[migrations.to_owned()], Some(Layout::Pop), dsn.dialect())
            .map_err(|e| failed(e.to_string()))?;
        let goal = Goal::To(SchemaVersion(service::FIRST.to_owned()));
        let prospect = engine::prepare(&*database, &set, &goal)
            .await
            .map_err(|e| failed(e.to_string()))?;
        let who = format!("lockkeeper demo pid {}", std::process::id());
        let claim = Claim::Standalone { who: who.clone() };
        let mut hand = database
            .take(&claim, TAKE_PATIENCE, &Silent)
            .await
            .map_err(|e| failed(e.to_string()))?;
        engine::migrate(&mut *hand, &prospect.plan, set.layout, &who, &Silent)
            .await
            .map_err(|e| failed(e.to_string()))?;
        hand.release().await.map_err(|e| failed(e.to_string()))?;
        self.insert_old_rows(&dsn, i64::from(rows))
            .await
            .map_err(|e| self.failed("fill", &e))
    }

    /// Orders -1 to -`rows`, from before the demo.
    async fn insert_old_rows(&self, dsn: &Dsn, rows: i64) -> Result<(), sqlx::Error> {
        let mut session = Session::open(&self.dsn, dsn).await?;
        let columns = "(number, customer, amount_cents)";
        session
            .execute(format!(
                "INSERT INTO orders {columns} VALUES (-1, 'customer of old', 100)"
            ))
            .await?;
        let mut have = 1;
        while have < rows {
            let doubled = format!(
                "INSERT INTO orders {columns} SELECT number - {have}, customer, amount_cents FROM orders \
                 WHERE number - {have} >= -{rows}"
            );
            session.execute(doubled).await?;
            have = (have * 2).min(rows);
        }
        session.close().await
    }

    /// What the tables hold. Rows from before are counted by the database, those of the demo are told one by one.
    pub(super) async fn contents(&self) -> Result<Contents, Failure> {
        let dsn = self.parsed()?;
        let failed = |error: sqlx::Error| self.failed("read out", &error);
        let mut session = Session::open(&self.dsn, &dsn).await.map_err(failed)?;
        let tables = session.texts(tables_sql(dsn.dialect())).await.map_err(failed)?;
        let orders = session.rows("number", "orders").await.map_err(failed)?;
        let payments = match tables.iter().any(|table| table == "payments") {
            true => Some(session.rows("order_number", "payments").await.map_err(failed)?),
            false => None,
        };
        session.close().await.map_err(failed)?;
        Ok(Contents { orders, payments })
    }
}

/// What a database holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Contents {
    /// Orders.
    pub(super) orders: Rows,
    /// Payments, by their order's number; `None`: the schema has no payments.
    pub(super) payments: Option<Rows>,
}

/// What a table holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Rows {
    /// Numbers that the demo's replicas gave.
    pub(super) new: Vec<i64>,
    /// Rows from before.
    pub(super) old: i64,
    /// Different numbers among those.
    pub(super) old_distinct: i64,
}

fn tables_sql(dialect: Dialect) -> String {
    match dialect {
        Dialect::Postgres => "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema() ORDER BY 1",
        Dialect::MySql => {
            "SELECT CAST(table_name AS CHAR) FROM information_schema.tables WHERE table_schema = database() ORDER BY 1"
        }
        Dialect::Sqlite => "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1",
    }
    .to_owned()
}

/// PostgreSQL's "invalid_catalog_name", and MariaDB's and MySQL's "unknown database".
fn is_missing(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else {
        return false;
    };
    let number = error
        .try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()
        .map(|e| e.number());
    error.code().as_deref() == Some("3D000") || number == Some(1049)
}
