//! Flyway's rules, as tables.

use std::collections::BTreeMap;

use super::super::test_support::{Dir, file, lines, loaded, refused, versions, why};
use super::super::{Layout, MigrationKind, Programs, SourceOptions, load_with};
use super::{is_callback, parse};
use crate::dialect::Dialect::{Postgres, Sqlite};

#[test]
fn names_give_versions_by_parts() {
    let dir = Dir::named(&[
        "V1_10__late.sql",
        "V1_2__early.sql",
        "below/V7.0_2019_06_14__dated.sql",
        "V005.sql",
        "R__views.sql",
        "R__a_first.sql",
        "U1.2__early.sql",
        "U9__alone.sql",
        "B3__all.sql",
        "V1a__wrong.sql",
        "Views.sql",
        "README.md",
    ]);
    let set = loaded(&dir, Layout::Flyway, Sqlite);
    assert_eq!(
        versions(&set),
        ["1.2", "1.10", "005", "7.0.2019.06.14", "R__a_first", "R__views"]
    );
    assert_eq!(set.latest().unwrap().as_str(), "7.0.2019.06.14");
    assert_eq!(file(set.migrations[0].down.as_ref().unwrap()), "U1.2__early.sql");
    assert_eq!(set.migrations[5].kind, MigrationKind::Repeatable);
    assert_eq!(
        (set.migrations[5].name.as_str(), set.migrations[2].name.as_str()),
        ("views", "")
    );
    assert_eq!(
        set.baselines
            .iter()
            .map(|b| b.version.as_str())
            .collect::<Vec<_>>(),
        ["3"]
    );
    let skipped = set
        .skipped
        .iter()
        .map(|s| s.path.file_name().unwrap().to_str().unwrap());
    assert_eq!(
        skipped.collect::<Vec<_>>(),
        ["README.md", "U9__alone.sql", "V1a__wrong.sql", "Views.sql"]
    );
}

#[test]
fn one_version_is_there_once() {
    for (files, problem) in [
        (
            ["V1__a.sql", "V1.0__b.sql"],
            "order migrations: version 1.0 (up) is there twice: DIR/V1.0__b.sql and DIR/V1__a.sql",
        ),
        (
            ["R__a.sql", "x/R__a.sql"],
            "order migrations: version R__a (up) is there twice: DIR/R__a.sql and DIR/x/R__a.sql",
        ),
        (
            ["U1__a.sql", "U1__b.sql"],
            "order migrations: version 1 (down) is there twice: DIR/U1__a.sql and DIR/U1__b.sql",
        ),
    ] {
        assert_eq!(
            refused(&Dir::named(&files), Some(Layout::Flyway), Sqlite),
            problem
        );
    }
}

#[test]
fn sidecars_say_how_a_file_runs() {
    let dir = Dir::of(&[
        ("V1__a.sql", "SELECT '${x}';"),
        (
            "V1__a.sql.conf",
            "# by hand\nexecuteInTransaction = false\nplaceholderReplacement=false\nencoding=UTF-8\n",
        ),
        ("V2__b.sql", "'"),
        ("V2__b.sql.conf", "shouldExecute=false"),
    ]);
    let set = loaded(&dir, Layout::Flyway, Postgres);
    assert_eq!(versions(&set), ["1"]);
    assert_eq!(
        why(&set.migrations[0].up),
        "its .conf says executeInTransaction=false"
    );
    assert_eq!(lines(&set.migrations[0].up), ["1: SELECT '${x}'"]);
    assert_eq!(set.skipped[0].reason, "its .conf says shouldExecute=false");
    for (conf, line, problem) in [
        ("executeInTransaction=no", 1, "\"no\" is neither true nor false"),
        ("\nexecuteInTransaction", 2, "a setting is needed here: key=value"),
        (
            "# x\nencoding=ISO-8859-1",
            2,
            "encoding \"ISO-8859-1\" is not supported; convert the file to UTF-8",
        ),
        (
            "mixed=true",
            1,
            "setting \"mixed\" is not supported in a file's configuration",
        ),
        (
            "shouldExecute=${env}==prod",
            1,
            "\"${env}==prod\" is neither true nor false",
        ),
    ] {
        let dir = Dir::of(&[("V1__a.sql", "SELECT 1"), ("V1__a.sql.conf", conf)]);
        assert_eq!(
            refused(&dir, Some(Layout::Flyway), Postgres),
            format!("read DIR/V1__a.sql.conf:{line}: {problem}")
        );
    }
}

#[test]
fn another_value_of_a_placeholder_is_an_edit_of_repeatable_migrations_only() {
    let dir = Dir::of(&[("V1__a.sql", "SELECT '${x}';"), ("R__b.sql", "SELECT '${x}';")]);
    let with = |value: &str| {
        let placeholders = BTreeMap::from([("x".to_owned(), value.to_owned())]);
        let options = SourceOptions {
            layout: Some(Layout::Flyway),
            placeholders,
            ..SourceOptions::default()
        };
        load_with(&dir.dirs(), &options, Sqlite).unwrap().migrations
    };
    let (one, two) = (with("1"), with("2"));
    assert_eq!(lines(&two[0].up), ["1: SELECT '2'"]);
    assert_eq!(one[0].up.checksum, two[0].up.checksum);
    assert_ne!(one[1].up.checksum, two[1].up.checksum);
    assert_eq!(
        refused(&dir, Some(Layout::Flyway), Sqlite),
        "read DIR/V1__a.sql:1: placeholder ${x} has no value; give it with --placeholder x=VALUE"
    );
}

#[test]
fn callbacks_are_refused_or_left_out() {
    for (name, expected) in [
        ("beforeMigrate.sql", true),
        ("afterMigrate__grants.sql", true),
        ("afterEachMigrateStatementError.sql", true),
        ("beforeRepeatables.sql", true),
        ("afterMigrateApplied.sql", true),
        ("afterMigrateOperationFinish.sql", false),
        ("createSchema.sql", true),
        ("beforeInfo.sql", false),
        ("migrate.sql", false),
    ] {
        assert_eq!(is_callback(name), expected, "{name}");
    }
    let dir = Dir::named(&["V1__a.sql", "afterMigrate.sql"]);
    assert_eq!(
        refused(&dir, Some(Layout::Flyway), Sqlite),
        "run DIR/afterMigrate.sql: a callback of Flyway is not supported; write it as an SQL migration, or leave it out \
         with --skip-programs"
    );
    let options = SourceOptions {
        layout: Some(Layout::Flyway),
        programs: Programs::Skip,
        ..SourceOptions::default()
    };
    assert_eq!(
        versions(&load_with(&dir.dirs(), &options, Sqlite).unwrap()),
        ["1"]
    );
}

proptest::proptest! {
    /// Every dotted version is read, and ordered by its numbers.
    #[test]
    fn versions_order_by_their_numbers(a in proptest::collection::vec(0_u32..200, 1..5), b in proptest::collection::vec(0_u32..200, 1..5)) {
        let name = |parts: &[u32], between: &str| {
            format!("V{}__x.sql", parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(between))
        };
        let version = |parts: &[u32], between: &str| parse(&name(parts, between)).unwrap().version;
        let padded = |parts: &[u32]| parts.iter().copied().chain(std::iter::repeat(0)).take(5).collect::<Vec<_>>();
        proptest::prop_assert_eq!(
            Layout::Flyway.order().compare(&version(&a, "."), &version(&b, "_")),
            Some(padded(&a).cmp(&padded(&b)))
        );
    }
}
