//! `status`: which migrations are applied and which are pending.

use clap::Args;

use crate::exit::{Exit, Failure};
use crate::migrate::flags::{Common, DsnArg};
use crate::migrate::job::Missing;
use crate::migrate::look::{self, Until};

#[derive(Debug, Args)]
pub(in crate::migrate) struct StatusArgs {
    #[command(flatten)]
    dsn: DsnArg,
    /// Wait until nothing is pending, looking each second; without --timeout for ever
    #[arg(long)]
    block: bool,
}

impl StatusArgs {
    pub(in crate::migrate) async fn run(self, common: &Common) -> Result<Exit, Failure> {
        let job = common.job(&self.dsn, Missing::Refuse)?;
        match self.block {
            true => look::wait(common, &job, &Until::NothingIsPending, common.limits.timeout).await,
            false => look::once(common, &job).await,
        }
    }
}
