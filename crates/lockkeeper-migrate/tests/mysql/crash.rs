//! A hand that is lost in the middle of a migration, and what its successor makes of it.

use std::time::Duration;

use lockkeeper_migrate::db::{Applied, ApplyError, Silent};
use lockkeeper_migrate::ledger::EntryState;
use lockkeeper_migrate::source::Direction;

use crate::support::{Target, migration, write};

/// Marks a statement as one that was about to run when its executor was lost.
fn started(target: &Target, position: u32, statement: &str) {
    let quoted = statement.replace('\'', "''");
    target.sql(&format!(
        "INSERT INTO lockkeeper_journal (version, direction, position, hash, state, started_at) \
         VALUES ('1', 'up', {position}, SHA2('{quoted}', 256), 'started', UTC_TIMESTAMP())"
    ));
}

#[tokio::test]
async fn a_started_statement_is_judged_by_what_it_left() {
    let forms = [
        ("", "CREATE TABLE u (a INT)"),
        ("CREATE TABLE u (a INT)", "DROP TABLE u"),
        ("", "ALTER TABLE t ADD COLUMN w INT"),
        ("", "ALTER TABLE t DROP COLUMN v"),
        ("", "CREATE INDEX i ON t (v)"),
        ("CREATE INDEX i ON t (v)", "DROP INDEX i ON t"),
        ("", "RENAME TABLE t TO t_old"),
        ("CREATE TABLE u LIKE t", "RENAME TABLE t TO t_old, u TO t"),
        ("", "ALTER TABLE t RENAME COLUMN v TO w"),
        ("", "ALTER TABLE t ADD INDEX i (v), ADD COLUMN w INT"),
        ("", "CREATE VIEW u AS SELECT * FROM t"),
        ("", "CREATE TRIGGER tr AFTER INSERT ON t FOR EACH ROW SET @a = 1"),
        ("", "CREATE PROCEDURE p() SELECT 1"),
    ];
    let target = Target::new();
    let mut revision = 0;
    for (before, statement) in forms {
        for took_effect in [false, true] {
            revision += 2;
            target.lead(revision).await.release().await.unwrap();
            target.sql(
                "DELETE FROM lockkeeper_ledger; DROP PROCEDURE IF EXISTS p; DROP VIEW IF EXISTS u; \
                 DROP TABLE IF EXISTS t, t_old, u; CREATE TABLE t (id INT PRIMARY KEY, v INT)",
            );
            target.sql(before);
            started(&target, 1, statement);
            if took_effect {
                target.sql(statement);
            }
            let mut hand = target.lead(revision + 1).await;
            // Run a second time, each of them would fail.
            let applied = target.up(&mut *hand, 1, statement).await;
            assert!(
                matches!(applied, Ok(Applied::Ran { .. })),
                "{statement} ({took_effect}): {applied:?}"
            );
            assert_eq!(hand.ledger().await.unwrap().len(), 1);
        }
    }
}

#[tokio::test]
async fn what_nobody_can_judge_is_in_doubt_and_says_which() {
    let target = Target::new();
    drop(target.lead(1).await);
    let sql = "INSERT INTO t VALUES (1, 1);\n\nALTER TABLE t MODIFY v BIGINT";
    started(&target, 2, "ALTER TABLE t MODIFY v BIGINT");
    let mut hand = target.lead(2).await;
    let doubt = target.up(&mut *hand, 1, sql).await.unwrap_err();
    assert!(
        matches!(
            doubt,
            ApplyError::InDoubt {
                line: 3,
                index: 2,
                ..
            }
        ),
        "{doubt}"
    );
    assert_eq!(
        target.sql("SELECT COUNT(*) FROM t"),
        "1",
        "nothing runs beside a doubt"
    );
    assert_eq!(
        hand.ledger().await.unwrap()[0].state,
        EntryState::InDoubt { statement: 2 }
    );
    // A person has looked: it had not run.
    target.sql("DELETE FROM lockkeeper_journal");
    target.up(&mut *hand, 1, sql).await.unwrap();
    assert_eq!(hand.ledger().await.unwrap()[0].state, EntryState::Applied);
}

#[tokio::test]
async fn half_of_a_drop_is_in_doubt() {
    let target = Target::new();
    drop(target.lead(1).await);
    target.sql("CREATE TABLE a (x INT)");
    started(&target, 1, "DROP TABLE a, b");
    let mut hand = target.lead(2).await;
    let doubt = target.up(&mut *hand, 1, "DROP TABLE a, b").await.unwrap_err();
    assert!(
        matches!(&doubt, ApplyError::InDoubt { seen, .. } if seen.contains("table a exists")),
        "{doubt}"
    );
}

#[tokio::test]
async fn another_file_under_the_same_version_is_refused() {
    let target = Target::new();
    drop(target.lead(1).await);
    started(&target, 1, "CREATE TABLE u (a INT)");
    let mut hand = target.lead(2).await;
    let refused = target
        .up(&mut *hand, 1, "CREATE TABLE w (a INT)")
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("restore the file"), "{refused}");
    let other = migration(1, "CREATE TABLE u (a INT)");
    target.sql(
        "INSERT INTO lockkeeper_ledger (version, name, checksum, layout, applied_at, duration_ms, applied_by, \
         generation, revision, warnings) VALUES ('1', 'm', 'x', 'l', NOW(), 0, 'x', 0, 0, 0)",
    );
    let down = other.down.clone().unwrap();
    let refused = hand
        .apply(&down, &write(&other, Direction::Down), &Silent)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("other direction"), "{refused}");
}

/// Executors are ended again and again at random moments: each statement takes effect once.
#[tokio::test]
async fn a_migration_survives_takeovers_at_random_moments() {
    let target = Target::new();
    let mut sql = "CREATE TABLE steps (n INT);\n".to_owned();
    for n in 1..=40 {
        sql += &format!(
            "CREATE TABLE s{n} (a INT);\nINSERT INTO steps VALUES ({n});\nALTER TABLE s{n} ADD INDEX i (a);\n"
        );
    }
    let mut interrupted = 0;
    for revision in 1.. {
        let mut hand = target.lead(revision).await;
        let executor = hand.executor().session.clone();
        let script = migration(1, &sql);
        let write = write(&script, Direction::Up);
        let applying = tokio::spawn(async move { hand.apply(&script.up, &write, &Silent).await });
        tokio::time::sleep(Duration::from_millis(fastrand::u64(20..120))).await;
        // It may have ended by itself.
        let _ = target.server.sql("shop", &format!("KILL {executor}"));
        match applying.await.unwrap() {
            Ok(_) => break,
            Err(ApplyError::Db(_)) => interrupted += 1,
            Err(other) => panic!("{other}"),
        }
        assert!(revision < 200, "no progress");
    }
    assert!(interrupted > 0, "nothing was interrupted");
    assert_eq!(
        target.sql("SELECT COUNT(*), COUNT(DISTINCT n) FROM steps"),
        "40\t40"
    );
    let made = "SELECT COUNT(DISTINCT TABLE_NAME) FROM information_schema.STATISTICS WHERE INDEX_NAME = 'i'";
    assert_eq!(target.sql(made), "40");
    assert_eq!(target.sql("SELECT COUNT(*) FROM lockkeeper_journal"), "0");
}
