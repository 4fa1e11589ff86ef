//! `down`: takes migrations back.

use clap::Args;
use lockkeeper_migrate::plan::Goal;

use crate::exit::{Exit, Failure};
use crate::migrate::change::Change;
use crate::migrate::flags::{self, BackupArgs, ChangeArgs, Common, DsnArg};
use crate::migrate::journey::Course;

#[derive(Debug, Args)]
pub(in crate::migrate) struct DownArgs {
    #[command(flatten)]
    dsn: DsnArg,
    /// How many migrations to take back
    #[arg(long, value_name = "N", default_value_t = 1)]
    steps: u32,
    /// Take back everything above this version, which stays; `none` takes all back
    #[arg(long, value_name = "VERSION", conflicts_with = "steps")]
    to: Option<String>,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    backup: BackupArgs,
}

impl DownArgs {
    pub(in crate::migrate) async fn run(self, common: &Common) -> Result<Exit, Failure> {
        let goal = match &self.to {
            Some(text) => Goal::DownTo(flags::version_or_none(text)?),
            None => Goal::DownSteps(self.steps),
        };
        let change = Change {
            course: Course::Down,
            goal,
            dsn: &self.dsn,
            args: &self.change,
            backup: &self.backup,
        };
        change.run(common).await
    }
}
