//! What only some layouts have, through the program: repeatable migrations, baselines, placeholders, late files.

use std::fs;

use super::support::{DSN, Folder};

fn flyway(folder: &Folder, args: &[&str]) -> super::support::Done {
    folder.run(&[&["--layout", "flyway", "--placeholder", "table=a"], args].concat())
}

fn ok(folder: &Folder, args: &[&str]) -> String {
    let done = flyway(folder, args);
    assert_eq!(done.code, 0, "{args:?}: {done:?}");
    done.stdout
}

#[test]
fn a_repeatable_migration_runs_again_when_it_changed() {
    let folder = Folder::empty();
    folder.file("migrations/V1__a.sql", "CREATE TABLE ${table} (x)");
    folder.file("migrations/V1_1__b.sql", "CREATE TABLE b (x)");
    folder.file("migrations/U1.1__b.sql", "DROP TABLE b");
    let view = |value: &str| {
        let text = format!("DROP VIEW IF EXISTS v; CREATE VIEW v AS SELECT {value} AS value");
        folder.file("migrations/R__view.sql", &text);
    };
    let value = || folder.value("SELECT value FROM v");
    view("1");
    ok(&folder, &["up", "--yes", DSN]);
    assert_eq!(value(), 1);
    view("2");
    let pending = flyway(&folder, &["status", DSN]);
    assert!(
        pending.code == 3 && pending.stdout.contains("R__view  view  Pending"),
        "{pending:?}"
    );
    assert!(ok(&folder, &["up", "--yes", DSN]).ends_with("1 applied, schema version 1.1\n"));
    // Back to a text that ran before: it runs again all the same.
    view("1");
    ok(&folder, &["up", "--yes", DSN]);
    assert_eq!(value(), 1);
    assert!(ok(&folder, &["up", "--yes", DSN]).ends_with("nothing to do, schema version 1.1\n"));
    assert!(ok(&folder, &["down", "--yes", DSN]).ends_with("1 taken back, schema version 1\n"));
    assert_eq!(folder.value("SELECT count(*) FROM lockkeeper_ledger"), 2);
}

#[test]
fn a_baseline_runs_instead_of_what_lies_below_it() {
    let folder = Folder::empty();
    for (name, text) in [
        ("V1__a.sql", "CREATE TABLE a (x)"),
        ("V2__b.sql", "ALTER TABLE a ADD y"),
        ("B2__all.sql", "CREATE TABLE a (x, y)"),
        ("V3__c.sql", "CREATE TABLE c (x)"),
    ] {
        folder.file(&format!("migrations/{name}"), text);
    }
    ok(&folder, &["up", "--yes", DSN]);
    assert_eq!(
        folder.value("SELECT count(*) FROM lockkeeper_ledger WHERE version IN ('2', '3')"),
        2
    );
    let status = ok(&folder, &["status", DSN]);
    assert!(
        status
            .contains("1        a     Below baseline\n2        b     Below baseline\n2        all   Applied"),
        "{status}"
    );
}

#[test]
fn a_missing_placeholder_stops_before_anything_runs() {
    let folder = Folder::empty();
    folder.file("migrations/V1__a.sql", "CREATE TABLE x (x)");
    folder.file("migrations/V2__b.sql", "-- b\nCREATE TABLE ${gone} (x)");
    let done = flyway(&folder, &["up", "--yes", DSN]);
    assert_eq!(done.code, 1);
    assert!(
        done.stderr
            .contains("read ./migrations/V2__b.sql:2: placeholder ${gone} has no value"),
        "{done:?}"
    );
    assert!(!folder.has("app.db"));
    let done = folder.run(&["--layout", "flyway", "--placeholder", "gone", "up", "--yes", DSN]);
    assert!(done.code == 2 && done.stderr.contains("it has no ="), "{done:?}");
}

#[test]
fn what_comes_late_is_applied_when_allowed() {
    let folder = Folder::empty();
    folder.migration("1_a", "CREATE TABLE a (x)", "DROP TABLE a");
    folder.migration("3_c", "CREATE TABLE c (x)", "DROP TABLE c");
    folder.ok(&["up", "--yes", DSN]);
    folder.migration("2_b", "CREATE TABLE b (x)", "DROP TABLE b");
    assert_eq!(folder.run(&["up", "--yes", DSN]).code, 4);
    let done = folder.ok(&["up", "--yes", "--allow-out-of-order", DSN]);
    assert!(done.stdout.ends_with("1 applied, schema version 3\n"), "{done:?}");
    assert_eq!(folder.run(&["status", DSN]).code, 0);
    // refinery's U needs no leave.
    let folder = Folder::empty();
    folder.file("migrations/V2__a.sql", "CREATE TABLE a (x)");
    folder.ok(&["up", "--yes", "--layout", "refinery", DSN]);
    folder.file("migrations/U1__b.sql", "CREATE TABLE b (x)");
    folder.ok(&["up", "--yes", "--layout", "refinery", DSN]);
}

#[test]
fn programs_are_left_out_when_told_so() {
    let folder = Folder::empty();
    folder.file("migrations/1_a.sql", "-- +goose Up\nCREATE TABLE a (x);\n");
    folder.file("migrations/2_b.go", "package migrations");
    let done = folder.run(&["up", "--yes", "--layout", "goose", DSN]);
    assert!(
        done.code == 1 && done.stderr.contains("leave it out with --skip-programs"),
        "{done:?}"
    );
    assert!(fs::metadata(folder.path().join("app.db")).is_err());
    folder.ok(&["up", "--yes", "--layout", "goose", "--skip-programs", DSN]);
}

/// A password that a migration gets from outside, by each way that there is.
const SECRET: &str = "hunter2";

#[test]
fn a_value_that_is_put_in_is_run_and_never_shown() {
    let goose = Folder::empty();
    goose.file(
        "migrations/1_a.sql",
        "-- +goose Up\n-- +goose ENVSUB ON\nCREATE TABLE a AS SELECT '${LOCKKEEPER_TEST_SECRET:-hunter2}' AS x;\n",
    );
    let flyway = Folder::empty();
    flyway.file(
        "migrations/V1__a.sql",
        "CREATE TABLE a AS SELECT '${password}' AS x; SELECT * FROM a WHERE x <> '${password}';",
    );
    flyway.file("migrations/R__b.sql", "UPDATE a SET x = '${password}'");
    let placeholder = format!("password={SECRET}");
    for (folder, layout, named) in [
        (&goose, "goose", "${LOCKKEEPER_TEST_SECRET:-"),
        (&flyway, "flyway", "${password}"),
    ] {
        let run = |args: &[&str]| {
            folder.run(&[&["--layout", layout, "--placeholder", &placeholder], args].concat())
        };
        let plan = run(&["plan", DSN]);
        assert!(plan.stdout.contains(named), "{plan:?}");
        let shown: String = [
            &["plan", "--format", "json", DSN][..],
            &["up", "--yes", DSN],
            &["status", "--format", "json", DSN],
        ]
        .map(run)
        .iter()
        .map(|done| format!("{}{}", done.stdout, done.stderr))
        .chain([plan.stdout])
        .collect::<String>()
        .replace(":-hunter2}", "");
        assert!(!shown.contains(SECRET), "{layout}: {shown}");
        let kept = format!("SELECT count(*) FROM a WHERE x = '{SECRET}'");
        assert_eq!(folder.value(&kept), 1, "{layout}");
    }
}
