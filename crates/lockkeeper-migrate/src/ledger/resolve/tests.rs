//! What rows that stand for several versions become.

use super::*;
use crate::ledger::Tool;
use crate::source::{Checksum, Layout, MigrationKind, OutOfOrder, Script, TransactionMode};

fn set(order: VersionOrder, versions: &[&str]) -> MigrationSet {
    let script = |version: &str| Script {
        path: format!("{version}.sql").into(),
        checksum: Checksum::of(version),
        text: version.to_owned(),
        transaction: TransactionMode::Transactional,
        statements: Vec::new(),
        own_transaction: None,
        original: None,
    };
    let migration = |version: &&str| Migration {
        version: (*version).into(),
        name: format!("m{version}"),
        kind: MigrationKind::Versioned,
        up: script(version),
        down: None,
        down_problem: None,
    };
    MigrationSet {
        layout: Layout::Pop,
        order,
        baselines: Vec::new(),
        out_of_order: OutOfOrder::Refuse,
        migrations: versions.iter().map(migration).map(Arc::new).collect(),
        skipped: Vec::new(),
        accepted: Vec::new(),
    }
}

fn entries(tool: Tool, versions: &[&str]) -> Vec<LedgerEntry> {
    let rows: Vec<_> = versions
        .iter()
        .map(|v| vec![Some((*v).to_owned()), Some("0".to_owned())])
        .collect();
    tool.origin().read(&rows).unwrap()
}

fn versions(entries: &[LedgerEntry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.version.as_str()).collect()
}

#[test]
fn one_row_of_golang_migrate_means_all_up_to_it() {
    let set = set(VersionOrder::Numeric, &["1", "2", "10"]);
    let row = entries(Tool::GolangMigrate, &["2"]);
    assert_eq!(versions(&resolve(&set, &row)), ["1", "2"]);
    assert!(holds(&row, VersionOrder::Numeric, &"1".into()));
    assert!(!holds(&row, VersionOrder::Numeric, &"10".into()));
    // A version that the directory lacks is kept, so that the plan can name it.
    let row = entries(Tool::GolangMigrate, &["7"]);
    assert_eq!(versions(&resolve(&set, &row)), ["1", "2", "7"]);
}

#[test]
fn fourteen_digits_of_pop_mean_every_version_that_begins_so() {
    let all = [
        "20191100000001000000",
        "20191100000001000001",
        "20200101000000000000",
        "20210101000000",
    ];
    let set = set(VersionOrder::Lexical, &all);
    let rows = entries(
        Tool::Pop,
        &["20191100000001", "20191100000001000001", "20210101000000"],
    );
    let resolved = resolve(&set, &rows);
    assert_eq!(
        versions(&resolved),
        ["20191100000001000000", "20191100000001000001", "20210101000000"]
    );
    let without = without_own_row(&set, &rows);
    assert_eq!(without.len(), 1);
    assert_eq!(without[0].version.as_str(), "20191100000001000000");
    // Nothing begins with it: the database is ahead of the directory.
    let unknown = entries(Tool::Pop, &["20300101000000"]);
    assert_eq!(versions(&resolve(&set, &unknown)), ["20300101000000"]);
}

#[test]
fn a_row_that_says_dirty_stands_for_nothing() {
    let set = set(VersionOrder::Numeric, &["1", "2"]);
    let rows = vec![vec![Some("2".to_owned()), Some("1".to_owned())]];
    let dirty = Tool::GolangMigrate.origin().read(&rows).unwrap();
    assert_eq!(versions(&resolve(&set, &dirty)), ["2"]);
    assert!(!holds(&dirty, VersionOrder::Numeric, &"1".into()));
}
