//! Taking a target, and taking it over.

use std::time::Duration;

use lockkeeper_core::epoch::{GateEpoch, LeaderEpoch};
use lockkeeper_migrate::db::mysql::MySqlDatabase;
use lockkeeper_migrate::db::{
    ApplyError, Claim, Database, DatabaseOptions, DbError, Event, Silent, TakeError,
};
use lockkeeper_migrate::dsn::Dsn;
use lockkeeper_migrate::source::Direction;
use uuid::Uuid;

use crate::support::{
    G1, Log, PATIENCE, SHORT, Target, leader, migration, run, standalone, state, until, write,
};

#[tokio::test]
async fn inspecting_an_untouched_database_changes_nothing() {
    let target = Target::new();
    let seen = target.database.inspect().await.unwrap();
    assert_eq!((seen.gate_row, seen.ledger.len()), (None, 0));
    assert!(seen.server.starts_with("MariaDB 1"), "{}", seen.server);
    assert!(seen.identity.0.ends_with("/shop"));
    assert_eq!(target.sql("SHOW TABLES"), "t");
}

#[tokio::test]
async fn a_leader_registers_and_releases() {
    let target = Target::new();
    let hand = target.lead(5).await;
    let row = target.database.inspect().await.unwrap().gate_row.unwrap();
    assert_eq!(&row, hand.gate_row());
    assert_eq!(
        row.leader_epoch,
        LeaderEpoch {
            generation: 1,
            revision: 5
        }
    );
    assert_eq!(row.leader_id, Some(Uuid::from_u128(5)));
    assert_eq!(row.executor.as_ref(), Some(hand.executor()));
    assert!(!row.is_closed());
    hand.release().await.unwrap();
    let row = target.database.inspect().await.unwrap().gate_row.unwrap();
    assert_eq!(row.executor, None);
    until(
        &target,
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = 'shop'",
        "1",
    )
    .await;
}

#[tokio::test]
async fn epochs_only_grow_and_belong_to_one_leader() {
    let target = Target::new();
    drop(target.lead(5).await);
    let behind = target
        .database
        .take(&leader(4), PATIENCE, &Silent)
        .await
        .unwrap_err();
    assert!(
        matches!(behind, TakeError::TargetAhead { recorded, .. } if recorded.revision == 5),
        "{behind}"
    );
    let epoch = LeaderEpoch {
        generation: 1,
        revision: 5,
    };
    let other = Claim::Leader {
        epoch,
        id: Uuid::from_u128(99),
    };
    let taken = target.database.take(&other, PATIENCE, &Silent).await.unwrap_err();
    assert!(matches!(taken, TakeError::EpochTaken { .. }), "{taken}");
    target.lead(5).await;
    target.lead(6).await;
}

