//! One write transaction, on any dialect.

use std::time::Duration;

use lockkeeper_agent::{Refusal, Refused};
use lockkeeper_migrate::dialect::Dialect;
use lockkeeper_migrate::dsn::Dsn;
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, Executor, MySqlPool, PgPool, SqlitePool};

/// How long a write waits for a connection; one that is not there by then is a failed write.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long SQLite waits for another writer before it says busy: longer than its writers queue, shorter than a
/// fence may take.
const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(3);

/// A failed write, and what is known about it.
#[derive(Debug, thiserror::Error)]
pub(super) enum InsertError {
    /// It was not committed.
    #[error("{0}")]
    NotCommitted(sqlx::Error),
    /// The commit was sent, and its answer was lost.
    #[error("the commit's answer was lost: {0}")]
    Unknown(sqlx::Error),
}

impl InsertError {
    /// What an error of the commit itself means: a server that answers has decided, one that does not may have.
    fn at_commit(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(_) => Self::NotCommitted(error),
            other => Self::Unknown(other),
        }
    }
}

impl Refused for InsertError {
    fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::NotCommitted(error) => error.refusal(),
            Self::Unknown(_) => None,
        }
    }
}

/// A region's database, as the service sees it.
#[derive(Debug, Clone)]
pub(super) enum Connections {
    Postgres(PgPool),
    MySql(MySqlPool),
    Sqlite(SqlitePool),
}

macro_rules! transaction {
    ($pool:expr, $begin:literal, $statements:expr) => {{
        let mut transaction = $pool
            .begin_with($begin)
            .await
            .map_err(InsertError::NotCommitted)?;
        for statement in $statements {
            let run = transaction.execute(sqlx::raw_sql(AssertSqlSafe(statement)));
            run.await.map_err(InsertError::NotCommitted)?;
        }
        transaction.commit().await.map_err(InsertError::at_commit)
    }};
}

impl Connections {
    /// One connection, opened when it is first needed. Replicas that share a SQLite file share a process and this.
    pub(super) fn open(text: &str) -> Result<Self, sqlx::Error> {
        let dsn = Dsn::parse(text).map_err(|e| sqlx::Error::Configuration(Box::new(e)))?;
        Ok(match dsn.dialect() {
            Dialect::Postgres => {
                let options = PgPoolOptions::new()
                    .max_connections(1)
                    .acquire_timeout(CONNECT_TIMEOUT);
                let connect = text
                    .parse::<PgConnectOptions>()?
                    .application_name("lockkeeper demo");
                Self::Postgres(options.connect_lazy_with(connect))
            }
            Dialect::MySql => {
                let options = MySqlPoolOptions::new()
                    .max_connections(1)
                    .acquire_timeout(CONNECT_TIMEOUT);
                Self::MySql(options.connect_lazy_with(text.parse::<MySqlConnectOptions>()?))
            }
            Dialect::Sqlite => {
                let options = SqlitePoolOptions::new()
                    .max_connections(1)
                    .acquire_timeout(CONNECT_TIMEOUT);
                let connect = SqliteConnectOptions::new()
                    .filename(dsn.path().unwrap_or(std::path::Path::new("")))
                    .busy_timeout(SQLITE_BUSY_TIMEOUT);
                Self::Sqlite(options.connect_lazy_with(connect))
            }
        })
    }

    /// Runs the statements in one transaction.
    pub(super) async fn write(&self, statements: Vec<String>) -> Result<(), InsertError> {
        match self {
            Self::Postgres(pool) => transaction!(pool, "BEGIN", statements),
            Self::MySql(pool) => transaction!(pool, "START TRANSACTION", statements),
            // Without it a transaction that reads first could not become a writer while another one writes.
            Self::Sqlite(pool) => transaction!(pool, "BEGIN IMMEDIATE", statements),
        }
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Postgres(pool) => pool.close().await,
            Self::MySql(pool) => pool.close().await,
            Self::Sqlite(pool) => pool.close().await,
        }
    }
}
