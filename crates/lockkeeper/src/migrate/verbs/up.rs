//! `up`: applies what is pending.

use clap::Args;
use lockkeeper_migrate::plan::Goal;

use crate::exit::{Exit, Failure};
use crate::migrate::change::Change;
use crate::migrate::flags::{BackupArgs, ChangeArgs, Common, DsnArg};
use crate::migrate::journey::Course;

#[derive(Debug, Default, Args)]
pub(in crate::migrate) struct UpArgs {
    #[command(flatten)]
    dsn: DsnArg,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    backup: BackupArgs,
}

impl UpArgs {
    pub(in crate::migrate) async fn run(self, common: &Common) -> Result<Exit, Failure> {
        let change = Change {
            course: Course::Up,
            goal: Goal::Latest,
            dsn: &self.dsn,
            args: &self.change,
            backup: &self.backup,
        };
        change.run(common).await
    }
}
