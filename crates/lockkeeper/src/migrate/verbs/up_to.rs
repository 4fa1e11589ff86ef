//! `up-to`: applies what is pending, up to a version.

use clap::Args;
use lockkeeper_migrate::plan::Goal;

use crate::exit::{Exit, Failure};
use crate::migrate::change::Change;
use crate::migrate::flags::{self, BackupArgs, ChangeArgs, Common, DsnArg};
use crate::migrate::journey::Course;

#[derive(Debug, Args)]
pub(in crate::migrate) struct UpToArgs {
    /// The version that is applied last; must be in the directory
    #[arg(value_name = "VERSION")]
    goal: String,
    #[command(flatten)]
    dsn: DsnArg,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    backup: BackupArgs,
}

impl UpToArgs {
    pub(in crate::migrate) async fn run(self, common: &Common) -> Result<Exit, Failure> {
        let change = Change {
            course: Course::Up,
            goal: Goal::To(flags::version(&self.goal)?),
            dsn: &self.dsn,
            args: &self.change,
            backup: &self.backup,
        };
        change.run(common).await
    }
}
