//! The next version and its files, per layout.

use jiff::Timestamp;
use lockkeeper_migrate::source::Layout;

use super::Numbering::{Sequential, Timestamp as Stamp};
use super::{NamingError, Numbering, files, next_version};

fn now() -> Timestamp {
    "2026-11-25T07:08:09Z".parse().unwrap()
}

fn next(layout: Layout, names: &[&str], numbering: Option<Numbering>) -> Result<String, NamingError> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    next_version(layout, &names, numbering, None, now())
}

#[test]
fn an_empty_directory_gets_what_its_tool_would_give() {
    for (layout, version, sequential) in [
        (Layout::Pop, "20261125070809", None),
        (Layout::GolangMigrate, "20261125070809", Some("000001")),
        (Layout::Goose, "20261125070809", Some("00001")),
        (Layout::Dbmate, "20261125070809", None),
        (Layout::Sqlx, "20261125070809", Some("0001")),
        (Layout::Refinery, "1", Some("1")),
        (Layout::Flyway, "1", Some("1")),
        (Layout::Diesel, "2026-11-25-070809", None),
    ] {
        assert_eq!(next(layout, &[], None).unwrap(), version, "{layout}");
        match sequential {
            Some(version) => assert_eq!(next(layout, &[], Some(Sequential)).unwrap(), version),
            None => {
                let error = next(layout, &[], Some(Sequential)).unwrap_err();
                assert_eq!(error, NamingError::TimestampsOnly { layout });
            }
        }
    }
}

#[test]
fn a_directory_goes_on_as_it_began() {
    for (layout, names, version) in [
        (Layout::GolangMigrate, &["9_a.up.sql", "10_b.up.sql"][..], "11"),
        (Layout::GolangMigrate, &["000009_a.up.sql"], "000010"),
        (Layout::Goose, &["00099_a.sql", "README.md"], "00100"),
        (Layout::Sqlx, &["20200101000000_a.sql"], "20261125070809"),
        (
            Layout::Pop,
            &["20191100000001000000_a.up.sql"],
            "20261125070809000000",
        ),
        (
            Layout::Pop,
            &["20991100000001000000_a.up.sql"],
            "20991100000001000001",
        ),
        (Layout::Refinery, &["V1__a.sql", "V2__b.sql"], "3"),
        (Layout::Flyway, &["V9__a.sql", "V10__b.sql", "R__view.sql"], "11"),
        (
            Layout::Diesel,
            &["00000000000000_diesel_initial_setup"],
            "2026-11-25-070809",
        ),
        (Layout::Diesel, &["2030-01-01-000000_a"], "2030-01-01-000001"),
        (Layout::Dbmate, &["20261125070809_a.sql"], "20261125070810"),
    ] {
        assert_eq!(next(layout, names, None).unwrap(), version, "{layout} {names:?}");
    }
}

#[test]
fn what_is_ambiguous_is_refused_until_it_is_told() {
    let mixed = ["00001_a.sql", "20200101000000_b.sql"];
    let error = next(Layout::Goose, &mixed, None).unwrap_err();
    assert!(matches!(error, NamingError::Mixed { .. }), "{error}");
    assert_eq!(
        next(Layout::Goose, &mixed, Some(Stamp)).unwrap(),
        "20261125070809"
    );
    let error = next(Layout::Flyway, &["V1.2__a.sql"], None).unwrap_err();
    assert!(matches!(error, NamingError::NoSuccessor { .. }), "{error}");
    let told = |asked| {
        next_version(
            Layout::Flyway,
            &["V1.2__a.sql".to_owned()],
            None,
            Some(asked),
            now(),
        )
    };
    assert_eq!(told("1.10").unwrap(), "1.10");
    assert!(matches!(told("1.1"), Err(NamingError::NotAbove { .. })));
    assert!(matches!(told("1;2"), Err(NamingError::Form { .. })));
}

#[test]
fn both_directions_where_the_layout_has_them() {
    let paths = |layout, names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let files = files(layout, &names, "7", "add_x");
        files
            .iter()
            .map(|file| file.path.display().to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(paths(Layout::Pop, &[]), ["7_add_x.up.sql", "7_add_x.down.sql"]);
    assert_eq!(paths(Layout::Goose, &[]), ["7_add_x.sql"]);
    assert_eq!(paths(Layout::Sqlx, &["1_a.sql"]), ["7_add_x.sql"]);
    assert_eq!(paths(Layout::Sqlx, &["1_a.up.sql", "1_a.down.sql"]).len(), 2);
    assert_eq!(paths(Layout::Flyway, &[]), ["V7__add_x.sql", "U7__add_x.sql"]);
    assert_eq!(paths(Layout::Diesel, &[]), ["7_add_x/up.sql", "7_add_x/down.sql"]);
}
