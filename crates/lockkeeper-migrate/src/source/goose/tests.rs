//! goose's rules, as tables.

use super::super::test_support::{Dir, lines, loaded, refused, versions, why};
use super::super::{Environment, Layout, SourceOptions, load_with};
use super::{Annotation, Parts};
use crate::dialect::Dialect::{MySql, Postgres, Sqlite};

#[test]
fn names_give_versions() {
    let dir = Dir::of(&[
        ("00002_b.sql", "-- +goose Up\n"),
        ("10_c.sql", "-- +goose Up\n"),
        ("1_a.b.c.sql", "-- +goose Up\n"),
        ("seed.sql", "SELECT 1"),
        ("x_y.sql", "SELECT 1"),
        ("below/3_d.sql", "'"),
    ]);
    let set = loaded(&dir, Layout::Goose, Sqlite);
    assert_eq!(versions(&set), ["1", "2", "10"]);
    assert_eq!(set.migrations[0].name, "a.b.c");
    assert_eq!(set.skipped.len(), 2);
    for (name, problem) in [
        (
            "0_a.sql",
            "read DIR/0_a.sql: its name gives no version that goose can read: it begins with 1",
        ),
        (
            "10000000000000000000_a.sql",
            "read DIR/10000000000000000000_a.sql: version 10000000000000000000 does not fit the 64-bit number that goose uses",
        ),
        (
            "0010_twice.sql",
            "order migrations: version 10 (up) is there twice: DIR/0010_twice.sql and DIR/10_c.sql",
        ),
    ] {
        let dir = Dir::of(&[("10_c.sql", "-- +goose Up\n"), (name, "-- +goose Up\n")]);
        assert_eq!(refused(&dir, Some(Layout::Goose), Sqlite), problem);
    }
}

#[test]
fn directives_part_a_file() {
    let text = "-- a licence; with a semicolon\n\n-- +goose Up\nCREATE TABLE a (b int);\nSELECT 'a line with -- +goose Down';\n\
                -- Down we go; not yet\nSELECT 1\n;\n-- +goose down\nDROP TABLE a;\nSELECT 2";
    let dir = Dir::of(&[("1_a.sql", text)]);
    for dialect in [Postgres, MySql, Sqlite] {
        let migration = loaded(&dir, Layout::Goose, dialect).migrations[0].clone();
        assert_eq!(
            lines(&migration.up),
            [
                "4: CREATE TABLE a (b int)",
                "5: SELECT 'a line with -- +goose Down'",
                "7: SELECT 1"
            ],
        );
        assert_eq!(
            lines(migration.down.as_ref().unwrap()),
            ["10: DROP TABLE a", "11: SELECT 2"]
        );
        assert_eq!(migration.up.transaction.is_transactional(), dialect != MySql);
    }
}

#[test]
fn a_change_of_down_is_no_edit() {
    let checksum = |text: &str| {
        loaded(&Dir::of(&[("1_a.sql", text)]), Layout::Goose, Sqlite).migrations[0]
            .up
            .checksum
            .clone()
    };
    let first = checksum("-- +goose Up\nSELECT 1;\n-- +goose Down\nSELECT 2;\n");
    assert_eq!(
        checksum("-- +goose Up\r\nSELECT 1;\r\n-- +goose Down\r\n\r\nSELECT 3;\r\n"),
        first
    );
    assert_ne!(
        checksum("-- +goose Up\nSELECT 4;\n-- +goose Down\nSELECT 2;\n"),
        first
    );
}

#[test]
fn blocks_are_one_statement() {
    let text = "-- +goose Up\n-- +goose StatementBegin\nCREATE FUNCTION f() RETURNS int AS $$\nSELECT 1;\n$$ LANGUAGE sql\n\
                -- +goose StatementEnd\n-- +goose StatementBegin\nSELECT 2\n-- +goose StatementEnd\nSELECT 3;\n";
    let up = loaded(&Dir::of(&[("1_a.sql", text)]), Layout::Goose, Postgres).migrations[0]
        .up
        .clone();
    assert_eq!(
        lines(&up),
        [
            "3: CREATE FUNCTION f() RETURNS int AS $$\nSELECT 1;\n$$ LANGUAGE sql",
            "8: SELECT 2",
            "10: SELECT 3"
        ]
    );
    // The server gets the file as one text, in which the blocks must be parted too.
    assert_eq!(up.body().unwrap().matches(';').count(), 3);
    let text = "-- +goose Up\n-- +goose StatementBegin\nCREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW\n\
                IF NEW.x = 1 THEN SET NEW.x = 2; END IF;\n-- +goose StatementEnd\nSELECT 3;\n";
    let up = loaded(&Dir::of(&[("1_a.sql", text)]), Layout::Goose, MySql).migrations[0]
        .up
        .clone();
    assert_eq!(
        lines(&up),
        [
            "3: CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW\nIF NEW.x = 1 THEN SET NEW.x = 2; END IF",
            "6: SELECT 3"
        ]
    );
}

#[test]
fn no_transaction_is_for_the_whole_file_wherever_it_stands() {
    for text in [
        "-- +goose NO TRANSACTION\n-- +goose Up\nSELECT 1;\n-- +goose Down\nSELECT 2;\n",
        "-- +goose Up\n-- +goose StatementBegin\n-- +goose no transaction\nSELECT 1;\n-- +goose StatementEnd\n-- +goose Down\nSELECT 2;\n",
        "-- +goose Up\nSELECT 1;\n-- +goose Down\nSELECT 2;\n-- +goose NO TRANSACTION\n",
    ] {
        let migration = loaded(&Dir::of(&[("1_a.sql", text)]), Layout::Goose, Postgres).migrations[0].clone();
        assert_eq!(why(&migration.up), "it says +goose NO TRANSACTION");
        assert_eq!(
            why(migration.down.as_ref().unwrap()),
            "it says +goose NO TRANSACTION"
        );
        assert_eq!(migration.up.statements.len(), 1, "{text}");
    }
}

