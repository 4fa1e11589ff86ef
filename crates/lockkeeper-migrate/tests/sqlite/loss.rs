//! What a crash, a dropped call or SQLite itself undoes, and that it does so at once.

use std::time::Duration;

use lockkeeper_migrate::db::{ApplyError, Database, DbError, Silent};
use tokio::time::Instant;

use super::support::{G1, PATIENCE, Target, count, run, write};
use lockkeeper_migrate::source::Direction;

/// Runs for minutes when nobody interrupts it.
const LONG: &str = "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n \
                    WHERE i < 500000000) SELECT count(*) FROM n";

#[tokio::test]
async fn a_dropped_hand_undoes_its_fence() {
    for mode in ["wal", "delete"] {
        let target = Target::new(mode).await;
        let mut hand = target.fenced(1).await;
        target
            .up(&mut *hand, 1, "CREATE TABLE u (b); DELETE FROM t")
            .await
            .unwrap();
        drop(hand);
        let mut successor = target.fenced(2).await;
        assert_eq!(
            successor
                .scalar("SELECT count(*) FROM t")
                .await
                .unwrap()
                .as_deref(),
            Some("1"),
            "{mode}"
        );
        assert!(successor.ledger().await.unwrap().is_empty(), "{mode}");
        target.up(&mut *successor, 1, "CREATE TABLE u (b)").await.unwrap();
        successor.open(G1, Some(&"1".into())).await.unwrap();
    }
}

/// A killed leader is a dropped task; its statement runs on another thread and must not hold the lock until it is
/// done.
#[tokio::test]
async fn a_dropped_task_is_gone_within_a_second_though_its_statement_runs() {
    let target = Target::new("wal").await;
    let mut hand = target.fenced(1).await;
    let migration = target.migration(1, LONG);
    let task = tokio::spawn(async move {
        let _ = hand
            .apply(&migration.up, &write(&migration, Direction::Up), &Silent)
            .await;
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let killed = Instant::now();
    task.abort();
    let _ = task.await;
    target.fenced(2).await;
    assert!(
        killed.elapsed() < Duration::from_secs(1),
        "{:?}",
        killed.elapsed()
    );
}

/// The opening of a fence that went with its hand must not record a version that went too.
#[tokio::test]
async fn a_successor_cannot_open_at_a_version_that_was_undone() {
    let target = Target::new("wal").await;
    let mut hand = target.fenced(1).await;
    target.up(&mut *hand, 1, "CREATE TABLE u (b)").await.unwrap();
    drop(hand);
    let mut successor = target.lead(2).await;
    let error = successor.open(G1, Some(&"1".into())).await.unwrap_err();
    assert!(matches!(error, DbError::ConnectionLost(_)), "{error}");
    successor.open(G1, None).await.unwrap();
}

#[tokio::test]
async fn a_call_that_was_dropped_midway_loses_the_fence_and_says_so() {
    let target = Target::new("wal").await;
    let mut hand = target.fenced(1).await;
    let migration = target.migration(1, &LONG.replace("500000000", "3000000"));
    let up = write(&migration, Direction::Up);
    let call = hand.apply(&migration.up, &up, &Silent);
    assert!(
        tokio::time::timeout(Duration::from_millis(50), call)
            .await
            .is_err()
    );
    let error = target.up(&mut *hand, 2, "CREATE TABLE u (b)").await.unwrap_err();
    assert!(
        matches!(error, ApplyError::Db(DbError::ConnectionLost(_))),
        "{error}"
    );
    assert!(hand.open(G1, Some(&"1".into())).await.is_err());
    assert_eq!(count(&mut target.app().await, "t").await, 1);
    run(&mut target.app().await, "INSERT INTO t VALUES (1)")
        .await
        .unwrap();
}

/// ON CONFLICT ROLLBACK ends the whole transaction, savepoints and barrier included.
#[tokio::test]
async fn a_rollback_by_sqlite_itself_loses_the_fence_and_says_so() {
    let target = Target::new("wal").await;
    let mut hand = target.fenced(1).await;
    target
        .up(&mut *hand, 1, "CREATE TABLE u (b UNIQUE ON CONFLICT ROLLBACK)")
        .await
        .unwrap();
    let error = target
        .up(
            &mut *hand,
            2,
            "INSERT INTO u VALUES (1);\nINSERT INTO u VALUES (1)",
        )
        .await
        .unwrap_err();
    assert!(
        matches!(error, ApplyError::Db(DbError::ConnectionLost(_))),
        "{error}"
    );
    assert!(
        error.to_string().contains("line 2: UNIQUE constraint failed"),
        "{error}"
    );
    let error = target.up(&mut *hand, 3, "CREATE TABLE v (b)").await.unwrap_err();
    assert!(
        matches!(error, ApplyError::Db(DbError::ConnectionLost(_))),
        "{error}"
    );
    assert!(run(&mut target.app().await, "SELECT * FROM u").await.is_err());
}

#[tokio::test]
async fn a_failed_migration_is_undone_alone() {
    let target = Target::new("wal").await;
    let mut hand = target.fenced(1).await;
    target.up(&mut *hand, 1, "CREATE TABLE u (b)").await.unwrap();
    let error = target
        .up(
            &mut *hand,
            2,
            "INSERT INTO u VALUES (1);\n\nINSERT INTO nowhere VALUES (1)",
        )
        .await;
    let Err(ApplyError::RolledBack { line: 3, message }) = error else {
        panic!("{error:?}")
    };
    assert!(message.contains("no such table: nowhere"), "{message}");
    assert_eq!(
        hand.scalar("SELECT count(*) FROM u").await.unwrap().as_deref(),
        Some("0")
    );
    hand.open(G1, Some(&"1".into())).await.unwrap();
    assert_eq!(count(&mut target.app().await, "u").await, 0);
}

#[tokio::test]
async fn an_executor_over_its_budget_is_ended() {
    let target = Target::new("wal").await;
    let mut hand = target.fenced(1).await;
    let executor = hand.executor().clone();
    let migration = target.migration(1, LONG);
    let task = tokio::spawn(async move {
        hand.apply(&migration.up, &write(&migration, Direction::Up), &Silent)
            .await
            .unwrap_err()
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    target.database.end_executor(&executor, PATIENCE).await.unwrap();
    run(&mut target.app().await, "INSERT INTO t VALUES (1)")
        .await
        .unwrap();
    let error = task.await.unwrap();
    assert!(
        matches!(error, ApplyError::Db(DbError::ConnectionLost(_))),
        "{error}"
    );
    target.database.end_executor(&executor, PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_replaced_file_is_noticed() {
    let target = Target::new("delete").await;
    let mut hand = target.lead(1).await;
    let copy = target.folder().join("copy.db");
    std::fs::copy(target.path(), &copy).unwrap();
    std::fs::rename(&copy, target.path()).unwrap();
    let error = target.up(&mut *hand, 1, "CREATE TABLE u (b)").await.unwrap_err();
    assert!(
        matches!(error, ApplyError::Db(DbError::IdentityChanged { .. })),
        "{error}"
    );
}