#[tokio::test]
async fn an_executor_in_a_long_alter_is_ended_and_its_statement_takes_no_effect() {
    let target = Target::new();
    target.sql("INSERT INTO t SELECT seq, seq FROM seq_1_to_400000");
    let mut old = target.lead(1).await;
    let executor = old.executor().clone();
    let applying = tokio::spawn(async move {
        let migration = migration(
            1,
            "ALTER TABLE t ADD COLUMN w VARCHAR(200) DEFAULT 'x', ALGORITHM = COPY",
        );
        old.apply(&migration.up, &write(&migration, Direction::Up), &Silent)
            .await
    });
    until(
        &target,
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE LIKE 'copy%'",
        "1",
    )
    .await;
    let log = Log::default();
    let mut new = target.database.take(&leader(2), PATIENCE, &log).await.unwrap();
    let gone = format!(
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = {}",
        executor.session
    );
    assert_eq!(target.sql(&gone), "0");
    assert!(
        log.events()
            .iter()
            .any(|e| matches!(e, Event::Ended(b) if b.id == executor.session)),
        "{:?}",
        log.events()
    );
    assert!(matches!(
        applying.await.unwrap(),
        Err(ApplyError::Db(DbError::Superseded { .. }))
    ));
    assert_eq!(
        new.scalar("SELECT COUNT(*) FROM information_schema.COLUMNS WHERE TABLE_NAME = 't'")
            .await
            .unwrap()
            .unwrap(),
        "2"
    );
    // The journal says that it was started, the catalogue that it never ran: it runs now.
    target
        .up(
            &mut *new,
            1,
            "ALTER TABLE t ADD COLUMN w VARCHAR(200) DEFAULT 'x', ALGORITHM = COPY",
        )
        .await
        .unwrap();
    assert_eq!(new.ledger().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_superseded_hand_does_nothing_any_more() {
    let target = Target::new();
    let mut old = target.lead(1).await;
    let new = target.lead(2).await;
    assert!(matches!(
        old.close(G1, "r").await,
        Err(DbError::ConnectionLost(_) | DbError::Superseded { .. })
    ));
    assert_eq!(new.gate_row().gate_epoch, GateEpoch::ZERO);
    assert!(target.up(&mut *old, 1, "CREATE TABLE u (a INT)").await.is_err());
    assert_eq!(target.sql("SHOW TABLES LIKE 'u'"), "");
}

/// The claim alone takes the pass away: the old executor may live on for a while when it is hard to end.
#[tokio::test]
async fn a_claimed_target_refuses_the_old_executor_before_it_is_gone() {
    let target = Target::new();
    let mut old = target.fenced(1).await;
    // By a newer leader, and by the same one that has lost its session.
    for claim in [
        "revision = 2, superseded = 1",
        "revision = 1, superseded = 1",
        "revision = 2, superseded = 0",
    ] {
        target.sql(&format!("UPDATE lockkeeper_gate SET {claim}"));
        let refused = target
            .up(&mut *old, 1, "INSERT INTO t VALUES (1, 1)")
            .await
            .unwrap_err();
        assert!(
            matches!(refused, ApplyError::Db(DbError::Superseded { .. })),
            "{claim}: {refused}"
        );
        let refused = target
            .up(&mut *old, 2, "CREATE TABLE u (a INT)")
            .await
            .unwrap_err();
        assert!(
            matches!(refused, ApplyError::Db(DbError::Superseded { .. })),
            "{claim}: {refused}"
        );
        assert!(
            matches!(old.open(G1, None).await, Err(DbError::Superseded { .. })),
            "{claim}"
        );
        assert!(
            matches!(
                old.close(GateEpoch(2), "r").await,
                Err(DbError::Superseded { .. })
            ),
            "{claim}"
        );
        assert!(
            matches!(
                old.raise_barrier(SHORT, &Silent).await,
                Err(DbError::Superseded { .. })
            ),
            "{claim}"
        );
        assert!(
            matches!(old.clean_up(&Silent).await, Err(DbError::Superseded { .. })),
            "{claim}"
        );
    }
    target.sql("UPDATE lockkeeper_gate SET revision = 1, superseded = 1");
    let refused = old.scalar("INSERT INTO t VALUES (1, 1)").await.unwrap_err();
    assert!(matches!(refused, DbError::Superseded { .. }), "{refused}");
    assert_eq!(target.sql("SELECT COUNT(*) FROM t"), "1");
    assert_eq!(target.sql("SHOW TABLES LIKE 'u'"), "");
}

/// The witness can be lost while the session lives: then the list of sessions tells.
#[tokio::test]
async fn a_session_without_its_witness_is_ended_all_the_same() {
    let target = Target::new();
    let mut old = target.fenced(1).await;
    target
        .up(
            &mut *old,
            1,
            "SELECT RELEASE_ALL_LOCKS(); INSERT INTO t VALUES (1, 1)",
        )
        .await
        .unwrap();
    old.scalar("SELECT RELEASE_ALL_LOCKS()").await.unwrap();
    target.lead(2).await;
    assert!(old.scalar("SELECT 1").await.is_err());
}

/// A session that the list does not show, because it is another user's, holds its witness: it is not taken for gone.
#[tokio::test]
async fn an_executor_that_may_not_be_ended_keeps_the_target() {
    let target = Target::new();
    let mut old = target.lead(1).await;
    let dsn = Dsn::parse(&target.server.app_dsn("shop")).unwrap();
    let other = MySqlDatabase::new(&dsn, DatabaseOptions::default());
    let refused = other.take(&leader(2), SHORT, &Silent).await.unwrap_err();
    assert!(
        matches!(&refused, TakeError::Db(DbError::Permission { .. })),
        "{refused}"
    );
    assert!(refused.to_string().contains("CONNECTION ADMIN"), "{refused}");
    old.scalar("SELECT 1").await.unwrap();
    let late = other.take(&standalone(), SHORT, &Silent).await.unwrap_err();
    assert!(matches!(&late, TakeError::Db(DbError::TimedOut { .. })), "{late}");
}

#[tokio::test]
async fn a_hand_that_holds_the_row_is_ended() {
    let target = Target::new();
    let mut old = target.lead(1).await;
    let blocked = target.app().await;
    let mut blocked = blocked;
    run(&mut blocked, "BEGIN; UPDATE t SET v = 1 WHERE id = 0")
        .await
        .unwrap();
    // The old hand sits in its transaction, which holds the row, and waits for the application.
    let applying = tokio::spawn(async move {
        let migration = migration(1, "UPDATE t SET v = 2");
        old.apply(&migration.up, &write(&migration, Direction::Up), &Silent)
            .await
    });
    until(
        &target,
        "SELECT COUNT(*) FROM information_schema.INNODB_TRX WHERE trx_state = 'LOCK WAIT'",
        "1",
    )
    .await;
    let mut new = target.lead(2).await;
    assert!(applying.await.unwrap().is_err());
    run(&mut blocked, "ROLLBACK").await.unwrap();
    assert_eq!(new.scalar("SELECT v FROM t").await.unwrap().unwrap(), "0");
}

#[tokio::test]
async fn standalone_runners_take_turns_and_say_for_whom_they_wait() {
    let target = Target::new();
    let first = target.alone(PATIENCE).await.unwrap();
    let log = Log::default();
    let late = target
        .database
        .take(&standalone(), SHORT, &log)
        .await
        .unwrap_err();
    assert!(late.to_string().contains("another migrator"), "{late}");
    assert!(
        log.waits().iter().any(
            |(what, ids)| what == "another migrator (test)" && ids == &[first.executor().session.clone()]
        )
    );
    let id = first.executor().session.clone();
    // A runner that dies without releasing is not waited for.
    target.sql(&format!("KILL {id}"));
    target.alone(SHORT).await.unwrap();
}

#[tokio::test]
async fn ten_runners_at_once_apply_each_migration_once() {
    let target = std::sync::Arc::new(Target::new());
    let runners: Vec<_> = (0..10)
        .map(|_| {
            let target = std::sync::Arc::clone(&target);
            tokio::spawn(async move {
                let mut hand = target.alone(Duration::from_secs(60)).await.unwrap();
                let first = target
                    .up(&mut *hand, 1, "CREATE TABLE u (a INT); INSERT INTO u VALUES (1)")
                    .await
                    .unwrap();
                target
                    .up(&mut *hand, 2, "INSERT INTO u VALUES (2)")
                    .await
                    .unwrap();
                hand.release().await.unwrap();
                first
            })
        })
        .collect();
    let mut ran = 0;
    for runner in runners {
        ran += usize::from(matches!(
            runner.await.unwrap(),
            lockkeeper_migrate::db::Applied::Ran { .. }
        ));
    }
    assert_eq!(ran, 1);
    assert_eq!(target.sql("SELECT COUNT(*) FROM u"), "2");
}

#[tokio::test]
async fn a_standalone_runner_leaves_a_closed_gate_alone() {
    let target = Target::new();
    target.fenced(1).await.release().await.unwrap();
    let refused = target.alone(SHORT).await.unwrap_err();
    assert!(
        matches!(&refused, TakeError::GateClosed { rollout, epoch } if rollout == "r1" && *epoch == G1),
        "{refused}"
    );
}

#[tokio::test]
async fn an_open_row_from_another_server_is_taken_over_to_this_one() {
    let target = Target::new();
    target.lead(1).await.release().await.unwrap();
    target.sql("UPDATE lockkeeper_gate SET identity = 'mariadb:7:elsewhere/shop'");
    target.lead(2).await.release().await.unwrap();
    let inspection = target.database.inspect().await.unwrap();
    assert_eq!(inspection.gate_row.unwrap().identity, inspection.identity);
}

#[tokio::test]
async fn a_closed_row_from_another_server_is_refused() {
    let target = Target::new();
    target.fenced(1).await.release().await.unwrap();
    target.sql("UPDATE lockkeeper_gate SET identity = 'mariadb:7:elsewhere/shop'");
    let refused = target
        .database
        .take(&leader(2), SHORT, &Silent)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, TakeError::Db(DbError::IdentityChanged { .. })),
        "{refused}"
    );
}

