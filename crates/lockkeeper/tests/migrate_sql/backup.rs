//! No data is lost without a backup; backups come back; the doctor looks.

use std::process::Command;

use super::support::{DSN, Done, Folder};

/// Three migrations are applied, and a row is there.
fn migrated() -> Folder {
    let folder = Folder::new();
    folder.ok(&["up", "--yes", DSN]);
    folder
}

/// The command as it is, with no flag about backups added.
fn plain(folder: &Folder, args: &[&str]) -> Done {
    Done::from(folder.plain_command(args).output().unwrap())
}

#[test]
fn what_loses_data_is_refused_until_there_is_a_fresh_backup() {
    let folder = migrated();
    for verb in ["down", "redo"] {
        let refused = plain(&folder, &[verb, "--yes", "--format", "json", DSN]);
        assert_eq!(refused.code, 4, "{refused:?}");
        assert!(
            refused
                .stderr
                .contains("can lose data, and no backup is recorded"),
            "{refused:?}"
        );
        assert!(
            refused
                .stderr
                .contains("--backup auto makes one first; --without-backup"),
            "{refused:?}"
        );
        assert_eq!(refused.json()["ran"], 0);
    }
    let made = plain(&folder, &["backup", "--format", "json", DSN]).json();
    assert_eq!(
        (&made["version"], &made["verified"]),
        (&"3".into(), &"readable".into())
    );
    let down = plain(&folder, &["down", "--yes", DSN]);
    assert_eq!(down.code, 0, "{down:?}");
    // That backup is of version 3: it does not count for version 2.
    let refused = plain(&folder, &["down", "--yes", DSN]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("the newest backup is of schema version 3"),
        "{refused:?}"
    );
    let down = plain(&folder, &["down", "--yes", "--without-backup", DSN]);
    assert_eq!(down.code, 0, "{down:?}");
}

#[test]
fn a_backup_is_made_when_asked_for_and_told() {
    let folder = migrated();
    let down = plain(
        &folder,
        &[
            "down",
            "--yes",
            "--backup",
            "auto",
            "--backup-to",
            "kept",
            "--verify-backup",
            "--format",
            "json",
            DSN,
        ],
    );
    assert_eq!(down.code, 0, "{down:?}");
    let backup = &down.json()["backup"];
    assert_eq!(
        (&backup["rows"], &backup["version"]),
        (&1.into(), &"3".into()),
        "{backup}"
    );
    let place = backup["place"].as_str().unwrap();
    let file = place.split_once(':').unwrap().1.to_owned();
    assert!(std::fs::metadata(&file).unwrap().len() > 0);

    let asked = plain(&folder, &["restore", &file, DSN]);
    assert_eq!(asked.code, 2, "it needs a yes: {asked:?}");
    let restored = plain(&folder, &["restore", &file, "--yes", "--format", "json", DSN]);
    assert_eq!(restored.code, 0, "{restored:?}");
    let restored = restored.json();
    assert_eq!(
        (&restored["from"], &restored["version"]),
        (&"2".into(), &"3".into()),
        "{restored}"
    );
    assert_eq!(folder.run(&["status", DSN]).code, 0);
    let list = plain(&folder, &["backup", "--list", "--format", "json", DSN]).json();
    assert_eq!(list["records"].as_array().unwrap().len(), 2, "{list}");
}

#[test]
fn a_migration_that_loses_rows_needs_a_backup_and_one_that_adds_does_not() {
    let folder = migrated();
    folder.migration("4_more", "ALTER TABLE users ADD COLUMN age INTEGER;", "");
    assert_eq!(plain(&folder, &["up", "--yes", DSN]).code, 0);
    folder.migration("5_less", "\nDELETE FROM users;", "");
    let refused = plain(&folder, &["up", "--yes", DSN]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(
        refused.stderr.contains("up 5 line 2: DELETE without WHERE"),
        "{refused:?}"
    );
    assert_eq!(plain(&folder, &["up", "--yes", "--backup", "auto", DSN]).code, 0);
    // Now there is nothing to lose.
    folder.migration("6_gone", "DROP TABLE users;", "");
    assert_eq!(plain(&folder, &["up", "--yes", DSN]).code, 0);
}

fn doctor(folder: &Folder, args: &[&str]) -> Done {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
    Done::from(
        command
            .arg("doctor")
            .args(args)
            .current_dir(folder.path())
            .output()
            .unwrap(),
    )
}

#[test]
fn the_doctor_tells_what_is_wrong_and_its_exit_code_says_whether_anything_is() {
    let folder = migrated();
    let well = doctor(&folder, &["--dsn", DSN, "--format", "json"]);
    assert_eq!(well.code, 0, "{well:?}");
    assert_eq!(well.json()["dialect"], "sqlite");
    let nowhere = doctor(&folder, &["--dsn", "sqlite://nowhere.db", "--format", "json"]);
    assert_eq!(nowhere.code, 4, "{nowhere:?}");
    assert_eq!(nowhere.json()["findings"][0]["code"], "file");
    let secret = doctor(
        &folder,
        &["--dsn", "postgres:/user:hunter2@h", "--format", "json"],
    );
    assert_eq!(
        (secret.code, &secret.json()["findings"][0]["code"]),
        (4, &"dsn-form".into())
    );
    assert!(!format!("{secret:?}").contains("hunter2"));
    let same = folder.run(&["doctor", DSN]);
    assert!(
        same.code == 0 && same.stdout.contains("  login   ok\n"),
        "{same:?}"
    );
}

#[test]
fn a_copied_file_is_made_its_own_when_told() {
    let folder = migrated();
    std::fs::copy(folder.path().join("app.db"), folder.path().join("copy.db")).unwrap();
    let copy = "sqlite://copy.db";
    let told = doctor(&folder, &["--dsn", copy]);
    assert!(
        told.code == 0 && told.stdout.contains("[identity-changed]"),
        "{told:?}"
    );
    let mended = doctor(&folder, &["--dsn", copy, "--fix", "--yes"]);
    assert!(
        mended.code == 0 && !mended.stdout.contains("identity-changed"),
        "{mended:?}"
    );
}
