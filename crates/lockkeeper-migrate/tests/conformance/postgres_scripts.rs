//! Migrations on PostgreSQL: the barrier after them, their errors, their waits.

use std::time::Duration;

use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_migrate::db::{Applied, ApplyError, DbError, Event, Silent};
use lockkeeper_migrate::source::Direction;
use tokio::time::{sleep, timeout};

use crate::fixture::{AppSession, Fixture};
use crate::postgres::PostgresFixture;
use crate::support::{
    PATIENCE, Recorder, apply, epoch, fenced, leader, ledger_write, script, take, versions,
};

const ONE_TABLE: &str = "CREATE TABLE t (a INT); INSERT INTO t VALUES (1)";

/// A call that nothing is in the way of.
const QUICK: Duration = Duration::from_secs(3);

pub(crate) async fn a_table_made_by_a_migration_is_barred_before_it_commits(fixture: &PostgresFixture) {
    let mut hand = fenced(&*fixture.database()).await;
    let text = "CREATE TABLE n (a INT); INSERT INTO n VALUES (1); \
                CREATE TABLE p (a INT) PARTITION BY RANGE (a); \
                CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); \
                CREATE SCHEMA other; CREATE TABLE other.o (a INT);";
    apply(&mut *hand, fixture.dialect(), "1", text).await.unwrap();
    let mut app = fixture.app().await;
    for table in ["n", "p", "p1", "other.o"] {
        let refusal = app.execute(&format!("INSERT INTO {table} VALUES (1)")).await;
        assert_eq!(refusal.map_err(|r| r.code), Err("LK001".to_owned()), "{table}");
    }
    // Non-transactional scripts too.
    apply(
        &mut *hand,
        fixture.dialect(),
        "2",
        "CREATE TABLE s (a INT);\nVACUUM n;",
    )
    .await
    .unwrap();
    assert_eq!(
        app.execute("INSERT INTO s VALUES (1)").await.unwrap_err().code,
        "LK001"
    );
}

pub(crate) async fn a_swapped_table_is_barred_before_it_commits(fixture: &PostgresFixture) {
    let mut app = fixture.app().await;
    app.execute(ONE_TABLE).await.unwrap();
    let mut hand = fenced(&*fixture.database()).await;
    let text = "CREATE TABLE t_new (a BIGINT); INSERT INTO t_new SELECT a FROM t; \
                DROP TABLE t; ALTER TABLE t_new RENAME TO t;";
    apply(&mut *hand, fixture.dialect(), "1", text).await.unwrap();
    assert_eq!(
        app.execute("INSERT INTO t VALUES (2)").await.unwrap_err().code,
        "LK001"
    );
}

pub(crate) async fn a_weakened_trigger_is_put_up_again(fixture: &PostgresFixture) {
    let mut app = fixture.app().await;
    app.execute(ONE_TABLE).await.unwrap();
    let mut hand = fenced(&*fixture.database()).await;
    let text = "ALTER TABLE t DISABLE TRIGGER ALL; UPDATE t SET a = 5; ALTER TABLE t ENABLE TRIGGER ALL;";
    apply(
        &mut *hand,
        fixture.dialect(),
        "1",
        text.replace("TRIGGER ALL", "TRIGGER USER").as_str(),
    )
    .await
    .unwrap();
    let mut admin = fixture.admin().await;
    let refusal = admin
        .execute("SET session_replication_role = replica; INSERT INTO t VALUES (1)")
        .await;
    assert_eq!(refusal.unwrap_err().code, "LK001");
}

pub(crate) async fn deferred_constraints_do_not_stop_the_barrier(fixture: &PostgresFixture) {
    let mut app = fixture.app().await;
    app.execute("CREATE TABLE a (id INT PRIMARY KEY)").await.unwrap();
    let mut hand = fenced(&*fixture.database()).await;
    let text = "CREATE TABLE b (id INT REFERENCES a DEFERRABLE INITIALLY DEFERRED);\n\
                INSERT INTO b VALUES (1);\nINSERT INTO a VALUES (1);";
    apply(&mut *hand, fixture.dialect(), "1", text).await.unwrap();
    assert_eq!(
        app.execute("INSERT INTO b VALUES (1)").await.unwrap_err().code,
        "LK001"
    );
    let error = apply(&mut *hand, fixture.dialect(), "2", "INSERT INTO b VALUES (9);")
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ApplyError::RolledBack { message, .. } if message.contains("23503")),
        "{error:?}"
    );
    // Also where the barrier is put up inside a transaction of the file's own.
    let text = "VACUUM a;\nBEGIN;\nCREATE TABLE c (id INT REFERENCES a DEFERRABLE INITIALLY DEFERRED);\n\
                INSERT INTO c VALUES (1);\nCOMMIT;";
    apply(&mut *hand, fixture.dialect(), "3", text).await.unwrap();
    assert_eq!(
        app.execute("INSERT INTO c VALUES (1)").await.unwrap_err().code,
        "LK001"
    );
}

