//! A few seeds with every test run; `make sim` has many, and the same story for the same seed.

use lockkeeper_sim::run::{migrations, run};

#[test]
fn no_promise_is_broken_in_a_few_seeds() {
    let migrations = migrations().expect("made");
    for seed in 1..=12 {
        let found = run(seed, migrations.clone(), None).expect("it runs");
        let story = found.lines.join("\n");
        assert_eq!(found.violation, None, "seed {seed}:\n{story}");
        assert!(
            found.counts.openings > 2 && found.counts.writes > 50,
            "seed {seed} does next to nothing"
        );
    }
}
