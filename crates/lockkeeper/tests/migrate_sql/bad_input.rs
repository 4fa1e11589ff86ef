//! What cannot be done is said in one line, with an exit code, and changes nothing.

use std::fs;

use super::support::{DSN, Folder};

/// Runs `up --yes` and friends that must fail, and checks that the database is untouched.
fn refused(folder: &Folder, args: &[&str], code: i32, error: &str) {
    let before = fs::read(folder.path().join("app.db")).ok();
    let done = folder.run(args);
    assert_eq!(done.code, code, "{args:?}: {done:?}");
    assert!(
        done.stderr.contains(error),
        "{args:?}: expected {error:?} in {done:?}"
    );
    assert!(done.stderr.starts_with("error: "), "{done:?}");
    assert_eq!(
        fs::read(folder.path().join("app.db")).ok(),
        before,
        "{args:?} changed the database"
    );
}

fn migrated() -> Folder {
    let folder = Folder::new();
    folder.ok(&["up", "--yes", DSN]);
    folder
}

#[test]
fn a_dsn_that_cannot_be_used() {
    let folder = Folder::new();
    for (dsn, code, error) in [
        ("oracle://u:geheim@h/db", 2, "DSN scheme \"oracle\" is unknown"),
        ("statuss", 2, "DSN has no scheme"),
        ("sqlite://:memory:", 2, "names a database in memory"),
        (
            "sqlite://no/such/folder/app.db",
            1,
            "there is no directory no/such/folder",
        ),
        (
            "sqlite://migrations",
            1,
            "connect to sqlite://migrations: it is not a file",
        ),
        (
            "postgres://u:geheim@127.0.0.1:1/db?sslmode=disable",
            1,
            "connect to postgres://127.0.0.1:1/db",
        ),
    ] {
        refused(&folder, &["up", "--yes", dsn], code, error);
        assert!(!folder.run(&["up", "--yes", dsn]).stderr.contains("geheim"));
    }
    folder.file(
        "app.db",
        "this is a text and no database, long enough to be read as a page header .....",
    );
    refused(&folder, &["up", "--yes", DSN], 1, "file is not a database");
}

#[test]
fn no_dsn_or_too_many() {
    let folder = Folder::new();
    folder.file("empty.yml", "other: 1\n");
    folder.file("broken.yml", "dsn: postgres://u:geheim@h/db\n  port: [\n");
    refused(&folder, &["up", "--yes"], 2, "no database was named");
    refused(
        &folder,
        &["up", "--yes", "-e"],
        2,
        "the environment variable DSN is not set",
    );
    refused(&folder, &["up", "--yes", "-e", DSN], 2, "named more than once");
    refused(
        &folder,
        &["up", "--yes", "-c", "nowhere.yml"],
        2,
        "read nowhere.yml: No such file",
    );
    refused(
        &folder,
        &["up", "--yes", "-c", "empty.yml"],
        2,
        "read empty.yml: it has no key `dsn`",
    );
    refused(
        &folder,
        &["up", "--yes", "-c", "broken.yml"],
        2,
        "read broken.yml: ",
    );
    let done = folder.run(&["up", "--yes", "-c", "broken.yml"]);
    assert!(
        done.stderr.contains("line 2") && !done.stderr.contains("geheim"),
        "{done:?}"
    );
}

#[test]
fn directories_that_cannot_be_used() {
    let folder = Folder::new();
    refused(
        &folder,
        &["up", "--yes", "--dir", "nowhere", DSN],
        2,
        "read migrations from nowhere",
    );
    refused(
        &folder,
        &["up", "--yes", "--layout", "rails", DSN],
        2,
        "use layout \"rails\"",
    );
    folder.file("migrations/V1__other.sql", "SELECT 1");
    refused(
        &folder,
        &["up", "--yes", "--layout", "golang-migrate", DSN],
        1,
        "a directory holds one layout",
    );
    folder.remove("migrations/V1__other.sql");
    folder.file("migrations/001_twice.up.sql", "SELECT 1");
    refused(
        &folder,
        &["up", "--yes", "--layout", "golang-migrate", DSN],
        1,
        "version 1 (up) is there twice",
    );
    folder.remove("migrations/001_twice.up.sql");
    folder.remove("migrations/2_names.down.sql");
    refused(
        &folder,
        &["up", "--yes", "--layout", "pop", DSN],
        1,
        "version 2 has no down migration, which pop requires",
    );
    folder.file("migrations/2_names.up.sql", "SELECT 'never ended");
    refused(
        &folder,
        &["up", "--yes", "--layout", "golang-migrate", DSN],
        1,
        "read ./migrations/2_names.up.sql:1: ",
    );
    assert!(!folder.has("app.db"));
}