pub(crate) async fn a_failing_migration_rolls_back_and_names_its_line(fixture: &PostgresFixture) {
    let mut hand = take(&*fixture.database(), &leader(1)).await;
    for (text, line, words) in [
        ("CREATE TABLE x (a INT);\nCREATE TABLE x (a INT);\n", 2, "42P07"),
        (
            "-- a comment\nCREATE TABLE x (a INT);\nSELEC 1;\n",
            3,
            "syntax error",
        ),
        (
            "CREATE TABLE x (a INT UNIQUE);\nINSERT INTO x VALUES (1);\n\n\nINSERT INTO x\n  VALUES (1);",
            5,
            "23505",
        ),
        (
            "CREATE TABLE x (a INT);\nINSERT INTO x\n VALUES (nothing);",
            3,
            "42703",
        ),
        (
            "CREATE TABLE x (a INT);\nDO $$ BEGIN\n RAISE EXCEPTION 'no';\nEND $$;",
            2,
            "no (P0001)",
        ),
    ] {
        let error = apply(&mut *hand, fixture.dialect(), "1", text).await.unwrap_err();
        let ApplyError::RolledBack { line: seen, message } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(*seen, line, "{text}: {message}");
        assert!(message.contains(words), "{text}: {message}");
        assert_eq!(hand.scalar("SELECT to_regclass('x')").await.unwrap(), None);
    }
    assert!(versions(&mut *hand).await.is_empty());
}

pub(crate) async fn a_migration_that_waits_for_a_lock_is_tried_again(fixture: &PostgresFixture) {
    let mut app = fixture.app().await;
    app.execute(ONE_TABLE).await.unwrap();
    let mut hand = take(&*fixture.database(), &leader(1)).await;
    app.execute("BEGIN; SELECT * FROM t").await.unwrap();
    let recorder = Recorder::default();
    let release_later = async {
        sleep(Duration::from_millis(1300)).await;
        app.execute("COMMIT").await
    };
    let migration = script(
        fixture.dialect(),
        "CREATE TABLE y (a INT); ALTER TABLE t ADD COLUMN b INT;",
    );
    let write = ledger_write("1", Direction::Up);
    let (applied, _) = tokio::join!(hand.apply(&migration, &write, &recorder), release_later);
    assert!(matches!(applied.unwrap(), Applied::Ran { .. }));
    assert!(
        recorder.waited(|_, blockers| blockers.len() == 1),
        "{:?}",
        recorder.events()
    );

    // Whoever asks meanwhile is told who is in the way.
    app.execute("BEGIN; SELECT * FROM t").await.unwrap();
    let executor = hand.executor().clone();
    let database = fixture.database();
    let look = async {
        loop {
            let blockers = database.blockers(&executor).await.unwrap();
            if !blockers.is_empty() {
                return blockers;
            }
        }
    };
    let waiting = script(fixture.dialect(), "ALTER TABLE t ADD COLUMN c INT;");
    let write = ledger_write("2", Direction::Up);
    let blockers = tokio::select! {
        blockers = timeout(QUICK, look) => blockers.unwrap(),
        applied = hand.apply(&waiting, &write, &Silent) => panic!("{applied:?}"),
    };
    assert_eq!(blockers.len(), 1, "{blockers:?}");
    app.execute("COMMIT").await.unwrap();
    // The call that was given up left nothing half done in the session.
    assert!(matches!(
        hand.apply(&waiting, &write, &Silent).await.unwrap(),
        Applied::Ran { .. }
    ));
}

pub(crate) async fn a_takeover_ends_a_hand_in_the_middle_of_a_migration(fixture: &PostgresFixture) {
    for text in [
        "CREATE TABLE z (a INT); SELECT pg_sleep(30);",
        "VACUUM; CREATE TABLE z (a INT); SELECT pg_sleep(30);",
    ] {
        let number: u64 = if text.starts_with("VACUUM") { 10 } else { 1 };
        let database = fixture.database();
        let mut old = take(&*database, &leader(number)).await;
        old.close(GateEpoch(number), "r1").await.unwrap();
        let dialect = fixture.dialect();
        let working = tokio::spawn(async move { apply(&mut *old, dialect, "1", text).await });
        let mut app = fixture.app().await;
        let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()";
        while app.scalar(sleeping).await.unwrap().as_deref() != Some("1") {
            sleep(Duration::from_millis(20)).await;
        }
        let recorder = Recorder::default();
        let mut new = timeout(QUICK, database.take(&leader(number + 1), PATIENCE, &recorder))
            .await
            .unwrap()
            .unwrap();
        assert!(
            recorder
                .events()
                .iter()
                .any(|event| matches!(event, Event::Ended(_))),
            "{:?}",
            recorder.events()
        );
        assert_eq!(new.gate_row().leader_epoch, epoch(number + 1));
        let error = working.await.unwrap().unwrap_err();
        assert!(
            matches!(&error, ApplyError::Db(DbError::Superseded { .. })),
            "{error:?}"
        );
        assert!(versions(&mut *new).await.is_empty());
    }
}

