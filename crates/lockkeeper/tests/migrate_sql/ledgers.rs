//! Ledgers on the command line: taking one over, moving it, the baseline, and edits that were meant.

use std::fs;

use serde_json::json;

use super::support::{DSN, Folder};

/// Kratos' way of naming things, with the row that it wrote when versions had 14 digits.
fn kratos() -> Folder {
    let folder = Folder::empty();
    for (version, table) in [
        ("20200101000000000000", "a"),
        ("20200101000000000001", "b"),
        ("20210101000000000000", "c"),
    ] {
        let (up, down) = (
            format!("CREATE TABLE {table} (x INT);"),
            format!("DROP TABLE {table};"),
        );
        folder.migration(&format!("{version}_{table}"), &up, &down);
    }
    folder.journal_mode("delete");
    folder.execute_all(&[
        "CREATE TABLE schema_migration (version varchar(48) NOT NULL, version_self INT NOT NULL DEFAULT 0)",
        "INSERT INTO schema_migration (version) VALUES ('20200101000000')",
        "CREATE TABLE a (x INT)",
        "CREATE TABLE b (x INT)",
    ]);
    folder
}

#[test]
fn pops_history_is_taken_over_after_a_look() {
    let folder = kratos();
    let pop = ["--layout", "pop"];
    let refused = folder.run(&["up", "--yes", DSN, pop[0], pop[1]]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.stderr.contains("adopt --from"), "{refused:?}");

    let shown = folder.ok(&[
        "adopt",
        "--from",
        "pop",
        "--dry-run",
        DSN,
        pop[0],
        pop[1],
        "--format",
        "json",
    ]);
    let shown = shown.json();
    assert_eq!(
        shown["versions"],
        json!(["20200101000000000000", "20200101000000000001"])
    );
    assert_eq!((&shown["pending"], &shown["dry_run"]), (&json!(1), &json!(true)));
    assert_eq!(
        folder.run(&["status", DSN, pop[0], pop[1]]).code,
        4,
        "a dry run records nothing"
    );

    // Without a yes, and with nobody to ask.
    assert_eq!(
        folder.run(&["adopt", "--from", "pop", DSN, pop[0], pop[1]]).code,
        2
    );
    let adopted = folder.ok(&["adopt", "--from", "pop", "--yes", DSN, pop[0], pop[1]]);
    assert!(
        adopted
            .stdout
            .ends_with("2 versions recorded in own (lockkeeper_ledger), 1 pending\n"),
        "{adopted:?}"
    );
    let status = folder.run(&["status", DSN, pop[0], pop[1]]);
    assert_eq!(status.code, 3);
    assert!(
        status
            .stdout
            .contains("20200101000000000001  b     Applied (adopted)\n"),
        "{status:?}"
    );
    folder.ok(&["up", "--yes", DSN, pop[0], pop[1]]);
    assert_eq!(folder.value("SELECT count(*) FROM c"), 0);
}

#[test]
fn a_later_switch_writes_the_tools_table() {
    let folder = Folder::new();
    folder.ok(&["up", "--yes", DSN]);
    let moved = folder.ok(&["up", "--yes", "--ledger", "golang-migrate", DSN]);
    assert!(
        moved.stdout.contains("nothing to do") || moved.stdout.contains("schema version 3"),
        "{moved:?}"
    );
    assert_eq!(
        folder.value("SELECT version FROM schema_migrations WHERE NOT dirty"),
        3
    );
    // From now on it is there, and nowhere else.
    let refused = folder.run(&["down", "--yes", DSN]);
    assert_eq!(refused.code, 4);
    assert!(refused.stderr.contains("--ledger golang-migrate"), "{refused:?}");
    folder.ok(&["down", "--yes", "--ledger", "golang-migrate", DSN]);
    assert_eq!(folder.value("SELECT version FROM schema_migrations"), 2);
    folder.ok(&["adopt", "--from", "golang-migrate", "--yes", DSN]);
    let status = folder.run(&["status", "--format", "json", DSN]);
    assert_eq!((status.code, &status.json()["ledger"]), (3, &json!("own")));
}

