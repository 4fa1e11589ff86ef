//! `down`: takes migrations back.

use clap::Args;
use lockkeeper_migrate::plan::Goal;
use lockkeeper_migrate::source::Direction;

use crate::exit::{Exit, Failure};
use crate::migrate::change;
use crate::migrate::flags::{Common, DsnArg};

#[derive(Debug, Args)]
pub(in crate::migrate) struct DownArgs {
    #[command(flatten)]
    dsn: DsnArg,
    /// How many migrations to take back
    #[arg(long, value_name = "N", default_value_t = 1)]
    steps: u32,
}

impl DownArgs {
    pub(in crate::migrate) async fn run(self, common: &Common) -> Result<Exit, Failure> {
        change::run(common, &self.dsn, Direction::Down, &Goal::DownSteps(self.steps)).await
    }
}
