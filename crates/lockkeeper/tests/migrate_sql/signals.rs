//! Ctrl-C, SIGTERM and the run's own time limit, with real signals to the real binary.

use std::process::Child;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use super::support::Done;
use super::target::{Dialect, Target, ended};

const ENDED_OTHERWISE: i32 = 7;
const TIMED_OUT: i32 = 6;

fn send(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn stopped(child: Child, signal: Signal) -> Done {
    send(&child, signal);
    let asked = Instant::now();
    let done = ended(child);
    assert!(asked.elapsed() < Duration::from_secs(10), "{done:?}");
    assert_eq!(done.code, ENDED_OTHERWISE, "{done:?}");
    done
}

const ONE: &str = "CREATE TABLE t (a INT);";

/// Whether a session of lockkeeper's runs a statement that holds this text.
fn running_on_postgres(text: &str) -> String {
    format!(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND application_name = 'lockkeeper' \
         AND query LIKE '%{text}%' AND datname = current_database()"
    )
}

#[test]
fn an_interrupted_transaction_is_rolled_back_on_postgres() {
    let long = "INSERT INTO t VALUES (1);\nSELECT pg_sleep(60);";
    let target = Target::with(Dialect::Postgres, &[ONE, long, "SELECT 1"]);
    let up = target.start(&[]);
    target.wait_for(&running_on_postgres("pg_sleep(60)"), "1");
    let done = stopped(up, Signal::INT);
    assert!(done.stderr.contains("stopped by SIGINT"), "{done:?}");
    assert!(
        done.stderr.contains("nothing of this migration remains"),
        "{done:?}"
    );
    assert!(done.stderr.contains("done: 1; not done: 2, 3"), "{done:?}");
    let json = done.json();
    assert_eq!((&json["to"], &json["ran"]), (&"1".into(), &1.into()));
    assert_eq!(target.sql("SELECT count(*) FROM t"), "0");

    target.migration(2, "INSERT INTO t VALUES (1);");
    target.up();
    assert_eq!(target.sql("SELECT count(*) FROM t"), "1");
}

/// Ends a run while its concurrent build waits for an old snapshot, and runs it again.
fn concurrent_build_ended_by<T: Send>(end: impl Fn(Child) -> T + Send) -> T {
    let target = Target::with(
        Dialect::Postgres,
        &[
            ONE,
            "INSERT INTO t VALUES (1);\nCREATE INDEX CONCURRENTLY i ON t (a);",
        ],
    );
    target.up_to_first();
    let old_snapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1; SELECT pg_sleep(3); COMMIT";
    let ended = std::thread::scope(|scope| {
        let held = scope.spawn(|| target.sql(old_snapshot));
        target.wait_for(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(3)%' AND pid <> pg_backend_pid() \
             AND datname = current_database()",
            "1",
        );
        let up = target.start(&["--lock-timeout", "20s"]);
        target.wait_for(&running_on_postgres("CREATE INDEX CONCURRENTLY i"), "1");
        let ended = end(up);
        target.up();
        held.join().unwrap();
        ended
    });
    let valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'i'::regclass";
    assert_eq!(target.sql(valid), "t");
    assert_eq!(target.sql("SELECT count(*) FROM t"), "1");
    ended
}

#[test]
fn a_terminated_concurrent_build_is_repaired_by_the_next_run() {
    let done = concurrent_build_ended_by(|up| stopped(up, Signal::TERM));
    assert!(done.stderr.contains("stopped by SIGTERM"), "{done:?}");
    assert!(done.stderr.contains("1 of 2 statements"), "{done:?}");
}

/// The server goes on with the build after its client has died: the next run waits for it.
#[test]
fn a_killed_concurrent_build_is_waited_for_by_the_next_run() {
    concurrent_build_ended_by(|mut up| {
        up.kill().unwrap();
        up.wait().unwrap();
    });
}

#[test]
fn an_interrupted_journal_goes_on_on_mariadb() {
    let long = "CREATE TABLE u (a INT);\nINSERT INTO u SELECT SLEEP(60);\nINSERT INTO u VALUES (2);";
    let target = Target::with(Dialect::MariaDb, &[ONE, long]);
    let up = target.start(&[]);
    let running = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'INSERT INTO u SELECT%' \
                   AND DB = DATABASE()";
    target.wait_for(running, "1");
    let done = stopped(up, Signal::INT);
    assert!(done.stderr.contains("1 of 3 statements"), "{done:?}");
    assert!(done.stderr.contains("done: 1; not done: 2"), "{done:?}");
    assert_eq!(target.sql("SELECT COUNT(*) FROM u"), "0");

    // What has not run may change.
    target.migration(2, &long.replace("SLEEP(60)", "1"));
    target.up();
    assert_eq!(target.sql("SELECT GROUP_CONCAT(a ORDER BY a) FROM u"), "1,2");
}

#[test]
fn an_interrupted_transaction_is_rolled_back_on_mariadb() {
    let long = "INSERT INTO t VALUES (1);\nINSERT INTO t SELECT SLEEP(60);";
    let target = Target::with(Dialect::MariaDb, &[ONE, long]);
    let up = target.start(&[]);
    let running = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'INSERT INTO t SELECT%' \
                   AND DB = DATABASE()";
    target.wait_for(running, "1");
    let done = stopped(up, Signal::TERM);
    assert!(
        done.stderr.contains("nothing of this migration remains"),
        "{done:?}"
    );
    assert_eq!(target.sql("SELECT COUNT(*) FROM t"), "0");
}

#[test]
fn an_interrupted_transaction_is_rolled_back_on_sqlite() {
    let long = "INSERT INTO t VALUES (1);\nINSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 \
                FROM n WHERE i < 5000000000) SELECT count(*) FROM n;";
    let target = Target::with(Dialect::Sqlite, &[ONE, long]);
    target.folder.journal_mode("wal");
    let up = target.start(&[]);
    target.wait_for("SELECT count(*) FROM sqlite_master WHERE name = 't'", "1");
    std::thread::sleep(Duration::from_millis(300));
    let done = stopped(up, Signal::INT);
    assert!(
        done.stderr.contains("nothing of this migration remains"),
        "{done:?}"
    );
    assert!(done.stderr.contains("cancelled"), "{done:?}");
    assert_eq!(target.sql("SELECT count(*) FROM t"), "0");
    target.migration(2, "INSERT INTO t VALUES (1);");
    target.up();
}

/// A script that goes on after every cancelling.
const STUBBORN: &str = "DO $$ BEGIN LOOP BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN END; \
                        END LOOP; END $$;";

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let target = Target::with(Dialect::Postgres, &[ONE, STUBBORN]);
    let up = target.start(&[]);
    target.wait_for(&running_on_postgres("pg_sleep(60)"), "1");
    send(&up, Signal::INT);
    std::thread::sleep(Duration::from_millis(600));
    let done = stopped(up, Signal::INT);
    assert!(done.stderr.contains("again: ended at once"), "{done:?}");
    target.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'DO $$ BEGIN LOOP%'");
}

