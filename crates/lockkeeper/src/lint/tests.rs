//! Findings, per rule, from directories as people have them.

use std::time::Duration;

use lockkeeper_migrate::dialect::Dialect;
use lockkeeper_migrate::source::{Checksum, Layout, Migration};

use super::*;

/// Lints golang-migrate's pairs: `(file's name, text)`.
fn found(dialect: Dialect, files: &[(&str, &str)], options: &Options) -> Vec<Finding> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let set = load(&[dir.path().to_owned()], dialect);
    let migrations: Vec<&Migration> = set.migrations.iter().map(AsRef::as_ref).collect();
    lint(&set, dialect, &migrations, options)
}

fn load(dirs: &[std::path::PathBuf], dialect: Dialect) -> MigrationSet {
    lockkeeper_migrate::source::load(dirs, Some(Layout::GolangMigrate), dialect).unwrap()
}

/// `line rule` of what is not silenced.
fn lines(found: &[Finding]) -> Vec<String> {
    let open = found.iter().filter(|finding| finding.silenced.is_none());
    open.map(|finding| format!("{} {}", finding.line, finding.rule.name()))
        .collect()
}

fn of_text(dialect: Dialect, text: &str) -> Vec<String> {
    lines(&found(
        dialect,
        &[("1_a.up.sql", text), ("1_a.down.sql", "SELECT 1")],
        &Options::default(),
    ))
}

#[test]
fn a_migration_without_a_way_back_is_named() {
    let options = Options::default();
    let up = ("1_a.up.sql", "CREATE TABLE t (a INT);");
    assert_eq!(
        lines(&found(Dialect::Sqlite, &[up], &options)),
        ["1 irreversible"]
    );
    let empty = ("1_a.down.sql", "-- nothing\n");
    assert_eq!(
        lines(&found(Dialect::Sqlite, &[up, empty], &options)),
        ["1 irreversible"]
    );
    let down = ("1_a.down.sql", "DROP TABLE t;");
    assert_eq!(
        lines(&found(Dialect::Sqlite, &[up, down], &options)),
        Vec::<String>::new()
    );
}

#[test]
fn a_contract_step_is_an_error_when_an_old_release_is_in_use() {
    let files = [
        ("7_a.up.sql", "SELECT 1;\nALTER TABLE t DROP COLUMN a;"),
        ("7_a.down.sql", "SELECT 1"),
    ];
    let levels = |oldest: Option<&str>| {
        let options = Options {
            oldest_in_use: oldest.map(Into::into),
            budget: None,
        };
        let found = found(Dialect::MySql, &files, &options);
        let contract = found.iter().filter(|finding| finding.rule == Rule::ContractStep);
        contract
            .map(|finding| (finding.line, finding.level))
            .collect::<Vec<_>>()
    };
    assert_eq!(levels(None), [(2, Level::Warning)]);
    assert_eq!(levels(Some("6")), [(2, Level::Error)]);
    assert_eq!(levels(Some("7")), []);
}

#[test]
fn squawk_knows_whether_the_file_runs_in_a_transaction() {
    let index = "CREATE INDEX i ON t (a);";
    assert!(of_text(Dialect::Postgres, index).contains(&"1 require-concurrent-index-creation".to_owned()));
    let concurrently = of_text(Dialect::Postgres, "CREATE INDEX CONCURRENTLY i ON t (a);");
    assert_eq!(
        concurrently,
        Vec::<String>::new(),
        "it runs without a transaction"
    );
    let own = of_text(Dialect::Postgres, "BEGIN;\nCREATE TABLE t (a text);\nCOMMIT;");
    assert_eq!(own, Vec::<String>::new(), "its own transaction is no nested one");
}

#[test]
fn a_silence_needs_a_reason_and_something_to_silence() {
    let drop = "\nDROP TABLE t;\n";
    let with = |comment: &str| of_text(Dialect::Sqlite, &format!("SELECT 1;\n{comment}{drop}"));
    assert_eq!(with(""), ["3 needs-fence", "3 contract-step"]);
    assert_eq!(
        with("-- lockkeeper:ignore contract-step, needs-fence: nobody has used it since 2.4"),
        Vec::<String>::new()
    );
    assert_eq!(
        with("-- lockkeeper:ignore contract-step"),
        ["2 silence-without-reason", "3 needs-fence", "3 contract-step"]
    );
    assert_eq!(
        with("-- lockkeeper:ignore irreversible: there is a way back"),
        ["2 unused-silence", "3 needs-fence", "3 contract-step"]
    );
    let elsewhere = "-- lockkeeper:ignore contract-step: not this one\nSELECT 1;\nDROP TABLE t;\n";
    assert_eq!(
        of_text(Dialect::Sqlite, elsewhere),
        ["1 unused-silence", "3 needs-fence", "3 contract-step"],
        "a silence is for the statement that it stands above"
    );
    let squawk = "-- squawk-ignore require-concurrent-index-creation\nCREATE INDEX i ON t (a);";
    assert_eq!(of_text(Dialect::Postgres, squawk), ["2 needs-fence"]);
    let own = "-- lockkeeper:ignore require-concurrent-index-creation: t is empty\nCREATE INDEX i ON t (a);";
    assert_eq!(of_text(Dialect::Postgres, own), ["2 needs-fence"]);
}

#[test]
fn the_rehearsals_times_are_held_against_the_budget() {
    let files = [
        ("1_online.up.sql", "CREATE TABLE t (a INT);"),
        ("1_online.down.sql", "DROP TABLE t;"),
        ("2_fenced.up.sql", "UPDATE u SET a = 1;"),
        ("2_fenced.down.sql", "SELECT 1;"),
        ("3_fenced.up.sql", "UPDATE u SET a = 2;"),
        ("3_fenced.down.sql", "SELECT 1;"),
    ];
    let over = |times: &[(&str, u64)], limit: u64| {
        let times = times.iter().map(|(version, ms)| {
            let of_version = |(name, _): &&(&str, &str)| name.starts_with(version) && name.contains("up");
            let (_, text) = files.iter().find(of_version).unwrap();
            let key = ((*version).into(), Checksum::of(text).0);
            (key, Duration::from_millis(*ms))
        });
        let budget = Budget {
            limit: Duration::from_millis(limit),
            rehearsed: Rehearsed(times.collect()),
        };
        let options = Options {
            oldest_in_use: None,
            budget: Some(budget),
        };
        let found = found(Dialect::Sqlite, &files, &options);
        let budget = found
            .iter()
            .filter(|f| matches!(f.rule, Rule::OverBudget | Rule::NotRehearsed));
        budget
            .map(|f| format!("{}: {}", f.rule.name(), f.message))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        over(&[("1", 9000), ("2", 40), ("3", 50)], 100),
        Vec::<String>::new()
    );
    assert_eq!(
        over(&[("2", 400), ("3", 50)], 100),
        ["over-budget: took 400 ms in the rehearsal, over the fence budget of 100 ms"]
    );
    assert_eq!(
        over(&[("2", 60), ("3", 50)], 100),
        [
            "over-budget: all that need a fence took 110 ms together in the rehearsal, over the fence budget of 100 ms"
        ]
    );
    assert_eq!(
        over(&[("2", 60)], 100),
        ["not-rehearsed: the rehearsal does not know version 3 as its file is now"]
    );
}
