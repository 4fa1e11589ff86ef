//! `new`: files that the directory's reader then reads.

use std::fs;

use serde_json::json;

use super::support::Folder;

#[test]
fn a_new_migration_follows_the_directory_and_can_be_read() {
    let folder = Folder::new();
    let new = folder.ok(&["new", "add email-index"]);
    assert_eq!(
        new.stdout,
        "./migrations/4_add_email_index.up.sql\n./migrations/4_add_email_index.down.sql\n"
    );
    folder.ok(&["validate", "--dialect", "sqlite"]);
    let dry = folder.ok(&["new", "later", "--dry-run", "--format", "json"]);
    assert_eq!(dry.json()["version"], json!("5"));
    assert!(!folder.has("migrations/5_later.up.sql"));
    let told = folder.ok(&["new", "later", "--as", "20", "--format", "json"]);
    assert_eq!(told.json()["version"], json!("20"));
    let below = folder.run(&["new", "early", "--as", "7"]);
    assert_eq!(below.code, 2, "{below:?}");
    assert!(
        below
            .stderr
            .contains("version 20 is there already and not below it"),
        "{below:?}"
    );
}

#[test]
fn every_layout_reads_what_new_made_for_it() {
    for layout in [
        "pop",
        "golang-migrate",
        "goose",
        "dbmate",
        "sqlx",
        "refinery",
        "flyway",
        "diesel",
    ] {
        let folder = Folder::empty();
        for name in ["first", "second"] {
            folder.ok(&["new", name, "--layout", layout]);
        }
        let done = folder.ok(&[
            "validate",
            "--dialect",
            "sqlite",
            "--layout",
            layout,
            "--format",
            "json",
        ]);
        assert_eq!(
            done.json()["sources"][0]["migrations"],
            json!(2),
            "{layout}: {done:?}"
        );
    }
}

#[test]
fn what_cannot_be_named_is_refused_and_nothing_is_made() {
    let folder = Folder::empty();
    let count = || fs::read_dir(folder.path().join("migrations")).unwrap().count();
    for (args, error) in [
        (
            &["new", "x", "--layout", "auto"][..],
            "say which it is with --layout",
        ),
        (&["new", "a/b"], "letters, digits and _ only"),
        (
            &["new", "x", "--layout", "pop", "--sequential"],
            "pop knows time stamps only",
        ),
        (
            &["new", "x", "--as", "1; DROP"],
            "no version of golang-migrate's form",
        ),
        (&["new", "x", "--dir", "nowhere"], "read migrations from nowhere"),
        (
            &["new", "x", "--dir", "migrations", "--dir", "."],
            "several directories were named",
        ),
        (
            &["new", "x", "--sequential", "--timestamp"],
            "cannot be used with",
        ),
    ] {
        let done = folder.run(args);
        assert_eq!(done.code, 2, "{args:?}: {done:?}");
        assert!(done.stderr.contains(error), "{args:?}: {done:?}");
        assert_eq!(count(), 0, "{args:?}");
    }
}
