//! Migrations.

use lockkeeper_migrate::db::{Applied, ApplyError, Silent, VerifyOutcome};
use lockkeeper_migrate::dialect::Dialect;
use lockkeeper_migrate::engine::{self, EngineError};
use lockkeeper_migrate::plan::{self, Goal};
use lockkeeper_migrate::source::{self, Direction, Layout, MigrationSet};
use lockkeeper_migrate::sql::split;

use crate::support::{Log, Target, migration, write};

#[tokio::test]
async fn row_changes_and_the_ledger_are_one_transaction() {
    let target = Target::new();
    let mut hand = target.lead(1).await;
    let failed = target
        .up(
            &mut *hand,
            1,
            "INSERT INTO t VALUES (1, 1);\nINSERT INTO t VALUES (0, 1)",
        )
        .await
        .unwrap_err();
    let ApplyError::RolledBack { line, message } = &failed else {
        panic!("{failed}")
    };
    assert_eq!(*line, 2);
    assert!(message.contains("Duplicate entry"), "{message}");
    assert_eq!(target.sql("SELECT COUNT(*) FROM t"), "1");
    assert!(matches!(
        target.up(&mut *hand, 1, "INSERT INTO t VALUES (1, 1)").await,
        Ok(Applied::Ran { .. })
    ));
    assert!(matches!(
        target.up(&mut *hand, 1, "INSERT INTO t VALUES (1, 1)").await,
        Ok(Applied::Already)
    ));
    let ledger = hand.ledger().await.unwrap();
    assert_eq!(ledger.len(), 1);
    assert_eq!(ledger[0].leader_epoch.as_deref(), Some("e1.1"));
    let now = i64::try_from(
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_millis(),
    )
    .unwrap();
    assert!(
        (now - ledger[0].applied_at_unix_ms).abs() < 60_000,
        "{}",
        ledger[0].applied_at_unix_ms
    );
}

#[tokio::test]
async fn ddl_is_journalled_and_goes_on_where_it_failed() {
    let target = Target::new();
    let mut hand = target.lead(1).await;
    let failed = target
        .up(
            &mut *hand,
            1,
            "CREATE TABLE u (a INT);\nINSERT INTO u VALUES (1);\nALTER TABLE nowhere ADD b INT",
        )
        .await;
    let Err(ApplyError::Partial {
        line: 3,
        done: 2,
        total: 3,
        message,
    }) = failed
    else {
        panic!("{failed:?}")
    };
    assert!(message.contains("1146"), "{message}");
    assert!(hand.ledger().await.unwrap().is_empty());
    let edited = target
        .up(
            &mut *hand,
            1,
            "CREATE TABLE u (a INT);\nINSERT INTO u VALUES (2);\nALTER TABLE u ADD b INT",
        )
        .await;
    assert!(edited.unwrap_err().to_string().contains("line 2"));
    target
        .up(
            &mut *hand,
            1,
            "CREATE TABLE u (a INT);\nINSERT INTO u VALUES (1);\nALTER TABLE u ADD b INT",
        )
        .await
        .unwrap();
    assert_eq!(target.sql("SELECT a, b FROM u"), "1\tNULL");
    assert_eq!(target.sql("SELECT COUNT(*) FROM lockkeeper_journal"), "0");
}

#[tokio::test]
async fn a_first_statement_that_fails_leaves_nothing() {
    let target = Target::new();
    let mut hand = target.lead(1).await;
    let failed = target
        .up(
            &mut *hand,
            1,
            "\n\nCREATE TABLE u (a INTEGERR);\nCREATE TABLE w (a INT)",
        )
        .await;
    assert!(
        matches!(failed, Err(ApplyError::RolledBack { line: 3, .. })),
        "{failed:?}"
    );
    assert_eq!(target.sql("SELECT COUNT(*) FROM lockkeeper_journal"), "0");
}

#[tokio::test]
async fn down_takes_the_version_out_of_the_ledger() {
    let target = Target::new();
    let mut hand = target.lead(1).await;
    let migration = migration(1, "CREATE TABLE u (a INT)");
    hand.apply(&migration.up, &write(&migration, Direction::Up), &Log::default())
        .await
        .unwrap();
    let down = migration.down.clone().unwrap();
    hand.apply(&down, &write(&migration, Direction::Down), &Log::default())
        .await
        .unwrap();
    assert!(hand.ledger().await.unwrap().is_empty());
    let again = hand
        .apply(&down, &write(&migration, Direction::Down), &Log::default())
        .await
        .unwrap();
    assert_eq!(again, Applied::Already);
}

#[tokio::test]
async fn session_settings_of_a_migration_end_with_it() {
    let target = Target::new();
    target.sql("CREATE DATABASE other");
    let mut hand = target.lead(1).await;
    let before = hand.scalar("SELECT @@sql_mode").await.unwrap();
    let sql = "SET SESSION sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES', foreign_key_checks = 0, time_zone = '+05:00';\n\
               SET NAMES latin1; SET autocommit = 0; USE other;\n\
               CREATE TABLE \"shop\".u (a VARCHAR(9)); INSERT INTO shop.u VALUES ('a'); USE shop; INSERT INTO u VALUES ('b')";
    target.up(&mut *hand, 1, sql).await.unwrap();
    assert_eq!(target.sql("SELECT COUNT(*) FROM u"), "2");
    assert_eq!(hand.scalar("SELECT @@sql_mode").await.unwrap(), before);
    let rest = "SELECT CONCAT_WS(' ', @@foreign_key_checks, @@time_zone, @@character_set_client, @@autocommit, DATABASE())";
    assert_eq!(
        hand.scalar(rest).await.unwrap().unwrap(),
        "ON SYSTEM utf8mb4 ON shop"
    );
    assert_eq!(hand.ledger().await.unwrap().len(), 1);
}

