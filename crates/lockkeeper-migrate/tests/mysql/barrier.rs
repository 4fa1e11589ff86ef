//! The barrier, the opening, and what is left of them.

use std::time::Duration;

use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_core::version::SchemaVersion;
use lockkeeper_migrate::db::mysql::MySqlDatabase;
use lockkeeper_migrate::db::{Database, DatabaseOptions, DbError, Event, Silent};
use lockkeeper_migrate::dsn::Dsn;
use lockkeeper_migrate::source::Direction;
use tokio::time::Instant;

use crate::support::{
    G1, Log, PATIENCE, SHORT, Target, connection_id, count, leader, migration, run, state, write,
};

const WRITES: [&str; 6] = [
    "INSERT INTO t VALUES (7, 7)",
    "UPDATE t SET v = 9",
    "DELETE FROM t",
    "REPLACE INTO t VALUES (0, 9)",
    "INSERT INTO t VALUES (0, 9) ON DUPLICATE KEY UPDATE v = 9",
    "WITH x AS (SELECT 5 AS id) SELECT 1; INSERT INTO t SELECT 5, 5",
];

#[tokio::test]
async fn writers_are_refused_until_the_opening_and_readers_go_on() {
    let target = Target::new();
    let mut hand = target.fenced(1).await;
    let mut app = target.app().await;
    for write in WRITES {
        assert_eq!(state(&run(&mut app, write).await), "LK001", "{write}");
    }
    let refused = run(&mut app, WRITES[0]).await.unwrap_err().to_string();
    assert!(refused.contains("lockkeeper: t is fenced at g1"), "{refused}");
    assert_eq!(count(&mut app, "t").await, 1);
    hand.open(G1, Some(&SchemaVersion::from("3"))).await.unwrap();
    run(&mut app, WRITES[0]).await.unwrap();
    assert_eq!(hand.clean_up(&Silent).await.unwrap(), 0);
    assert_eq!(
        target.sql("SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'shop'"),
        "0"
    );
    assert_eq!(hand.gate_row().version, Some(SchemaVersion::from("3")));
    assert!(!hand.gate_row().is_closed());
}

#[tokio::test]
async fn an_old_snapshot_is_refused_in_every_isolation_level() {
    let target = Target::new();
    for level in [
        "READ UNCOMMITTED",
        "READ COMMITTED",
        "REPEATABLE READ",
        "SERIALIZABLE",
    ] {
        // Read another table: a reader of `t` itself would be waited for.
        target.sql("CREATE OR REPLACE TABLE other (a INT)");
        let mut hand = target.lead(1).await;
        let mut app = target.app().await;
        run(
            &mut app,
            &format!("SET TRANSACTION ISOLATION LEVEL {level}; START TRANSACTION WITH CONSISTENT SNAPSHOT"),
        )
        .await
        .unwrap();
        let fence = GateEpoch(hand.gate_row().gate_epoch.0 + 1);
        hand.close(fence, "r").await.unwrap();
        hand.raise_barrier(SHORT, &Silent).await.unwrap();
        let refused = run(&mut app, "INSERT INTO t VALUES (1, 1)").await;
        // A snapshot that is older than the table's new definition may be told so instead.
        assert!(
            ["LK001", "HY000"].contains(&state(&refused).as_str()),
            "{level}: {refused:?}"
        );
        run(&mut app, "ROLLBACK").await.unwrap();
        hand.open(fence, None).await.unwrap();
        run(
            &mut app,
            "DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (1, 1)",
        )
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn raising_again_continues_and_a_successor_finds_it_standing() {
    let target = Target::new();
    let mut hand = target.fenced(1).await;
    assert!(hand.raise_barrier(SHORT, &Silent).await.unwrap().continued);
    let mut next = target.lead(2).await;
    next.close(G1, "r1").await.unwrap();
    let report = next.raise_barrier(SHORT, &Silent).await.unwrap();
    assert!(report.continued);
    assert_eq!(report.tables, ["t"]);
    // New tables of the successor's migration are barred although it never made a trigger itself.
    target.up(&mut *next, 1, "CREATE TABLE u (a INT)").await.unwrap();
    let mut app = target.app().await;
    assert_eq!(state(&run(&mut app, "INSERT INTO u VALUES (1)").await), "LK001");
}

#[tokio::test]
async fn an_open_writer_is_waited_for_and_named() {
    let target = Target::new();
    let mut hand = target.lead(1).await;
    hand.close(G1, "r1").await.unwrap();
    let mut app = target.app().await;
    let id = connection_id(&mut app).await;
    run(&mut app, "BEGIN; INSERT INTO t VALUES (1, 1)").await.unwrap();
    let writer = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(2500)).await;
        run(&mut app, "COMMIT").await.unwrap();
    });
    let log = Log::default();
    let report = hand.raise_barrier(PATIENCE, &log).await.unwrap();
    assert!(
        writer.is_finished(),
        "the barrier stood before the writer had ended"
    );
    assert!(report.ended.is_empty());
    let named = |(what, ids): &(String, Vec<String>)| what == "lock on t" && ids.contains(&id.to_string());
    assert!(log.waits().iter().any(named), "{:?}", log.waits());
    assert_eq!(hand.scalar("SELECT COUNT(*) FROM t").await.unwrap().unwrap(), "2");
    writer.await.unwrap();
}

