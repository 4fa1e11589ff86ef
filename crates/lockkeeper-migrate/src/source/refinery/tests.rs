//! refinery's rules, as tables.

use super::super::test_support::{Dir, loaded, refused, versions, why};
use super::super::{Layout, MigrationKind};
use crate::dialect::Dialect::{Postgres, Sqlite};

#[test]
fn names_give_versions_and_kinds() {
    let dir = Dir::named(&[
        "V10__c.sql",
        "a/b/V2__b.sql",
        "V1__a.sql",
        "U3__late.sql",
        "V4_x.sql",
        "notes.txt",
    ]);
    let set = loaded(&dir, Layout::Refinery, Sqlite);
    assert_eq!(versions(&set), ["1", "2", "3", "10"]);
    assert_eq!(set.migrations[2].kind, MigrationKind::Late);
    assert!(set.migrations.iter().all(|m| m.down.is_none()));
    assert_eq!(set.skipped.len(), 2);
    for (files, problem) in [
        (
            &["V1__a.sql", "U1__b.sql"][..],
            "order migrations: version 1 (up) is there twice: DIR/U1__b.sql and DIR/V1__a.sql",
        ),
        (
            &["V1.1__a.sql"],
            "read DIR/V1.1__a.sql: its name gives no version that refinery can read: \"1.1\" is not a whole number",
        ),
        (
            &["V1__a.sql", "R__views.sql"],
            "read migrations as refinery: DIR/R__views.sql belongs to layout flyway; a directory holds one layout",
        ),
    ] {
        assert_eq!(
            refused(&Dir::named(files), Some(Layout::Refinery), Sqlite),
            problem
        );
    }
}

#[test]
fn the_directive_may_stand_on_any_line() {
    for (text, expected) in [
        (
            "-- refinery:noTransaction\nSELECT 1;",
            "it says refinery:noTransaction",
        ),
        (
            "SELECT 1;\n---refinery:noTransaction\r\n",
            "it says refinery:noTransaction",
        ),
        (" -- refinery:noTransaction\nSELECT 1;", ""),
        ("-- refinery:noTransaction now\nSELECT 1;", ""),
    ] {
        let set = loaded(&Dir::of(&[("V1__a.sql", text)]), Layout::Refinery, Postgres);
        assert_eq!(why(&set.migrations[0].up), expected, "{text}");
    }
}
