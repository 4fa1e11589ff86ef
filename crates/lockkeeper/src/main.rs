//! The `lockkeeper` command.

mod agent;
mod cli;
mod client;
mod completions;
mod demo;
mod doctor;
mod exit;
mod fence;
mod fleet;
mod lint;
mod migrate;
mod output;
mod prompt;
mod rollout;
mod serve;
mod store;
mod target;
mod text;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.run() {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit.into()
        }
    }
}