#[test]
fn variables_are_replaced_where_the_directive_is_on() {
    let text = "-- +goose Up\nSELECT '$X';\n-- +goose ENVSUB ON\n-- costs 5$ each\nSELECT '$X',\n '${Y:-d}';\n\
                -- +goose ENVSUB OFF\nSELECT '$X';\n";
    let dir = Dir::of(&[("1_a.sql", text)]);
    let with = |x: &str| {
        let environment = Environment::Fixed([("X".to_owned(), x.to_owned())].into());
        let options = SourceOptions {
            layout: Some(Layout::Goose),
            environment,
            ..SourceOptions::default()
        };
        load_with(&dir.dirs(), &options, Sqlite).unwrap().migrations[0]
            .up
            .clone()
    };
    assert_eq!(
        lines(&with("v")),
        ["2: SELECT '$X'", "5: SELECT 'v',\n 'd'", "8: SELECT '$X'"]
    );
    assert_eq!(with("v").checksum, with("w").checksum);
}

#[test]
fn a_file_without_down_cannot_be_taken_back() {
    let dir = Dir::of(&[
        ("1_a.sql", "-- +goose Up\nSELECT 1;"),
        ("2_b.sql", "-- +goose Up\n-- +goose Down\n"),
    ]);
    let set = loaded(&dir, Layout::Goose, Sqlite);
    assert_eq!(set.migrations[0].down, None);
    assert_eq!(set.migrations[1].down.as_ref().unwrap().statements, []);
}

#[test]
fn wrong_files_are_named_with_their_line() {
    for (text, line, problem) in [
        ("", 1, "it has no -- +goose Up"),
        ("-- nothing\n", 1, "it has no -- +goose Up"),
        ("\n/* a */\n-- +goose Up\n", 2, "only comments may stand before"),
        (
            "-- +goose Up\n-- +goose Up\n",
            2,
            "+goose Up stands here for the second time",
        ),
        ("-- +goose Down\n", 1, "+goose Down comes before +goose Up"),
        (
            "-- +goose Up\n-- +goose Down\n-- +goose Down\n",
            3,
            "+goose Down stands here for the second time",
        ),
        (
            "-- +goose Up\n  -- +goose Down\n",
            2,
            "a goose directive must begin the line",
        ),
        (
            "-- +goose Up\n-- +goose Sideways\n",
            2,
            "+goose \"Sideways\" is no directive of goose",
        ),
        ("-- +goose Up\n-- +goose\n", 2, "+goose \"\" is no directive"),
        (
            "-- +goose StatementBegin\n-- +goose Up\n",
            1,
            "+goose StatementBegin comes before",
        ),
        (
            "-- +goose Up\n-- +goose StatementEnd\n",
            2,
            "+goose StatementEnd has no StatementBegin",
        ),
        (
            "-- +goose Up\n-- +goose StatementBegin\nSELECT 1;\n",
            2,
            "this +goose StatementBegin has no StatementEnd",
        ),
        (
            "-- +goose Up\n-- +goose StatementBegin\n-- +goose Down\n",
            3,
            "the +goose StatementBegin of line 2",
        ),
        (
            "-- +goose Up\nSELECT 1\n\n-- +goose Down\n",
            2,
            "goose wants a semicolon",
        ),
        (
            "-- +goose Up\nSELECT 1;\nSELECT\n2 -- ;\n",
            3,
            "goose wants a semicolon",
        ),
        (
            "-- +goose ENVSUB ON\n-- +goose Up\nSELECT $1;\n",
            3,
            "a variable's name begins with a letter",
        ),
        (
            "\u{feff}-- +goose Up\nSELECT 1;\n",
            1,
            "the byte order mark before \"-- +goose Up\" hides it",
        ),
    ] {
        let message = refused(&Dir::of(&[("1_a.sql", text)]), Some(Layout::Goose), Sqlite);
        assert!(
            message.starts_with(&format!("read DIR/1_a.sql:{line}: {problem}")),
            "{text:?}: {message}"
        );
    }
}

#[test]
fn a_directive_is_read_as_goose_reads_it() {
    for (line, expected) in [
        ("-- +goose Up", Some(Annotation::Up)),
        ("--+goose up", Some(Annotation::Up)),
        ("-- +goose Up --", Some(Annotation::Up)),
        ("-- +goose  envsub on ", Some(Annotation::EnvsubOn)),
        ("-- goose Up", None),
        ("SELECT 1; -- +goose Up", None),
        ("# +goose Up", None),
    ] {
        assert_eq!(Annotation::of(line), Ok(expected), "{line}");
    }
}

proptest::proptest! {
    /// No line gets lost or moves: what one direction does not show, the other does, or a directive is.
    #[test]
    fn every_line_belongs_to_one_direction(ups in proptest::collection::vec("[a-z]{1,9}", 0..6), downs in proptest::collection::vec("[a-z]{1,9}", 0..6)) {
        let line = |word: &String| format!("SELECT '{word}';\n");
        let text = format!(
            "-- +goose Up\n{}-- +goose Down\n{}",
            ups.iter().map(line).collect::<String>(),
            downs.iter().map(line).collect::<String>(),
        );
        let parts = Parts::of(&text, &Environment::Process).unwrap();
        let down = parts.down.unwrap().section.body.text;
        for (at, line) in text.lines().enumerate() {
            let shown = [parts.up.section.text(), &down].map(|t| t.lines().nth(at).unwrap_or_default() == line);
            proptest::prop_assert_eq!(shown.contains(&true), !line.starts_with("--"), "{}", line);
        }
    }
}
