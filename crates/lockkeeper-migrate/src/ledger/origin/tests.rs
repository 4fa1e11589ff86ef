//! What each tool's rows say, and which rows an applied migration leaves.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::ledger::origin::table::FoundColumn;
use crate::ledger::{EntryState, Extent, Fingerprint};
use crate::source::{Checksum, MigrationKind, Script, TransactionMode};

fn script(file: &str, text: &str) -> Script {
    Script {
        path: format!("migrations/{file}").into(),
        checksum: Checksum::of(text),
        text: text.to_owned(),
        transaction: TransactionMode::Transactional,
        statements: Vec::new(),
        own_transaction: None,
        original: None,
    }
}

fn facts(version: &str, below: Option<&str>) -> Facts {
    let migration = Migration {
        version: version.into(),
        name: "add_users".to_owned(),
        kind: MigrationKind::Versioned,
        up: script("V1_2__add_users.sql", "SELECT 1;"),
        down: Some(script("U1_2__add_users.sql", "SELECT 2;")),
        down_problem: None,
    };
    Facts {
        migration: Arc::new(migration),
        below: below.map(Into::into),
    }
}

/// What a tool writes on PostgreSQL.
fn written(tool: Tool, direction: Direction, version: &str, below: Option<&str>) -> Vec<String> {
    let facts = facts(version, below);
    let event = Event {
        facts: &facts,
        direction,
        how: How::Ran,
        duration: Duration::from_micros(1500),
        at_unix_ms: 1_700_000_000_000,
    };
    let origin = tool.origin();
    sql::changes(&origin.finish(Dialect::Postgres, &event), Dialect::Postgres, "t")
}

fn row(values: &[&str]) -> Row {
    let value = |v: &&str| (*v != "NULL").then(|| (*v).to_owned());
    values.iter().map(value).collect()
}

fn read(tool: Tool, rows: &[&[&str]]) -> Vec<LedgerEntry> {
    let rows: Vec<Row> = rows.iter().map(|values| row(values)).collect();
    tool.origin().read(&rows).unwrap()
}

fn versions(entries: &[LedgerEntry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.version.as_str()).collect()
}

#[test]
fn each_tool_records_in_its_own_way() {
    let up = |tool, version| written(tool, Direction::Up, version, None);
    assert_eq!(up(Tool::Pop, "20"), ["INSERT INTO t (version) VALUES (E'20')"]);
    assert_eq!(
        up(Tool::GolangMigrate, "20"),
        ["TRUNCATE t", "INSERT INTO t (version, dirty) VALUES (20, false)"]
    );
    assert_eq!(
        up(Tool::Goose, "020"),
        ["INSERT INTO t (version_id, is_applied) VALUES (20, true)"]
    );
    assert_eq!(
        up(Tool::Dbmate, "020"),
        ["INSERT INTO t (version) VALUES (E'020')"]
    );
    assert_eq!(
        up(Tool::Diesel, "2024031317"),
        ["INSERT INTO t (version) VALUES (E'2024031317')"]
    );
    let sqlx = &up(Tool::Sqlx, "7")[0];
    assert!(sqlx.starts_with("INSERT INTO t (version, description, success, checksum, execution_time) VALUES (7, E'add users', true, decode('"), "{sqlx}");
    assert!(sqlx.ends_with(", 'hex'), 1500000)"), "{sqlx}");
    let refinery = &up(Tool::Refinery, "7")[0];
    assert!(
        refinery.contains("VALUES (7, E'add_users', E'2023-11-14T22:13:20Z', E'"),
        "{refinery}"
    );
    let flyway = &up(Tool::Flyway, "1.2")[0];
    assert!(
        flyway.contains(", E'1.2', E'add users', E'SQL', E'V1_2__add_users.sql', "),
        "{flyway}"
    );
}

