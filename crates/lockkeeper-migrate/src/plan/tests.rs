//! Plans, status and verification as tables: a source of versions 1 to 5, and what the ledger says.

use lockkeeper_core::version::VersionOrder;

use super::*;
use crate::ledger::Extent;
use crate::source::{Checksum, Layout, MigrationKind, Script, TransactionMode};

fn script(version: &str, direction: Direction) -> Script {
    let text = format!("SELECT '{version} {direction}';");
    Script {
        path: format!("dir/{version}_m.{direction}.sql").into(),
        checksum: Checksum::of(&text),
        text,
        transaction: TransactionMode::Transactional,
        statements: Vec::new(),
        own_transaction: None,
        original: None,
    }
}

fn set(versions: &[&str]) -> MigrationSet {
    let migration = |version: &&str| Migration {
        version: (*version).into(),
        name: format!("m{version}"),
        kind: MigrationKind::Versioned,
        up: script(version, Direction::Up),
        // Version 2 cannot be taken back.
        down: (*version != "2").then(|| script(version, Direction::Down)),
    };
    MigrationSet {
        layout: Layout::GolangMigrate,
        order: VersionOrder::Numeric,
        baselines: Vec::new(),
        out_of_order: crate::source::OutOfOrder::Refuse,
        migrations: versions.iter().map(migration).map(Arc::new).collect(),
        skipped: Vec::new(),
        accepted: Vec::new(),
    }
}

fn five() -> MigrationSet {
    set(&["1", "2", "3", "9", "10"])
}

fn entry(version: &str) -> LedgerEntry {
    LedgerEntry {
        version: version.into(),
        name: format!("m{version}"),
        checksum_up: script(version.trim_start_matches('0'), Direction::Up)
            .checksum
            .into(),
        applied_at_unix_ms: 0,
        duration_ms: 0,
        applied_by: "test".into(),
        leader_epoch: None,
        layout: "golang-migrate".into(),
        warnings: 0,
        state: EntryState::Applied,
        how: How::Ran,
        extent: Extent::One,
    }
}

fn ledger(versions: &[&str]) -> Vec<LedgerEntry> {
    versions.iter().map(|v| entry(v)).collect()
}

fn doubtful(version: &str, statement: u32) -> LedgerEntry {
    LedgerEntry {
        state: EntryState::InDoubt { statement },
        ..entry(version)
    }
}

fn edited(version: &str) -> LedgerEntry {
    LedgerEntry {
        checksum_up: Checksum("0".into()).into(),
        ..entry(version)
    }
}

/// A plan as text: `from -> to: +version -version`.
fn outcome(set: &MigrationSet, ledger: &[LedgerEntry], goal: &Goal) -> String {
    let text = |v: &Option<SchemaVersion>| v.as_ref().map_or("none".to_owned(), ToString::to_string);
    match plan(set, ledger, goal) {
        Err(error) => error.to_string(),
        Ok(Plan { steps, from, to, .. }) => {
            let sign = |d| if d == Direction::Up { '+' } else { '-' };
            let steps = steps
                .iter()
                .map(|s| format!(" {}{}", sign(s.direction), s.migration.version));
            format!("{} -> {}:{}", text(&from), text(&to), steps.collect::<String>())
        }
    }
}

#[test]
fn goals_become_steps() {
    let to = |v: &str| Goal::To(v.into());
    let down_to = |v: &str| Goal::DownTo(Some(v.into()));
    for (applied, goal, expected) in [
        (&[][..], Goal::Latest, "none -> 10: +1 +2 +3 +9 +10"),
        (&["1", "2", "3"], Goal::Latest, "3 -> 10: +9 +10"),
        (&["1", "2", "3", "9", "10"], Goal::Latest, "10 -> 10:"),
        (&["01", "002"], to("009"), "2 -> 9: +3 +9"),
        (&["1"], to("1"), "1 -> 1:"),
        (
            &["1", "2"],
            to("1"),
            "plan up to version 1: the database is at 2 already; to go back, use down",
        ),
        (
            &["1"],
            to("4"),
            "plan to version 4: there is no such version in the directory",
        ),
        (
            &["1"],
            to("x"),
            "plan to version x: there is no such version in the directory",
        ),
        (&["1", "2", "3", "9", "10"], Goal::DownSteps(2), "10 -> 3: -10 -9"),
        (&["1"], Goal::DownSteps(7), "1 -> none: -1"),
        (&[], Goal::DownSteps(1), "none -> none:"),
        (
            &["1"],
            Goal::DownSteps(0),
            "plan down by 0 steps: say how many, at least 1",
        ),
        (
            &["1", "2", "3"],
            Goal::DownSteps(2),
            "plan down over version 2: dir/2_m.up.sql has no down migration",
        ),
        (&["1", "2", "3", "9"], down_to("2"), "9 -> 2: -9 -3"),
        (&["1", "2", "3"], down_to("3"), "3 -> 3:"),
        (
            &["1", "2"],
            down_to("9"),
            "plan down to version 9: it is not applied",
        ),
        (
            &["1", "2"],
            down_to("8"),
            "plan to version 8: there is no such version in the directory",
        ),
        (
            &["1", "2"],
            Goal::DownTo(None),
            "plan down over version 2: dir/2_m.up.sql has no down migration",
        ),
        (&["1"], Goal::DownTo(None), "1 -> none: -1"),
        // A gap below does not stop a way down, which names what is really applied.
        (&["1", "3", "10"], Goal::DownSteps(2), "10 -> 1: -10 -3"),
    ] {
        assert_eq!(
            outcome(&five(), &ledger(applied), &goal),
            expected,
            "{applied:?} {goal:?}"
        );
    }
}

