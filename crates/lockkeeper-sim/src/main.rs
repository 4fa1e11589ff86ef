//! `make sim SEEDS=n`: many seeds, or one to look at.

use std::fmt;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;

use clap::Parser;
use lockkeeper_coordinator::leader::access::Migrations;
use lockkeeper_core::mutation::Mutation;
use lockkeeper_sim::checker::Counts;
use lockkeeper_sim::run::{Run, migrations, run};

/// Simulates a fleet on a network, a store and databases that fail, and checks the promises.
#[derive(Debug, Parser)]
#[command(name = "lockkeeper-sim")]
struct Options {
    /// How many seeds to run
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first one
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Run this seed alone, twice, and tell its story
    #[arg(long)]
    seed: Option<u64>,
    /// With this seeded bug, by name
    #[arg(long, value_parser = bug)]
    bug: Option<Mutation>,
    /// Plant every seeded bug of coordinators and driver in turn, and say which seed catches it
    #[arg(long, conflicts_with_all = ["seed", "bug"])]
    bugs: bool,
    /// Show the logs of coordinators and agents with the story (`debug`, `lockkeeper_coordinator=trace`, …)
    #[arg(long, requires = "seed")]
    log: Option<String>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if cfg!(not(tokio_unstable)) {
        eprintln!("built without --cfg tokio_unstable: a seed is not the same story twice; use `make sim`");
    }
    let outcome = match options.seed {
        Some(seed) => one(seed, options.bug, options.log),
        None if options.bugs => bugs(options.seeds),
        None => many(options.from, options.seeds, options.bug),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn one(seed: u64, bug: Option<Mutation>, log: Option<String>) -> Result<bool, String> {
    if let Some(filter) = log {
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .without_time()
            .init();
    }
    let migrations = migrations()?;
    let first = run(seed, migrations.clone(), bug)?;
    for line in &first.lines {
        println!("{line}");
    }
    let again = run(seed, migrations, bug)?;
    println!("{:?}, {} faults", first.counts, first.faults);
    println!("hash {:016x}, again {:016x}", first.hash, again.hash);
    if let Some(violation) = &first.violation {
        println!("violation: {violation}");
    }
    Ok(first.violation.is_none() && first.hash == again.hash)
}

fn many(from: u64, seeds: u64, bug: Option<Mutation>) -> Result<bool, String> {
    let migrations = migrations()?;
    if cfg!(tokio_unstable)
        && run(from, migrations.clone(), bug)?.hash != run(from, migrations.clone(), bug)?.hash
    {
        return Err(format!("seed {from} is not the same story twice"));
    }
    let mut total = Total::default();
    let (send, runs) = mpsc::channel();
    let next = AtomicU64::new(from);
    std::thread::scope(|scope| {
        for _ in 0..threads() {
            let (send, next, migrations) = (send.clone(), &next, migrations.clone());
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds || send.send(run(seed, migrations.clone(), bug)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        for found in runs {
            let found = found?;
            total.add(&found);
            if let Some(violation) = &found.violation {
                report(&found, violation);
            }
        }
        Ok::<_, String>(())
    })?;
    println!("{total}");
    println!("sim: {seeds} seeds, {} violations", total.broken);
    Ok(total.broken == 0)
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What many seeds have seen.
#[derive(Debug, Default)]
struct Total {
    broken: usize,
    faults: usize,
    counts: Counts,
}

impl Total {
    fn add(&mut self, run: &Run) {
        self.broken += usize::from(run.violation.is_some());
        self.faults += run.faults;
        self.counts = self.counts + run.counts;
    }
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { faults, counts, .. } = self;
        write!(
            f,
            "{faults} faults, {} takeovers, {} fences, {} statements of migrations, {} openings, {} writes, {} refused",
            counts.takes, counts.fences, counts.statements, counts.openings, counts.writes, counts.refused
        )
    }
}

fn report(run: &Run, violation: &str) {
    println!("seed {}: {violation}", run.seed);
    println!("    see it again: make sim SEED={}", run.seed);
}

/// The bug of this name.
fn bug(name: &str) -> Result<Mutation, String> {
    let mut all = all_bugs();
    all.find(|bug| format!("{bug:?}") == name).ok_or_else(|| {
        let names: Vec<String> = all_bugs().map(|bug| format!("{bug:?}")).collect();
        format!("one of {}", names.join(", "))
    })
}

fn all_bugs() -> impl Iterator<Item = Mutation> {
    Mutation::DRIVEN.into_iter().chain(Mutation::ALL)
}

/// Which seed catches each bug first.
fn bugs(seeds: u64) -> Result<bool, String> {
    let migrations = &migrations()?;
    let (send, found) = mpsc::channel();
    let next = &AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads() {
            let send = send.clone();
            scope.spawn(move || {
                while let Some(bug) = Mutation::DRIVEN.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // Nobody listens any more: an error was met.
                    let _ = send.send((*bug, first_caught(*bug, seeds, migrations)));
                }
            });
        }
    });
    drop(send);
    let mut caught = 0;
    for (bug, first) in found {
        match first? {
            Some((seed, violation)) => {
                caught += 1;
                println!("{bug:?}: seed {seed}: {violation}");
            }
            None => println!("{bug:?}: not within {seeds} seeds"),
        }
    }
    let count = Mutation::DRIVEN.len();
    println!("mutations: {caught} of {count} caught");
    Ok(caught == count)
}

fn first_caught(bug: Mutation, seeds: u64, migrations: &Migrations) -> Result<Option<(u64, String)>, String> {
    for seed in 1..=seeds {
        if let Some(violation) = run(seed, migrations.clone(), Some(bug))?.violation {
            return Ok(Some((seed, violation)));
        }
    }
    Ok(None)
}
