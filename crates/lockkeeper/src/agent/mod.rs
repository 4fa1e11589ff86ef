//! `lockkeeper agent …`: the agent for programs that embed no library.
//!
//! | module | what it does |
//! |---|---|
//! | [`flags`] | who registers, and for what |
//! | [`run`] | `agent run -- CMD…`: starts, stops and restarts a program with the gates |
//! | [`report`] | tells a person what the agent sees |
//! | [`wait`] | `agent wait`: returns when the schema fits |

mod flags;
mod report;
mod run;
mod wait;

use std::io::Write;

use clap::Subcommand;

use crate::exit::{Exit, Failure};

/// What an agent can do from the command line.
#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// Run a program while its databases are open at a schema version that fits
    Run(run::RunCommand),
    /// Wait until databases are open at a schema version that fits
    Wait(wait::WaitCommand),
}

impl AgentCommand {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        match self {
            Self::Run(command) => command.run().await,
            Self::Wait(command) => command.run().await,
        }
    }
}

/// Tells a person something. Never on standard output, which belongs to the program that is run; and whoever reads
/// standard error may be gone, which is no reason to stop keeping that program.
fn say(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "lockkeeper: {text}");
}
