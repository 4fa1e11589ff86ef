//! `redo`: takes the newest migrations back and applies them again.

use clap::Args;
use lockkeeper_migrate::plan::Goal;

use crate::exit::{Exit, Failure};
use crate::migrate::change::Change;
use crate::migrate::flags::{BackupArgs, ChangeArgs, Common, DsnArg};
use crate::migrate::journey::Course;

#[derive(Debug, Args)]
pub(in crate::migrate) struct RedoArgs {
    #[command(flatten)]
    dsn: DsnArg,
    /// How many migrations to take back and apply again
    #[arg(long, value_name = "N", default_value_t = 1)]
    steps: u32,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    backup: BackupArgs,
}

impl RedoArgs {
    pub(in crate::migrate) async fn run(self, common: &Common) -> Result<Exit, Failure> {
        let change = Change {
            course: Course::Redo,
            goal: Goal::DownSteps(self.steps),
            dsn: &self.dsn,
            args: &self.change,
            backup: &self.backup,
        };
        change.run(common).await
    }
}
