//! PostgreSQL's barrier: who is refused, who is waited for, who is ended.

use std::time::Duration;

use lockkeeper_migrate::db::{DbError, Event, Silent};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::fixture::{AppSession, Fixture};
use crate::postgres::PostgresFixture;
use crate::support::{G1, PATIENCE, Recorder, apply, fenced, leader, take};

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

/// A superseded hand whose transaction still sees the row that names it.
pub(crate) async fn an_executor_with_an_old_snapshot_errs_instead_of_passing(fixture: &PostgresFixture) {
    let mut app = fixture.app().await;
    app.execute(ONE_TABLE).await.unwrap();
    let hand = fenced(&*fixture.database()).await;
    let mut old = fixture.app().await;
    let register = "UPDATE lockkeeper_gate SET executor_session = pg_backend_pid()::text, executor_started = \
                    (SELECT (extract(epoch FROM backend_start) * 1000000)::bigint::text \
                     FROM pg_stat_activity WHERE pid = pg_backend_pid())";
    old.execute(register).await.unwrap();
    old.execute("INSERT INTO t VALUES (2)")
        .await
        .expect("the executor passes");
    old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        .await
        .unwrap();
    old.scalar("SELECT count(*) FROM t").await.unwrap();
    app.execute(register).await.unwrap();
    let refusal = old.execute("INSERT INTO t VALUES (3)").await.unwrap_err();
    assert_eq!(refusal.code, "40001", "{refusal:?}");
    old.execute("ROLLBACK").await.unwrap();
    assert_eq!(
        old.execute("INSERT INTO t VALUES (3)").await.unwrap_err().code,
        "LK001"
    );
    drop(hand);
}

/// Two tables of one batch that a writer takes in the other order: nobody becomes a deadlock's victim.
pub(crate) async fn a_batch_lets_go_before_it_deadlocks_with_a_writer(fixture: &PostgresFixture) {
    let mut app = fixture.app().await;
    app.execute("CREATE TABLE a (a INT); CREATE TABLE b (a INT)")
        .await
        .unwrap();
    app.execute("BEGIN; INSERT INTO b VALUES (1)").await.unwrap();
    let mut hand = take(&*fixture.database(), &leader(1)).await;
    hand.close(G1, "r1").await.unwrap();
    let write_later = async {
        sleep(Duration::from_millis(40)).await;
        let outcome = app.execute("INSERT INTO a VALUES (1)").await;
        (outcome, app.execute("COMMIT").await)
    };
    let (report, (outcome, _)) = tokio::join!(hand.raise_barrier(PATIENCE, &Silent), write_later);
    assert!(report.unwrap().ended.is_empty());
    // It either wrote before the barrier stood on that table, or was refused by it.
    assert!(outcome.as_ref().is_ok_and(|rows| *rows == 1) || outcome.unwrap_err().code == "LK001");
}
