//! One seed, from the first process to the verdict.

use std::path::PathBuf;
use std::time::Duration;

use lockkeeper_coordinator::leader::access::Migrations;
use lockkeeper_core::mutation::Mutation;
use lockkeeper_core::strength::Strength;
use lockkeeper_migrate::dialect::Dialect;
use lockkeeper_migrate::source::{self, Layout, VerifyScript};

use crate::chance::Chance;
use crate::checker::{Checker, Counts};
use crate::database::{Running, Server};
use crate::fleet::Fleet;
use crate::net::Net;
use crate::operator::Operator;
use crate::store::Store;
use crate::trace::Trace;
use crate::{chaos, tell};

/// Versions that the targets can go through.
pub const VERSIONS: usize = 40;

/// How long things go wrong, in virtual time.
const CHAOS: Duration = Duration::from_secs(75);

/// How long a fleet that works again may take to come to the end of what was begun. Budgets are 30 s, a write lease ten,
/// and a lost database is tried again for half a minute.
const WIND_UP: Duration = Duration::from_secs(400);

/// What became of a seed.
#[derive(Debug)]
pub struct Run {
    /// The seed.
    pub seed: u64,
    /// The story.
    pub lines: Vec<String>,
    /// The story as a number.
    pub hash: u64,
    /// The promise that did not hold.
    pub violation: Option<String>,
    /// What was seen.
    pub counts: Counts,
    /// How many things went wrong.
    pub faults: usize,
}

/// The migrations of every simulated target.
///
/// # Errors
/// They cannot be made.
pub fn migrations() -> Result<Migrations, String> {
    let files = tempfile::tempdir().map_err(|error| error.to_string())?;
    for version in 1..=VERSIONS {
        for direction in ["up", "down"] {
            let path: PathBuf = files.path().join(format!("{version}_m.{direction}.sql"));
            std::fs::write(path, "SELECT 1;").map_err(|error| error.to_string())?;
        }
    }
    let dirs = [files.path().to_path_buf()];
    let set = source::load(&dirs, Some(Layout::GolangMigrate), Dialect::Postgres);
    Ok(Migrations {
        set: set.map_err(|error| error.to_string())?,
        verify: vec![VerifyScript {
            path: "verify/any.sql".into(),
            version: None,
            statements: Vec::new(),
        }],
    })
}

/// Runs one seed, with a seeded bug or without. The same seed gives the same story, if this was built with `--cfg tokio_unstable`.
///
/// # Errors
/// There is no runtime to be had.
pub fn run(seed: u64, migrations: Migrations, bug: Option<Mutation>) -> Result<Run, String> {
    plant(bug)?;
    // Production code draws its jitter from here.
    fastrand::seed(seed);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    #[cfg(tokio_unstable)]
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_be_bytes()));
    let runtime = builder.build().map_err(|error| error.to_string())?;
    let run = runtime.block_on(story(seed, migrations));
    runtime.shutdown_background();
    Ok(run)
}

#[cfg(mutations)]
fn plant(bug: Option<Mutation>) -> Result<(), String> {
    lockkeeper_core::mutation::seed(bug);
    Ok(())
}

#[cfg(not(mutations))]
fn plant(bug: Option<Mutation>) -> Result<(), String> {
    match bug {
        None => Ok(()),
        Some(_) => Err("built without --cfg mutations: use `make sim`".to_owned()),
    }
}

async fn story(seed: u64, migrations: Migrations) -> Run {
    let chance = Chance::of(seed);
    let trace = Trace::begin();
    let checker = Checker::new(&trace);
    let net = Net::new(chance.fork());
    let auditor = checker.clone();
    let store = Store::start(
        chance.fork(),
        &net,
        &trace,
        Box::new(move |committed| auditor.committed(committed)),
    );
    let servers = servers(&chance, &net, &checker);
    let coordinators: Vec<String> = (1..=3).map(|n| format!("c{n}")).collect();
    let fleet = Fleet::new(
        &trace,
        &net,
        &store,
        servers,
        migrations,
        chance.fork(),
        coordinators,
    );
    let faults = live(&fleet, &chance, &trace).await;
    Run {
        seed,
        lines: trace.lines(),
        hash: trace.hash(),
        violation: trace.violation(),
        counts: checker.counts(),
        faults,
    }
}

fn servers(chance: &Chance, net: &Net, checker: &Checker) -> Vec<Server> {
    let kinds = [
        ("svc/a", Strength::Barrier, Running::InOneTransaction),
        ("svc/b", Strength::Epoch, Running::Journalled),
        ("svc/c", Strength::Cooperative, Running::InOneTransaction),
    ];
    let fails = [0, 0, 4][chance.below(3)];
    kinds
        .into_iter()
        .map(|(name, strength, running)| {
            Server::new(name, strength, running, fails, net, chance.fork(), checker)
        })
        .collect()
}

/// The fleet's life. Gives how many things went wrong in it.
async fn live(fleet: &Fleet, chance: &Chance, trace: &Trace) -> usize {
    for name in fleet.coordinators.clone() {
        fleet.start_coordinator(&name);
    }
    for n in 1..=3 {
        if let Err(error) = fleet.start_agent(&format!("a{n}")) {
            trace.violated(&format_args!("no agent: {error}"));
        }
    }
    fleet.start_writer("w1");
    let operator = Operator::new(fleet, chance.fork());
    operator.declare().await;
    let raging = chance.fork();
    let faults = tokio::select! {
        faults = chaos::rage(fleet, &raging, CHAOS) => faults,
        () = operator.operate() => 0,
    };
    chaos::heal(fleet);
    for rollout in operator.wind_up(WIND_UP).await {
        trace.violated(&format_args!("I5 progress: {rollout}"));
    }
    let closed = fleet.servers.iter().filter(|server| server.is_closed());
    for server in closed {
        trace.violated(&format_args!(
            "I5 progress: {} stays closed, and no rollout works on it",
            server.name()
        ));
    }
    tell!(trace, "end", "{faults} faults");
    faults
}
