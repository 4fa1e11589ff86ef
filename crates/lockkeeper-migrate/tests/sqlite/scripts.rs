//! Scripts that need more than one transaction, or less.

use std::time::Duration;

use lockkeeper_migrate::db::{Applied, ApplyError, DatabaseOptions, DbError, Silent};
use lockkeeper_migrate::source::Direction;

use super::support::{Target, count, run, write};

const FAMILY: &str = "CREATE TABLE parent (id INTEGER PRIMARY KEY); \
                      CREATE TABLE child (p REFERENCES parent (id) ON DELETE CASCADE); \
                      INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1)";

/// SQLite's own recipe for changing a table. With foreign keys on, the DROP would delete the children.
const REBUILD: &str = "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n\
                       CREATE TABLE new (id INTEGER PRIMARY KEY, x);\n\
                       INSERT INTO new SELECT id, 0 FROM parent;\n\
                       DROP TABLE parent;\nALTER TABLE new RENAME TO parent;\nCOMMIT;\nPRAGMA foreign_keys=ON;";

#[tokio::test]
async fn a_rebuilt_parent_keeps_its_children() {
    for fenced in [false, true] {
        let target = Target::new("wal").await;
        run(&mut target.app().await, FAMILY).await.unwrap();
        let mut hand = if fenced {
            target.fenced(1).await
        } else {
            target.alone().await.unwrap()
        };
        target.up(&mut *hand, 1, REBUILD).await.unwrap();
        assert_eq!(
            hand.scalar("SELECT count(*) FROM child")
                .await
                .unwrap()
                .as_deref(),
            Some("1")
        );
        assert_eq!(
            hand.scalar("PRAGMA foreign_keys").await.unwrap().as_deref(),
            Some("0")
        );
    }
}

#[tokio::test]
async fn a_rebuild_that_orphans_rows_is_rolled_back() {
    let target = Target::new("wal").await;
    run(&mut target.app().await, FAMILY).await.unwrap();
    let mut hand = target.alone().await.unwrap();
    let error = target
        .up(
            &mut *hand,
            1,
            &REBUILD.replace("FROM parent;", "FROM parent WHERE 0;"),
        )
        .await;
    let Err(ApplyError::RolledBack { message, .. }) = error else {
        panic!("{error:?}")
    };
    assert!(message.contains("foreign keys: 1 new violations"), "{message}");
    assert!(
        message.contains("child row 1 refers to no row of parent"),
        "{message}"
    );
    assert_eq!(count(&mut target.app().await, "parent").await, 1);
}

#[tokio::test]
async fn vacuum_is_refused_in_a_fence_and_runs_without() {
    let target = Target::new("wal").await;
    let script = "CREATE TABLE u (b);\nVACUUM;\nINSERT INTO u VALUES (1)";
    let mut hand = target.fenced(1).await;
    let error = target.up(&mut *hand, 1, script).await.unwrap_err();
    assert!(
        matches!(error, ApplyError::Db(DbError::Unsupported(_))),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .starts_with("line 2: SQLite runs VACUUM outside"),
        "{error}"
    );
    hand.release().await.unwrap();

    let mut hand = target.alone().await.unwrap();
    assert!(matches!(
        target.up(&mut *hand, 1, script).await.unwrap(),
        Applied::Ran { .. }
    ));
    assert_eq!(hand.ledger().await.unwrap().len(), 1);
    assert_eq!(
        hand.scalar("SELECT count(*) FROM lockkeeper_journal")
            .await
            .unwrap()
            .as_deref(),
        Some("0")
    );
}

#[tokio::test]
async fn an_interrupted_script_goes_on_where_it_stopped() {
    let target = Target::new("wal").await;
    let script = "VACUUM;\nINSERT INTO t VALUES (1);\nINSERT INTO later VALUES (1)";
    let mut hand = target.alone().await.unwrap();
    let error = target.up(&mut *hand, 1, script).await.unwrap_err();
    assert!(
        matches!(
            error,
            ApplyError::Partial {
                line: 3,
                done: 2,
                total: 3,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(hand.ledger().await.unwrap().is_empty());
    drop(hand);

    let mut hand = target.alone().await.unwrap();
    let edited = target
        .up(
            &mut *hand,
            1,
            &script.replace("(1);\nINSERT INTO later", "(2);\nINSERT INTO later"),
        )
        .await;
    assert!(
        matches!(
            edited,
            Err(ApplyError::InDoubt {
                line: 2,
                index: 2,
                ..
            })
        ),
        "{edited:?}"
    );
    run(&mut target.app().await, "CREATE TABLE later (a)")
        .await
        .unwrap();
    assert!(matches!(
        target.up(&mut *hand, 1, script).await.unwrap(),
        Applied::Ran { .. }
    ));
    assert_eq!(
        count(&mut target.app().await, "t").await,
        2,
        "the second statement ran once"
    );
}

#[tokio::test]
async fn a_rollback_of_the_files_own_is_refused() {
    let target = Target::new("wal").await;
    let mut hand = target.alone().await.unwrap();
    let error = target
        .up(&mut *hand, 1, "BEGIN; DELETE FROM t;\nROLLBACK;")
        .await
        .unwrap_err();
    assert!(error.to_string().starts_with("line 2: ROLLBACK"), "{error}");
    assert_eq!(count(&mut target.app().await, "t").await, 1);
}

#[tokio::test]
async fn a_down_removes_the_ledger_row() {
    let target = Target::new("wal").await;
    let mut hand = target.alone().await.unwrap();
    let migration = target.migration(1, "CREATE TABLE u (b)");
    let (up, down) = (
        write(&migration, Direction::Up),
        write(&migration, Direction::Down),
    );
    hand.apply(&migration.up, &up, &Silent).await.unwrap();
    let script = migration.down.as_ref().unwrap();
    assert!(matches!(
        hand.apply(script, &down, &Silent).await.unwrap(),
        Applied::Ran { .. }
    ));
    assert_eq!(
        hand.apply(script, &down, &Silent).await.unwrap(),
        Applied::Already
    );
    assert!(hand.ledger().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_statement_over_its_timeout_is_interrupted() {
    let options = DatabaseOptions {
        statement_timeout: Some(Duration::from_millis(200)),
        ..DatabaseOptions::default()
    };
    let target = Target::with_options("wal", options).await;
    let mut hand = target.alone().await.unwrap();
    let long = "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n \
                WHERE i < 500000000) SELECT count(*) FROM n";
    let error = target.up(&mut *hand, 1, long).await.unwrap_err();
    assert!(
        matches!(&error, ApplyError::RolledBack { message, .. } if message.contains("timeout")),
        "{error}"
    );
    target.up(&mut *hand, 2, "CREATE TABLE u (b)").await.unwrap();
}
