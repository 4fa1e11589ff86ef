//! `plan`, `up-to`, `down --to`, `redo`, `wait`, `validate` and `--dry-run`.

use std::process::Stdio;

use serde_json::json;

use super::support::{DSN, Done, Folder};

fn users(folder: &Folder) -> i64 {
    folder.value("SELECT count(*) FROM users")
}

#[test]
fn plan_says_what_up_would_do_and_changes_nothing() {
    let folder = Folder::new();
    folder.migration("4_vacuum", "VACUUM;\nSELECT 1;", "SELECT 1");
    let plan = folder.run(&["plan", "--format", "json", DSN]);
    assert_eq!(plan.code, 3, "{plan:?}");
    assert!(!folder.has("app.db"), "looking does not make the file");
    let plan = plan.json();
    assert_eq!((&plan["from"], &plan["to"]), (&json!(null), &json!("4")));
    assert_eq!(
        plan["steps"][1],
        json!({
            "version": "2", "name": "names", "direction": "up", "path": "./migrations/2_names.up.sql",
            "transaction": {"mode": "transactional"},
            "obstacles": [{"line": 1, "why": "INSERT INTO changes rows that others may be changing"}],
            "statements": [{"line": 1, "text": "INSERT INTO users (name) VALUES ('a;b')"}],
        })
    );
    assert_eq!(
        plan["steps"][0]["obstacles"],
        json!([]),
        "a new table is nobody's"
    );
    assert_eq!(
        plan["steps"][3]["transaction"],
        json!({"mode": "non-transactional", "why": "line 1: VACUUM cannot run in a transaction"})
    );
    let up_to = folder.run(&["plan", "--to", "1", "--format", "json", DSN]).json();
    assert_eq!(up_to["steps"].as_array().unwrap().len(), 1);

    folder.ok(&["up", "--yes", DSN]);
    let done = folder.ok(&["plan", DSN]);
    assert!(done.stdout.contains("4        vacuum  Applied"), "{done:?}");
}

#[test]
fn a_dry_run_prints_the_plan_and_changes_nothing() {
    let folder = Folder::new();
    for (args, direction) in [
        (&["up", "--dry-run", "--format", "json", DSN][..], "up"),
        (&["down", "--dry-run", "--format", "json", DSN], "down"),
        (&["redo", "--dry-run", "--format", "json", DSN], "down"),
    ] {
        let plan = folder.ok(args).json();
        assert_eq!(plan["steps"][0]["direction"], direction, "{args:?}");
        folder.ok(&["up", "--yes", DSN]);
        assert_eq!(users(&folder), 1, "{args:?}");
    }
}

#[test]
fn up_to_and_down_to_stop_at_a_version() {
    let folder = Folder::new();
    let up = folder.ok(&["up-to", "2", "--yes", DSN]);
    assert!(up.stdout.ends_with("2 applied, schema version 2\n"), "{up:?}");
    let again = folder.ok(&["up-to", "2", "--yes", DSN]);
    assert_eq!(again.stdout, "nothing to do, schema version 2\n");
    let below = folder.run(&["up-to", "1", "--yes", DSN]);
    assert_eq!(below.code, 2, "{below:?}");
    assert!(below.stderr.contains("to go back, use down"), "{below:?}");

    folder.ok(&["up", "--yes", DSN]);
    let down = folder.ok(&["down", "--to", "1", "--yes", "--format", "json", DSN]);
    assert_eq!(
        (&down.json()["to"], &down.json()["ran"]),
        (&json!("1"), &json!(2))
    );
    assert_eq!(
        folder.run(&["down", "--to", "3", "--yes", DSN]).code,
        2,
        "not applied"
    );
    let down = folder.ok(&["down", "--to", "none", "--yes", DSN]);
    assert!(
        down.stdout.ends_with("1 taken back, schema version none\n"),
        "{down:?}"
    );
}

#[test]
fn a_version_that_is_none_is_refused_without_repeating_a_password() {
    let folder = Folder::new();
    for verb in ["up-to", "down", "plan", "wait"] {
        let args = match verb {
            "up-to" => vec![verb, "99", "--yes", DSN],
            _ => vec![verb, "--to", "99", "--yes", DSN],
        };
        folder.ok(&["up", "--yes", DSN]);
        let done = folder.run(&args);
        assert_eq!(done.code, 2, "{done:?}");
        assert!(
            done.stderr.contains("version 99: there is no such version"),
            "{done:?}"
        );
    }
    let done = folder.run(&["up-to", "mysql://u:geheim@h/db", "3", "--yes"]);
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("the version comes first"), "{done:?}");
    assert!(!done.stderr.contains("geheim"), "{done:?}");
    let both = folder.run(&["down", "--to", "1", "--steps", "1", "--yes", DSN]);
    assert_eq!(both.code, 2, "{both:?}");
}

