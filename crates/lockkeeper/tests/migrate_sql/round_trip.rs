//! Up, status, down and up again, in every format and from every source of a DSN.

use std::process::Stdio;

use serde_json::json;

use super::support::{DSN, Folder};

#[test]
fn up_status_down_up() {
    let folder = Folder::new();
    let status = |code: i32| {
        let done = folder.run(&["status", DSN]);
        assert_eq!(done.code, code, "{done:?}");
        done.stdout
    };
    folder.file("app.db", "");
    assert_eq!(
        status(3),
        "Version  Name   Status\n1        users  Pending\n2        names  Pending\n3        index  Pending\n"
    );
    let up = folder.ok(&["up", "--yes", DSN]);
    assert!(
        up.stdout
            .contains("-- up 2 names (./migrations/2_names.up.sql), in one transaction\n"),
        "{}",
        up.stdout
    );
    assert!(
        up.stdout.contains("INSERT INTO users (name) VALUES ('a;b');\n"),
        "{}",
        up.stdout
    );
    assert!(
        up.stdout.ends_with("3 applied, schema version 3\n"),
        "{}",
        up.stdout
    );
    assert!(up.stderr.contains("up 1 users: "), "{}", up.stderr);
    assert_eq!(folder.value("SELECT count(*) FROM users"), 1);
    assert!(status(0).ends_with("3        index  Applied\n"));
    assert_eq!(
        folder.ok(&["up", "--yes", DSN]).stdout,
        "nothing to do, schema version 3\n"
    );

    let down = folder.ok(&["down", "--yes", DSN]);
    assert!(
        down.stdout.ends_with("1 taken back, schema version 2\n"),
        "{}",
        down.stdout
    );
    assert!(status(3).ends_with("3        index  Pending\n"));
    let down = folder.ok(&["down", "--yes", "--steps", "9", DSN]);
    assert!(
        down.stdout.ends_with("2 taken back, schema version none\n"),
        "{}",
        down.stdout
    );
    assert_eq!(
        folder.ok(&["down", "--yes", DSN]).stdout,
        "nothing to do, schema version none\n"
    );
    folder.ok(&["up", "--yes", DSN]);
    status(0);
}

#[test]
fn up_makes_the_file_and_nothing_else_does() {
    let folder = Folder::new();
    for verb in ["status", "down"] {
        let done = folder.run(&[verb, "--yes", DSN]);
        assert_eq!(done.code, 1, "{done:?}");
        assert!(
            done.stderr
                .contains("connect to sqlite://app.db: there is no such file"),
            "{done:?}"
        );
        assert!(!folder.has("app.db"));
    }
    folder.ok(&["up", "-y", DSN]);
    assert!(folder.has("app.db"));
}

#[test]
fn the_older_form_without_a_verb_and_every_source_of_a_dsn() {
    let folder = Folder::new();
    let done = folder.command(&["-e", "--yes"]).env("DSN", DSN).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let done = folder
        .command(&["status", "-e"])
        .env("DSN", DSN)
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    folder.file("app.yml", "serve:\n  port: 1\ndsn: sqlite://app.db\n");
    folder.ok(&["-c", "app.yml", "status"]);
    folder.ok(&[DSN, "status"]);
    folder.ok(&["--yes", DSN]);
}

