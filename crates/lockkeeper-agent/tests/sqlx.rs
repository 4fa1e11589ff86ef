//! The refusals of real databases, as sqlx reports them.

use std::time::Duration;

use lockkeeper_agent::Refusal;
use lockkeeper_agent::sqlx::refusal;
use lockkeeper_tests::mariadb::MariaDb;
use lockkeeper_tests::postgres::Postgres;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{ConnectOptions, Connection, Executor, MySqlConnection, PgConnection};

async fn refused<'c, E: Executor<'c>>(connection: E, sql: &'static str) -> Option<Refusal> {
    refusal(&connection.execute(sql).await.err().expect("the statement passed"))
}

#[tokio::test]
async fn postgresql_tells_fenced_from_superseded() {
    let server = Postgres::start().unwrap();
    server.create_database("kratos").unwrap();
    let mut connection = PgConnection::connect(&server.app_dsn("kratos")).await.unwrap();
    let raise = "do $$ begin raise exception 'fenced' using errcode = 'LK001'; end $$";
    assert_eq!(refused(&mut connection, raise).await, Some(Refusal::Fenced));
    let raise = "do $$ begin raise exception 'superseded' using errcode = 'LK002'; end $$";
    assert_eq!(refused(&mut connection, raise).await, Some(Refusal::Superseded));
    assert_eq!(refused(&mut connection, "select 1/0").await, None);
    // What a standby says is no fence.
    let read_only = "begin read only; create table t (id int)";
    let error = sqlx::raw_sql(read_only)
        .execute(&mut connection)
        .await
        .unwrap_err();
    assert_eq!(refusal(&error), None);
}

#[tokio::test]
async fn mariadb_tells_fenced_from_superseded() {
    let server = MariaDb::start().unwrap();
    let dsn = server.create_database("kratos").unwrap();
    let mut connection = MySqlConnection::connect(&dsn).await.unwrap();
    let signal = |code: &str| format!("signal sqlstate '{code}' set message_text = 'refused'");
    for (code, expected) in [
        ("LK001", Some(Refusal::Fenced)),
        ("LK002", Some(Refusal::Superseded)),
    ] {
        let error = sqlx::raw_sql(sqlx::AssertSqlSafe(signal(code)))
            .execute(&mut connection)
            .await
            .unwrap_err();
        assert_eq!(refusal(&error), expected, "{error}");
    }
    assert_eq!(refused(&mut connection, "select * from nowhere").await, None);
}

#[tokio::test]
async fn sqlite_is_fenced_while_another_writer_holds_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteConnectOptions::new()
        .filename(folder.path().join("kratos.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(Duration::ZERO);
    let mut keeper = options.connect().await.unwrap();
    keeper.execute("create table t (id int)").await.unwrap();
    let mut writer = options.connect().await.unwrap();
    keeper.execute("begin immediate").await.unwrap();
    assert_eq!(
        refused(&mut writer, "insert into t values (1)").await,
        Some(Refusal::Fenced)
    );
    keeper.execute("commit").await.unwrap();

    // A reader that turns writer in an old snapshot gets an extended code of the same primary code.
    writer.execute("begin; select * from t").await.unwrap();
    keeper.execute("insert into t values (2)").await.unwrap();
    assert_eq!(
        refused(&mut writer, "insert into t values (3)").await,
        Some(Refusal::Fenced)
    );
    assert_eq!(refused(&mut keeper, "select * from nowhere").await, None);
}

#[test]
fn an_error_that_no_database_gave_is_no_refusal() {
    assert_eq!(refusal(&sqlx::Error::PoolTimedOut), None);
}
