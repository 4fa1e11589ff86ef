//! The three databases under one interface: a table `writes`, and a pool of the application's.

use std::time::Duration;

use lockkeeper_agent::sqlx::Gated;
use lockkeeper_migrate::dsn::Dsn;
use lockkeeper_tests::mariadb::MariaDb;
use lockkeeper_tests::postgres::Postgres as PgServer;
use sqlx::mysql::MySqlPoolOptions;
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, Database, Error, MySql, Pool, Postgres, Sqlite, raw_sql};

/// A database with a pool of its application.
pub(crate) struct Subject<DB: Database> {
    pub(crate) pool: Pool<DB>,
    pub(crate) dsn: Dsn,
    /// Keeps the server alive.
    _server: Box<dyn std::any::Any + Send + Sync>,
}

/// What the tests do to it.
pub(crate) trait Writes: Gated {
    fn insert(conn: &mut Self::Connection, id: i64) -> impl Future<Output = Result<(), Error>> + Send;
    async fn ids(pool: &Pool<Self>) -> Vec<i64>;
}

macro_rules! writes {
    ($($db:ty),*) => {$(
        impl Writes for $db {
            async fn insert(conn: &mut Self::Connection, id: i64) -> Result<(), Error> {
                let sql = format!("INSERT INTO writes VALUES ({id})");
                raw_sql(AssertSqlSafe(sql)).execute(conn).await.map(drop)
            }

            async fn ids(pool: &Pool<Self>) -> Vec<i64> {
                let query = sqlx::query_scalar("SELECT id FROM writes ORDER BY id");
                query.fetch_all(pool).await.unwrap()
            }
        }
    )*};
}

writes!(Postgres, MySql, Sqlite);

const TABLE: &str = "CREATE TABLE writes (id BIGINT NOT NULL)";

/// The application logs in as a role that owns nothing: it may write, and read what everybody may.
pub(crate) async fn postgres() -> Subject<Postgres> {
    let server = PgServer::start().unwrap();
    server.create_database("shop").unwrap();
    let sql = format!(
        "SET ROLE {0}; {TABLE}; RESET ROLE; CREATE ROLE writer LOGIN; GRANT USAGE ON SCHEMA public TO writer; \
         GRANT SELECT, INSERT ON writes TO writer; GRANT pg_signal_backend, pg_read_all_stats TO {0}",
        lockkeeper_tests::postgres::APP_ROLE
    );
    server.sql("shop", &sql).unwrap();
    let address = format!("127.0.0.1:{}", server.port());
    let pool = PgPoolOptions::new()
        .connect(&format!("postgres://writer@{address}/shop?sslmode=disable"))
        .await
        .unwrap();
    Subject {
        pool,
        dsn: Dsn::parse(&server.app_dsn("shop")).unwrap(),
        _server: Box::new(server),
    }
}

/// The application has what it needs on the database, and no right to make anything.
pub(crate) async fn mariadb() -> Subject<MySql> {
    let server = MariaDb::start().unwrap();
    server.create_database("shop").unwrap();
    let sql = format!(
        "{TABLE} ENGINE = InnoDB; CREATE USER writer@'%'; GRANT SELECT, INSERT ON shop.* TO writer@'%'; \
         GRANT PROCESS, CONNECTION ADMIN ON *.* TO {}@'%'",
        lockkeeper_tests::mariadb::APP_USER
    );
    server.sql("shop", &sql).unwrap();
    let pool = MySqlPoolOptions::new()
        .connect(&format!("mysql://writer@127.0.0.1:{}/shop", server.port()))
        .await
        .unwrap();
    Subject {
        pool,
        dsn: Dsn::parse(&server.app_dsn("shop")).unwrap(),
        _server: Box::new(server),
    }
}

pub(crate) async fn sqlite() -> Subject<Sqlite> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(Duration::from_millis(100));
    let pool = SqlitePoolOptions::new().connect_with(options).await.unwrap();
    raw_sql(TABLE).execute(&pool).await.unwrap();
    Subject {
        pool,
        dsn: Dsn::parse(&format!("sqlite://{}", path.display())).unwrap(),
        _server: Box::new(folder),
    }
}
