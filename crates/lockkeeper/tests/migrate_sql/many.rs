//! Several runners at once, as pods and init containers start them.

use std::process::Stdio;

use super::support::{DSN, Done, Folder};

#[test]
fn ten_runners_at_once_all_succeed_and_each_migration_runs_once() {
    for journal_mode in ["delete", "wal"] {
        let folder = Folder::new();
        folder.migration(
            "4_counted",
            "INSERT INTO users (name) VALUES ('once')",
            "SELECT 1",
        );
        folder.migration(
            "5_without",
            "VACUUM;\nINSERT INTO users (name) VALUES ('once')",
            "SELECT 1",
        );
        folder.journal_mode(journal_mode);
        let start = |_| {
            let mut command = folder.command(&["up", "--yes", "--format", "json", DSN]);
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        };
        let runners: Vec<_> = (0..10).map(start).collect();
        let mut ran = 0;
        for runner in runners {
            let done = Done::from(runner.wait_with_output().unwrap());
            assert_eq!(done.code, 0, "{journal_mode}: {done:?}");
            let result = done.json();
            assert_eq!(result["to"], "5", "{journal_mode}");
            ran += result["ran"].as_u64().unwrap();
        }
        assert_eq!(ran, 5, "{journal_mode}");
        assert_eq!(
            folder.value("SELECT count(*) FROM users WHERE name = 'once'"),
            2,
            "{journal_mode}"
        );
        assert_eq!(
            folder.value("SELECT count(*) FROM lockkeeper_ledger"),
            5,
            "{journal_mode}"
        );
    }
}

/// A runner that is killed leaves a registration, a lock file and no lock: the next one goes on.
#[test]
fn a_killed_runner_is_not_in_the_way() {
    let folder = Folder::new();
    let long = "INSERT INTO users (name) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n \
                WHERE i < 500000000) SELECT count(*) FROM n;";
    folder.migration("4_long", long, "SELECT 1");
    let mut killed = folder
        .command(&["up", "--yes", DSN])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    while !folder.has("app.db")
        || folder.value("SELECT count(*) FROM sqlite_master WHERE name = 'names'") == 0
    {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the third migration never came"
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    folder.migration("4_long", "SELECT 1;", "SELECT 1");
    let up = folder.ok(&["up", "--yes", "--timeout", "20s", "--format", "json", DSN]);
    assert_eq!(up.json()["ran"], 1);
    assert_eq!(folder.value("SELECT count(*) FROM users"), 1);
}