#[test]
fn a_way_back_that_cannot_be_split_stops_down_alone() {
    let folder = Folder::new();
    folder.file("migrations/2_names.down.sql", "SELECT 'never ended");
    let run = |args: &[&str]| folder.run(&[&["--layout", "golang-migrate"], args].concat());
    let up = run(&["up", "--yes", DSN]);
    assert_eq!(up.code, 0, "{up:?}");
    let valid = run(&["validate", DSN]);
    assert!(
        valid.code == 0 && valid.stdout.contains("warning: version 2 cannot be taken back"),
        "{valid:?}"
    );
    let applied = "SELECT count(*) FROM lockkeeper_ledger";
    refused(
        &folder,
        &["down", "--yes", "--steps", "2", "--layout", "golang-migrate", DSN],
        1,
        "its down migration cannot be used: ./migrations/2_names.down.sql:1: ",
    );
    assert_eq!(folder.value(applied), 3);
}

#[test]
fn a_layout_that_auto_cannot_tell_is_asked_for() {
    let folder = Folder::empty();
    folder.file("migrations/1_a.up.sql", "SELECT 1");
    refused(
        &folder,
        &["up", "--yes", "--layout", "auto", DSN],
        2,
        "say which it is with --layout",
    );
}

#[test]
fn an_edited_applied_file() {
    let folder = migrated();
    folder.file(
        "migrations/2_names.up.sql",
        "INSERT INTO users (name) VALUES ('other');",
    );
    folder.migration("4_more", "CREATE TABLE more (a)", "DROP TABLE more");
    refused(
        &folder,
        &["up", "--yes", DSN],
        4,
        "plan over version 2: ./migrations/2_names.up.sql was edited after it was applied",
    );
    refused(&folder, &["down", "--yes", DSN], 4, "was edited");
    let done = folder.run(&["status", DSN]);
    assert_eq!(done.code, 4);
    assert!(done.stdout.contains("2        names  Edited\n"), "{done:?}");
    // A checkout with other line ends is no edit.
    folder.file(
        "migrations/2_names.up.sql",
        "INSERT INTO users (name) VALUES ('a;b');",
    );
    folder.file(
        "migrations/1_users.up.sql",
        "\u{feff}CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);",
    );
    assert_eq!(folder.run(&["status", DSN]).code, 3);
}

#[test]
fn a_database_that_is_ahead_of_the_directory() {
    let folder = migrated();
    folder.remove("migrations/3_index.up.sql");
    folder.remove("migrations/3_index.down.sql");
    refused(
        &folder,
        &["up", "--yes", DSN],
        4,
        "it is ahead of the directory, which lacks version 3",
    );
    let done = folder.run(&["status", DSN]);
    assert_eq!(done.code, 4);
    assert!(done.stdout.ends_with("3        index  Missing\n"), "{done:?}");
}

#[test]
fn a_migration_below_an_applied_one() {
    let folder = Folder::empty();
    folder.migration("1_a", "CREATE TABLE a (x)", "DROP TABLE a");
    folder.migration("3_c", "CREATE TABLE c (x)", "DROP TABLE c");
    folder.ok(&["up", "--yes", DSN]);
    folder.migration("2_b", "CREATE TABLE b (x)", "DROP TABLE b");
    refused(
        &folder,
        &["up", "--yes", DSN],
        4,
        "plan pending version 2: below version 3, which is applied already",
    );
}

#[test]
fn a_syntax_error_rolls_its_migration_back() {
    let folder = migrated();
    folder.migration(
        "4_wrong",
        "CREATE TABLE more (a);\n\nCRATE TABLE wrong (a);",
        "DROP TABLE more",
    );
    let done = folder.run(&["up", "--yes", DSN]);
    assert_eq!(done.code, 1, "{done:?}");
    let error = "error: run version 4 up (./migrations/4_wrong.up.sql): line 3: near \"CRATE\": syntax error";
    assert!(done.stderr.contains(error), "{done:?}");
    assert_eq!(
        folder.value("SELECT count(*) FROM sqlite_master WHERE name = 'more'"),
        0
    );
    assert_eq!(folder.value("SELECT count(*) FROM lockkeeper_ledger"), 3);
}

#[test]
fn down_by_nothing_or_over_a_missing_down() {
    let folder = migrated();
    refused(
        &folder,
        &["down", "--yes", "--steps", "0", DSN],
        2,
        "plan down by 0 steps",
    );
    folder.remove("migrations/3_index.down.sql");
    refused(&folder, &["down", "--yes", DSN], 1, "has no down migration");
}

/// The gate of a rollout is not a standalone runner's to pass.
#[test]
fn a_gate_that_a_rollout_has_closed() {
    let folder = migrated();
    folder.migration("4_more", "CREATE TABLE more (a)", "DROP TABLE more");
    folder.execute("UPDATE lockkeeper_gate SET gate_epoch = 8, opened = 7, rollout = 'r42'");
    refused(
        &folder,
        &["up", "--yes", DSN],
        4,
        "the gate is closed by rollout r42 (g8)",
    );
}
