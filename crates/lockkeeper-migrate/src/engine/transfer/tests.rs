//! Taking histories over, and refusing to where they leave a doubt.

use super::*;
use crate::ledger::Tool;
use crate::source::{Layout, load};

fn set() -> MigrationSet {
    let dir = tempfile::tempdir().unwrap();
    for version in 1..=4 {
        let path = dir.path().join(format!("{version}_m.up.sql"));
        std::fs::write(path, format!("SELECT {version};")).unwrap();
    }
    let dialect = crate::dialect::Dialect::Sqlite;
    load(&[dir.path().to_owned()], Some(Layout::GolangMigrate), dialect).unwrap()
}

fn goose(versions: &[&str]) -> Vec<LedgerEntry> {
    let row = |v: &&str| {
        [v, "1", "1700000000000", "1"]
            .map(|c| Some(c.to_owned()))
            .to_vec()
    };
    let rows: Vec<_> = versions.iter().map(row).collect();
    Tool::Goose.origin().read(&rows).unwrap()
}

fn golang(version: &str, dirty: &str) -> Vec<LedgerEntry> {
    let row = vec![Some(version.to_owned()), Some(dirty.to_owned())];
    Tool::GolangMigrate.origin().read(&[row]).unwrap()
}

fn side(tool: Option<Tool>, entries: &[LedgerEntry]) -> Side<'_> {
    Side {
        ledger: tool.map_or(LedgerChoice::Own, LedgerChoice::Tool),
        entries,
    }
}

fn versions(writes: &[LedgerWrite]) -> Vec<&str> {
    writes.iter().map(|write| write.version.as_str()).collect()
}

#[test]
fn a_tools_rows_become_entries_of_ours() {
    let rows = golang("3", "0");
    let writes = transfer(
        &set(),
        side(Some(Tool::GolangMigrate), &rows),
        side(None, &[]),
        "me",
    )
    .unwrap();
    assert_eq!(versions(&writes), ["1", "2", "3"]);
    assert_eq!(writes[0].provenance.how, How::Adopted);
    let rows = goose(&["1"]);
    let writes = transfer(&set(), side(Some(Tool::Goose), &rows), side(None, &[]), "me").unwrap();
    assert_eq!(writes[0].provenance.applied_at_unix_ms, Some(1_700_000_000_000));
}

#[test]
fn what_is_there_already_is_not_written_again() {
    let (from, to) = (goose(&["1", "2"]), goose(&["1"]));
    let writes = transfer(&set(), side(None, &from), side(Some(Tool::Goose), &to), "me").unwrap();
    assert_eq!(versions(&writes), ["2"]);
}

#[test]
fn a_doubt_is_named_and_nothing_taken_over() {
    let refusal = |from: &[LedgerEntry], to: Side<'_>| {
        transfer(&set(), side(Some(Tool::Goose), from), to, "me")
            .unwrap_err()
            .to_string()
    };
    let dirty = refusal(&golang("3", "1"), side(None, &[]));
    assert!(
        dirty.starts_with("take over version 3: golang-migrate marked it as failed half-way (dirty)"),
        "{dirty}"
    );
    assert!(dirty.contains("migrate force VERSION"), "{dirty}");
    let unknown = refusal(&goose(&["1", "9"]), side(None, &[]));
    assert_eq!(unknown, "take over version 9: the directory has no such version");
    let ahead = goose(&["1", "2"]);
    let ahead = refusal(&goose(&["1"]), side(None, &ahead));
    assert_eq!(
        ahead,
        "take over the history: own has version 2, which goose lacks; one of them has gone on without the other"
    );
    let gap = refusal(&goose(&["1", "3"]), side(Some(Tool::GolangMigrate), &[]));
    assert!(
        gap.starts_with("take over the history: version 2 not applied below version 3"),
        "{gap}"
    );
}

#[test]
fn a_baseline_marks_what_is_not_applied() {
    let set = set();
    let writes = baseline(&set, &goose(&["1"]), &"3".into(), "me").unwrap();
    assert_eq!(versions(&writes), ["2", "3"]);
    assert_eq!(writes[0].provenance.how, How::Baseline);
    let error = baseline(&set, &[], &"7".into(), "me").unwrap_err().to_string();
    assert_eq!(
        error,
        "set the baseline to version 7: there is no such version in the directory"
    );
    let error = baseline(&set, &goose(&["3"]), &"2".into(), "me")
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "set the baseline to version 2: version 3 above it is applied already"
    );
}
