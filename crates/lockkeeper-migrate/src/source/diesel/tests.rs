//! diesel's rules, as tables.

use super::super::Layout;
use super::super::test_support::{Dir, loaded, refused, versions, why};
use crate::dialect::Dialect::{MySql, Postgres};

#[test]
fn folders_give_versions() {
    let dir = Dir::of(&[
        (
            "2024-03-13-170000_create_users/up.sql",
            "CREATE TABLE users (id INT);",
        ),
        ("2024-03-13-170000_create_users/down.sql", "DROP TABLE users;"),
        ("00000000000000_diesel_initial_setup/up.sql", "SELECT 1;"),
        ("2024-03-14_170000/up.sql", "SELECT 1;"),
        (".hidden/x.sql", "'"),
        ("schema.rs", ""),
        ("2024-03-13-170000_create_users/deeper/up.sql", "'"),
    ]);
    let set = loaded(&dir, Layout::Diesel, Postgres);
    assert_eq!(versions(&set), ["00000000000000", "20240313170000", "20240314"]);
    let names = set.migrations.iter().map(|m| m.name.as_str()).collect::<Vec<_>>();
    assert_eq!(names, ["diesel_initial_setup", "create_users", "170000"]);
    assert_eq!(
        set.migrations
            .iter()
            .map(|m| m.down.is_some())
            .collect::<Vec<_>>(),
        [false, true, false]
    );
    assert_eq!(set.skipped.len(), 2);
    assert_eq!(
        why(&loaded(&dir, Layout::Diesel, MySql).migrations[1].up),
        "mysql commits before and after each DDL statement"
    );
}

#[test]
fn metadata_says_whether_there_is_a_transaction() {
    let asked = "its metadata.toml does not say run_in_transaction = true";
    for (metadata, expected) in [
        (Some("run_in_transaction = true\n"), ""),
        (
            Some("# x\nrun_in_transaction = false # yes\n[other]\nrun_in_transaction = true\n"),
            asked,
        ),
        // diesel's own default for a file without the key.
        (Some("author = 'me'\n"), asked),
        (Some(""), asked),
        (None, ""),
    ] {
        let dir = Dir::of(&[("1_a/up.sql", "SELECT 1;"), ("1_a/down.sql", "SELECT 2;")]);
        if let Some(text) = metadata {
            dir.write("1_a/metadata.toml", text.as_bytes());
        }
        let migration = loaded(&dir, Layout::Diesel, Postgres).migrations[0].clone();
        assert_eq!(why(&migration.up), expected, "{metadata:?}");
        assert_eq!(why(migration.down.as_ref().unwrap()), expected);
    }
}

#[test]
fn wrong_folders_are_named() {
    for (files, problem) in [
        (
            &[("1_a/down.sql", "x")][..],
            "read DIR/1_a: it has no up.sql, without which diesel stops",
        ),
        (
            &[("1_a/up.sql", "")],
            "read DIR/1_a/up.sql:1: it is empty, which diesel refuses to run; write at least a comment",
        ),
        (
            &[("2024-03-13_1/up.sql", "--"), ("20240313_2/up.sql", "--")],
            "order migrations: version 20240313 (up) is there twice: DIR/2024-03-13_1 and DIR/20240313_2",
        ),
        (
            &[
                ("1_a/up.sql", "--"),
                ("1_a/metadata.toml", "x = 1\nrun_in_transaction = maybe\n"),
            ],
            "read DIR/1_a/metadata.toml:2: ",
        ),
        (
            &[
                ("1_a/up.sql", "--"),
                ("1_a/metadata.toml", "run_in_transaction = 'no'\n"),
            ],
            "read DIR/1_a/metadata.toml:1: invalid type: string \"no\", expected a boolean",
        ),
    ] {
        let message = refused(&Dir::of(files), Some(Layout::Diesel), Postgres);
        assert!(message.starts_with(problem), "{message}");
    }
}

#[test]
fn an_empty_way_back_stops_only_who_goes_back() {
    let dir = Dir::of(&[("1_a/up.sql", "CREATE TABLE a (x INT);"), ("1_a/down.sql", "")]);
    let migration = loaded(&dir, Layout::Diesel, Postgres).migrations[0].clone();
    assert!(migration.down.is_none());
    let problem = migration.down_problem.as_deref().unwrap();
    assert!(problem.contains("1_a/down.sql:1: it is empty"), "{problem}");
}