#[test]
fn each_tool_takes_back_in_its_own_way() {
    let down = |tool, below| written(tool, Direction::Down, "20", below);
    assert_eq!(
        down(Tool::GolangMigrate, Some("10")),
        ["TRUNCATE t", "INSERT INTO t (version, dirty) VALUES (10, false)"]
    );
    assert_eq!(down(Tool::GolangMigrate, None), ["TRUNCATE t"]);
    assert_eq!(down(Tool::Goose, None), ["DELETE FROM t WHERE version_id = 20"]);
    assert_eq!(down(Tool::Sqlx, None), ["DELETE FROM t WHERE version = 20"]);
    let flyway = &down(Tool::Flyway, None)[0];
    assert!(flyway.contains("E'UNDO_SQL', E'U1_2__add_users.sql'"), "{flyway}");
    let pop = written(Tool::Pop, Direction::Down, "20191100000001000000", None);
    assert_eq!(
        pop,
        [
            "DELETE FROM t WHERE version = E'20191100000001000000'",
            "DELETE FROM t WHERE version = E'20191100000001'"
        ]
    );
}

#[test]
fn golang_migrate_is_dirty_while_a_file_runs() {
    let facts = facts("20", None);
    let event = Event {
        facts: &facts,
        direction: Direction::Down,
        how: How::Ran,
        duration: Duration::ZERO,
        at_unix_ms: 0,
    };
    let begin = Tool::GolangMigrate.origin().begin(Dialect::MySql, &event);
    assert_eq!(
        sql::changes(&begin, Dialect::MySql, "t"),
        ["DELETE FROM t", "INSERT INTO t (version, dirty) VALUES (-1, 1)"]
    );
}

#[test]
fn goose_counts_the_newest_row_of_a_version() {
    let rows: [&[&str]; 5] = [
        &["0", "1", "1700000000000", "1"],
        &["1", "1", "1700000000000", "2"],
        &["2", "1", "1700000000000", "3"],
        &["1", "0", "1700000000000", "4"],
        &["3", "1", "NULL", "5"],
    ];
    let entries = read(Tool::Goose, &rows);
    assert_eq!(versions(&entries), ["2", "3"]);
    assert_eq!(entries[0].applied_at_unix_ms, 1_700_000_000_000);
}

#[test]
fn flyway_has_the_last_word_in_its_last_row() {
    let of = |version: &'static str, kind: &'static str, success: &'static str| {
        [version, "d", kind, "-5", "me", "1", "2", success, "1", "s"]
    };
    let rows = [
        of("NULL", "SCHEMA", "1"),
        of("1", "BASELINE", "1"),
        of("2", "SQL", "1"),
        of("3", "SQL", "1"),
        of("3", "UNDO_SQL", "1"),
        of("4", "SQL", "0"),
    ];
    let rows: Vec<&[&str]> = rows.iter().map(<[_; 10]>::as_slice).collect();
    let entries = read(Tool::Flyway, &rows);
    assert_eq!(versions(&entries), ["1", "2", "4"]);
    assert_eq!((entries[0].extent, entries[0].how), (Extent::UpTo, How::Baseline));
    assert_eq!(
        entries[1].checksum_up,
        Fingerprint::Tool(ToolSum::Crc32("-5".to_owned()))
    );
    assert_eq!(entries[2].state, EntryState::Dirty(Tool::Flyway));
}

#[test]
fn several_rows_are_not_golang_migrates() {
    let rows = [row(&["1", "0"]), row(&["2", "0"])];
    let error = Tool::GolangMigrate.origin().read(&rows).unwrap_err();
    assert!(error.contains("2 rows"), "{error}");
}

#[test]
fn two_tools_share_a_table_name_and_not_its_shape() {
    let found = |names: &[(&str, bool)]| -> Vec<FoundColumn> {
        let column = |(name, required): &(&str, bool)| FoundColumn {
            name: (*name).to_owned(),
            required: *required,
        };
        names.iter().map(column).collect()
    };
    let dbmate = found(&[("version", true)]);
    let golang_migrate = found(&[("version", true), ("dirty", true)]);
    let altered = found(&[("version", true), ("note", false)]);
    let shape =
        |tool: Tool, found: &[FoundColumn]| sql::shape(tool.origin(), found).map_err(|e| e.to_string());
    assert_eq!(
        Tool::Dbmate.origin().table(),
        Tool::GolangMigrate.origin().table()
    );
    assert_eq!(shape(Tool::Dbmate, &dbmate), Ok(()));
    assert_eq!(shape(Tool::Dbmate, &altered), Ok(()));
    assert_eq!(
        shape(Tool::Dbmate, &golang_migrate),
        Err("column dirty needs a value that the tool never writes".to_owned())
    );
    assert_eq!(
        shape(Tool::GolangMigrate, &dbmate),
        Err("column dirty is missing".to_owned())
    );
}
