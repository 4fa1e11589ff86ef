//! dbmate's rules, as tables.

use super::super::test_support::{Dir, lines, loaded, refused, versions, why};
use super::super::{Layout, load};
use crate::dialect::Dialect::{self, MySql, Postgres, Sqlite};

const BOTH: &str = "-- migrate:up\nSELECT 1;\n-- migrate:down\nSELECT 2;\n";

#[test]
fn files_are_ordered_by_name() {
    let dir = Dir::of(&[
        ("1_a.sql", BOTH),
        ("10_b.sql", BOTH),
        ("2.sql", BOTH),
        ("20-c.sql", "x"),
        ("notes.sql", "'"),
    ]);
    std::fs::remove_file(dir.path().join("20-c.sql")).unwrap();
    let set = loaded(&dir, Layout::Dbmate, Sqlite);
    assert_eq!(versions(&set), ["10", "1", "2"]);
    assert_eq!(
        set.migrations.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(),
        ["b", "a", ""]
    );
    assert_eq!(set.skipped.len(), 1);
    assert_eq!(set.get(&"1".into()).unwrap().name, "a");
    let other = Dir::of(&[("15_d.sql", BOTH)]);
    let set = load(&[dir.dirs(), other.dirs()].concat(), Some(Layout::Dbmate), Sqlite).unwrap();
    assert_eq!(versions(&set), ["10", "15", "1", "2"]);
}

#[test]
fn versions_that_are_not_clear_are_refused() {
    for (names, problem) in [
        (
            ["1_a.sql", "1_b.sql"],
            "order migrations: version 1 (up) is there twice: DIR/1_a.sql and DIR/1_b.sql",
        ),
        (
            ["1.sql", "10.sql"],
            "order migrations: dbmate runs DIR/1.sql before DIR/10.sql by their names, although their versions say the \
             opposite; give both versions the same number of digits",
        ),
    ] {
        let dir = Dir::of(&names.map(|name| (name, BOTH)));
        assert_eq!(refused(&dir, Some(Layout::Dbmate), Sqlite), problem);
    }
}

fn of(text: &str, dialect: Dialect) -> (Vec<String>, Vec<String>, String, String) {
    let migration = loaded(&Dir::of(&[("1_a.sql", text)]), Layout::Dbmate, dialect).migrations[0].clone();
    let down = migration.down.clone().unwrap();
    (
        lines(&migration.up),
        lines(&down),
        why(&migration.up).to_owned(),
        why(&down).to_owned(),
    )
}

#[test]
fn blocks_have_their_own_transactions() {
    let text = "-- a licence\n\n-- migrate:up transaction:false\nSELECT 1;\n--migrate:down\nSELECT 2\n";
    let (up, down, up_why, down_why) = of(text, Postgres);
    assert_eq!(
        (up, down),
        (vec!["4: SELECT 1".to_owned()], vec!["6: SELECT 2".to_owned()])
    );
    assert_eq!(
        (up_why.as_str(), down_why.as_str()),
        ("a block of it says transaction:false", "")
    );
    // As the tool reads it, this is no `transaction:false`.
    assert_eq!(
        of(&text.replace("transaction:false", "transaction: false"), Postgres).2,
        ""
    );
    assert_eq!(of(BOTH, Sqlite).2, "");
    assert_eq!(
        of(&BOTH.replace("SELECT 1", "CREATE TABLE a (b int)"), MySql).2,
        "mysql commits before and after each DDL statement"
    );
}

#[test]
fn pairs_of_blocks_may_repeat() {
    let text = "-- migrate:up\nSELECT 1;\n-- migrate:down\nSELECT 2;\n-- migrate:up transaction:false\nSELECT 3;\n\
                -- migrate:down\nSELECT 4;\n-- migrate:up\nSELECT 5\n;\n-- migrate:down\nSELECT 6";
    let (up, down, up_why, down_why) = of(text, Postgres);
    assert_eq!(
        up,
        [
            "1: BEGIN",
            "2: SELECT 1",
            "3: COMMIT",
            "6: SELECT 3",
            "9: BEGIN",
            "10: SELECT 5",
            "12: COMMIT"
        ]
    );
    assert_eq!(
        down,
        [
            "3: BEGIN",
            "4: SELECT 2",
            "5: COMMIT",
            "7: BEGIN",
            "8: SELECT 4",
            "9: COMMIT",
            "12: BEGIN",
            "13: SELECT 6",
            "14: COMMIT"
        ]
    );
    assert_eq!(up_why, "a block of it says transaction:false");
    assert!(down_why.contains("BEGIN controls a transaction"), "{down_why}");
    // One transaction does the same there, and undoes all of it.
    let (up, _, _, down_why) = of(text, Sqlite);
    assert_eq!((up.len(), down_why.as_str()), (3, ""));
}

#[test]
fn a_change_of_down_is_no_edit() {
    let checksum = |text: &str| {
        loaded(&Dir::of(&[("1_a.sql", text)]), Layout::Dbmate, Sqlite).migrations[0]
            .up
            .checksum
            .clone()
    };
    assert_eq!(
        checksum(&BOTH.replace("SELECT 2;", "SELECT 3;\n\n")),
        checksum(BOTH)
    );
    assert_ne!(checksum(&BOTH.replace("SELECT 1", "SELECT 3")), checksum(BOTH));
}

#[test]
fn wrong_files_are_named_with_their_line() {
    for (text, line, problem) in [
        ("", 1, "it has no -- migrate:up"),
        ("SELECT 1;", 1, "it has no -- migrate:up"),
        (" -- migrate:up\nSELECT 1;", 1, "it has no -- migrate:up"),
        ("-- migrate:Up\n-- migrate:down\n", 1, "it has no -- migrate:up"),
        (
            "-- x\n/* y */\n-- migrate:up\n-- migrate:down",
            2,
            "only comments may stand before",
        ),
        (
            "-- x\n-- migrate:up\nSELECT 1;\n -- migrate:down\n",
            2,
            "this -- migrate:up has no -- migrate:down",
        ),
        (
            "-- migrate:up\n-- migrate:down\nSELECT 1;\n-- migrate:down\n",
            4,
            "this -- migrate:down has no -- migrate:up",
        ),
        (
            "-- migrate:down\nSELECT 1;\n-- migrate:up\n",
            2,
            "only comments may stand before",
        ),
        (
            "\u{feff}-- migrate:up\n-- migrate:down\n",
            1,
            "the byte order mark before \"-- migrate:up\" hides it",
        ),
    ] {
        let message = refused(&Dir::of(&[("1_a.sql", text)]), Some(Layout::Dbmate), Sqlite);
        assert!(
            message.starts_with(&format!("read DIR/1_a.sql:{line}: {problem}")),
            "{text:?}: {message}"
        );
    }
}