#[test]
fn dirty_is_refused_with_what_to_do() {
    let folder = Folder::new();
    folder.journal_mode("delete");
    folder.execute_all(&[
        "CREATE TABLE schema_migrations (version uint64,dirty bool)",
        "INSERT INTO schema_migrations VALUES (2, 1)",
    ]);
    let refused = folder.run(&["adopt", "--from", "golang-migrate", "--yes", DSN]);
    assert_eq!(refused.code, 4);
    assert!(
        refused
            .stderr
            .contains("version 2: golang-migrate marked it as failed half-way"),
        "{refused:?}"
    );
    assert!(refused.stderr.contains("migrate force VERSION"), "{refused:?}");
}

#[test]
fn a_baseline_runs_nothing() {
    let folder = Folder::new();
    folder.journal_mode("delete");
    let done = folder.ok(&["baseline", "2", "--yes", DSN]);
    assert!(
        done.stdout
            .ends_with("2 versions recorded in own (lockkeeper_ledger), 1 pending\n"),
        "{done:?}"
    );
    assert_eq!(
        folder.value("SELECT count(*) FROM sqlite_schema WHERE name = 'users'"),
        0
    );
    let status = folder.run(&["status", DSN]).stdout;
    assert!(
        status.contains("2        names  Applied (baseline)\n"),
        "{status}"
    );
    assert_eq!(folder.run(&["baseline", "1", "--yes", DSN]).code, 4);
    assert_eq!(folder.run(&["baseline", "9", "--yes", DSN]).code, 2);
}

#[test]
fn an_edit_that_was_meant_is_accepted_with_a_reason() {
    let folder = Folder::new();
    folder.ok(&["up", "--yes", DSN]);
    folder.file(
        "migrations/2_names.up.sql",
        "INSERT INTO users (name) VALUES ('c');",
    );
    assert_eq!(folder.run(&["status", DSN]).code, 4);
    assert_eq!(
        folder.run(&["accept-edit", "1", "--yes", DSN]).code,
        2,
        "version 1 is as it was"
    );
    folder.ok(&["accept-edit", "2", "--reason", "wrong name", "--yes", DSN]);
    let status = folder.ok(&["status", DSN]);
    assert!(
        status.stdout.contains("the edit of version 2 was accepted by "),
        "{status:?}"
    );
    assert!(status.stdout.ends_with(": wrong name\n"), "{status:?}");
}

#[test]
fn the_allow_list_accepts_one_text_and_no_other() {
    let folder = Folder::new();
    folder.ok(&["up", "--yes", DSN]);
    folder.file(
        "migrations/2_names.up.sql",
        "INSERT INTO users (name) VALUES ('c');",
    );
    let refused = folder.run(&["status", DSN]).stderr;
    let now = refused
        .split("now ")
        .nth(1)
        .unwrap()
        .split(')')
        .next()
        .unwrap()
        .to_owned();
    folder.file(
        "migrations/lockkeeper-edits.txt",
        &format!("2 {now} shipped with a wrong name\n"),
    );
    folder.ok(&["status", DSN]);
    // The next run records it.
    folder.migration("4_more", "CREATE TABLE more (x INT);", "DROP TABLE more;");
    folder.ok(&["up", "--yes", DSN]);
    let status = folder.ok(&["status", "--format", "json", DSN]).json();
    assert_eq!(status["edits"][0]["reason"], "shipped with a wrong name");
    folder.file(
        "migrations/2_names.up.sql",
        "INSERT INTO users (name) VALUES ('d');",
    );
    assert_eq!(folder.run(&["status", DSN]).code, 4);
}

#[test]
fn a_copied_database_is_named_before_anything_happens() {
    let folder = Folder::new();
    folder.ok(&["up", "--yes", DSN]);
    fs::copy(folder.path().join("app.db"), folder.path().join("copy.db")).unwrap();
    // With nothing to do it is only said.
    let said = folder.ok(&["up", "--yes", "sqlite://copy.db"]);
    assert!(
        said.stderr
            .contains("note: this database was restored, copied or renamed"),
        "{said:?}"
    );
    folder.migration("4_more", "CREATE TABLE more (x INT);", "DROP TABLE more;");
    let refused = folder.run(&["up", "--yes", "sqlite://copy.db"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.stderr.contains("--accept-identity"), "{refused:?}");
    folder.ok(&["up", "--yes", "--accept-identity", "sqlite://copy.db"]);
    folder.ok(&["down", "--yes", "sqlite://copy.db"]);
}
