//! What is asked, and what no, silence and no terminal mean.

use std::io::Write;
use std::process::{Command, Stdio};

use super::support::{DSN, Done, Folder, LAYOUT};

/// Runs the binary on a terminal of its own (util-linux' `script`) and types `input`.
fn on_a_terminal(folder: &Folder, args: &str, input: &str) -> Done {
    let command = format!(
        "{} migrate sql --layout {LAYOUT} {args}",
        env!("CARGO_BIN_EXE_lockkeeper")
    );
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .current_dir(folder.path())
        .env_remove("DSN")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    Done::from(child.wait_with_output().unwrap())
}

#[test]
fn declining_changes_nothing_and_is_no_error() {
    let folder = Folder::new();
    let done = on_a_terminal(&folder, &format!("up {DSN}"), "n\n");
    assert_eq!(done.code, 0, "{done:?}");
    assert!(
        done.stdout
            .contains("Apply 3 migrations to sqlite://app.db? [y/N]"),
        "{done:?}"
    );
    assert!(done.stdout.contains("declined, nothing was changed"), "{done:?}");
    assert!(!folder.has("app.db"), "even the file is not made");
}

#[test]
fn the_plan_is_shown_before_the_question() {
    let folder = Folder::new();
    let done = on_a_terminal(&folder, &format!("up {DSN}"), "y\n");
    assert_eq!(done.code, 0, "{done:?}");
    let place = |text: &str| {
        done.stdout
            .find(text)
            .unwrap_or_else(|| panic!("no {text:?} in {done:?}"))
    };
    assert!(place("1        users  Pending") < place("CREATE TABLE users"));
    assert!(place("CREATE INDEX names") < place("[y/N]"));
    assert_eq!(folder.value("SELECT count(*) FROM users"), 1);
}

#[test]
fn down_warns_of_data_loss() {
    let folder = Folder::new();
    folder.ok(&["up", "--yes", DSN]);
    let done = on_a_terminal(&folder, &format!("down --steps 2 {DSN}"), "\n");
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stdout.contains("can lose data"), "{done:?}");
    assert!(done.stdout.contains("Take 2 migrations back"), "{done:?}");
    assert_eq!(folder.run(&["status", DSN]).code, 0);
}

#[test]
fn a_backup_is_offered_before_something_is_lost() {
    let folder = Folder::new();
    folder.ok(&["up", "--yes", DSN]);
    let declined = on_a_terminal(&folder, &format!("down --steps 2 {DSN}"), "y\nn\n");
    assert_eq!(declined.code, 0, "{declined:?}");
    assert!(declined.stdout.contains("no backup is recorded"), "{declined:?}");
    assert_eq!(folder.value("SELECT count(*) FROM users"), 1);
    let taken = on_a_terminal(&folder, &format!("down --steps 2 {DSN}"), "y\ny\n");
    assert_eq!(taken.code, 0, "{taken:?}");
    assert_eq!(folder.value("SELECT count(*) FROM users"), 0);
    assert!(folder.has("lockkeeper-backups"));
}

#[test]
fn redo_asks_and_declining_changes_nothing() {
    let folder = Folder::new();
    folder.ok(&["up", "--yes", DSN]);
    folder.execute("INSERT INTO users (name) VALUES ('mine')");
    let done = on_a_terminal(&folder, &format!("redo --steps 2 {DSN}"), "n\n");
    assert_eq!(done.code, 0, "{done:?}");
    assert!(
        done.stdout
            .contains("Take 2 migrations back and apply again on sqlite://app.db? [y/N]"),
        "{done:?}"
    );
    assert_eq!(folder.value("SELECT count(*) FROM users"), 2);
}

#[test]
fn without_a_terminal_a_yes_is_needed() {
    let folder = Folder::new();
    let done = folder.run(&["up", DSN]);
    assert_eq!(done.code, 2, "{done:?}");
    assert!(
        done.stderr
            .contains("error: this needs a yes, and there is no terminal to ask on\nhint: use --yes"),
        "{done:?}"
    );
    assert!(!folder.has("app.db"));
}
