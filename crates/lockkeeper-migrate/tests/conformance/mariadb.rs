//! MariaDB.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

use async_trait::async_trait;
use lockkeeper_migrate::dialect::Dialect;
use lockkeeper_tests::mariadb::MariaDb;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError};
use sqlx::{AssertSqlSafe, ConnectOptions, Row};

use crate::fixture::{AppSession, Fixture, Refusal};

/// The server that the tests which run at this moment share; the last of them stops it.
static SERVER: Mutex<Weak<MariaDb>> = Mutex::new(Weak::new());
static DATABASES: AtomicU32 = AtomicU32::new(0);

pub(crate) struct MariaDbFixture {
    server: Arc<MariaDb>,
    name: String,
}

fn server() -> Arc<MariaDb> {
    let mut shared = SERVER.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(server) = shared.upgrade() {
        return server;
    }
    let server = Arc::new(MariaDb::start().unwrap());
    *shared = Arc::downgrade(&server);
    server
}

#[async_trait]
impl Fixture for MariaDbFixture {
    async fn start() -> Self {
        tokio::task::block_in_place(|| {
            let server = server();
            let name = format!("t{}", DATABASES.fetch_add(1, Ordering::Relaxed));
            server.create_database(&name).unwrap();
            Self { server, name }
        })
    }

    fn dialect(&self) -> Dialect {
        Dialect::MySql
    }

    fn dsn(&self) -> String {
        self.server.app_dsn(&self.name)
    }

    fn refused_dsn(&self) -> Option<(String, &'static str)> {
        let place = format!("127.0.0.1:{}/{}", self.server.port(), self.name);
        Some((format!("mysql://nobody:hunter2@{place}"), "hunter2"))
    }

    fn unreachable_dsn(&self) -> (String, &'static str) {
        ("mysql://app:hunter2@tcp(127.0.0.1:1)/none".to_owned(), "hunter2")
    }

    fn admin_dsn(&self) -> Option<String> {
        Some(self.server.dsn(&self.name))
    }

    async fn session(&self) -> Box<dyn AppSession> {
        let options: MySqlConnectOptions = self.dsn().parse().unwrap();
        Box::new(MySession(options.connect().await.unwrap()))
    }

    fn allow_clones(&self) {
        let grant = "GRANT ALL ON `lockkeeper\\_rehearsal\\_%`.* TO app@'%'";
        tokio::task::block_in_place(|| self.server.sql("", grant)).unwrap();
    }

    fn clones(&self) -> Vec<String> {
        let list = "SHOW DATABASES LIKE 'lockkeeper_rehearsal_%'";
        let names = tokio::task::block_in_place(|| self.server.sql("", list)).unwrap();
        names.lines().map(str::to_owned).collect()
    }

    fn is_fenced(&self, refusal: &Refusal) -> bool {
        // Told apart by its state; the message has the hint, because the protocol knows no other place for one.
        refusal.code == "LK001" && refusal.message.contains("retry when the gate is open")
    }
}

struct MySession(MySqlConnection);

#[async_trait]
impl AppSession for MySession {
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
        let value = row
            .map_err(refusal)?
            .and_then(|row| row.get_unchecked::<Option<Vec<u8>>, _>(0));
        Ok(value.map(|value| String::from_utf8(value).unwrap()))
    }
}

fn refusal(error: sqlx::Error) -> Refusal {
    let database = error
        .as_database_error()
        .and_then(|e| e.try_downcast_ref::<MySqlDatabaseError>());
    let (code, message) = match database {
        Some(error) => (
            error.code().unwrap_or_default().to_owned(),
            error.message().to_owned(),
        ),
        None => (String::new(), error.to_string()),
    };
    Refusal {
        code,
        message,
        hint: String::new(),
    }
}