#[tokio::test]
async fn a_writer_that_outlasts_the_patience_is_ended_and_reported() {
    let target = Target::new();
    target.sql("CREATE TABLE u (a INT) ENGINE = InnoDB");
    let mut hand = target.lead(1).await;
    hand.close(G1, "r1").await.unwrap();
    let mut app = target.app().await;
    let id = connection_id(&mut app).await;
    run(
        &mut app,
        "BEGIN; INSERT INTO t VALUES (1, 1); INSERT INTO u VALUES (1)",
    )
    .await
    .unwrap();
    let mut elsewhere = target.connect(&target.server.dsn("mysql")).await;
    run(&mut elsewhere, "START TRANSACTION; SELECT * FROM user LIMIT 1")
        .await
        .unwrap();
    let started = Instant::now();
    let report = hand.raise_barrier(SHORT, &Silent).await.unwrap();
    assert!(
        started.elapsed() >= SHORT && started.elapsed() < SHORT * 4,
        "{:?}",
        started.elapsed()
    );
    assert_eq!(
        report.ended.iter().map(|b| b.id.clone()).collect::<Vec<_>>(),
        [id.to_string()]
    );
    assert!(run(&mut app, "COMMIT").await.is_err());
    assert_eq!(
        hand.scalar("SELECT (SELECT COUNT(*) FROM t) + (SELECT COUNT(*) FROM u)")
            .await
            .unwrap()
            .unwrap(),
        "1"
    );
    // A transaction of another database is nobody's business.
    run(&mut elsewhere, "SELECT 1").await.unwrap();
}

