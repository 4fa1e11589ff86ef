//! Applying migrations, and looking at what they did.

use lockkeeper_migrate::db::{Applied, Silent, VerifyOutcome};
use lockkeeper_migrate::source::Direction;
use lockkeeper_migrate::sql::split;

use crate::fixture::Fixture;
use crate::support::{apply, fenced, leader, ledger_write, script, take, versions};

pub(crate) async fn a_migration_is_recorded_and_runs_once(fixture: &impl Fixture) {
    let mut hand = take(&*fixture.database(), &leader(1)).await;
    let text = "CREATE TABLE t (a INT);\nINSERT INTO t VALUES (1);\n";
    let applied = apply(&mut *hand, fixture.dialect(), "20220301082701000000", text)
        .await
        .unwrap();
    assert!(matches!(applied, Applied::Ran { .. }), "{applied:?}");
    let again = apply(&mut *hand, fixture.dialect(), "20220301082701000000", text)
        .await
        .unwrap();
    assert_eq!(again, Applied::Already);
    assert_eq!(
        hand.scalar("SELECT count(*) FROM t").await.unwrap().as_deref(),
        Some("1")
    );

    let ledger = hand.ledger().await.unwrap();
    assert_eq!(ledger.len(), 1);
    let entry = &ledger[0];
    assert_eq!(entry.version.as_str(), "20220301082701000000");
    assert_eq!(entry.checksum_up.to_string(), "checksum of 20220301082701000000");
    assert_eq!(entry.applied_by, "conformance");
    assert_eq!(entry.leader_epoch.as_deref(), Some("e1.1"));
    assert!(
        entry.applied_at_unix_ms > 1_700_000_000_000,
        "{}",
        entry.applied_at_unix_ms
    );
}

pub(crate) async fn a_reverted_migration_leaves_the_ledger(fixture: &impl Fixture) {
    let mut hand = take(&*fixture.database(), &leader(1)).await;
    apply(&mut *hand, fixture.dialect(), "1", "CREATE TABLE t (a INT);")
        .await
        .unwrap();
    let down = script(fixture.dialect(), "DROP TABLE t;");
    let write = ledger_write("1", Direction::Down);
    assert!(matches!(
        hand.apply(&down, &write, &Silent).await.unwrap(),
        Applied::Ran { .. }
    ));
    assert!(versions(&mut *hand).await.is_empty());
    assert_eq!(
        hand.apply(&down, &write, &Silent).await.unwrap(),
        Applied::Already
    );
}

pub(crate) async fn the_third_of_five_fails(fixture: &impl Fixture) {
    let mut hand = fenced(&*fixture.database()).await;
    let mut failed = None;
    for version in 1..=5 {
        let text = match version {
            3 => "CREATE TABLE m3 (a INT);\n\nINSERT INTO not_there VALUES (1);\n".to_owned(),
            _ => format!("CREATE TABLE m{version} (a INT);\nINSERT INTO m{version} VALUES ({version});\n"),
        };
        if let Err(error) = apply(&mut *hand, fixture.dialect(), &version.to_string(), &text).await {
            failed = Some((version, error.to_string()));
            break;
        }
    }
    let (version, message) = failed.expect("the third must fail");
    assert_eq!(version, 3);
    assert!(message.contains("line 3"), "{message}");
    assert!(message.contains("not_there"), "{message}");
    assert_eq!(versions(&mut *hand).await, ["1", "2"]);
    // The hand is as good as before.
    assert_eq!(
        hand.scalar("SELECT a FROM m2").await.unwrap().as_deref(),
        Some("2")
    );
    apply(&mut *hand, fixture.dialect(), "4", "CREATE TABLE m4 (a INT);")
        .await
        .unwrap();
}

pub(crate) async fn scalar_answers_text(fixture: &impl Fixture) {
    let mut hand = take(&*fixture.database(), &leader(1)).await;
    assert_eq!(hand.scalar("SELECT 42").await.unwrap().as_deref(), Some("42"));
    assert_eq!(hand.scalar("SELECT 'a'").await.unwrap().as_deref(), Some("a"));
    assert_eq!(hand.scalar("SELECT NULL").await.unwrap(), None);
    assert_eq!(
        hand.scalar("SELECT executor_who FROM lockkeeper_gate WHERE 1 = 0")
            .await
            .unwrap(),
        None
    );
    assert!(hand.scalar("SELECT nonsense").await.is_err());
    assert_eq!(hand.scalar("SELECT 1").await.unwrap().as_deref(), Some("1"));
}

pub(crate) async fn verification_says_what_is_wrong(fixture: &impl Fixture) {
    let mut hand = fenced(&*fixture.database()).await;
    apply(&mut *hand, fixture.dialect(), "1", "CREATE TABLE t (a INT);")
        .await
        .unwrap();
    for (text, fails) in [
        ("SELECT count(*) = 0 FROM t", None),
        ("INSERT INTO t VALUES (1); SELECT count(*) = 1 FROM t", None),
        ("SELECT count(*) = 1 FROM t", Some("false")),
        ("SELECT 1;\nSELECT 0", Some("line 2")),
        ("SELECT NULL", Some("NULL")),
        ("SELECT a FROM t", Some("no row")),
        ("SELECT a FROM not_there", Some("not_there")),
    ] {
        let statements = split(fixture.dialect(), text).unwrap();
        match (hand.verify(&statements).await.unwrap(), fails) {
            (VerifyOutcome::Passed, None) => {}
            (VerifyOutcome::Failed(why), Some(expected)) => assert!(why.contains(expected), "{text}: {why}"),
            (outcome, _) => panic!("{text}: {outcome:?}"),
        }
    }
    assert_eq!(
        hand.scalar("SELECT count(*) FROM t").await.unwrap().as_deref(),
        Some("0"),
        "it left rows behind"
    );
}
