//! While the gate is closed nobody else writes, whatever it writes to; readers go on.

use std::time::Duration;

use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_migrate::db::{
    Applied, BarrierReport, Database, DbError, Event, Observer, Silent, VerifyOutcome,
};
use lockkeeper_migrate::dialect::Dialect;
use lockkeeper_migrate::sql::split;
use std::sync::Mutex;

use super::support::{G1, PATIENCE, Target, count, is_locked, run};

#[tokio::test]
async fn every_kind_of_write_is_refused_and_readers_go_on() {
    for mode in ["wal", "delete"] {
        let target = Target::new(mode).await;
        let mut app = target.app().await;
        run(&mut app, "CREATE VIRTUAL TABLE words USING fts5(word)")
            .await
            .unwrap();
        let mut hand = target.fenced(1).await;
        target
            .up(&mut *hand, 1, "CREATE TABLE u (b); INSERT INTO t VALUES (1)")
            .await
            .unwrap();
        for write in [
            "INSERT INTO t VALUES (9)",
            "INSERT INTO words VALUES ('x')",
            "CREATE TABLE mine (c)",
            "DROP TABLE t",
            "PRAGMA user_version = 7",
            "VACUUM",
        ] {
            let refused = run(&mut app, write).await;
            assert!(is_locked(&refused), "{mode}: {write}: {refused:?}");
        }
        assert_eq!(
            count(&mut app, "t").await,
            1,
            "{mode}: the reader sees the old state"
        );
        assert!(
            run(&mut app, "SELECT * FROM u").await.is_err(),
            "{mode}: and the old schema"
        );

        hand.open(G1, Some(&"1".into())).await.unwrap();
        assert_eq!(count(&mut app, "t").await, 2, "{mode}");
        run(
            &mut app,
            "INSERT INTO u VALUES (1); INSERT INTO words VALUES ('x')",
        )
        .await
        .unwrap();
        let row = target.database.inspect().await.unwrap().gate_row.unwrap();
        assert_eq!(
            (row.gate_epoch, row.opened, row.version),
            (G1, G1, Some("1".into())),
            "{mode}"
        );
    }
}

#[tokio::test]
async fn an_earlier_writer_is_waited_for_and_named() {
    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);
    impl Observer for Heard {
        fn event(&self, event: Event) {
            if let Event::Waiting { blockers, .. } = event {
                self.0
                    .lock()
                    .unwrap()
                    .extend(blockers.iter().map(ToString::to_string));
            }
        }
    }
    for mode in ["wal", "delete"] {
        let target = Target::new(mode).await;
        let mut hand = target.lead(1).await;
        hand.close(G1, "r1").await.unwrap();
        let mut app = target.app().await;
        run(&mut app, "BEGIN IMMEDIATE; INSERT INTO t VALUES (1)")
            .await
            .unwrap();

        let patience = Duration::from_millis(300);
        let heard = Heard::default();
        let error = hand.raise_barrier(patience, &heard).await.unwrap_err();
        let me = format!("process {}", std::process::id());
        assert!(matches!(error, DbError::TimedOut { .. }), "{mode}: {error}");
        assert!(error.to_string().contains(&me), "{mode}: {error}");
        assert!(
            heard
                .0
                .lock()
                .unwrap()
                .iter()
                .any(|blocker| blocker.contains(&me)),
            "{mode}"
        );

        run(&mut app, "COMMIT").await.unwrap();
        hand.raise_barrier(PATIENCE, &Silent).await.unwrap();
        assert_eq!(
            hand.scalar("SELECT count(*) FROM t").await.unwrap().as_deref(),
            Some("2"),
            "{mode}"
        );
    }
}

#[tokio::test]
async fn a_barrier_that_stands_is_continued() {
    let target = Target::new("wal").await;
    let mut hand = target.fenced(1).await;
    let again = hand.raise_barrier(PATIENCE, &Silent).await.unwrap();
    let tables = vec!["t".to_owned()];
    assert_eq!(
        again,
        BarrierReport {
            tables,
            ended: Vec::new(),
            continued: true
        }
    );
    hand.close(G1, "r1").await.unwrap();
    let lower = hand.close(GateEpoch(0), "r1").await.unwrap_err();
    assert!(matches!(lower, DbError::EpochBehind { .. }), "{lower}");
}