pub(crate) async fn a_script_leaves_no_trace_in_the_session(fixture: &PostgresFixture) {
    let mut hand = take(&*fixture.database(), &leader(1)).await;
    // What pg_dump writes at the top of a schema.
    let text = "SET statement_timeout = 1234; SELECT pg_catalog.set_config('search_path', '', false); \
                CREATE TABLE public.a (a INT);";
    apply(&mut *hand, fixture.dialect(), "1", text).await.unwrap();
    assert_eq!(
        hand.scalar("SHOW search_path").await.unwrap().as_deref(),
        Some("\"$user\", public")
    );
    assert_eq!(
        hand.scalar("SHOW statement_timeout").await.unwrap().as_deref(),
        Some("0")
    );
    apply(&mut *hand, fixture.dialect(), "2", "CREATE TABLE b (a INT);")
        .await
        .unwrap();
    assert_eq!(versions(&mut *hand).await, ["1", "2"]);
    assert!(hand.scalar("SELECT count(*) FROM public.b").await.is_ok());
}

pub(crate) async fn notices_are_heard(fixture: &PostgresFixture) {
    let mut hand = take(&*fixture.database(), &leader(1)).await;
    let text = "DO $$ BEGIN RAISE NOTICE 'hello'; RAISE WARNING 'careful'; END $$;";
    let recorder = Recorder::default();
    let applied = hand
        .apply(
            &script(fixture.dialect(), text),
            &ledger_write("1", Direction::Up),
            &recorder,
        )
        .await
        .unwrap();
    let Applied::Ran { notices, .. } = applied else {
        panic!("{applied:?}")
    };
    let heard: Vec<_> = notices
        .iter()
        .map(|n| (n.severity.as_str(), n.message.as_str()))
        .collect();
    assert_eq!(heard, [("NOTICE", "hello"), ("WARNING", "careful")]);
    assert!(
        recorder
            .events()
            .iter()
            .any(|e| matches!(e, Event::Notice(n) if n.message == "careful"))
    );
    assert_eq!(hand.ledger().await.unwrap()[0].warnings, 1);
}

/// A statement that runs outside of a transaction holds no lock on the row: the claim is had at once, and only the
/// end of the session keeps it from going on.
pub(crate) async fn a_takeover_ends_a_statement_that_holds_no_lock(fixture: &PostgresFixture) {
    let mut app = fixture.app().await;
    let slow = "CREATE TABLE t (a INT); CREATE PROCEDURE slow() LANGUAGE plpgsql AS \
                $$ BEGIN COMMIT; PERFORM pg_sleep(1.5); INSERT INTO t VALUES (1); END $$";
    app.execute(slow).await.unwrap();
    let database = fixture.database();
    let mut old = take(&*database, &leader(1)).await;
    let dialect = fixture.dialect();
    let working = tokio::spawn(async move { apply(&mut *old, dialect, "1", "VACUUM t; CALL slow();").await });
    let sleeping = "SELECT count(*) FROM pg_stat_activity \
                    WHERE wait_event = 'PgSleep' AND datname = current_database()";
    while app.scalar(sleeping).await.unwrap().as_deref() != Some("1") {
        sleep(Duration::from_millis(20)).await;
    }
    let mut new = take(&*database, &leader(2)).await;
    assert_eq!(
        app.scalar(sleeping).await.unwrap().as_deref(),
        Some("0"),
        "it still runs"
    );
    let error = working.await.unwrap().unwrap_err();
    assert!(
        matches!(&error, ApplyError::Db(DbError::Superseded { .. })),
        "{error:?}"
    );
    assert_eq!(
        app.scalar("SELECT count(*) FROM t").await.unwrap().as_deref(),
        Some("0")
    );
    // What became of it cannot be told.
    let error = apply(&mut *new, dialect, "1", "VACUUM t; CALL slow();")
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ApplyError::InDoubt { index: 2, .. }),
        "{error:?}"
    );
}