#[test]
fn the_time_of_a_run_is_limited() {
    let target = Target::with(Dialect::Postgres, &[ONE, "SELECT pg_sleep(60);"]);
    let done = target.run(&["up", "--yes", "--run-timeout", "1s"]);
    assert_eq!(done.code, TIMED_OUT, "{done:?}");
    assert!(done.stderr.contains("--run-timeout"), "{done:?}");
    let statement = target.run(&["up", "--yes", "--statement-timeout", "1s"]);
    assert_eq!(statement.code, 1, "{statement:?}");
    assert!(statement.stderr.contains("statement timeout"), "{statement:?}");
}

#[test]
fn whoever_waits_for_its_turn_stops_with_nothing_changed() {
    let target = Target::with(Dialect::Postgres, &[ONE, "SELECT pg_sleep(60);"]);
    let first = target.start(&[]);
    target.wait_for(&running_on_postgres("pg_sleep(60)"), "1");
    let second = target.start(&[]);
    let waiting = "SELECT count(DISTINCT pid) FROM pg_stat_activity WHERE application_name = 'lockkeeper' \
                   AND datname = current_database()";
    let both = Instant::now();
    while target.sql(waiting).as_str() < "2" {
        assert!(both.elapsed() < Duration::from_secs(20));
    }
    std::thread::sleep(Duration::from_millis(500));
    let done = stopped(second, Signal::INT);
    assert!(done.stderr.contains("another migrator"), "{done:?}");
    assert!(done.stderr.contains("nothing was changed"), "{done:?}");
    stopped(first, Signal::INT);
}
