//! What is asked and what is printed.

use clap::Args;

use crate::output::Format;

#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(in crate::migrate) struct AnswerArgs {
    /// Do not ask
    #[arg(short = 'y', long, global = true)]
    pub(in crate::migrate) yes: bool,
    /// How results are printed
    #[arg(long, value_enum, default_value_t, global = true)]
    pub(in crate::migrate) format: Format,
}
