//! sqlx' rules, as tables.

use super::super::Layout;
use super::super::test_support::{Dir, lines, loaded, refused, versions, why};
use crate::dialect::Dialect::{MySql, Postgres, Sqlite};

#[test]
fn names_give_versions_and_directions() {
    let dir = Dir::of(&[
        ("0002_b.up.sql", "CREATE TABLE b (a INT);"),
        ("0002_b.down.sql", "DROP TABLE b;"),
        ("10_c..x.sql", "SELECT 1"),
        ("1_a.sql", ""),
        ("3_alone.down.sql", "'"),
        ("README.md", ""),
        ("below/4_d.sql", "'"),
        ("5.sql", "'"),
    ]);
    let set = loaded(&dir, Layout::Sqlx, Sqlite);
    assert_eq!(versions(&set), ["1", "2", "10"]);
    assert_eq!(
        set.migrations.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(),
        ["a", "b", "c..x"]
    );
    assert_eq!(
        set.migrations
            .iter()
            .map(|m| m.down.is_some())
            .collect::<Vec<_>>(),
        [false, true, false]
    );
    assert_eq!(set.skipped.len(), 3);
    for (files, problem) in [
        (
            &["seed_x.sql"][..],
            "read DIR/seed_x.sql: its name gives no version that sqlx can read: \"seed\" is not a whole number",
        ),
        (
            &["1_a.sql", "01_a.up.sql"],
            "order migrations: version 1 (up) is there twice: DIR/01_a.up.sql and DIR/1_a.sql",
        ),
        (
            &["9223372036854775808_a.sql"],
            "read DIR/9223372036854775808_a.sql: version 9223372036854775808 does not fit the 64-bit number that sqlx uses",
        ),
    ] {
        assert_eq!(refused(&Dir::named(files), Some(Layout::Sqlx), Sqlite), problem);
    }
}

#[test]
fn no_transaction_counts_as_the_first_bytes_only() {
    for (text, dialect, expected) in [
        (
            "-- no-transaction\nSELECT 1;",
            Postgres,
            "its first line says no-transaction",
        ),
        (
            "-- no-transaction\nSELECT 1;",
            Sqlite,
            "its first line says no-transaction",
        ),
        (
            "-- no-transactions\nSELECT 1;",
            Sqlite,
            "its first line says no-transaction",
        ),
        ("-- no-transaction\nSELECT 1;", MySql, ""),
        ("-- a licence\n-- no-transaction\nSELECT 1;", Postgres, ""),
        ("\n-- no-transaction\nSELECT 1;", Postgres, ""),
        ("--no-transaction\nSELECT 1;", Postgres, ""),
    ] {
        let dir = Dir::of(&[("1_a.up.sql", text), ("1_a.down.sql", "SELECT 2")]);
        let migration = loaded(&dir, Layout::Sqlx, dialect).migrations[0].clone();
        assert_eq!(why(&migration.up), expected, "{text}");
        assert_eq!(why(migration.down.as_ref().unwrap()), "");
        assert_eq!(lines(&migration.up).len(), 1);
    }
    let dir = Dir::of(&[("1_a.sql", "\u{feff}-- no-transaction\nSELECT 1;")]);
    assert_eq!(
        refused(&dir, Some(Layout::Sqlx), Postgres),
        "read DIR/1_a.sql:1: the byte order mark before \"-- no-transaction\" hides it from the tool; remove the mark"
    );
}
