//! `lockkeeper demo`: a fleet upgrade to watch, checked to the last row.
//!
//! | module | what it does |
//! |---|---|
//! | [`options`] | what was asked for, checked |
//! | [`story`] | the demo from beginning to end |
//! | [`service`] | the demo's service: its releases, versions and migrations |
//! | [`database`] | a region's database: made, filled, and read out at the end |
//! | [`writes`] | one write transaction, on any dialect |
//! | [`replica`] | one replica of the service, writing without pause |
//! | [`journal`] | what a replica writes down about its writes |
//! | [`agents`] | all replicas, as tasks or processes |
//! | [`coordinators`] | the coordinators, as runtimes or processes, and how one is killed |
//! | [`child`] | processes that die with the demo |
//! | [`control`] | calls to whichever coordinator answers |
//! | [`watching`] | what the coordinators say about the fleet, as it changes |
//! | [`screen`] | bars on a terminal, lines elsewhere |
//! | [`audit`] | compares what was acknowledged with what the databases hold |
//! | [`summary`] | the verdict |

mod agents;
mod audit;
mod child;
mod control;
mod coordinators;
mod database;
mod journal;
mod options;
mod replica;
mod screen;
mod service;
mod story;
mod summary;
mod watching;
mod writes;

use std::time::Duration;

use clap::{Args, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{Exit, Failure};
use crate::output;

/// The demo never takes longer, whatever happens.
const DEADLINE: Duration = Duration::from_secs(120);

/// Watch a rollout over two regions while a service writes
///
/// Starts three coordinators, two databases, and a service whose replicas write without pause; takes the databases
/// from the first schema version to the newest, region by region; kills the leader in the middle; then compares
/// every acknowledged write with what the databases hold. Exit code 0 means that every promise held.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct DemoCommand {
    #[command(flatten)]
    flags: options::DemoFlags,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What the demo starts itself with.
#[derive(Debug, Subcommand)]
enum Part {
    /// One replica of the demo's service
    #[command(hide = true)]
    Agent(Box<replica::ReplicaFlags>),
    /// Another command of this program, which ends when the demo does
    #[command(hide = true)]
    Leash(child::LeashFlags),
}

impl DemoCommand {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        match self.part {
            None => show(self.flags).await,
            Some(Part::Agent(flags)) => replica::run_process(*flags).await,
            Some(Part::Leash(flags)) => Err(child::exec(&flags)),
        }
    }
}

async fn show(flags: options::DemoFlags) -> Result<Exit, Failure> {
    let format = flags.format;
    let plan = flags.settle()?;
    let failed = |e: std::io::Error| Failure::new(Exit::Error, format!("listen for signals: {e}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    // Whatever ends the story early drops it, and with it every child and every temporary file.
    let summary = tokio::select! {
        told = tokio::time::timeout(DEADLINE, story::tell(plan)) => match told {
            Ok(told) => told?,
            Err(_) => return Err(Failure::new(Exit::TimedOut, format!("end the demo within {} s", DEADLINE.as_secs()))),
        },
        _ = interrupt.recv() => return Err(Failure::new(Exit::EndedOtherwise, "the demo was interrupted")),
        _ = terminate.recv() => return Err(Failure::new(Exit::EndedOtherwise, "the demo was terminated")),
    };
    output::print(format, &summary, summary::Summary::text)?;
    Ok(summary.exit())
}
