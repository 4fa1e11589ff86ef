//! `make model`: every configuration, the assumptions, and every seeded bug.

use std::process::ExitCode;

use lockkeeper_model::check::{Check, Found};
use lockkeeper_model::seeded::SEEDED;
use lockkeeper_model::suite;

/// Threads of a run.
const THREADS: usize = 2;

fn main() -> ExitCode {
    let (runs, broken) = model();
    if broken > 0 {
        println!("model: {broken} of {runs} configurations break a promise");
        return ExitCode::FAILURE;
    }
    if assumptions() && mutations() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Every configuration. Gives how many there are, and how many break a promise.
fn model() -> (usize, usize) {
    let (mut states, mut depth, mut broken) = (0, 0, 0);
    let runs = suite::all();
    let count = runs.len();
    for config in runs {
        let (name, about) = (config.name, config.about);
        let check = Check {
            config,
            mutation: None,
        };
        let found = check.run(THREADS);
        println!(
            "{name:<15} {:>9} states, depth {:>3}: {about}",
            found.states, found.depth
        );
        states += found.states;
        depth = depth.max(found.depth);
        if let Some(violation) = found.violation {
            println!("{violation}");
            broken += 1;
        }
    }
    println!("model: {states} states, depth {depth}, {broken} violations");
    (count, broken)
}

/// What the strength cooperative assumes is needed: without it the promise does not hold.
fn assumptions() -> bool {
    suite::assumptions().into_iter().all(|config| {
        let (name, about) = (config.name, config.about);
        let check = Check {
            config,
            mutation: None,
        };
        match check.run(THREADS).violation {
            Some(violation) => {
                println!(
                    "assumption needed: {name}: {about}: {}, {} steps",
                    violation.seen,
                    violation.trace.len()
                );
                true
            }
            None => {
                println!("assumption not needed: {name}: {about}");
                false
            }
        }
    })
}

/// Every seeded bug.
fn mutations() -> bool {
    let caught = SEEDED.iter().filter(|seeded| {
        let found = seeded.run();
        let violation = found.and_then(|Found { violation, .. }| violation);
        match &violation {
            Some(violation) => println!(
                "{:?}: {} in {} steps ({})",
                seeded.mutation,
                violation.promise.name(),
                violation.trace.len(),
                seeded.run
            ),
            None => println!("{:?}: NOT CAUGHT in {}", seeded.mutation, seeded.run),
        }
        violation.is_some()
    });
    let caught = caught.count();
    println!("mutations: {caught} of {} caught", SEEDED.len());
    caught == SEEDED.len()
}
