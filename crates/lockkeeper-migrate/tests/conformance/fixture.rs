//! What a dialect brings for the rules to be tried on.

use std::time::Duration;

use async_trait::async_trait;
use lockkeeper_migrate::db::{Database, DatabaseOptions, open};
use lockkeeper_migrate::dialect::Dialect;
use lockkeeper_migrate::dsn::Dsn;

/// A fresh database on a real server.
#[async_trait]
pub(crate) trait Fixture: Send + Sync + Sized {
    /// Makes the database; starts the server when no other test has one running.
    async fn start() -> Self;

    fn dialect(&self) -> Dialect;

    /// The DSN of a role that owns the database and is no superuser. Holds a password where the dialect has one.
    fn dsn(&self) -> String;

    /// A DSN with a login that the server refuses, and the secret that no message may hold; `None` where the
    /// dialect knows no login.
    fn refused_dsn(&self) -> Option<(String, &'static str)>;

    /// A DSN that leads nowhere, and the secret that no message may hold.
    fn unreachable_dsn(&self) -> (String, &'static str);

    /// The DSN of a role that may make databases; `None` where everybody may.
    fn admin_dsn(&self) -> Option<String>;

    /// A session of an application that knows nothing of lockkeeper.
    async fn session(&self) -> Box<dyn AppSession>;

    /// Whether an application's statement was refused because of the fence.
    fn is_fenced(&self, refusal: &Refusal) -> bool;

    /// Lets the owning role make scratch databases.
    fn allow_clones(&self);

    /// The scratch databases that are there, of all tests.
    fn clones(&self) -> Vec<String>;

    /// Whether `close` is durable by itself. On SQLite the file says nothing of a fence until it is over.
    fn closes_durably(&self) -> bool {
        self.dialect() != Dialect::Sqlite
    }

    /// The target, as lockkeeper sees it.
    fn database(&self) -> Box<dyn Database> {
        self.database_with(DatabaseOptions {
            connect_timeout: Duration::from_secs(5),
            lock_timeout: Duration::from_millis(500),
            create_if_missing: true,
            ..DatabaseOptions::default()
        })
    }

    fn database_with(&self, options: DatabaseOptions) -> Box<dyn Database> {
        open(&Dsn::parse(&self.dsn()).unwrap(), options)
    }
}

/// What a server says no with.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) hint: String,
}

/// An application's session.
#[async_trait]
pub(crate) trait AppSession: Send {
    /// Runs statements; gives the number of rows of the last one.
    async fn execute(&mut self, sql: &str) -> Result<u64, Refusal>;

    /// One value as text.
    async fn scalar(&mut self, sql: &str) -> Result<Option<String>, Refusal>;
}
