//! SQLite.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lockkeeper_migrate::dialect::Dialect;
use sqlx::sqlite::{SqliteConnectOptions, SqliteError};
use sqlx::{AssertSqlSafe, ConnectOptions, Row, SqliteConnection, TypeInfo, ValueRef};

use crate::fixture::{AppSession, Fixture, Refusal};

pub(crate) struct SqliteFixture {
    folder: Arc<tempfile::TempDir>,
}

#[async_trait]
impl Fixture for SqliteFixture {
    async fn start() -> Self {
        Self {
            folder: Arc::new(tempfile::tempdir().unwrap()),
        }
    }

    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn dsn(&self) -> String {
        format!("sqlite://{}", self.folder.path().join("app.db").display())
    }

    fn refused_dsn(&self) -> Option<(String, &'static str)> {
        None
    }

    fn unreachable_dsn(&self) -> (String, &'static str) {
        let path = self.folder.path().join("nowhere.db");
        (
            format!("sqlite://{}?_auth_pass=hunter2", path.display()),
            "hunter2",
        )
    }

    fn admin_dsn(&self) -> Option<String> {
        None
    }

    async fn session(&self) -> Box<dyn AppSession> {
        let options = SqliteConnectOptions::new()
            .filename(self.folder.path().join("app.db"))
            .create_if_missing(true)
            // Long enough for a connection that closes on its own thread, far too short for a fence.
            .busy_timeout(Duration::from_millis(250));
        Box::new(SqliteSession(options.connect().await.unwrap()))
    }

    fn allow_clones(&self) {}

    fn clones(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names
            .filter(|name| name.contains("lockkeeper_rehearsal_"))
            .map(|name| name.trim_end_matches(".owner").to_owned())
            .collect()
    }

    fn is_fenced(&self, refusal: &Refusal) -> bool {
        refusal.message.contains("database is locked")
    }
}

struct SqliteSession(SqliteConnection);

#[async_trait]
impl AppSession for SqliteSession {
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
        if value.is_null() {
            return Ok(None);
        }
        let is_integer = value.type_info().name() == "INTEGER";
        Ok(Some(if is_integer {
            row.get_unchecked::<i64, _>(0).to_string()
        } else {
            row.get_unchecked::<String, _>(0)
        }))
    }
}

fn refusal(error: sqlx::Error) -> Refusal {
    let code = error
        .as_database_error()
        .and_then(|e| e.try_downcast_ref::<SqliteError>())
        .and_then(|e| sqlx::error::DatabaseError::code(e).map(|code| code.into_owned()));
    Refusal {
        code: code.unwrap_or_default(),
        message: error.to_string(),
        hint: String::new(),
    }
}
