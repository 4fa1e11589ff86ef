//! `rehearse` and `verify`: reports, exit codes, and no clone left behind by a process that is stopped or killed.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use super::support::{DSN, Done, Folder};

/// Runs for hours.
const SLOW: &str = "WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c) SELECT max(i) FROM c;";

/// The scratch files that are there.
fn clones(folder: &Folder) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.path()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.to_string_lossy().contains("lockkeeper_rehearsal_"))
        .collect()
}

/// A rehearsal that is in the middle of a statement.
fn in_the_middle(folder: &Folder) -> Child {
    folder.migration("4_slow", SLOW, "");
    let mut command = folder.command(&["rehearse", DSN]);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = || {
        clones(folder)
            .iter()
            .any(|path| path.to_string_lossy().ends_with(".db"))
    };
    assert!((0..3000).any(|_| {
        sleep(Duration::from_millis(10));
        begun()
    }));
    // The first three take some milliseconds.
    sleep(Duration::from_millis(500));
    child
}

#[test]
fn a_rehearsal_reports_and_verify_compares() {
    let folder = Folder::new();
    folder.file("app.db", "");
    let done = folder.ok(&["rehearse", DSN, "--report", "report.json"]);
    assert!(
        done.stdout.contains("up 1 users (in one transaction): "),
        "{}",
        done.stdout
    );
    assert!(
        done.stdout
            .contains("down restores the schema, and up gives the new one again\n"),
        "{}",
        done.stdout
    );
    assert!(
        done.stdout
            .contains("3 migrations rehearsed without rows to schema version 3"),
        "{}",
        done.stdout
    );
    assert_eq!(clones(&folder), Vec::<PathBuf>::new());
    assert_eq!(folder.run(&["status", DSN]).code, 3);

    let early = folder.run(&["verify", DSN, "--rehearsal", "report.json"]);
    assert_eq!(early.code, 4, "{early:?}");
    folder.ok(&["up", "--yes", DSN]);
    let verified = folder
        .ok(&["verify", DSN, "--rehearsal", "report.json", "--format", "json"])
        .json();
    let report: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(folder.path().join("report.json")).unwrap()).unwrap();
    assert_eq!(verified["fingerprint"], report["fingerprint"]);
    assert_eq!(verified["version"], json!("3"));
    let nothing = folder.ok(&["rehearse", DSN]);
    assert_eq!(nothing.stdout, "nothing to rehearse, schema version 3\n");
}

#[test]
fn verify_runs_the_scripts_and_changes_nothing() {
    let folder = Folder::new();
    folder.ok(&["up", "--yes", DSN]);
    std::fs::create_dir(folder.path().join("migrations/verify")).unwrap();
    folder.file("migrations/verify/users.sql", "SELECT count(*) = 1 FROM users;");
    folder.ok(&["verify", DSN]);
    folder.file("migrations/verify/3_none.sql", "SELECT count(*) = 0 FROM users;");
    let failed = folder.run(&["verify", DSN]);
    assert_eq!(failed.code, 4, "{failed:?}");
    assert!(
        failed.stdout.contains("3_none.sql: line 1: the query answered 0"),
        "{failed:?}"
    );
    folder.file("migrations/verify/3_none.sql", "DELETE FROM users;");
    let writing = folder.run(&["verify", DSN]);
    assert_eq!(writing.code, 4, "{writing:?}");
    assert_eq!(folder.value("SELECT count(*) FROM users"), 1);
    folder.file("migrations/2_names.up.sql", "SELECT 2;");
    let edited = folder.run(&["verify", DSN]);
    assert_eq!(edited.code, 4, "{edited:?}");
}

#[test]
fn a_problem_is_told_with_its_own_exit_code() {
    let folder = Folder::new();
    folder.file("app.db", "");
    folder.migration(
        "4_more",
        "CREATE TABLE more (a INT); CREATE INDEX m ON more (a);",
        "DROP INDEX m;",
    );
    let done = folder.run(&["rehearse", DSN, "--format", "json"]);
    assert_eq!(done.code, 4, "{done:?}");
    let report = done.json();
    assert_eq!(
        report["migrations"][3]["reversal"]["outcome"],
        json!("down-does-not-restore")
    );
    assert_eq!(report["problems"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(clones(&folder), Vec::<PathBuf>::new());
}

#[test]
fn a_stopped_rehearsal_drops_its_clone() {
    let folder = Folder::new();
    folder.file("app.db", "");
    let child = in_the_middle(&folder);
    let pid = child.id().to_string();
    let killed = std::process::Command::new("kill")
        .args(["-TERM", &pid])
        .status()
        .unwrap();
    assert!(killed.success());
    let done = Done::from(child.wait_with_output().unwrap());
    assert_eq!(done.code, 7, "{done:?}");
    assert!(done.stderr.contains("stopped; the clone was dropped"), "{done:?}");
    assert_eq!(clones(&folder), Vec::<PathBuf>::new());
}

#[test]
fn the_next_rehearsal_drops_what_a_killed_one_left() {
    let folder = Folder::new();
    folder.file("app.db", "");
    let mut child = in_the_middle(&folder);
    // A running one is left alone, however old it is said to be.
    folder.remove("migrations/4_slow.up.sql");
    folder.remove("migrations/4_slow.down.sql");
    let beside = folder
        .ok(&["rehearse", DSN, "--sweep-older-than", "0s", "--format", "json"])
        .json();
    assert_eq!(beside["swept"], json!([]));
    assert_ne!(clones(&folder), Vec::<PathBuf>::new());

    child.kill().unwrap();
    child.wait().unwrap();
    assert_ne!(clones(&folder), Vec::<PathBuf>::new());
    let next = folder
        .ok(&["rehearse", DSN, "--sweep-older-than", "0s", "--format", "json"])
        .json();
    assert_eq!(next["swept"].as_array().unwrap().len(), 1, "{next}");
    assert_eq!(clones(&folder), Vec::<PathBuf>::new());
}
