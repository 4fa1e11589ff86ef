//! Plans, status and verification as tables: a source of versions 1 to 5, and what the ledger says.

use lockkeeper_core::version::VersionOrder;

use super::*;
use crate::ledger::{Extent, How};
use crate::source::{Checksum, Layout, MigrationKind, OutOfOrder, Script, TransactionMode};

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
        down_problem: None,
    };
    MigrationSet {
        layout: Layout::GolangMigrate,
        order: VersionOrder::Numeric,
        baselines: Vec::new(),
        out_of_order: OutOfOrder::Refuse,
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
fn a_way_back_that_cannot_be_split_stops_down_and_says_where() {
    let mut set = set(&["1", "2"]);
    let broken = Migration {
        down: None,
        down_problem: Some("dir/2_m.down.sql:3: a string is not closed".to_owned()),
        ..(*set.migrations[1]).clone()
    };
    set.migrations[1] = Arc::new(broken);
    let history = ["1", "2"].map(entry);
    assert!(plan(&set, &history, &Goal::Latest).is_ok());
    assert_eq!(
        plan(&set, &history, &Goal::DownSteps(1)).unwrap_err().to_string(),
        "plan down over version 2: its down migration cannot be used: \
         dir/2_m.down.sql:3: a string is not closed"
    );
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
    let expected = "plan pending versions 2, 3: below version 9, which is applied already; give what is late a higher \
                    version, or apply it all the same with --allow-out-of-order";
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
            "verify the ledger: version 3 was applied before version 2; if that was meant, allow it with allow_out_of_order",
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
        "verify the ledger: version 1 was applied before version 1; if that was meant, allow it with allow_out_of_order"
    );
}

/// A source such as Flyway's: versions, a baseline at 3, and a repeatable migration.
fn flyway(with_baseline: &[&str]) -> MigrationSet {
    let mut found = set(&["1", "2", "3", "4"]);
    found.layout = Layout::Flyway;
    found.order = VersionOrder::Parts;
    let other = |version: SchemaVersion, kind| {
        let mut up = script(version.as_str(), Direction::Up);
        up.path = format!("dir/{kind:?}{version}.sql").into();
        up.checksum = Checksum::of(&format!("{kind:?} {version}"));
        Arc::new(Migration {
            name: format!("m{version}"),
            kind,
            up,
            down: None,
            down_problem: None,
            version,
        })
    };
    found.migrations.push(other(
        SchemaVersion::repeatable("views"),
        MigrationKind::Repeatable,
    ));
    found.baselines = with_baseline
        .iter()
        .map(|v| other((*v).into(), MigrationKind::Baseline))
        .collect();
    found
}

fn entry_of(migration: &Migration) -> LedgerEntry {
    let mut entry = entry("1");
    entry.version = migration.version.clone();
    entry.checksum_up = migration.up.checksum.clone().into();
    entry
}

fn steps(plan: &Plan) -> Vec<&str> {
    plan.steps.iter().map(|s| s.migration.version.as_str()).collect()
}

#[test]
fn a_baseline_stands_for_everything_up_to_it_on_an_empty_ledger_only() {
    let source = flyway(&["2", "3"]);
    let planned = plan(&source, &[], &Goal::Latest).unwrap();
    assert_eq!(steps(&planned), ["3", "4", "R__views"]);
    assert_eq!(planned.steps[0].migration.kind, MigrationKind::Baseline);
    assert_eq!((planned.from, planned.to), (None, Some("4".into())));
    // A goal below it is reached with the baseline below the goal, or without any.
    assert_eq!(
        steps(&plan(&source, &[], &Goal::To("2".into())).unwrap()),
        ["2", "R__views"]
    );
    assert_eq!(
        steps(&plan(&source, &[], &Goal::To("1".into())).unwrap()),
        ["1", "R__views"]
    );
    // What began without it goes on without it.
    let ledger = [entry("1")];
    assert_eq!(
        steps(&plan(&source, &ledger, &Goal::Latest).unwrap()),
        ["2", "3", "4", "R__views"]
    );
    // What began with it goes on above it, and is verified so.
    let ledger = [entry_of(&source.baselines[1])];
    assert_eq!(
        steps(&plan(&source, &ledger, &Goal::Latest).unwrap()),
        ["4", "R__views"]
    );
    assert_eq!(verify(&source, &ledger, Some(&"3".into())), Ok(()));
    let rows = status(&source, &ledger);
    let shown = rows
        .iter()
        .map(|r| (r.version.as_str(), r.status))
        .collect::<Vec<_>>();
    use VersionStatus::{Applied, BelowBaseline, Pending};
    assert_eq!(
        shown,
        [
            ("1", BelowBaseline),
            ("2", BelowBaseline),
            ("3", BelowBaseline),
            ("3", Applied),
            ("4", Pending),
            ("R__views", Pending)
        ]
    );
    assert_eq!(
        plan(&source, &ledger, &Goal::DownSteps(1))
            .unwrap_err()
            .to_string(),
        "plan down over version 3: dir/Baseline3.sql has no down migration"
    );
}