/// A connection id that is given again after a restart is somebody else, and may not pass.
#[tokio::test]
async fn after_a_restart_nobody_inherits_the_pass() {
    let mut target = Target::new();
    let hand = target.fenced(1).await;
    // The start is known to the second: what begins sooner counts as the same server, to be on the safe side.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let id: u64 = hand.executor().session.parse().unwrap();
    target.server.crash().unwrap();
    target.server.start_again().unwrap();
    let mut app = target.app().await;
    while crate::support::connection_id(&mut app).await < id {
        app = target.app().await;
    }
    target.sql(&format!(
        "UPDATE lockkeeper_gate SET executor_session = {}",
        crate::support::connection_id(&mut app).await
    ));
    assert_eq!(
        state(&run(&mut app, "INSERT INTO t VALUES (1, 1)").await),
        "LK002"
    );
    // The next leader does not take that application for the executor either.
    let mut next = target.lead(2).await;
    run(&mut app, "SELECT 1").await.unwrap();
    assert!(next.raise_barrier(PATIENCE, &Silent).await.unwrap().continued);
}

#[tokio::test]
async fn end_executor_ends_by_both_identifiers() {
    let target = Target::new();
    let mut hand = target.lead(1).await;
    let executor = hand.executor().clone();
    let mut other = executor.clone();
    other.started = "1.0".to_owned();
    target.database.end_executor(&other, SHORT).await.unwrap();
    hand.scalar("SELECT 1").await.unwrap();
    target.database.end_executor(&executor, SHORT).await.unwrap();
    assert!(matches!(
        hand.scalar("SELECT 1").await,
        Err(DbError::ConnectionLost(_))
    ));
    target.database.end_executor(&executor, SHORT).await.unwrap();
}