#[test]
fn json_holds_the_whole_result_and_stands_alone() {
    let folder = Folder::new();
    let up = folder.ok(&["up", "--yes", "--format", "json", DSN]);
    let mut result = up.json();
    for step in result["steps"].as_array_mut().unwrap() {
        assert!(step["duration_ms"].take().is_u64());
    }
    let step = |version: &str, name: &str| json!({"version": version, "name": name, "direction": "up", "outcome": "ran", "duration_ms": null, "notices": []});
    assert_eq!(
        result,
        json!({
            "target": "sqlite://app.db", "direction": "up", "from": null, "to": "3", "ran": 3, "already": 0,
            "notices": 0, "declined": false, "error": null,
            "steps": [step("1", "users"), step("2", "names"), step("3", "index")],
        })
    );
    folder.migration("4_more", "SELECT 1", "SELECT 1");
    let status = folder.run(&["status", "--format", "json-pretty", DSN]);
    assert_eq!(status.code, 3);
    let mut result = status.json();
    assert!(result["server"].take().as_str().unwrap().starts_with("SQLite 3."));
    let row = |version: &str, name: &str, status: &str, recorded: Option<&str>| json!({"version": version, "name": name, "status": status, "recorded": recorded});
    assert_eq!(
        result,
        json!({
            "target": "sqlite://app.db", "dialect": "sqlite", "server": null, "layout": "golang-migrate",
            "ledger": "own", "version": "3", "applied": 3, "pending": 1, "problem": null, "edits": [],
            "migrations": [
                row("1", "users", "Applied", Some("ran")), row("2", "names", "Applied", Some("ran")), row("3", "index", "Applied", Some("ran")),
                row("4", "more", "Pending", None),
            ],
        })
    );
    let yaml = folder.run(&["status", "--format", "yaml", DSN]);
    assert!(yaml.stdout.contains("pending: 1\n"), "{}", yaml.stdout);
}

#[test]
fn a_failed_step_leaves_the_ones_before_it_and_says_so_in_json_too() {
    let folder = Folder::new();
    folder.migration(
        "2_names",
        "INSERT INTO users (name) VALUES ('x');\nINSERT INTO nowhere VALUES (1);",
        "",
    );
    let up = folder.run(&["up", "--yes", "--format", "json", DSN]);
    assert_eq!(up.code, 1);
    assert!(
        up.stderr.contains(
            "error: run version 2 up (./migrations/2_names.up.sql): line 2: no such table: nowhere"
        ),
        "{up:?}"
    );
    let result = up.json();
    assert_eq!((&result["to"], &result["ran"]), (&json!("1"), &json!(1)));
    assert!(
        result["error"].as_str().unwrap().contains("no such table"),
        "{result}"
    );
    assert_eq!(folder.value("SELECT count(*) FROM users"), 0);
    assert_eq!(folder.run(&["status", DSN]).code, 3);
}

/// pop's layout: versions of 20 digits, dialect variants, and a file that runs without a transaction.
#[test]
fn a_kratos_directory_runs_unchanged() {
    let folder = Folder::empty();
    let file = |name: &str, text: &str| folder.file(&format!("migrations/{name}"), text);
    file(
        "20191100000001000000_networks.up.sql",
        "CREATE TABLE networks (id TEXT PRIMARY KEY)",
    );
    file(
        "20191100000001000000_networks.postgres.up.sql",
        "CREATE TABLE networks (id UUID PRIMARY KEY)",
    );
    file("20191100000001000000_networks.down.sql", "DROP TABLE networks");
    file(
        "20191100000002000000_vacuum.sqlite3.autocommit.up.sql",
        "VACUUM;\nCREATE TABLE later (a);",
    );
    file(
        "20191100000002000000_vacuum.sqlite3.autocommit.down.sql",
        "DROP TABLE later",
    );
    let up = folder.ok(&["up", "--yes", "--layout", "auto", DSN]);
    assert!(
        up.stdout.contains("statement by statement, since "),
        "{}",
        up.stdout
    );
    assert!(
        up.stdout
            .ends_with("2 applied, schema version 20191100000002000000\n"),
        "{}",
        up.stdout
    );
    folder.ok(&["down", "--yes", "--steps", "2", "--layout", "pop", DSN]);
    assert_eq!(
        folder.value("SELECT count(*) FROM sqlite_master WHERE name IN ('networks', 'later')"),
        0
    );
}

#[test]
fn status_waits_until_another_runner_is_done() {
    let folder = Folder::new();
    let mut waiting = folder.command(&["status", "--block", "--timeout", "60s", DSN]);
    let waiting = waiting
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    folder.ok(&["up", "--yes", DSN]);
    let output = waiting.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .ends_with("3        index  Applied\n")
    );
}

#[test]
fn status_gives_up_waiting_with_its_own_exit_code() {
    let folder = Folder::new();
    folder.file("app.db", "");
    let done = folder.run(&["status", "--block", "--timeout", "1500ms", DSN]);
    assert_eq!(done.code, 6, "{done:?}");
    assert!(
        done.stderr
            .contains("timed out while waiting for 3 pending migrations"),
        "{done:?}"
    );
}