#[tokio::test]
async fn closing_alone_leaves_no_trace() {
    let target = Target::new("wal").await;
    let mut hand = target.lead(1).await;
    hand.close(G1, "r1").await.unwrap();
    let row = target.database.inspect().await.unwrap().gate_row.unwrap();
    assert_eq!(row.gate_epoch, GateEpoch(0));
    run(&mut target.app().await, "INSERT INTO t VALUES (1)")
        .await
        .unwrap();
}

/// Without a write-ahead log SQLite spills a full page cache (2 MB) into the file and shuts readers out for it.
#[tokio::test]
async fn readers_go_on_while_a_big_change_is_under_way() {
    let target = Target::new("delete").await;
    let mut hand = target.fenced(1).await;
    let big = "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 8000) \
               SELECT randomblob(1000) FROM n";
    target.up(&mut *hand, 1, big).await.unwrap();
    assert_eq!(count(&mut target.app().await, "t").await, 1);
    hand.open(G1, Some(&"1".into())).await.unwrap();
    assert_eq!(count(&mut target.app().await, "t").await, 8001);
}

/// Without a write-ahead log a commit needs the readers out. The fence must survive such a try.
#[tokio::test]
async fn an_opening_that_a_reader_delays_keeps_the_barrier() {
    let options = lockkeeper_migrate::db::DatabaseOptions {
        lock_timeout: Duration::from_millis(200),
        ..lockkeeper_migrate::db::DatabaseOptions::default()
    };
    let target = Target::with_options("delete", options).await;
    let mut hand = target.fenced(1).await;
    target.up(&mut *hand, 1, "CREATE TABLE u (b)").await.unwrap();
    let (mut reader, mut writer) = (target.app().await, target.app().await);
    run(&mut reader, "BEGIN; SELECT * FROM t").await.unwrap();

    let error = hand.open(G1, Some(&"1".into())).await.unwrap_err();
    assert!(matches!(error, DbError::TimedOut { .. }), "{error}");
    assert!(is_locked(&run(&mut writer, "INSERT INTO t VALUES (9)").await));
    run(&mut reader, "COMMIT").await.unwrap();
    hand.open(G1, Some(&"1".into())).await.unwrap();
    hand.open(G1, Some(&"1".into())).await.unwrap();
    run(&mut writer, "INSERT INTO u VALUES (9)").await.unwrap();
}

#[tokio::test]
async fn verification_sees_the_fence_and_leaves_nothing() {
    let target = Target::new("wal").await;
    let mut hand = target.fenced(1).await;
    target
        .up(&mut *hand, 1, "CREATE TABLE u (b); INSERT INTO u VALUES (1)")
        .await
        .unwrap();
    for (sql, passes) in [
        ("SELECT count(*) = 1 FROM u", true),
        ("INSERT INTO u VALUES (2); SELECT count(*) = 2 FROM u", true),
        ("SELECT count(*) = 1 FROM u", true),
        ("SELECT 1; SELECT count(*) = 5 FROM u", false),
        ("SELECT NULL", false),
        ("SELECT 1 WHERE 0", false),
        ("SELECT * FROM nowhere", false),
        ("DELETE FROM u", true),
        // It would open the gate.
        ("SELECT 1; COMMIT", false),
    ] {
        let outcome = hand.verify(&split(Dialect::Sqlite, sql).unwrap()).await.unwrap();
        assert_eq!(outcome == VerifyOutcome::Passed, passes, "{sql}: {outcome:?}");
    }
    assert_eq!(
        hand.scalar("SELECT count(*) FROM u").await.unwrap().as_deref(),
        Some("1")
    );
    assert!(is_locked(
        &run(&mut target.app().await, "INSERT INTO t VALUES (9)").await
    ));
}

#[tokio::test]
async fn a_step_is_applied_once_under_a_barrier_too() {
    let target = Target::new("wal").await;
    let mut hand = target.fenced(1).await;
    let first = target.up(&mut *hand, 1, "CREATE TABLE u (b)").await.unwrap();
    assert!(matches!(first, Applied::Ran { .. }));
    assert_eq!(
        target.up(&mut *hand, 1, "CREATE TABLE u (b)").await.unwrap(),
        Applied::Already
    );
    assert_eq!(hand.ledger().await.unwrap().len(), 1);
    assert_eq!(
        hand.ledger().await.unwrap()[0].leader_epoch.as_deref(),
        Some("e1.1")
    );
}