#[test]
fn redo_goes_down_and_up_again() {
    let folder = Folder::new();
    folder.ok(&["up", "--yes", DSN]);
    folder.execute("INSERT INTO users (name) VALUES ('mine')");
    let redo = folder
        .ok(&["redo", "--steps", "2", "--yes", "--format", "json", DSN])
        .json();
    assert_eq!((&redo["direction"], &redo["ran"]), (&json!("redo"), &json!(4)));
    assert_eq!((&redo["from"], &redo["to"]), (&json!("3"), &json!("3")));
    let order: Vec<_> = redo["steps"].as_array().unwrap().iter().collect();
    let order: Vec<_> = order
        .iter()
        .map(|s| format!("{} {}", s["direction"], s["version"]))
        .collect();
    assert_eq!(
        order,
        [r#""down" "3""#, r#""down" "2""#, r#""up" "2""#, r#""up" "3""#]
    );
    assert_eq!(users(&folder), 1, "the down of 2 took all rows, its up made one");
}

#[test]
fn a_redo_that_fails_half_way_says_where_it_stands() {
    let folder = Folder::new();
    folder.ok(&["up", "--yes", DSN]);
    // The up of 3 cannot run twice, since its down does nothing.
    folder.file("migrations/3_index.down.sql", "SELECT 1;");
    let redo = folder.run(&["redo", "--yes", "--format", "json", DSN]);
    assert_eq!(redo.code, 1, "{redo:?}");
    let result = redo.json();
    assert_eq!(
        (&result["to"], &result["ran"]),
        (&json!("2"), &json!(1)),
        "{result}"
    );
    assert!(
        result["error"]
            .as_str()
            .unwrap()
            .contains("index names already exists"),
        "{result}"
    );
    assert_eq!(folder.run(&["status", DSN]).code, 3);
}

#[test]
fn wait_ends_when_a_version_is_reached() {
    let folder = Folder::new();
    let mut waiting = folder.command(&["wait", "--to", "2", "--timeout", "60s", DSN]);
    let waiting = waiting
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    folder.ok(&["up-to", "2", "--yes", DSN]);
    let done = Done::from(waiting.wait_with_output().unwrap());
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stdout.ends_with("3        index  Pending\n"), "{done:?}");

    let late = folder.run(&["wait", "--timeout", "1200ms", DSN]);
    assert_eq!(late.code, 6, "{late:?}");
    assert!(
        late.stderr
            .contains("timed out while waiting for 1 pending migrations"),
        "{late:?}"
    );
    folder.ok(&["up", "--yes", DSN]);
    folder.ok(&["wait", DSN]);
    folder.ok(&["wait", "--to", "1", DSN]);
    folder.remove("migrations/3_index.up.sql");
    folder.remove("migrations/3_index.down.sql");
    let ahead = folder.run(&["wait", DSN]);
    assert_eq!(ahead.code, 4, "waiting cannot mend this: {ahead:?}");
}

#[test]
fn validate_reads_the_directory_alone() {
    let folder = Folder::new();
    let done = folder.ok(&["validate", "--dialect", "sqlite", "--dialect", "postgres"]);
    let line =
        "golang-migrate layout for sqlite: 3 migrations (3 reversible), 6 statements, 0 verify scripts\n";
    assert!(done.stdout.starts_with(line), "{done:?}");
    assert!(done.stdout.contains("for postgres: 3 migrations"), "{done:?}");
    let none = folder.run(&["validate"]);
    assert_eq!(none.code, 2, "{none:?}");
    assert!(none.stderr.contains("hint: name it with --dialect"), "{none:?}");
    assert_eq!(folder.run(&["validate", "--dialect", "oracle"]).code, 2);

    folder.file("migrations/3_index.up.sql", "SELECT 1;\nSELECT 'open;");
    let broken = folder.run(&["validate", "--dialect", "sqlite"]);
    assert_eq!(broken.code, 1, "{broken:?}");
    assert!(broken.stderr.contains("3_index.up.sql:2: "), "{broken:?}");
}

#[test]
fn validate_names_every_difference_between_database_and_directory() {
    let folder = Folder::new();
    folder.ok(&["up", "--yes", DSN]);
    let agreed = folder.ok(&["validate", DSN]);
    assert!(
        agreed
            .stdout
            .ends_with("sqlite://app.db agrees with the directory\n"),
        "{agreed:?}"
    );
    folder.file("migrations/1_users.up.sql", "CREATE TABLE users (other);");
    folder.file("migrations/2_names.up.sql", "SELECT 2;");
    folder.remove("migrations/3_index.up.sql");
    folder.remove("migrations/3_index.down.sql");
    let done = folder.run(&["validate", "--format", "json", DSN]);
    assert_eq!(done.code, 4, "{done:?}");
    assert_eq!(
        done.json()["problems"],
        json!([
            "version 1 users: its file was edited after it was applied",
            "version 2 names: its file was edited after it was applied",
            "version 3 index: it is applied, and the directory lacks it",
        ])
    );
}
