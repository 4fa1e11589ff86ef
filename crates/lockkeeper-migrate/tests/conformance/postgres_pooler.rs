//! PostgreSQL behind PgBouncer in transaction mode: writers through it are fenced like all others, and no executor
//! works through it.

use lockkeeper_migrate::db::{DatabaseOptions, DbError, Silent, TakeError, open};
use lockkeeper_migrate::dsn::Dsn;
use lockkeeper_tests::pgbouncer::PgBouncer;
use lockkeeper_tests::postgres::{APP_PASSWORD, APP_ROLE};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection};

use crate::fixture::{AppSession, Fixture};
use crate::postgres::PostgresFixture;
use crate::support::{G1, PATIENCE, fenced, leader, take};

async fn client(bouncer: &PgBouncer, fixture: &PostgresFixture) -> PgConnection {
    let options = PgConnectOptions::new()
        .host("127.0.0.1")
        .port(bouncer.port())
        .username(APP_ROLE)
        .database(&fixture.name)
        .statement_cache_capacity(0);
    PgConnection::connect_with(&options).await.unwrap()
}

async fn run(conn: &mut PgConnection, sql: &str) -> Result<(), String> {
    let run = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(conn).await;
    run.map(drop).map_err(|error| {
        let code = error
            .as_database_error()
            .and_then(|e| e.code().map(|c| c.into_owned()));
        code.unwrap_or_else(|| error.to_string())
    })
}

/// The counter-example: a leader's statement runs on behind a pooler after the session that it was registered under has
/// been ended. So no executor is let through one, whether the pooler drops its start-up settings or refuses them.
pub(crate) async fn a_leader_behind_a_pooler_is_refused_before_its_first_statement(
    fixture: &PostgresFixture,
) {
    for ignored in ["extra_float_digits", "extra_float_digits, options"] {
        let bouncer = PgBouncer::start_with(fixture.server.port(), APP_ROLE, ignored).unwrap();
        let dsn = format!(
            "postgres://{APP_ROLE}:{APP_PASSWORD}@127.0.0.1:{}/{}?sslmode=disable",
            bouncer.port(),
            fixture.name
        );
        let pooled = open(&Dsn::parse(&dsn).unwrap(), DatabaseOptions::default());
        let refused = pooled.take(&leader(1), PATIENCE, &Silent).await.unwrap_err();
        assert!(
            matches!(&refused, TakeError::Db(DbError::Unsupported(text)) if text.contains("pooler")),
            "{ignored}: {refused}"
        );
        let findings = pooled.preflight().await.unwrap();
        assert_eq!(findings[0].code, "pooler", "{findings:?}");
    }
    assert_eq!(fixture.database().inspect().await.unwrap().gate_row, None);
}

pub(crate) async fn writers_through_a_pooler_are_fenced_like_all_others(fixture: &PostgresFixture) {
    let mut app = fixture.app().await;
    app.execute("CREATE TABLE t (a INT); CREATE VIEW v AS SELECT * FROM t")
        .await
        .unwrap();
    let bouncer = PgBouncer::start(fixture.server.port(), APP_ROLE).unwrap();
    let (mut first, mut second) = (client(&bouncer, fixture).await, client(&bouncer, fixture).await);
    run(&mut first, "INSERT INTO t VALUES (1)").await.unwrap();
    // An old snapshot on one of the pooler's sessions.
    run(
        &mut second,
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM t",
    )
    .await
    .unwrap();
    let mut hand = fenced(&*fixture.database()).await;
    for sql in [
        "INSERT INTO t VALUES (2)",
        "UPDATE v SET a = 3",
        "DELETE FROM t",
        "DO $$ BEGIN INSERT INTO t VALUES (5); END $$",
    ] {
        assert_eq!(run(&mut first, sql).await, Err("LK001".to_owned()), "{sql}");
        assert_eq!(
            run(&mut first, "SELECT 1").await,
            Ok(()),
            "the pooler's session was left unusable"
        );
    }
    assert_eq!(
        run(&mut second, "INSERT INTO t VALUES (6)").await,
        Err("LK001".to_owned())
    );
    run(&mut second, "ROLLBACK").await.unwrap();
    hand.open(G1, None).await.unwrap();
    run(&mut second, "INSERT INTO t VALUES (7)").await.unwrap();
    assert_eq!(app.scalar("SELECT count(*) FROM t").await.unwrap().unwrap(), "2");
}

pub(crate) async fn a_transaction_left_open_behind_a_pooler_is_ended(fixture: &PostgresFixture) {
    let mut app = fixture.admin().await;
    app.execute("CREATE TABLE t (a INT); GRANT ALL ON t TO app; ALTER TABLE t OWNER TO app")
        .await
        .unwrap();
    let bouncer = PgBouncer::start(fixture.server.port(), APP_ROLE).unwrap();
    let mut idle = client(&bouncer, fixture).await;
    run(&mut idle, "BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
    let mut hand = take(&*fixture.database(), &leader(1)).await;
    hand.close(G1, "r1").await.unwrap();
    let report = hand
        .raise_barrier(std::time::Duration::from_millis(500), &Silent)
        .await
        .unwrap();
    assert_eq!(report.ended.len(), 1, "{:?}", report.ended);
    assert!(run(&mut idle, "COMMIT").await.is_err());
    assert_eq!(app.scalar("SELECT count(*) FROM t").await.unwrap().unwrap(), "0");
}