#[test]
fn every_doubt_stops_every_goal() {
    let digest = |version: &str| script(version, Direction::Up).checksum;
    for (rows, expected) in [
        (
            vec![entry("1"), doubtful("2", 3)],
            "plan past version 2: its statement 3 is in doubt; resolve it as done or not done first".to_owned(),
        ),
        (
            vec![entry("1"), edited("2"), entry("3")],
            format!(
                "plan over version 2: dir/2_m.up.sql was edited after it was applied (applied 0, now {}); restore the \
                 file, or make the change a new migration, or accept it with accept-edit",
                digest("2")
            ),
        ),
        (
            vec![entry("1"), entry("4"), entry("11")],
            "plan for this database: it is ahead of the directory, which lacks versions 4, 11; use the directory of the \
             newer release"
                .to_owned(),
        ),
    ] {
        for goal in [Goal::Latest, Goal::To("10".into()), Goal::DownSteps(1), Goal::DownTo(None)] {
            assert_eq!(outcome(&five(), &rows, &goal), expected);
        }
    }
}

#[test]
fn pending_versions_below_an_applied_one_are_refused_by_name() {
    let expected = "plan pending versions 2, 3: below version 9, which is applied already";
    for goal in [Goal::Latest, Goal::To("9".into()), Goal::To("1".into())] {
        assert_eq!(outcome(&five(), &ledger(&["1", "9"]), &goal), expected);
    }
}

#[test]
fn status_has_a_row_for_every_version_of_either_side() {
    let rows = vec![entry("1"), edited("2"), entry("4"), doubtful("9", 1), entry("x")];
    let found = status(&five(), &rows);
    let found = found
        .iter()
        .map(|r| (r.version.as_str(), r.name.as_str(), r.status))
        .collect::<Vec<_>>();
    assert_eq!(
        found,
        [
            ("1", "m1", VersionStatus::Applied),
            ("2", "m2", VersionStatus::Edited),
            ("3", "m3", VersionStatus::Pending),
            ("4", "m4", VersionStatus::Missing),
            ("9", "m9", VersionStatus::InDoubt),
            ("10", "m10", VersionStatus::Pending),
            ("x", "mx", VersionStatus::Missing),
        ]
    );
}

#[test]
fn verification_wants_exactly_the_plan() {
    let check = |rows: &[LedgerEntry], expected: Option<&str>| {
        let expected = expected.map(SchemaVersion::from);
        verify(&five(), rows, expected.as_ref()).map_or_else(|e| e.to_string(), |()| "ok".to_owned())
    };
    for (rows, expected, outcome) in [
        (ledger(&[]), None, "ok"),
        (ledger(&["1", "2", "3"]), Some("3"), "ok"),
        (ledger(&["1", "2", "3"]), Some("003"), "ok"),
        (
            ledger(&["1", "2"]),
            Some("9"),
            "verify the ledger: versions 3, 9 not applied",
        ),
        (
            ledger(&["1", "3"]),
            Some("3"),
            "verify the ledger: version 2 not applied",
        ),
        (
            ledger(&["1", "2", "3"]),
            Some("2"),
            "verify the ledger: version 3 applied, which the plan does not have",
        ),
        (
            ledger(&["1"]),
            None,
            "verify the ledger: version 1 applied, which the plan does not have",
        ),
        (
            ledger(&["1", "2", "4"]),
            Some("2"),
            "verify the ledger: version 4 applied, which the plan does not have",
        ),
        (
            ledger(&["1", "3", "2"]),
            Some("3"),
            "verify the ledger: version 3 was applied before version 2",
        ),
        (
            ledger(&["1", "2"]),
            Some("7"),
            "verify version 7: the directory has no such version",
        ),
        (
            vec![entry("1"), doubtful("2", 4)],
            Some("2"),
            "verify version 2: its statement 4 is in doubt",
        ),
    ] {
        assert_eq!(check(&rows, expected), outcome, "{expected:?}");
    }
    assert!(
        check(&[edited("1")], Some("1"))
            .starts_with("verify version 1: dir/1_m.up.sql is not what was applied")
    );
    // A version that is recorded twice is out of order, whoever wrote it.
    assert_eq!(
        check(&ledger(&["1", "1"]), Some("1")),
        "verify the ledger: version 1 was applied before version 1"
    );
}
