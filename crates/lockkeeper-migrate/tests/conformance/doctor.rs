//! What the doctor finds, on each dialect.

use std::time::Duration;

use lockkeeper_migrate::db::{DatabaseOptions, FindingLevel, Silent};
use lockkeeper_migrate::doctor::{self, Diagnosis, Mending, Outcome};
use lockkeeper_migrate::dsn::Dsn;

use crate::fixture::Fixture;
use crate::support::{G1, fenced, standalone, take};

fn options() -> DatabaseOptions {
    DatabaseOptions {
        connect_timeout: Duration::from_secs(5),
        ..DatabaseOptions::default()
    }
}

pub(crate) async fn examine(dsn: &str) -> Diagnosis {
    doctor::examine(dsn, options()).await
}

/// The finding of this name, if there is one.
pub(crate) fn finding<'a>(
    diagnosis: &'a Diagnosis,
    code: &str,
) -> Option<&'a lockkeeper_migrate::db::Finding> {
    diagnosis.findings.iter().find(|finding| finding.code == code)
}

pub(crate) async fn a_healthy_database_has_no_errors(fixture: &impl Fixture) {
    take(&*fixture.database(), &standalone("x"))
        .await
        .release()
        .await
        .unwrap();
    let diagnosis = examine(&fixture.dsn()).await;
    assert!(!diagnosis.has_errors(), "{diagnosis:?}");
    assert!(diagnosis.server.is_some());
    assert!(
        diagnosis
            .checks
            .iter()
            .all(|check| check.outcome != Outcome::Skipped)
    );
}

pub(crate) async fn nothing_at_the_place_is_told_without_secrets(fixture: &impl Fixture) {
    let (dsn, secret) = fixture.unreachable_dsn();
    let diagnosis = examine(&dsn).await;
    assert!(diagnosis.has_errors());
    let code = if diagnosis.dialect.as_deref() == Some("sqlite") {
        "file"
    } else {
        "tcp"
    };
    assert!(finding(&diagnosis, code).is_some(), "{diagnosis:?}");
    assert_eq!(diagnosis.checks.last().unwrap().outcome, Outcome::Skipped);
    assert!(!format!("{diagnosis:?}").contains(secret));
}

pub(crate) async fn a_refused_login_is_told_without_secrets(fixture: &impl Fixture) {
    let Some((dsn, secret)) = fixture.refused_dsn() else {
        return;
    };
    let diagnosis = examine(&dsn).await;
    assert!(finding(&diagnosis, "login").is_some(), "{diagnosis:?}");
    assert!(!format!("{diagnosis:?}").contains(secret));
}

pub(crate) async fn a_migrator_at_work_is_named(fixture: &impl Fixture) {
    let hand = take(&*fixture.database(), &standalone("anna@laptop")).await;
    let diagnosis = examine(&fixture.dsn()).await;
    let found = finding(&diagnosis, "executor-alive").unwrap();
    assert!(found.message.contains("anna@laptop"), "{found:?}");
    hand.release().await.unwrap();
    assert!(finding(&examine(&fixture.dsn()).await, "executor-alive").is_none());
}

pub(crate) async fn another_tools_dirty_state_is_told(fixture: &impl Fixture) {
    let mut app = fixture.session().await;
    app.execute("CREATE TABLE schema_migrations (version BIGINT PRIMARY KEY, dirty BOOLEAN NOT NULL)")
        .await
        .unwrap();
    app.execute("INSERT INTO schema_migrations VALUES (20250101, TRUE)")
        .await
        .unwrap();
    let diagnosis = examine(&fixture.dsn()).await;
    let found = finding(&diagnosis, "golang-migrate-dirty").unwrap();
    assert_eq!(found.level, FindingLevel::Error);
    assert!(found.remedy.contains("migrate force 20250101"), "{found:?}");
}

/// On SQLite no trigger is made, so there is nothing to be left over.
pub(crate) async fn what_an_opened_fence_left_is_dropped_when_told(fixture: &impl Fixture) {
    if !fixture.closes_durably() {
        return;
    }
    fixture
        .session()
        .await
        .execute("CREATE TABLE t (a INT)")
        .await
        .unwrap();
    let mut hand = fenced(&*fixture.database()).await;
    let closed = examine(&fixture.dsn()).await;
    assert!(
        finding(&closed, "left-over-barrier").is_none(),
        "a fence that stands is no left-over"
    );
    hand.open(G1, None).await.unwrap();
    hand.release().await.unwrap();
    let diagnosis = examine(&fixture.dsn()).await;
    assert!(
        finding(&diagnosis, "left-over-barrier").is_some(),
        "{diagnosis:?}"
    );
    assert_eq!(doctor::mendings(&diagnosis), [Mending::DropBarriers]);
    let dsn = Dsn::parse(&fixture.dsn()).unwrap();
    doctor::mend(Mending::DropBarriers, &dsn, options(), "x")
        .await
        .unwrap();
    assert!(finding(&examine(&fixture.dsn()).await, "left-over-barrier").is_none());
}

/// The row of another server: here, one that somebody wrote there.
pub(crate) async fn a_copys_gate_row_is_adopted_when_told(fixture: &impl Fixture) {
    let database = fixture.database();
    if fixture.closes_durably() {
        fenced(&*database).await.release().await.unwrap();
    } else {
        take(&*database, &standalone("x")).await.release().await.unwrap();
    }
    let mut app = fixture.session().await;
    app.execute("UPDATE lockkeeper_gate SET identity = 'elsewhere'")
        .await
        .unwrap();
    let diagnosis = examine(&fixture.dsn()).await;
    assert!(finding(&diagnosis, "identity-changed").is_some(), "{diagnosis:?}");
    let dsn = Dsn::parse(&fixture.dsn()).unwrap();
    for mending in doctor::mendings(&diagnosis) {
        doctor::mend(mending, &dsn, options(), "x").await.unwrap();
    }
    let seen = database.inspect().await.unwrap();
    let row = seen.gate_row.unwrap();
    assert!(!row.is_closed() && row.identity == seen.identity, "{row:?}");
    let diagnosis = examine(&fixture.dsn()).await;
    assert!(!diagnosis.has_errors(), "{diagnosis:?}");
    database
        .take(&standalone("x"), Duration::from_secs(5), &Silent)
        .await
        .unwrap();
}
