//! SIGKILL at every step of a migration, on each dialect: the next `up` carries on, and the end is the same as that of
//! a run that nobody disturbed.

use std::os::unix::process::ExitStatusExt;

use lockkeeper_migrate::failpoint::{self, Failpoint};

use super::support::Done;
use super::target::{Dialect, Target};

const SIGKILL: i32 = 9;

/// How often a failpoint is let pass at most before the process is ended there.
const PASSES_MAX: u32 = 5;

/// A table in one transaction, row changes, and a file that no transaction can hold.
fn migrations(dialect: Dialect) -> [&'static str; 3] {
    let table = match dialect {
        Dialect::Postgres => {
            "CREATE TABLE t (id INT PRIMARY KEY, v INT);\nINSERT INTO t VALUES (1, 0);\n\
             CREATE TABLE whole (a INT) PARTITION BY RANGE (a);\n\
             CREATE TABLE part PARTITION OF whole FOR VALUES FROM (0) TO (10);"
        }
        Dialect::MariaDb | Dialect::Sqlite => {
            "CREATE TABLE t (id INT PRIMARY KEY, v INT);\nINSERT INTO t VALUES (1, 0);"
        }
    };
    let rows = "UPDATE t SET v = v + 1;\nINSERT INTO t VALUES (2, 0);";
    let bare = match dialect {
        Dialect::Postgres => {
            "UPDATE t SET v = v + 10;\nCREATE INDEX CONCURRENTLY i ON t (v);\nVACUUM t;\n\
             BEGIN;\nUPDATE t SET v = v + 100;\nCREATE TABLE u (a INT);\nCOMMIT;\nDROP INDEX CONCURRENTLY i;\n\
             ALTER TABLE whole DETACH PARTITION part CONCURRENTLY;\n\
             CREATE INDEX CONCURRENTLY j ON t (v);"
        }
        Dialect::MariaDb => {
            "UPDATE t SET v = v + 10;\nALTER TABLE t ADD COLUMN w INT NOT NULL DEFAULT 7;\nCREATE TABLE u (a INT);\n\
             UPDATE t SET v = v + 100;\nSET @seven = 7;\nCREATE INDEX j ON t (v);\nINSERT INTO u VALUES (@seven);"
        }
        Dialect::Sqlite => {
            "UPDATE t SET v = v + 10;\nVACUUM;\nCREATE TABLE u (a INT);\nUPDATE t SET v = v + 100;\n\
             CREATE INDEX j ON t (v);"
        }
    };
    [table, rows, bare]
}

/// Schema, rows and ledger, as text that two databases can be compared by.
fn state(target: &Target, dialect: Dialect) -> String {
    let rows = match dialect {
        Dialect::Postgres => {
            "SELECT string_agg(t::text, ' ' ORDER BY id) FROM t; SELECT count(*) FROM u; \
             SELECT string_agg(table_name || '.' || column_name, ' ' ORDER BY table_name, column_name) FROM information_schema.columns \
             WHERE table_schema = 'public'; \
             SELECT string_agg(indexrelid::regclass || ' ' || indisvalid, ', ' ORDER BY indexrelid::regclass::text) \
             FROM pg_index WHERE indrelid = 't'::regclass; \
             SELECT count(*) FROM pg_inherits; \
             SELECT string_agg(version, ' ' ORDER BY version) FROM lockkeeper_ledger; \
             SELECT count(*) FROM lockkeeper_journal"
        }
        Dialect::MariaDb => {
            "SELECT * FROM t ORDER BY id; SELECT a FROM u; \
             SELECT TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() \
             ORDER BY 1, 2; \
             SELECT INDEX_NAME FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = DATABASE() \
             AND TABLE_NAME IN ('t', 'u') ORDER BY 1; \
             SELECT version FROM lockkeeper_ledger WHERE doubtful IS NULL ORDER BY 1; \
             SELECT COUNT(*) FROM lockkeeper_journal"
        }
        Dialect::Sqlite => {
            "SELECT group_concat(id || ' ' || v) FROM t; SELECT count(*) FROM u; \
             SELECT group_concat(type || ' ' || name) FROM (SELECT * FROM sqlite_master ORDER BY name); \
             SELECT group_concat(version) FROM (SELECT version FROM lockkeeper_ledger ORDER BY version); \
             SELECT count(*) FROM lockkeeper_journal"
        }
    };
    target.sql(rows)
}

/// Runs `up` and ends it at `point`, the `pass`th time; false when it did not come there so often.
fn killed_at(target: &Target, point: Failpoint, pass: u32) -> bool {
    let mut command = target.command(&["up", "--yes"]);
    let output = command
        .env("LOCKKEEPER_FAILPOINT", format!("{}:{pass}", point.name()))
        .output()
        .unwrap();
    if output.status.signal() == Some(SIGKILL) {
        return true;
    }
    let done = Done::from(output);
    assert_eq!(done.code, 0, "{} {pass}: {done:?}", point.name());
    false
}

