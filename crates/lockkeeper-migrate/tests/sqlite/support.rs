//! A file with a table, hands on it, and other programs' connections to it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lockkeeper_core::epoch::{GateEpoch, LeaderEpoch};
use lockkeeper_migrate::db::sqlite::SqliteDatabase;
use lockkeeper_migrate::db::{
    Applied, ApplyError, Claim, Database, DatabaseOptions, Hand, LedgerWrite, Provenance, Silent, TakeError,
};
use lockkeeper_migrate::dialect::Dialect;
use lockkeeper_migrate::source::{Direction, Layout, Migration, load};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row, SqliteConnection};
use uuid::Uuid;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const G1: GateEpoch = GateEpoch(1);

pub(crate) struct Target {
    folder: tempfile::TempDir,
    pub(crate) database: SqliteDatabase,
}

impl Target {
    /// A file in the given journal mode with a table `t (a)` that holds one row.
    pub(crate) async fn new(journal_mode: &str) -> Self {
        Self::with_options(journal_mode, DatabaseOptions::default()).await
    }

    pub(crate) async fn with_options(journal_mode: &str, options: DatabaseOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let target = Self {
            folder,
            database: SqliteDatabase::new(&path, options),
        };
        let mut app = target
            .connect_with(SqliteConnectOptions::new().create_if_missing(true))
            .await;
        run(&mut app, &format!("PRAGMA journal_mode = {journal_mode}"))
            .await
            .unwrap();
        run(&mut app, "CREATE TABLE t (a); INSERT INTO t VALUES (0)")
            .await
            .unwrap();
        // Dropping would close it on another thread, in the way of whoever comes next.
        app.close().await.unwrap();
        target
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("app.db")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Another program. It waits long enough for a connection that closes on its own thread, and far too short for
    /// a fence.
    pub(crate) async fn app(&self) -> SqliteConnection {
        self.connect_with(SqliteConnectOptions::new()).await
    }

    async fn connect_with(&self, options: SqliteConnectOptions) -> SqliteConnection {
        options
            .filename(self.path())
            .busy_timeout(Duration::from_millis(250))
            .connect()
            .await
            .unwrap()
    }

    pub(crate) async fn lead(&self, revision: u64) -> Box<dyn Hand> {
        self.database
            .take(&leader(revision), PATIENCE, &Silent)
            .await
            .unwrap()
    }

    pub(crate) async fn alone(&self) -> Result<Box<dyn Hand>, TakeError> {
        self.database.take(&standalone(), PATIENCE, &Silent).await
    }

    /// A leader that has fenced the file.
    pub(crate) async fn fenced(&self, revision: u64) -> Box<dyn Hand> {
        let mut hand = self.lead(revision).await;
        hand.close(G1, "r1").await.unwrap();
        let report = hand.raise_barrier(PATIENCE, &Silent).await.unwrap();
        assert!(!report.continued);
        hand
    }

    /// Reads a migration from a file, as the engine does.
    pub(crate) fn migration(&self, version: u32, up: &str) -> Migration {
        let folder = tempfile::tempdir_in(self.folder()).unwrap();
        let dir = folder.path();
        std::fs::write(dir.join(format!("{version}_m.up.sql")), up).unwrap();
        std::fs::write(dir.join(format!("{version}_m.down.sql")), "DROP TABLE u").unwrap();
        let set = load(&[dir.to_owned()], Some(Layout::GolangMigrate), Dialect::Sqlite).unwrap();
        (*set.migrations[0]).clone()
    }

    pub(crate) async fn up(
        &self,
        hand: &mut dyn Hand,
        version: u32,
        sql: &str,
    ) -> Result<Applied, ApplyError> {
        let migration = self.migration(version, sql);
        hand.apply(&migration.up, &write(&migration, Direction::Up), &Silent)
            .await
    }
}

pub(crate) fn leader(revision: u64) -> Claim {
    Claim::Leader {
        epoch: LeaderEpoch {
            generation: 1,
            revision,
        },
        id: Uuid::from_u128(revision.into()),
    }
}

pub(crate) fn standalone() -> Claim {
    Claim::Standalone {
        who: "test".to_owned(),
    }
}

pub(crate) fn write(migration: &Migration, direction: Direction) -> LedgerWrite {
    LedgerWrite {
        version: migration.version.clone(),
        name: migration.name.clone(),
        checksum: migration.up.checksum.0.clone(),
        direction,
        layout: "golang-migrate".to_owned(),
        applied_by: "test".to_owned(),
        provenance: Provenance::default(),
        facts: None,
    }
}

pub(crate) async fn run(connection: &mut SqliteConnection, sql: &str) -> Result<(), sqlx::Error> {
    connection
        .execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())))
        .await
        .map(|_| ())
}

pub(crate) async fn count(connection: &mut SqliteConnection, table: &str) -> i64 {
    let sql = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
    sqlx::query(sql).fetch_one(connection).await.unwrap().get(0)
}

/// Whether the refusal is SQLite's "database is locked".
pub(crate) fn is_locked(result: &Result<(), sqlx::Error>) -> bool {
    matches!(result, Err(sqlx::Error::Database(error)) if error.message().contains("locked"))
}
