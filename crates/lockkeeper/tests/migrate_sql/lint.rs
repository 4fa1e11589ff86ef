//! `lint` from the command line: what is looked at, and how it ends.

use lockkeeper_migrate::source::Checksum;
use serde_json::json;

use super::support::{DSN, Folder};

#[test]
fn errors_end_with_1_and_warnings_only_when_denied() {
    let folder = Folder::empty();
    folder.migration("1_t", "CREATE TABLE t (a INT, b INT);", "DROP TABLE t;");
    folder.ok(&["lint", "--dialect", "sqlite", "--deny-warnings"]);
    folder.migration(
        "2_drop",
        "SELECT 1;\nALTER TABLE t DROP COLUMN b;",
        "ALTER TABLE t ADD COLUMN b INT;",
    );
    let warned = folder.ok(&["lint", "--dialect", "sqlite"]);
    let line = "./migrations/2_drop.up.sql:2: warning: contract-step: drops column t.b: ";
    assert!(warned.stdout.contains(line), "{warned:?}");
    assert!(
        warned
            .stdout
            .ends_with("2 migrations: 0 errors, 1 warnings, 1 notes, 0 silenced\n"),
        "{warned:?}"
    );
    assert_eq!(
        folder
            .run(&["lint", "--dialect", "sqlite", "--deny-warnings"])
            .code,
        1
    );
    let needed = folder.run(&[
        "lint",
        "--dialect",
        "sqlite",
        "--min-version",
        "1",
        "--format",
        "json",
    ]);
    assert_eq!(needed.code, 1, "{needed:?}");
    assert_eq!(needed.json()["errors"], json!(1));
    folder.ok(&["lint", "--dialect", "sqlite", "--min-version", "2"]);
}

#[test]
fn with_a_database_only_what_is_pending_is_looked_at() {
    let folder = Folder::new();
    folder.ok(&["up-to", "2", "--yes", DSN]);
    let count = |args: &[&str]| folder.ok(args).json()["migrations"].take();
    assert_eq!(count(&["lint", "--format", "json", DSN]), json!(1));
    assert_eq!(count(&["lint", "--all", "--format", "json", DSN]), json!(3));
    assert_eq!(folder.run(&["lint", "--dialect", "mysql", DSN]).code, 2);
    assert_eq!(folder.run(&["lint"]).code, 2);
}

#[test]
fn a_rehearsals_report_is_held_against_the_budget() {
    let folder = Folder::new();
    let trial = |version: &str, up: &str, ms: u64| {
        let checksum = Checksum::of(up).0;
        json!({"version": version, "checksum": checksum, "up": {"duration_ms": ms}, "down": {"duration_ms": 90_000}})
    };
    let report = json!({"migrations": [
        trial("2", "INSERT INTO users (name) VALUES ('a;b');", 900),
        trial("3", "CREATE INDEX names ON users (name);", 1),
    ]});
    folder.file("report.json", &report.to_string());
    let over = |budget: &str| {
        let args = [
            "lint",
            "--dialect",
            "sqlite",
            "--budget",
            budget,
            "--rehearsal",
            "report.json",
        ];
        folder.run(&args)
    };
    assert_eq!(over("1s").code, 0, "{:?}", over("1s"));
    let done = over("500ms");
    assert_eq!(done.code, 1, "{done:?}");
    assert!(
        done.stdout
            .contains("error: over-budget: took 900 ms in the rehearsal"),
        "{done:?}"
    );
    folder.migration("2_names", "INSERT INTO users (name) VALUES ('other');", "");
    let edited = over("500ms");
    assert_eq!(edited.code, 0, "{edited:?}");
    assert!(edited.stdout.contains("note: not-rehearsed: "), "{edited:?}");
    let alone = folder.run(&["lint", "--dialect", "sqlite", "--budget", "1s"]);
    assert_eq!(alone.code, 2, "{alone:?}");
    folder.file("report.json", "{}");
    assert_eq!(over("1s").code, 2);
}

#[test]
fn on_postgres_squawks_rules_are_told_with_line_and_help() {
    let folder = Folder::empty();
    folder.migration("1_i", "SELECT 1;\n\nCREATE INDEX i ON t (a);", "DROP INDEX i;");
    let done = folder.ok(&["lint", "--dialect", "postgres"]);
    let line = "./migrations/1_i.up.sql:3: warning: require-concurrent-index-creation: ";
    assert!(done.stdout.contains(line), "{done:?}");
}
