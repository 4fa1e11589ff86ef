//! What PostgreSQL's barrier, drain and takeover do beyond the common rules.

use std::time::Duration;

use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_migrate::db::{
    Applied, ApplyError, DatabaseOptions, DbError, Event, FindingLevel, Silent, TakeError, open,
};
use lockkeeper_migrate::dsn::Dsn;
use lockkeeper_migrate::source::Direction;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::fixture::{AppSession, Fixture};
use crate::postgres::PostgresFixture;
use crate::support::{
    G1, PATIENCE, Recorder, apply, epoch, fenced, leader, ledger_write, script, standalone, take, versions,
};

const ONE_TABLE: &str = "CREATE TABLE t (a INT); INSERT INTO t VALUES (1)";

/// A call that nothing is in the way of.
const QUICK: Duration = Duration::from_secs(3);

pub(crate) async fn a_refused_writer_gets_lk001_and_a_hint(fixture: &PostgresFixture) {
    let mut app = fixture.app().await;
    app.execute(ONE_TABLE).await.unwrap();
    let _hand = fenced(&*fixture.database()).await;
    // The owner, a superuser, and a zero-row update alike.
    for session in [&mut app, &mut fixture.admin().await] {
        let refusal = session
            .execute("UPDATE t SET a = 2 WHERE a = 99")
            .await
            .unwrap_err();
        assert_eq!(refusal.code, "LK001");
        assert_eq!(
            refusal.message,
            "lockkeeper: public.t is fenced at g1 by rollout r1"
        );
        assert!(refusal.hint.contains("retry"), "{}", refusal.hint);
    }
    // A role that may see nothing of lockkeeper's gets the same words.
    fixture.admin().await.execute("CREATE ROLE guest_1 LOGIN; GRANT INSERT ON t TO guest_1; REVOKE ALL ON lockkeeper_gate FROM PUBLIC").await.unwrap();
    let mut admin = fixture.admin().await;
    let refusal = admin
        .execute("SET ROLE guest_1; INSERT INTO t VALUES (5)")
        .await
        .unwrap_err();
    assert_eq!(refusal.code, "LK001", "{refusal:?}");
    admin
        .execute("RESET ROLE; DROP OWNED BY guest_1; DROP ROLE guest_1")
        .await
        .unwrap();
}

pub(crate) async fn an_earlier_open_writer_is_waited_for(fixture: &PostgresFixture) {
    let mut app = fixture.app().await;
    app.execute(ONE_TABLE).await.unwrap();
    app.execute("BEGIN; INSERT INTO t VALUES (2)").await.unwrap();
    let pid = app.scalar("SELECT pg_backend_pid()").await.unwrap().unwrap();
    let mut hand = take(&*fixture.database(), &leader(1)).await;
    hand.close(G1, "r1").await.unwrap();

    let recorder = Recorder::default();
    let commit_later = async {
        sleep(Duration::from_millis(1500)).await;
        app.execute("COMMIT").await
    };
    let (report, committed) = tokio::join!(hand.raise_barrier(PATIENCE, &recorder), commit_later);
    let report = report.unwrap();
    committed.unwrap();
    assert_eq!(report.tables, ["public.t"]);
    assert!(report.ended.is_empty(), "{:?}", report.ended);
    assert!(
        recorder.waited(|what, blockers| what.contains("public.t")
            && blockers
                .iter()
                .any(|b| b.id == pid && b.query.as_deref().unwrap_or("").contains("pg_backend_pid"))),
        "{:?}",
        recorder.events()
    );
    assert_eq!(
        hand.scalar("SELECT count(*) FROM t").await.unwrap().as_deref(),
        Some("2")
    );
    assert_eq!(
        app.execute("INSERT INTO t VALUES (3)").await.unwrap_err().code,
        "LK001"
    );
}

