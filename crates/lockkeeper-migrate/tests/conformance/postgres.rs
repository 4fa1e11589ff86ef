//! PostgreSQL.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

use async_trait::async_trait;
use lockkeeper_migrate::dialect::Dialect;
use lockkeeper_tests::postgres::Postgres;
use sqlx::postgres::{PgConnection, PgDatabaseError};
use sqlx::{AssertSqlSafe, Connection, Row, ValueRef};

use crate::fixture::{AppSession, Fixture, Refusal};

/// The server that the tests which run at this moment share; the last of them stops it.
static SERVER: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
static DATABASES: AtomicU32 = AtomicU32::new(0);

pub(crate) struct PostgresFixture {
    pub(crate) server: Arc<Postgres>,
    pub(crate) name: String,
}

fn server() -> Arc<Postgres> {
    let mut shared = SERVER.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(server) = shared.upgrade() {
        return server;
    }
    let server = Arc::new(Postgres::start().unwrap());
    *shared = Arc::downgrade(&server);
    server
}

impl PostgresFixture {
    /// A superuser's session.
    pub(crate) async fn admin(&self) -> PgSession {
        PgSession(PgConnection::connect(&self.server.dsn(&self.name)).await.unwrap())
    }

    /// A session of the owning role.
    pub(crate) async fn app(&self) -> PgSession {
        PgSession(
            PgConnection::connect(&self.server.app_dsn(&self.name))
                .await
                .unwrap(),
        )
    }
}

#[async_trait]
impl Fixture for PostgresFixture {
    async fn start() -> Self {
        tokio::task::block_in_place(|| {
            let server = server();
            let name = format!("t{}", DATABASES.fetch_add(1, Ordering::Relaxed));
            server.create_database(&name).unwrap();
            Self { server, name }
        })
    }

    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn dsn(&self) -> String {
        self.server.app_dsn(&self.name)
    }

    fn refused_dsn(&self) -> Option<(String, &'static str)> {
        let place = format!("127.0.0.1:{}/{}", self.server.port(), self.name);
        Some((
            format!("postgres://nobody:hunter2@{place}?sslmode=disable"),
            "hunter2",
        ))
    }

    fn unreachable_dsn(&self) -> (String, &'static str) {
        (
            "postgres://app:hunter2@127.0.0.1:1/none?sslmode=disable".to_owned(),
            "hunter2",
        )
    }

    fn admin_dsn(&self) -> Option<String> {
        Some(self.server.dsn(&self.name))
    }

    async fn session(&self) -> Box<dyn AppSession> {
        Box::new(self.app().await)
    }

    fn allow_clones(&self) {
        tokio::task::block_in_place(|| self.server.sql("postgres", "ALTER ROLE app CREATEDB")).unwrap();
    }

    fn clones(&self) -> Vec<String> {
        let list = "SELECT datname FROM pg_database WHERE datname LIKE 'lockkeeper_rehearsal_%'";
        let names = tokio::task::block_in_place(|| self.server.sql("postgres", list)).unwrap();
        names.lines().map(str::to_owned).collect()
    }

    fn is_fenced(&self, refusal: &Refusal) -> bool {
        refusal.code == "LK001"
    }
}

pub(crate) struct PgSession(pub(crate) PgConnection);

#[async_trait]
impl AppSession for PgSession {
    async fn execute(&mut self, sql: &str) -> Result<u64, Refusal> {
        let result = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut self.0)
            .await;
        result.map(|done| done.rows_affected()).map_err(refusal)
    }

    async fn scalar(&mut self, sql: &str) -> Result<Option<String>, Refusal> {
        let row = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .fetch_optional(&mut self.0)
            .await;
        let Some(row) = row.map_err(refusal)? else {
            return Ok(None);
        };
        let value = row.try_get_raw(0).unwrap();
        Ok((!value.is_null()).then(|| value.as_str().unwrap().to_owned()))
    }
}

fn refusal(error: sqlx::Error) -> Refusal {
    match error
        .as_database_error()
        .and_then(|e| e.try_downcast_ref::<PgDatabaseError>())
    {
        Some(error) => Refusal {
            code: error.code().to_owned(),
            message: error.message().to_owned(),
            hint: error.hint().unwrap_or_default().to_owned(),
        },
        None => Refusal {
            code: String::new(),
            message: error.to_string(),
            hint: String::new(),
        },
    }
}