fn every_step(dialect: Dialect, never_reached: &[Failpoint]) {
    let undisturbed = Target::with(dialect, &migrations(dialect));
    undisturbed.up();
    let expected = state(&undisturbed, dialect);
    for point in failpoint::ALL {
        let mut kills = 0;
        for pass in 1..=PASSES_MAX {
            let target = Target::with(dialect, &migrations(dialect));
            if !killed_at(&target, point, pass) {
                break;
            }
            kills += 1;
            target.up();
            let found = state(&target, dialect);
            assert_eq!(found, expected, "killed at {} the {pass}. time", point.name());
        }
        assert_eq!(
            kills == 0,
            never_reached.contains(&point),
            "{}: {kills} kills",
            point.name()
        );
    }
}

#[test]
fn postgres_carries_on_after_a_kill_at_every_step() {
    every_step(Dialect::Postgres, &[]);
}

#[test]
fn mariadb_carries_on_after_a_kill_at_every_step() {
    every_step(Dialect::MariaDb, &[]);
}

#[test]
fn sqlite_carries_on_after_a_kill_at_every_step() {
    every_step(Dialect::Sqlite, &[]);
}

/// A file whose second statement nobody can judge after a crash, and what to count its effect by.
fn doubtful(dialect: Dialect) -> (Target, &'static str) {
    match dialect {
        Dialect::Postgres => {
            let procedure = "CREATE TABLE t (a INT);\nCREATE PROCEDURE p() LANGUAGE plpgsql AS $$\n\
                             BEGIN INSERT INTO t VALUES (1); COMMIT; END $$;";
            let target = Target::with(
                dialect,
                &[procedure, "VACUUM t;\n\nCALL p();\nINSERT INTO t VALUES (5);"],
            );
            (target, "SELECT count(*) FROM t WHERE a = 1")
        }
        Dialect::MariaDb | Dialect::Sqlite => {
            let procedure = "CREATE TABLE t (a INT);\nCREATE PROCEDURE p() INSERT INTO t VALUES (1);";
            let text = "CREATE TABLE u (a INT);\n\nCALL p();\nINSERT INTO t VALUES (5);";
            (
                Target::with(dialect, &[procedure, text]),
                "SELECT COUNT(*) FROM t WHERE a = 1",
            )
        }
    }
}

/// Before the statement ran, or after it: the database looks the same to whoever comes next.
fn a_doubt_is_resolved(dialect: Dialect, point: Failpoint, pass: u32, ruling: &str) {
    let (target, count) = doubtful(dialect);
    assert!(killed_at(&target, point, pass), "{}", point.name());
    let ran = target.sql(count);

    let up = target.run(&["up", "--yes"]);
    assert_eq!(up.code, 4, "{up:?}");
    assert!(up.stderr.contains("line 3: statement 2 is in doubt"), "{up:?}");
    assert!(up.stderr.contains("resolve VERSION --as done"), "{up:?}");
    let again = target.run(&["up", "--yes"]);
    assert_eq!(again.code, 4, "{again:?}");
    assert_eq!(target.run(&["status"]).code, 4);

    let other = target.run(&["resolve", "1", "--as", "done"]);
    assert_eq!(other.code, 1, "{other:?}");
    assert!(other.stderr.contains("nothing is in doubt there"), "{other:?}");

    let reason = "looked at t";
    let resolved = target.run(&[
        "resolve", "2", "--as", ruling, "--reason", reason, "--format", "json",
    ]);
    assert_eq!(resolved.code, 0, "{resolved:?}");
    let json = resolved.json();
    super::schemas::check("resolve", &json);
    assert_eq!(json["statement"], 2);
    assert_eq!((&json["line"], &json["text"]), (&3.into(), &"CALL p()".into()));
    assert_eq!(
        (&json["resolved_as"], &json["reason"]),
        (&ruling.into(), &reason.into())
    );
    let recorded =
        "SELECT CONCAT(version, direction, position, resolved_as, reason) FROM lockkeeper_resolution";
    assert_eq!(target.sql(recorded), format!("2up2{ruling}{reason}"));
    assert_eq!(
        target.run(&["resolve", "2", "--as", ruling]).code,
        1,
        "settled twice"
    );

    target.up();
    let expected = if ruling == "done" { ran } else { "1".to_owned() };
    assert_eq!(target.sql(count), expected);
    assert_eq!(target.sql(&count.replace("= 1", "= 5")), "1");
    assert_eq!(target.run(&["status"]).code, 0);
}

#[test]
fn a_statement_in_doubt_is_resolved_on_postgres() {
    // A VACUUM comes before the CALL, which is tried in a transaction first.
    a_doubt_is_resolved(Dialect::Postgres, failpoint::JOURNAL_RAN, 2, "done");
    a_doubt_is_resolved(Dialect::Postgres, failpoint::JOURNAL_STARTED, 2, "not-done");
}

#[test]
fn a_statement_in_doubt_is_resolved_on_mariadb() {
    a_doubt_is_resolved(Dialect::MariaDb, failpoint::JOURNAL_RAN, 4, "done");
    a_doubt_is_resolved(Dialect::MariaDb, failpoint::JOURNAL_STARTED, 4, "not-done");
}

#[test]
fn nothing_is_ever_in_doubt_on_sqlite() {
    let target = Target::with(Dialect::Sqlite, &["CREATE TABLE t (a INT);"]);
    target.up();
    let refused = target.run(&["resolve", "1", "--as", "done"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("nothing is in doubt"), "{refused:?}");
}