pub(crate) async fn an_earlier_writer_that_does_not_finish_is_ended_and_named(fixture: &PostgresFixture) {
    let mut app = fixture.app().await;
    app.execute(ONE_TABLE).await.unwrap();
    app.execute("BEGIN; INSERT INTO t VALUES (2)").await.unwrap();
    let pid = app.scalar("SELECT pg_backend_pid()").await.unwrap().unwrap();
    let mut hand = take(&*fixture.database(), &leader(1)).await;
    hand.close(G1, "r1").await.unwrap();
    let recorder = Recorder::default();
    let began = Instant::now();
    let report = hand
        .raise_barrier(Duration::from_secs(1), &recorder)
        .await
        .unwrap();
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(
        report.ended.iter().map(|b| b.id.as_str()).collect::<Vec<_>>(),
        [pid.as_str()]
    );
    assert!(
        recorder
            .events()
            .iter()
            .any(|e| matches!(e, Event::Ended(b) if b.id == pid))
    );
    assert!(app.execute("COMMIT").await.is_err());
    assert_eq!(
        hand.scalar("SELECT count(*) FROM t").await.unwrap().as_deref(),
        Some("1")
    );
}

pub(crate) async fn a_prepared_transaction_is_named_and_stops_the_fence(fixture: &PostgresFixture) {
    let mut app = fixture.app().await;
    app.execute(ONE_TABLE).await.unwrap();
    app.execute("BEGIN; INSERT INTO t VALUES (2)").await.unwrap();
    let gid = format!("gid-{}", fixture.name);
    app.execute(&format!("PREPARE TRANSACTION '{gid}'"))
        .await
        .unwrap();
    let database = fixture.database();
    let findings = database.preflight().await.unwrap();
    assert!(
        findings
            .iter()
            .any(|f| f.code == "prepared-transaction" && f.message.contains(&gid)),
        "{findings:?}"
    );

    let mut hand = take(&*database, &leader(1)).await;
    hand.close(G1, "r1").await.unwrap();
    let error = hand
        .raise_barrier(Duration::from_millis(700), &Silent)
        .await
        .unwrap_err();
    let DbError::TimedOut { blockers, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(
        blockers
            .iter()
            .any(|b| b.kind == "prepared transaction" && b.id == gid),
        "{blockers:?}"
    );

    app.execute(&format!("ROLLBACK PREPARED '{gid}'")).await.unwrap();
    hand.raise_barrier(PATIENCE, &Silent).await.unwrap();
}

pub(crate) async fn a_reader_stops_neither_fence_nor_opening(fixture: &PostgresFixture) {
    let mut app = fixture.app().await;
    app.execute(ONE_TABLE).await.unwrap();
    let mut reader = fixture.app().await;
    // As pg_dump does it.
    reader
        .execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; LOCK TABLE t IN ACCESS SHARE MODE")
        .await
        .unwrap();
    reader.scalar("SELECT count(*) FROM t").await.unwrap();

    let mut hand = take(&*fixture.database(), &leader(1)).await;
    hand.close(G1, "r1").await.unwrap();
    let report = timeout(QUICK, hand.raise_barrier(PATIENCE, &Silent))
        .await
        .unwrap()
        .unwrap();
    assert!(report.ended.is_empty());
    assert_eq!(
        app.execute("INSERT INTO t VALUES (2)").await.unwrap_err().code,
        "LK001"
    );
    timeout(QUICK, hand.open(G1, None)).await.unwrap().unwrap();
    timeout(QUICK, app.execute("INSERT INTO t VALUES (2)"))
        .await
        .unwrap()
        .unwrap();

    // The triggers stay while it reads, inert, and its successors do not queue behind the clean-up.
    let left = timeout(QUICK, hand.clean_up(&Silent)).await.unwrap().unwrap();
    assert_eq!(left, 2);
    reader.execute("COMMIT").await.unwrap();
    assert_eq!(hand.clean_up(&Silent).await.unwrap(), 0);
}

pub(crate) async fn a_stale_snapshot_is_refused(fixture: &PostgresFixture) {
    let mut app = fixture.app().await;
    app.execute(ONE_TABLE).await.unwrap();
    let mut hand = take(&*fixture.database(), &leader(1)).await;
    let mut stale = fixture.app().await;
    stale
        .execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        .await
        .unwrap();
    stale.scalar("SELECT count(*) FROM t").await.unwrap();
    hand.close(G1, "r1").await.unwrap();
    hand.raise_barrier(PATIENCE, &Silent).await.unwrap();
    // Its snapshot shows an open gate at g0. That must not let it pass.
    assert_eq!(
        stale.execute("INSERT INTO t VALUES (2)").await.unwrap_err().code,
        "LK001"
    );

    // And one that began while the gate was closed is refused after the opening too, rather than mixing schemas.
    let mut during = fixture.app().await;
    during
        .execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        .await
        .unwrap();
    during.scalar("SELECT count(*) FROM t").await.unwrap();
    hand.open(G1, None).await.unwrap();
    assert_eq!(
        during.execute("INSERT INTO t VALUES (2)").await.unwrap_err().code,
        "LK001"
    );
    app.execute("INSERT INTO t VALUES (2)").await.unwrap();
}

pub(crate) async fn an_old_transaction_that_made_a_table_is_waited_out(fixture: &PostgresFixture) {
    let mut app = fixture.app().await;
    app.execute("BEGIN; CREATE TABLE late (a INT); INSERT INTO late VALUES (1)")
        .await
        .unwrap();
    let mut hand = take(&*fixture.database(), &leader(1)).await;
    hand.close(G1, "r1").await.unwrap();
    let recorder = Recorder::default();
    let commit_later = async {
        sleep(Duration::from_millis(600)).await;
        app.execute("COMMIT").await
    };
    let (report, committed) = tokio::join!(hand.raise_barrier(PATIENCE, &recorder), commit_later);
    committed.unwrap();
    assert_eq!(report.unwrap().tables, ["public.late"]);
    assert!(recorder.waited(|what, blockers| what.contains("older than the barrier") && blockers.len() == 1));
    assert_eq!(
        app.execute("INSERT INTO late VALUES (2)").await.unwrap_err().code,
        "LK001"
    );

    // One that does not finish is ended.
    app.execute("BEGIN; CREATE TABLE later (a INT)").await.unwrap();
    let report = hand
        .raise_barrier(Duration::from_millis(500), &Silent)
        .await
        .unwrap();
    assert_eq!(report.ended.len(), 1);
    assert!(app.execute("COMMIT").await.is_err());
}

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

pub(crate) async fn truncate_copy_and_replica_role_are_refused(fixture: &PostgresFixture) {
    let mut admin = fixture.admin().await;
    let mut app = fixture.app().await;
    app.execute("CREATE TABLE t (a INT); CREATE VIEW v AS SELECT * FROM t")
        .await
        .unwrap();
    let _hand = fenced(&*fixture.database()).await;
    for write in [
        "TRUNCATE t",
        "INSERT INTO v VALUES (1)",
        "WITH x AS (INSERT INTO t VALUES (1) RETURNING a) SELECT * FROM x",
        "DO $$ BEGIN INSERT INTO t VALUES (1); END $$",
        "SET session_replication_role = replica; INSERT INTO t VALUES (1)",
    ] {
        let refusal = admin.execute(write).await.unwrap_err();
        assert_eq!(refusal.code, "LK001", "{write}: {refusal:?}");
    }
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

pub(crate) async fn a_second_raise_continues(fixture: &PostgresFixture) {
    let mut app = fixture.app().await;
    app.execute(ONE_TABLE).await.unwrap();
    let database = fixture.database();
    let mut hand = take(&*database, &leader(1)).await;
    hand.close(G1, "r1").await.unwrap();
    assert!(!hand.raise_barrier(PATIENCE, &Silent).await.unwrap().continued);
    assert!(hand.raise_barrier(PATIENCE, &Silent).await.unwrap().continued);
    let mut next = take(&*database, &leader(2)).await;
    next.close(G1, "r1").await.unwrap();
    assert!(next.raise_barrier(PATIENCE, &Silent).await.unwrap().continued);
    let triggers = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'lockkeeper%'";
    assert_eq!(app.scalar(triggers).await.unwrap().as_deref(), Some("1"));
    apply(&mut *next, fixture.dialect(), "1", "UPDATE t SET a = 7;")
        .await
        .unwrap();
}

pub(crate) async fn a_refused_writer_does_not_delay_the_opening(fixture: &PostgresFixture) {
    let mut app = fixture.app().await;
    app.execute(ONE_TABLE).await.unwrap();
    let mut hand = fenced(&*fixture.database()).await;
    app.execute("BEGIN; SAVEPOINT s").await.unwrap();
    assert_eq!(
        app.execute("INSERT INTO t VALUES (2)").await.unwrap_err().code,
        "LK001"
    );
    app.execute("ROLLBACK TO s").await.unwrap();
    // It stays in its transaction.
    timeout(QUICK, hand.open(G1, None)).await.unwrap().unwrap();
    app.execute("INSERT INTO t VALUES (2); COMMIT").await.unwrap();
}

pub(crate) async fn temporary_tables_stay_writable(fixture: &PostgresFixture) {
    let mut app = fixture.app().await;
    app.execute("CREATE TEMPORARY TABLE mine (a INT)").await.unwrap();
    let _hand = fenced(&*fixture.database()).await;
    app.execute("INSERT INTO mine VALUES (1); CREATE TEMPORARY TABLE more AS SELECT 1")
        .await
        .unwrap();
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
}

pub(crate) async fn overlapping_writers_do_not_starve_the_barrier(fixture: &PostgresFixture) {
    let mut app = fixture.app().await;
    app.execute(ONE_TABLE).await.unwrap();
    let mut writers = JoinSet::new();
    for number in 0..4u64 {
        let mut session = fixture.app().await;
        writers.spawn(async move {
            sleep(Duration::from_millis(75 * number)).await;
            loop {
                let write = "BEGIN; INSERT INTO t VALUES (2); SELECT pg_sleep(0.3); COMMIT";
                if let Err(refusal) = session.execute(write).await {
                    return refusal.code;
                }
            }
        });
    }
    sleep(Duration::from_millis(400)).await;
    let mut hand = take(&*fixture.database(), &leader(1)).await;
    hand.close(G1, "r1").await.unwrap();
    let report = timeout(Duration::from_secs(6), hand.raise_barrier(PATIENCE, &Silent))
        .await
        .unwrap()
        .unwrap();
    assert!(report.ended.is_empty());
    assert!(writers.join_all().await.iter().all(|code| code == "LK001"));
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

    // While it waits, the reader that came later is not stopped for longer than the lock time-out.
    app.execute("BEGIN; SELECT * FROM t").await.unwrap();
    let executor = hand.executor().clone();
    let database = fixture.database();
    let look = async {
        sleep(Duration::from_millis(300)).await;
        database.blockers(&executor).await.unwrap()
    };
    let waiting = script(fixture.dialect(), "ALTER TABLE t ADD COLUMN c INT;");
    let write = ledger_write("2", Direction::Up);
    let (blockers, _) = tokio::join!(
        look,
        timeout(Duration::from_millis(450), hand.apply(&waiting, &write, &Silent))
    );
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

pub(crate) async fn a_table_of_another_role_is_named_with_its_remedy(fixture: &PostgresFixture) {
    fixture
        .admin()
        .await
        .execute("CREATE TABLE theirs (a INT)")
        .await
        .unwrap();
    let database = fixture.database();
    let findings = database.preflight().await.unwrap();
    let found = findings.iter().find(|f| f.code == "not-owner").unwrap();
    assert_eq!(found.level, FindingLevel::Error);
    assert!(
        found
            .remedy
            .contains("ALTER TABLE \"public\".\"theirs\" OWNER TO \"app\""),
        "{}",
        found.remedy
    );
    let mut hand = take(&*database, &leader(1)).await;
    hand.close(G1, "r1").await.unwrap();
    let error = hand.raise_barrier(PATIENCE, &Silent).await.unwrap_err();
    assert!(
        matches!(&error, DbError::Permission { .. }) && error.to_string().contains("public.theirs"),
        "{error:?}"
    );
}

pub(crate) async fn preflight_names_what_stops_a_fence(fixture: &PostgresFixture) {
    let database = fixture.database();
    assert!(database.preflight().await.unwrap().is_empty());
    let mut admin = fixture.admin().await;
    admin
        .execute(
            "CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw; \
             CREATE FOREIGN TABLE remote (a INT) SERVER far",
        )
        .await
        .unwrap();
    admin
        .execute("CREATE SUBSCRIPTION feed CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false)")
        .await
        .unwrap();
    admin.execute("ALTER SUBSCRIPTION feed ENABLE").await.unwrap();
    admin
        .execute("REVOKE CREATE ON SCHEMA public FROM app; ALTER SCHEMA public OWNER TO postgres")
        .await
        .unwrap();
    let findings = database.preflight().await.unwrap();
    let level = |code: &str| findings.iter().find(|f| f.code == code).map(|f| f.level);
    assert_eq!(
        level("foreign-table"),
        Some(FindingLevel::Warning),
        "{findings:?}"
    );
    assert_eq!(level("subscription"), Some(FindingLevel::Error), "{findings:?}");
    assert_eq!(level("no-create"), Some(FindingLevel::Error), "{findings:?}");
    assert_eq!(
        level("cannot-end"),
        Some(FindingLevel::Warning),
        "a superuser is connected: {findings:?}"
    );
    admin.execute("ALTER SUBSCRIPTION feed DISABLE").await.unwrap();
    admin
        .execute("ALTER SUBSCRIPTION feed SET (slot_name = NONE)")
        .await
        .unwrap();
    admin.execute("DROP SUBSCRIPTION feed").await.unwrap();
}

pub(crate) async fn a_role_without_create_gets_the_grant(fixture: &PostgresFixture) {
    fixture
        .admin()
        .await
        .execute("ALTER SCHEMA public OWNER TO postgres")
        .await
        .unwrap();
    let error = fixture
        .database()
        .take(&standalone("x"), PATIENCE, &Silent)
        .await
        .unwrap_err();
    let TakeError::Db(DbError::Permission { remedy, .. }) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(remedy, "GRANT CREATE, USAGE ON SCHEMA \"public\" TO \"app\"");
    assert!(!error.to_string().contains("app-secret"));
}

pub(crate) async fn a_foreign_table_of_our_name_is_not_touched(fixture: &PostgresFixture) {
    fixture
        .app()
        .await
        .execute("CREATE TABLE lockkeeper_gate (x INT); CREATE TABLE lockkeeper_ledger (x INT)")
        .await
        .unwrap();
    let error = fixture
        .database()
        .take(&leader(1), PATIENCE, &Silent)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, TakeError::Db(DbError::ForeignTable { .. })),
        "{error:?}"
    );
    let found = fixture
        .app()
        .await
        .scalar("SELECT to_regclass('lockkeeper_journal')")
        .await
        .unwrap();
    assert_eq!(found, None, "tables were made beside a foreign one");
}

pub(crate) async fn a_database_made_from_a_closed_one_is_told(fixture: &PostgresFixture) {
    let mut app = fixture.app().await;
    app.execute(ONE_TABLE).await.unwrap();
    drop(app);
    fenced(&*fixture.database()).await.release().await.unwrap();
    let copy = format!("{}_copy", fixture.name);
    let mut admin = fixture.admin().await;
    admin.execute("SELECT 1").await.unwrap();
    drop(admin);
    let mut elsewhere = PostgresFixture {
        server: fixture.server.clone(),
        name: "postgres".to_owned(),
    }
    .admin()
    .await;
    let clone = format!("CREATE DATABASE {copy} TEMPLATE {} OWNER app", fixture.name);
    // A session that was dropped a moment ago may still be on its way out.
    let mut tries = 0;
    while let Err(refusal) = elsewhere.execute(&clone).await {
        tries += 1;
        assert!(tries < 50, "{refusal:?}");
        sleep(Duration::from_millis(50)).await;
    }
    let database = open(
        &Dsn::parse(&fixture.server.app_dsn(&copy)).unwrap(),
        DatabaseOptions::default(),
    );
    let error = database.take(&leader(2), PATIENCE, &Silent).await.unwrap_err();
    assert!(
        matches!(&error, TakeError::Db(DbError::IdentityChanged { .. })),
        "{error:?}"
    );
    let findings = database.preflight().await.unwrap();
    assert!(
        findings
            .iter()
            .any(|f| f.code == "identity-changed" && f.level == FindingLevel::Error),
        "{findings:?}"
    );
}

pub(crate) async fn ten_processes_make_the_tables_at_once(fixture: &PostgresFixture) {
    let mut takers = JoinSet::new();
    for number in 1..=10 {
        let database = fixture.database();
        takers.spawn(async move {
            match database
                .take(&leader(number), Duration::from_secs(60), &Silent)
                .await
            {
                Ok(hand) => Ok(drop(hand)),
                // Ended by a newer one in the middle of its taking, or behind it.
                Err(TakeError::TargetAhead { .. } | TakeError::Db(DbError::ConnectionLost(_))) => Ok(()),
                Err(error) => Err(error),
            }
        });
    }
    while let Some(taken) = takers.join_next().await {
        taken.unwrap().unwrap();
    }
    let row = fixture.database().inspect().await.unwrap().gate_row.unwrap();
    assert_eq!(row.leader_epoch, epoch(10));
}