#[test]
fn repeatable_migrations_run_last_and_again_when_they_changed() {
    let source = flyway(&[]);
    let mut ledger = source.migrations.iter().map(|m| entry_of(m)).collect::<Vec<_>>();
    assert_eq!(steps(&plan(&source, &ledger, &Goal::Latest).unwrap()), [""; 0]);
    assert_eq!(verify(&source, &ledger, Some(&"4".into())), Ok(()));
    ledger[4].checksum_up = Checksum::of("older").into();
    // It may have run before versions that came later.
    ledger.swap(3, 4);
    let planned = plan(&source, &ledger, &Goal::Latest).unwrap();
    assert_eq!(steps(&planned), ["R__views"]);
    assert_eq!((planned.from, planned.to), (Some("4".into()), Some("4".into())));
    assert_eq!(status(&source, &ledger)[4].status, VersionStatus::Pending);
    assert_eq!(verify(&source, &ledger, Some(&"4".into())), Ok(()));
    // It has no version: nothing goes there, and going down leaves it.
    assert_eq!(
        steps(&plan(&source, &ledger, &Goal::DownSteps(1)).unwrap()),
        ["4"]
    );
    let error = plan(&source, &ledger, &Goal::To(SchemaVersion::repeatable("views"))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "plan to version R__views: there is no such version in the directory"
    );
    let without = set(&["1", "2", "3", "4"]);
    assert!(matches!(
        plan(&without, &ledger, &Goal::Latest),
        Err(PlanError::AheadOfDirectory { .. })
    ));
}

#[test]
fn what_may_come_late_is_applied_below_the_highest_version() {
    let late = |allowed: &[&str]| {
        let mut source = five();
        for migration in &mut source.migrations {
            if allowed.contains(&migration.version.as_str()) {
                Arc::make_mut(migration).kind = MigrationKind::Late;
            }
        }
        source
    };
    let ledger = ledger(&["1", "3", "9"]);
    let error = plan(&late(&[]), &ledger, &Goal::Latest).unwrap_err().to_string();
    assert!(
        error.ends_with("or apply it all the same with --allow-out-of-order"),
        "{error}"
    );
    let planned = plan(&late(&["2"]), &ledger, &Goal::Latest).unwrap();
    assert_eq!(steps(&planned), ["2", "10"]);
    assert_eq!((planned.from, planned.to), (Some("9".into()), Some("10".into())));
    let mut source = five();
    source.out_of_order = OutOfOrder::Allow;
    let planned = plan(&source, &ledger, &Goal::To("3".into())).unwrap();
    assert_eq!(steps(&planned), ["2"]);
    assert_eq!(planned.to, Some("9".into()));
    // Before it ran that is the old state, and afterwards its place in the ledger is no fault.
    let afterwards = super::tests::ledger(&["1", "3", "9", "2"]);
    for source in [&source, &late(&["2"])] {
        assert_eq!(verify(source, &ledger, Some(&"9".into())), Ok(()));
        assert_eq!(verify(source, &afterwards, Some(&"9".into())), Ok(()));
    }
    let error = verify(&five(), &afterwards, Some(&"9".into()))
        .unwrap_err()
        .to_string();
    assert!(error.contains("allow it with allow_out_of_order"), "{error}");
}
