//! One hand: an older executor's statements take no effect once a newer claim has been taken.

use std::time::Duration;

use lockkeeper_migrate::db::{ApplyError, Database, DbError, Silent, TakeError};

use super::support::{G1, PATIENCE, Target, leader, run, standalone};

#[tokio::test]
async fn a_newer_leader_ends_an_executor_that_holds_the_lock() {
    let target = Target::new("wal").await;
    let mut old = target.fenced(1).await;
    target.up(&mut *old, 1, "CREATE TABLE u (b)").await.unwrap();
    let new = target.lead(2).await;
    let error = old.open(G1, Some(&"1".into())).await.unwrap_err();
    assert!(matches!(error, DbError::Superseded { .. }), "{error}");
    assert!(run(&mut target.app().await, "SELECT * FROM u").await.is_err());
    assert_eq!(
        target
            .database
            .inspect()
            .await
            .unwrap()
            .gate_row
            .unwrap()
            .executor
            .as_ref(),
        Some(new.executor())
    );
}

#[tokio::test]
async fn an_older_leader_is_refused_at_once_though_the_lock_is_held() {
    let target = Target::new("wal").await;
    let mut hand = target.fenced(2).await;
    let refused = target.database.take(&leader(1), PATIENCE, &Silent).await;
    assert!(
        matches!(refused, Err(TakeError::TargetAhead { .. })),
        "{refused:?}"
    );
    let lockkeeper_migrate::db::Claim::Leader { epoch, .. } = leader(2) else {
        panic!()
    };
    let twin = lockkeeper_migrate::db::Claim::Leader {
        epoch,
        id: uuid::Uuid::from_u128(99),
    };
    let refused = target.database.take(&twin, PATIENCE, &Silent).await;
    assert!(
        matches!(refused, Err(TakeError::EpochTaken { .. })),
        "{refused:?}"
    );
    // And nothing was done to the one that has the right.
    target.up(&mut *hand, 1, "CREATE TABLE u (b)").await.unwrap();
    hand.open(G1, Some(&"1".into())).await.unwrap();
}

/// Another process's lock cannot be taken away: it is waited for, then named. (Here a bare connection plays it.)
#[tokio::test]
async fn a_lock_that_cannot_be_had_is_named() {
    for mode in ["wal", "delete"] {
        let target = Target::new(mode).await;
        target.lead(1).await.release().await.unwrap();
        let mut app = target.app().await;
        let register = "UPDATE lockkeeper_gate SET executor_session = 'x', executor_started = '4711'";
        run(&mut app, &format!("{register}; BEGIN IMMEDIATE"))
            .await
            .unwrap();
        let error = target
            .database
            .take(&leader(2), Duration::from_millis(200), &Silent)
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, TakeError::Db(DbError::TimedOut { .. })),
            "{mode}: {text}"
        );
        assert!(
            text.contains(&format!("process {}", std::process::id())),
            "{mode}: {text}"
        );
        assert!(
            text.contains("registered executor, process 4711"),
            "{mode}: {text}"
        );
    }
}

/// The row decides, not who lives: an executor of another process that held no lock when it was superseded finds
/// out at its next step.
#[tokio::test]
async fn a_superseded_executor_that_lives_cannot_write() {
    let target = Target::new("wal").await;
    let mut old = target.lead(1).await;
    old.close(G1, "r1").await.unwrap();
    // What another process's take() leaves behind.
    let takeover =
        "UPDATE lockkeeper_gate SET revision = 2, executor_session = 'other', executor_started = '1'";
    run(&mut target.app().await, takeover).await.unwrap();
    let error = target.up(&mut *old, 1, "CREATE TABLE u (b)").await.unwrap_err();
    assert!(
        matches!(error, ApplyError::Db(DbError::Superseded { .. })),
        "{error}"
    );
    assert!(error.to_string().contains("leader e1.2"), "{error}");
    assert!(matches!(
        old.close(G1, "r1").await,
        Err(DbError::Superseded { .. })
    ));
    assert!(matches!(
        old.raise_barrier(PATIENCE, &Silent).await,
        Err(DbError::Superseded { .. })
    ));
    assert!(matches!(
        old.open(G1, None).await,
        Err(DbError::Superseded { .. })
    ));
    old.release().await.unwrap();
    run(&mut target.app().await, "INSERT INTO t VALUES (1)")
        .await
        .unwrap();
}

/// The same leader, or two runners without a fleet: the epoch is the same, the session is not.
#[tokio::test]
async fn a_session_that_is_registered_no_longer_cannot_write() {
    let target = Target::new("wal").await;
    let mut old = target.alone().await.unwrap();
    run(
        &mut target.app().await,
        "UPDATE lockkeeper_gate SET executor_session = 'other'",
    )
    .await
    .unwrap();
    let error = target.up(&mut *old, 1, "CREATE TABLE u (b)").await.unwrap_err();
    assert!(
        matches!(error, ApplyError::Db(DbError::Superseded { .. })),
        "{error}"
    );
}

#[tokio::test]
async fn a_standalone_runner_waits_for_a_live_executor_and_not_for_a_dead_one() {
    let target = Target::new("wal").await;
    let first = target.lead(1).await;
    let short = Duration::from_millis(200);
    let error = target
        .database
        .take(&standalone(), short, &Silent)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("another migrator"), "{error}");
    assert!(error.to_string().contains(&first.executor().session), "{error}");
    drop(first);
    target.alone().await.unwrap().release().await.unwrap();
    let left: Vec<_> = std::fs::read_dir(target.folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        left.iter()
            .all(|name| !name.to_string_lossy().contains("lockkeeper")),
        "{left:?}"
    );
}
