//! `wait`: until nothing is pending, or a version is reached.

use clap::Args;
use lockkeeper_migrate::plan::PlanError;

use crate::exit::{Exit, Failure};
use crate::migrate::failure;
use crate::migrate::flags::{self, Common, DsnArg};
use crate::migrate::job::{Job, Missing};
use crate::migrate::look::{self, Until};

#[derive(Debug, Args)]
pub(in crate::migrate) struct WaitArgs {
    #[command(flatten)]
    dsn: DsnArg,
    /// Wait until this version is applied, whatever is pending above it
    #[arg(long, value_name = "VERSION")]
    to: Option<String>,
}

impl WaitArgs {
    pub(in crate::migrate) async fn run(self, common: &Common) -> Result<Exit, Failure> {
        let job = common.job(&self.dsn, Missing::Refuse)?;
        let until = self.until(&job)?;
        look::wait(common, &job, &until, Some(common.limits.patience())).await
    }

    fn until(&self, job: &Job) -> Result<Until, Failure> {
        let Some(text) = &self.to else {
            return Ok(Until::NothingIsPending);
        };
        let version = flags::version(text)?;
        match job.set.get(&version) {
            Some(_) => Ok(Until::Reached(version)),
            None => Err(failure::of_plan(PlanError::UnknownGoal { version })),
        }
    }
}
