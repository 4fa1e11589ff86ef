//! The root of the command line.

use clap::{Parser, Subcommand};
use lockkeeper_coordinator::telemetry;
use tracing::Instrument;

use crate::agent;
use crate::exit::{self, Exit, Failure};
use crate::{completions, demo, doctor, fence, fleet, migrate, rollout, serve, store, target};

/// Closes the gates, changes the level, checks it, and only then opens the gates: schema migrations for a fleet
/// of service replicas and the databases they write to.
#[derive(Debug, Parser)]
#[command(name = "lockkeeper", version, propagate_version = true, arg_required_else_help = true,
          after_help = exit::help())]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Migrate one database, without a fleet
    #[command(subcommand)]
    Migrate(migrate::MigrateCommand),
    /// Tell what is wrong with a database, and what to do about it
    Doctor(doctor::DoctorCommand),
    /// Run a coordinator
    Serve(Box<serve::ServeCommand>),
    /// Declare, list and remove targets
    Target(target::TargetCommand),
    /// Create, show and decide on rollouts
    Rollout(rollout::RolloutCommand),
    /// Show a fleet, and decide what concerns all of it
    Fleet(fleet::FleetCommand),
    /// Move coordination state
    Store(store::StoreCommand),
    /// Look at a target's fence, or release it, without coordinators and store
    #[command(subcommand)]
    Fence(fence::FenceCommand),
    /// Register a program that embeds no agent
    #[command(subcommand)]
    Agent(agent::AgentCommand),
    /// Watch a rollout over two regions while a service writes
    Demo(Box<demo::DemoCommand>),
    /// Print the completions for a shell
    Completions(completions::CompletionsCommand),
}

impl Cli {
    /// Runs the command that was asked for.
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(Exit::Error, format!("start the runtime: {error}")))?;
        // The exporter of traces needs the runtime.
        let entered = runtime.enter();
        let _telemetry = telemetry::init("lockkeeper", self.command.log_filter());
        drop(entered);
        runtime.block_on(self.command.run())
    }
}

impl Command {
    /// What is logged when `LOCKKEEPER_LOG` says nothing: a service tells what it does, a command only what is wrong.
    fn log_filter(&self) -> &'static str {
        match self {
            Self::Serve(_) => "info",
            Self::Target(_)
            | Self::Rollout(_)
            | Self::Fleet(_)
            | Self::Fence(_)
            | Self::Store(_)
            | Self::Migrate(_)
            | Self::Doctor(_)
            | Self::Completions(_) => "warn",
            // It tells by itself, in words, what it sees.
            Self::Agent(_) | Self::Demo(_) => "error",
        }
    }

    async fn run(self) -> Result<Exit, Failure> {
        let span = tracing::info_span!("command", otel.name = self.name());
        let run = async {
            match self {
                Self::Serve(command) => command.run().await,
                Self::Target(command) => command.run().await,
                Self::Rollout(command) => command.run().await,
                Self::Fleet(command) => command.run().await,
                Self::Store(command) => command.run().await,
                Self::Migrate(command) => command.run().await,
                Self::Fence(command) => command.run().await,
                Self::Doctor(command) => command.run().await,
                Self::Agent(command) => command.run().await,
                Self::Demo(command) => command.run().await,
                Self::Completions(command) => command.run(),
            }
        };
        run.instrument(span).await
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Serve(_) => "lockkeeper serve",
            Self::Target(_) => "lockkeeper target",
            Self::Rollout(_) => "lockkeeper rollout",
            Self::Fleet(_) => "lockkeeper fleet",
            Self::Store(_) => "lockkeeper store",
            Self::Migrate(_) => "lockkeeper migrate",
            Self::Fence(_) => "lockkeeper fence",
            Self::Doctor(_) => "lockkeeper doctor",
            Self::Agent(_) => "lockkeeper agent",
            Self::Demo(_) => "lockkeeper demo",
            Self::Completions(_) => "lockkeeper completions",
        }
    }
}
