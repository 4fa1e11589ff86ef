//! The promises within quick bounds, the assumptions, and the table of seeded bugs. `make model` has the full bounds.

use lockkeeper_core::mutation::Mutation;
use lockkeeper_model::check::Check;
use lockkeeper_model::config::Config;
use lockkeeper_model::seeded::SEEDED;
use lockkeeper_model::suite;

const EVIDENCE: &str = include_str!("../../../docs/evidence.md");

fn check(config: Config) -> Check {
    Check {
        config,
        mutation: None,
    }
}

#[test]
fn every_promise_holds_within_quick_bounds() {
    for config in suite::quick() {
        let name = config.name;
        let found = check(config).run(2);
        let violation = found.violation.map(|violation| violation.to_string());
        assert_eq!(violation, None, "{name}");
        assert!(
            found.states > 100,
            "{name} explores next to nothing: {} states",
            found.states
        );
    }
}

#[test]
fn what_cooperative_assumes_is_needed() {
    for config in suite::assumptions() {
        let name = config.name;
        assert!(check(config).run(1).violation.is_some(), "{name}");
    }
}

#[test]
fn every_seeded_bug_is_caught_as_the_table_says() {
    for seeded in &SEEDED {
        let found = seeded.run().expect("the run exists");
        let violation = found.violation.expect("caught");
        let (promise, steps) = (violation.promise, violation.trace.len());
        assert_eq!(
            (promise, steps),
            (seeded.promise, seeded.steps),
            "{:?}: {violation}",
            seeded.mutation
        );
        let row = format!(
            "| `{:?}` | {} | {} | {steps} |",
            seeded.mutation,
            seeded.run,
            promise.name()
        );
        assert!(EVIDENCE.contains(&row), "docs/evidence.md lacks this row:\n{row}");
    }
}

#[test]
fn the_table_has_every_seeded_bug_once() {
    let listed: std::collections::BTreeSet<Mutation> = SEEDED.iter().map(|seeded| seeded.mutation).collect();
    assert_eq!(listed, Mutation::ALL.into_iter().collect());
}
