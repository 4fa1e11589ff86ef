//! `lockkeeper completions`: what a shell offers after a tab.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use crate::cli::Cli;
use crate::exit::{Exit, Failure};
use crate::output;

/// For example: lockkeeper completions bash > /etc/bash_completion.d/lockkeeper
#[derive(Debug, Args)]
pub(crate) struct CompletionsCommand {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl CompletionsCommand {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let mut command = Cli::command();
        let name = command.get_name().to_owned();
        let mut script = Vec::new();
        generate(self.shell, &mut command, name, &mut script);
        output::write(&String::from_utf8_lossy(&script))?;
        Ok(Exit::Ok)
    }
}
