//! `up`: applies what is pending.

use clap::Args;
use lockkeeper_migrate::plan::Goal;
use lockkeeper_migrate::source::Direction;

use crate::exit::{Exit, Failure};
use crate::migrate::change;
use crate::migrate::flags::{Common, DsnArg};

#[derive(Debug, Default, Args)]
pub(in crate::migrate) struct UpArgs {
    #[command(flatten)]
    dsn: DsnArg,
}

impl UpArgs {
    pub(in crate::migrate) async fn run(self, common: &Common) -> Result<Exit, Failure> {
        change::run(common, &self.dsn, Direction::Up, &Goal::Latest).await
    }
}
