//! A server with one database, hands on it, and applications' connections to it.

use std::sync::Mutex;
use std::time::Duration;

use lockkeeper_core::epoch::{GateEpoch, LeaderEpoch};
use lockkeeper_migrate::db::mysql::MySqlDatabase;
use lockkeeper_migrate::db::{
    Applied, ApplyError, Claim, Database, DatabaseOptions, Event, Hand, LedgerWrite, Observer, Provenance,
    Silent, TakeError,
};
use lockkeeper_migrate::dialect::Dialect;
use lockkeeper_migrate::dsn::Dsn;
use lockkeeper_migrate::source::{Direction, Layout, Migration, load};
use lockkeeper_tests::mariadb::{MariaDb, MariaDbOptions};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row};
use tokio::time::Instant;
use uuid::Uuid;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const SHORT: Duration = Duration::from_secs(2);
pub(crate) const G1: GateEpoch = GateEpoch(1);

pub(crate) struct Target {
    pub(crate) server: MariaDb,
    pub(crate) database: MySqlDatabase,
}

impl Target {
    /// A server whose database `shop` has a table `t (id, v)` with one row.
    pub(crate) fn new() -> Self {
        Self::on(MariaDb::options(), DatabaseOptions::default())
    }

    pub(crate) fn on(server: MariaDbOptions, options: DatabaseOptions) -> Self {
        let server = server.start().unwrap();
        let dsn = server.create_database("shop").unwrap();
        let database = MySqlDatabase::new(&Dsn::parse(&dsn).unwrap(), options);
        let target = Self { server, database };
        target.sql("CREATE TABLE t (id INT PRIMARY KEY, v INT); INSERT INTO t VALUES (0, 0)");
        target
    }

    /// Runs SQL as root, outside of any hand.
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.server.sql("shop", sql).unwrap()
    }

    /// An application's connection.
    pub(crate) async fn app(&self) -> MySqlConnection {
        self.connect(&self.server.dsn("shop")).await
    }

    pub(crate) async fn connect(&self, dsn: &str) -> MySqlConnection {
        let options: MySqlConnectOptions = dsn.parse().unwrap();
        options.connect().await.unwrap()
    }

    pub(crate) async fn lead(&self, revision: u64) -> Box<dyn Hand> {
        self.database
            .take(&leader(revision), PATIENCE, &Silent)
            .await
            .unwrap()
    }

    pub(crate) async fn alone(&self, patience: Duration) -> Result<Box<dyn Hand>, TakeError> {
        self.database.take(&standalone(), patience, &Silent).await
    }

    /// A leader that has fenced the database.
    pub(crate) async fn fenced(&self, revision: u64) -> Box<dyn Hand> {
        let mut hand = self.lead(revision).await;
        hand.close(G1, "r1").await.unwrap();
        let report = hand.raise_barrier(PATIENCE, &Silent).await.unwrap();
        assert!(!report.continued);
        hand
    }

    pub(crate) async fn up(
        &self,
        hand: &mut dyn Hand,
        version: u32,
        sql: &str,
    ) -> Result<Applied, ApplyError> {
        let migration = migration(version, sql);
        hand.apply(&migration.up, &write(&migration, Direction::Up), &Silent)
            .await
    }
}

/// Reads a migration from files, as the engine does.
pub(crate) fn migration(version: u32, up: &str) -> Migration {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    std::fs::write(dir.join(format!("{version}_m.up.sql")), up).unwrap();
    std::fs::write(dir.join(format!("{version}_m.down.sql")), "DROP TABLE u").unwrap();
    let set = load(&[dir.to_owned()], Some(Layout::GolangMigrate), Dialect::MySql).unwrap();
    (*set.migrations[0]).clone()
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

pub(crate) async fn run(connection: &mut MySqlConnection, sql: &str) -> Result<(), sqlx::Error> {
    connection
        .execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())))
        .await
        .map(|_| ())
}

pub(crate) async fn count(connection: &mut MySqlConnection, table: &str) -> i64 {
    let sql = AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
    sqlx::query(sql).fetch_one(connection).await.unwrap().get(0)
}

pub(crate) async fn connection_id(connection: &mut MySqlConnection) -> u64 {
    sqlx::query("SELECT CONNECTION_ID()")
        .fetch_one(connection)
        .await
        .unwrap()
        .get(0)
}

/// The SQLSTATE of a refusal; empty when there was none.
pub(crate) fn state(result: &Result<(), sqlx::Error>) -> String {
    match result {
        Err(sqlx::Error::Database(error)) => error
            .downcast_ref::<MySqlDatabaseError>()
            .code()
            .unwrap_or_default()
            .to_owned(),
        Err(error) => error.to_string(),
        Ok(()) => String::new(),
    }
}

/// Keeps what it is told.
#[derive(Debug, Default)]
pub(crate) struct Log(Mutex<Vec<Event>>);

impl Observer for Log {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Log {
    pub(crate) fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn waits(&self) -> Vec<(String, Vec<String>)> {
        let wait = |event: Event| match event {
            Event::Waiting { what, blockers } => Some((what, blockers.into_iter().map(|b| b.id).collect())),
            _ => None,
        };
        self.events().into_iter().filter_map(wait).collect()
    }
}

/// Waits until `sql` answers `expected`.
pub(crate) async fn until(target: &Target, sql: &str, expected: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let found = target.sql(sql);
        if found == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{sql}: {found:?} is not {expected:?}");
        // What InnoDB shows of its transactions is renewed only when nobody has looked for 100 ms.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}
