//! What the doctor finds on PostgreSQL alone, a real PgBouncer included.

use lockkeeper_migrate::db::FindingLevel;
use lockkeeper_tests::pgbouncer::PgBouncer;
use lockkeeper_tests::postgres::APP_ROLE;

use crate::doctor::{examine, finding};
use crate::fixture::{AppSession, Fixture};
use crate::postgres::PostgresFixture;

pub(crate) async fn a_real_pooler_in_between_is_told(fixture: &PostgresFixture) {
    // It refuses the setting that marks our session, or drops it.
    for ignored in ["extra_float_digits", "extra_float_digits,options"] {
        let start = || PgBouncer::start_with(fixture.server.port(), APP_ROLE, ignored);
        let pooler = tokio::task::block_in_place(start).unwrap();
        let direct = format!(":{}/", fixture.server.port());
        let pooled = fixture.dsn().replace(&direct, &format!(":{}/", pooler.port()));
        let diagnosis = examine(&pooled).await;
        let found = finding(&diagnosis, "pooler").unwrap_or_else(|| panic!("{ignored:?}: {diagnosis:?}"));
        assert_eq!(found.level, FindingLevel::Error);
        assert!(found.remedy.contains("reaches the server directly"), "{found:?}");
    }
}

pub(crate) async fn locks_and_transactions_that_nobody_ends_are_named(fixture: &PostgresFixture) {
    let mut idle = fixture.app().await;
    idle.execute("SET application_name = 'goose'; SELECT pg_advisory_lock(4711)")
        .await
        .unwrap();
    let diagnosis = examine(&fixture.dsn()).await;
    let found = finding(&diagnosis, "advisory-lock").unwrap();
    let pid = idle.scalar("SELECT pg_backend_pid()").await.unwrap().unwrap();
    assert!(
        found.remedy.contains(&format!("pg_terminate_backend({pid})")),
        "{found:?}"
    );
    assert!(finding(&diagnosis, "other-migrator").is_some(), "{diagnosis:?}");
}

pub(crate) async fn a_superuser_application_is_told(fixture: &PostgresFixture) {
    let mut admin = fixture.admin().await;
    admin.execute("SELECT 1").await.unwrap();
    let diagnosis = examine(&fixture.dsn()).await;
    assert!(
        finding(&diagnosis, "superuser-application").is_some(),
        "{diagnosis:?}"
    );
}

pub(crate) async fn a_barrier_without_its_gate_is_an_error(fixture: &PostgresFixture) {
    let mut app = fixture.app().await;
    app.execute(
        "CREATE TABLE t (a INT);
         CREATE FUNCTION lockkeeper_g3_0badf00d() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END';
         CREATE TRIGGER lockkeeper_g3_0badf00d BEFORE INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION lockkeeper_g3_0badf00d()",
    )
    .await
    .unwrap();
    let diagnosis = examine(&fixture.dsn()).await;
    assert!(
        finding(&diagnosis, "barrier-without-gate").is_some(),
        "{diagnosis:?}"
    );
    assert!(diagnosis.has_errors());
}