#[tokio::test]
async fn warnings_are_told_and_counted() {
    let target = Target::new();
    let mut hand = target.lead(1).await;
    let migration = migration(
        1,
        "CREATE TABLE IF NOT EXISTS t (a INT); DROP TABLE IF EXISTS nowhere",
    );
    let log = Log::default();
    let applied = hand
        .apply(&migration.up, &write(&migration, Direction::Up), &log)
        .await
        .unwrap();
    let Applied::Ran { notices, .. } = applied else {
        panic!("{applied:?}")
    };
    assert_eq!(notices.len(), 2);
    assert!(
        notices[0].message.contains("already exists (1050)"),
        "{notices:?}"
    );
    assert_eq!(hand.ledger().await.unwrap()[0].warnings, 2);
}

#[tokio::test]
async fn bodies_blocks_and_the_files_own_transactions_run() {
    let target = Target::new();
    let mut hand = target.lead(1).await;
    let sql = "START TRANSACTION;\nINSERT INTO t VALUES (1, 1);\nALTER TABLE t ADD w INT;\nCOMMIT;\nLOCK TABLES t WRITE;\n\
               INSERT INTO t VALUES (2, 2, 2);\nUNLOCK TABLES;\nDELIMITER //\nCREATE PROCEDURE p() BEGIN INSERT INTO t \
               VALUES (3, 3, 3); SELECT 1; END//\nDELIMITER ;\nCALL p();\nSET @s = 'CREATE TABLE u (a INT)';\n\
               PREPARE s FROM @s; EXECUTE s; DEALLOCATE PREPARE s;";
    target.up(&mut *hand, 1, sql).await.unwrap();
    assert_eq!(target.sql("SELECT COUNT(*) FROM t"), "4");
    assert_eq!(target.sql("SHOW TABLES LIKE 'u'"), "u");
    let refused = target
        .up(&mut *hand, 2, "BEGIN; INSERT INTO t VALUES (9, 9, 9); ROLLBACK")
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("ROLLBACK"), "{refused}");
    assert_eq!(target.sql("SELECT COUNT(*) FROM t"), "4");
}

#[tokio::test]
async fn verification_is_rolled_back_and_judged() {
    let target = Target::new();
    let mut hand = target.lead(1).await;
    for (sql, passes) in [
        ("INSERT INTO t VALUES (5, 5); SELECT COUNT(*) = 2 FROM t", true),
        ("SELECT COUNT(*) = 2 FROM t", false),
        ("SELECT v FROM t WHERE id = 77", false),
        ("SELECT NULL", false),
        ("SELECT 'fine'", true),
        ("SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'", false),
        ("INSERT INTO t VALUES (6, 6)", true),
        ("CREATE TABLE oops (a INT)", false),
    ] {
        let outcome = hand.verify(&split(Dialect::MySql, sql).unwrap()).await.unwrap();
        assert_eq!(outcome == VerifyOutcome::Passed, passes, "{sql}: {outcome:?}");
    }
    assert_eq!(target.sql("SELECT COUNT(*) FROM t; SHOW TABLES LIKE 'oops'"), "1");
}

/// A set of two migrations, of which the first one's way down breaks off after its first statement.
fn set_with_a_broken_way_down(files: &std::path::Path) -> MigrationSet {
    let scripts = [
        ("1_a.up.sql", "CREATE TABLE u (a INT);\nCREATE TABLE v (a INT);"),
        ("1_a.down.sql", "DROP TABLE v;\nDROP TABLE w;"),
        ("2_b.up.sql", "ALTER TABLE u ADD b INT;"),
        ("2_b.down.sql", "ALTER TABLE u DROP b;"),
    ];
    for (name, sql) in scripts {
        std::fs::write(files.join(name), sql).unwrap();
    }
    source::load(
        &[files.to_path_buf()],
        Some(Layout::GolangMigrate),
        Dialect::MySql,
    )
    .unwrap()
}

#[tokio::test]
async fn nothing_runs_beside_a_version_that_is_reverted_in_part() {
    let target = Target::new();
    let mut hand = target.lead(1).await;
    let files = tempfile::tempdir().unwrap();
    let set = set_with_a_broken_way_down(files.path());
    let mut go = async |goal: Goal| {
        let ledger = hand.ledger().await.unwrap();
        let plan = plan::plan(&set, &ledger, &goal).unwrap();
        engine::migrate(&mut *hand, &plan, set.layout, "test", &Silent).await
    };
    go(Goal::To("1".into())).await.unwrap();
    let broken = go(Goal::DownSteps(1)).await.unwrap_err().to_string();
    assert!(broken.contains("1 of 2 statements"), "{broken}");

    let refused = go(Goal::Latest).await.unwrap_err();
    assert!(
        matches!(&refused, EngineError::Unfinished { version, direction: Direction::Down } if version.0 == "1"),
        "{refused}"
    );
    assert!(
        refused
            .to_string()
            .contains("finish that first, with `down --steps 1`"),
        "{refused}"
    );

    target.sql("CREATE TABLE w (a INT)");
    go(Goal::DownSteps(1)).await.unwrap();
    target.sql("DROP TABLE u");
    go(Goal::Latest).await.unwrap();
    assert_eq!(target.sql("SELECT COUNT(*) FROM lockkeeper_journal"), "0");
}