#[tokio::test]
async fn overlapping_short_transactions_do_not_keep_the_barrier_out() {
    let target = std::sync::Arc::new(Target::new());
    let mut hand = target.lead(1).await;
    hand.close(G1, "r1").await.unwrap();
    let writers: Vec<_> = (0..4_u32)
        .map(|n| {
            let target = std::sync::Arc::clone(&target);
            tokio::spawn(async move {
                let mut app = target.app().await;
                tokio::time::sleep(Duration::from_millis(u64::from(n) * 75)).await;
                let mut written = 0_u32;
                loop {
                    let sql = format!("BEGIN; INSERT INTO t VALUES ({}, 1)", 1 + written * 4 + n);
                    if state(&run(&mut app, &sql).await) == "LK001" {
                        return written;
                    }
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    run(&mut app, "COMMIT").await.unwrap();
                    written += 1;
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let report = hand.raise_barrier(PATIENCE, &Silent).await.unwrap();
    assert!(report.ended.is_empty(), "{:?}", report.ended);
    let found = hand.scalar("SELECT COUNT(*) FROM t").await.unwrap().unwrap();
    let mut written = 0;
    for writer in writers {
        written += writer.await.unwrap();
    }
    // Whoever was acknowledged was so before the barrier stood.
    assert_eq!(found, (written + 1).to_string());
}

/// An open dump holds every table's definition: it is waited for, and ended when the patience is over. The opening
/// waits for nobody who reads.
#[tokio::test]
async fn a_long_reader_stops_neither_fence_nor_opening() {
    let target = Target::new();
    let mut hand = target.lead(1).await;
    hand.close(G1, "r1").await.unwrap();
    let mut dump = target.app().await;
    let id = connection_id(&mut dump).await;
    run(
        &mut dump,
        "START TRANSACTION WITH CONSISTENT SNAPSHOT; SELECT * FROM t",
    )
    .await
    .unwrap();
    let report = hand.raise_barrier(SHORT, &Silent).await.unwrap();
    assert!(
        report.ended.iter().any(|b| b.id == id.to_string()),
        "{:?}",
        report.ended
    );
    let mut dump = target.app().await;
    run(
        &mut dump,
        "START TRANSACTION WITH CONSISTENT SNAPSHOT; SELECT * FROM t",
    )
    .await
    .unwrap();
    let started = Instant::now();
    hand.open(G1, None).await.unwrap();
    assert!(
        started.elapsed() < Duration::from_millis(500),
        "{:?}",
        started.elapsed()
    );
    let started = Instant::now();
    assert_eq!(hand.clean_up(&Silent).await.unwrap(), 3);
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
    run(&mut dump, "SELECT * FROM t; COMMIT").await.unwrap();
    assert_eq!(hand.clean_up(&Silent).await.unwrap(), 0);
}

#[tokio::test]
async fn locked_tables_are_got_at_last() {
    let target = Target::new();
    let mut hand = target.lead(1).await;
    hand.close(G1, "r1").await.unwrap();
    let mut app = target.app().await;
    run(&mut app, "LOCK TABLES t READ").await.unwrap();
    let report = hand.raise_barrier(SHORT, &Silent).await.unwrap();
    assert_eq!(report.ended.len(), 1, "{:?}", report.ended);
}

/// A transaction that was refused and left open keeps the gate row locked: it is waited for a moment, and ended.
#[tokio::test]
async fn a_refused_transaction_that_stays_open_does_not_keep_the_gate_closed() {
    let target = Target::new();
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let mut hand = target.lead(1).await;
        let fence = GateEpoch(hand.gate_row().gate_epoch.0 + 1);
        hand.close(fence, "r").await.unwrap();
        hand.raise_barrier(SHORT, &Silent).await.unwrap();
        let mut app = target.app().await;
        run(
            &mut app,
            &format!("SET SESSION TRANSACTION ISOLATION LEVEL {level}; START TRANSACTION"),
        )
        .await
        .unwrap();
        assert_eq!(
            state(&run(&mut app, "INSERT INTO t VALUES (1, 1)").await),
            "LK001"
        );
        let started = Instant::now();
        hand.open(fence, None).await.unwrap();
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "{:?}",
            started.elapsed()
        );
        assert!(
            run(&mut app, "SELECT 1").await.is_err(),
            "whoever held the row was ended"
        );
        let mut app = target.app().await;
        run(
            &mut app,
            "INSERT INTO t VALUES (1, 1); DELETE FROM t WHERE id = 1",
        )
        .await
        .unwrap();
    }
}

/// Such a transaction keeps its locks on the table too. It is ended when a migration waits for them, and nobody else.
#[tokio::test]
async fn a_refused_transaction_that_stays_open_does_not_keep_a_migration_waiting() {
    let target = Target::new();
    target.sql("CREATE TABLE other (a INT)");
    let mut hand = target.fenced(1).await;
    let (mut app, mut reader) = (target.app().await, target.app().await);
    run(&mut reader, "START TRANSACTION; SELECT * FROM other")
        .await
        .unwrap();
    let id = connection_id(&mut app).await;
    run(&mut app, "START TRANSACTION").await.unwrap();
    assert_eq!(
        state(&run(&mut app, "INSERT INTO t VALUES (1, 1)").await),
        "LK001"
    );
    let started = Instant::now();
    let (migration, log) = (migration(1, "ALTER TABLE t ADD c INT"), Log::default());
    hand.apply(&migration.up, &write(&migration, Direction::Up), &log)
        .await
        .unwrap();
    let ended = |event: &Event| matches!(event, Event::Ended(blocker) if blocker.id == id.to_string());
    assert!(log.events().iter().any(ended), "{:?}", log.events());
    assert!(
        started.elapsed() < Duration::from_secs(12),
        "{:?}",
        started.elapsed()
    );
    assert!(
        run(&mut app, "SELECT 1").await.is_err(),
        "who was in the way was not ended"
    );
    run(&mut reader, "SELECT 1").await.unwrap();
}

/// Without the right to see transactions, nobody is known to hold the row: whoever is in the fenced database goes.
#[tokio::test]
async fn a_role_without_process_opens_as_well() {
    let target = Target::new();
    let dsn = Dsn::parse(&target.server.app_dsn("shop")).unwrap();
    let database = MySqlDatabase::new(&dsn, DatabaseOptions::default());
    let mut hand = database.take(&leader(1), PATIENCE, &Silent).await.unwrap();
    hand.close(G1, "r").await.unwrap();
    hand.raise_barrier(SHORT, &Silent).await.unwrap();
    let mut app = target.connect(&target.server.app_dsn("shop")).await;
    run(&mut app, "START TRANSACTION").await.unwrap();
    assert_eq!(
        state(&run(&mut app, "INSERT INTO t VALUES (1, 1)").await),
        "LK001"
    );
    let mut next = database
        .take(&leader(2), Duration::from_secs(6), &Silent)
        .await
        .unwrap();
    let mut app = target.connect(&target.server.app_dsn("shop")).await;
    run(&mut app, "START TRANSACTION").await.unwrap();
    assert_eq!(
        state(&run(&mut app, "INSERT INTO t VALUES (1, 1)").await),
        "LK001"
    );
    next.open(G1, None).await.unwrap();
    assert!(run(&mut app, "SELECT 1").await.is_err());
}

/// Nor does it keep the next leader from taking the target.
#[tokio::test]
async fn a_refused_transaction_that_stays_open_does_not_keep_a_leader_out() {
    let target = Target::new();
    let _old = target.fenced(1).await;
    let mut app = target.app().await;
    run(&mut app, "START TRANSACTION").await.unwrap();
    assert_eq!(
        state(&run(&mut app, "INSERT INTO t VALUES (1, 1)").await),
        "LK001"
    );
    let log = Log::default();
    target
        .database
        .take(&leader(2), Duration::from_secs(6), &log)
        .await
        .unwrap();
    assert!(
        log.events()
            .iter()
            .any(|event| matches!(event, lockkeeper_migrate::db::Event::Ended(_)))
    );
}

/// Writers are refused at once while the leader's own transaction holds the row.
#[tokio::test]
async fn a_running_migration_does_not_make_refusals_slow() {
    let target = Target::on(
        lockkeeper_tests::mariadb::MariaDb::options()
            .argument("--log-bin=b")
            .argument("--binlog-format=MIXED"),
        DatabaseOptions::default(),
    );
    let mut hand = target.fenced(1).await;
    let applying = tokio::spawn(async move {
        let script = crate::support::migration(1, "INSERT INTO t VALUES (1, 1); UPDATE t SET v = SLEEP(2)");
        let write = crate::support::write(&script, lockkeeper_migrate::source::Direction::Up);
        hand.apply(&script.up, &write, &Silent).await.unwrap();
    });
    tokio::time::sleep(Duration::from_millis(700)).await;
    let mut app = target.app().await;
    let started = Instant::now();
    assert_eq!(
        state(&run(&mut app, "INSERT INTO t VALUES (5, 5)").await),
        "LK001"
    );
    assert!(
        started.elapsed() < Duration::from_millis(500),
        "{:?}",
        started.elapsed()
    );
    applying.await.unwrap();
}

#[tokio::test]
async fn ours_comes_first_and_its_name_never_collides() {
    let target = Target::new();
    target.sql(
        "CREATE DATABASE other; CREATE TABLE other.log (a INT) ENGINE = MyISAM; CREATE TRIGGER first BEFORE INSERT ON t FOR EACH ROW INSERT INTO other.log VALUES (1)",
    );
    let mut hand = target.fenced(1).await;
    let mut app = target.app().await;
    assert_eq!(
        state(&run(&mut app, "INSERT INTO t VALUES (1, 1)").await),
        "LK001"
    );
    assert_eq!(target.sql("SELECT COUNT(*) FROM other.log"), "0");
    // A swap keeps the triggers' names: those of the new table must be other ones.
    target
        .up(
            &mut *hand,
            1,
            "CREATE TABLE t2 LIKE t; RENAME TABLE t TO t_old, t2 TO t; CREATE TABLE t2 LIKE t",
        )
        .await
        .unwrap();
    for table in ["t", "t_old", "t2"] {
        assert_eq!(
            state(&run(&mut app, &format!("INSERT INTO {table} VALUES (4, 4)")).await),
            "LK001",
            "{table}"
        );
    }
    assert_eq!(
        target.sql("SELECT MAX(LENGTH(TRIGGER_NAME)) <= 64 FROM information_schema.TRIGGERS"),
        "1"
    );
}

#[tokio::test]
async fn a_late_trigger_of_an_opened_fence_is_inert_and_gets_dropped() {
    let target = Target::new();
    let mut hand = target.fenced(1).await;
    hand.open(G1, None).await.unwrap();
    let mut app = target.app().await;
    run(&mut app, "INSERT INTO t VALUES (1, 1)").await.unwrap();
    hand.close(GateEpoch(2), "r2").await.unwrap();
    run(&mut app, "INSERT INTO t VALUES (2, 2)").await.unwrap();
    hand.raise_barrier(SHORT, &Silent).await.unwrap();
    assert_eq!(
        state(&run(&mut app, "INSERT INTO t VALUES (3, 3)").await),
        "LK001"
    );
    assert_eq!(hand.clean_up(&Silent).await.unwrap(), 0);
    assert_eq!(
        state(&run(&mut app, "INSERT INTO t VALUES (3, 3)").await),
        "LK001",
        "the standing barrier stays"
    );
}

#[tokio::test]
async fn gate_epochs_only_grow() {
    let target = Target::new();
    let mut hand = target.lead(1).await;
    hand.close(GateEpoch(5), "r").await.unwrap();
    hand.close(GateEpoch(5), "r").await.unwrap();
    let behind = hand.close(GateEpoch(4), "r").await;
    assert!(
        matches!(
            behind,
            Err(DbError::EpochBehind {
                given: GateEpoch(4),
                recorded: GateEpoch(5)
            })
        ),
        "{behind:?}"
    );
    assert!(matches!(
        hand.open(GateEpoch(4), None).await,
        Err(DbError::EpochBehind { .. })
    ));
    assert!(hand.open(GateEpoch(6), None).await.is_err());
    hand.open(GateEpoch(5), None).await.unwrap();
    hand.open(GateEpoch(5), None).await.unwrap();
    assert!(
        hand.raise_barrier(SHORT, &Silent).await.is_err(),
        "an open gate has no barrier to raise"
    );
}

/// A prepared transaction whose connection is gone holds no table, and could commit at any time.
#[tokio::test]
async fn a_disconnected_prepared_transaction_keeps_the_fence_from_being_drained() {
    let target = Target::new();
    let mut hand = target.lead(1).await;
    hand.close(G1, "r1").await.unwrap();
    let mut app = target.app().await;
    run(
        &mut app,
        "XA START 'pay'; INSERT INTO t VALUES (100, 1); XA END 'pay'; XA PREPARE 'pay'",
    )
    .await
    .unwrap();
    drop(app);
    crate::support::until(
        &target,
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = 'shop'",
        "2",
    )
    .await;
    let stuck = hand.raise_barrier(SHORT, &Silent).await.unwrap_err();
    assert!(
        matches!(&stuck, DbError::TimedOut { .. }) && stuck.to_string().contains("pay"),
        "{stuck}"
    );
    target.sql("XA ROLLBACK 'pay'");
    hand.raise_barrier(SHORT, &Silent).await.unwrap();
}

/// The pass is one session's, by both of its identifiers.
#[tokio::test]
async fn only_the_registered_session_passes() {
    let target = Target::new();
    let mut hand = target.fenced(1).await;
    hand.scalar("INSERT INTO t VALUES (1, 1)").await.unwrap();
    target
        .up(&mut *hand, 1, "INSERT INTO t VALUES (2, 2)")
        .await
        .unwrap();
    let mut app = target.app().await;
    // Another session's number in the row is not enough: it does not hold the witness.
    let id = connection_id(&mut app).await;
    target.sql(&format!("UPDATE lockkeeper_gate SET executor_session = {id}"));
    assert_eq!(
        state(&run(&mut app, "INSERT INTO t VALUES (3, 3)").await),
        "LK002"
    );
    assert!(hand.scalar("INSERT INTO t VALUES (3, 3)").await.is_err());
}

#[tokio::test]
async fn applications_of_another_user_are_refused_alike() {
    let target = Target::new();
    let mut app = target.connect(&target.server.app_dsn("shop")).await;
    let _hand = target.fenced(1).await;
    assert_eq!(
        state(&run(&mut app, "INSERT INTO t VALUES (1, 1)").await),
        "LK001"
    );
}
