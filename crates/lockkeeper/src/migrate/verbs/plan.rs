//! `plan`: what `up` would do.

use clap::Args;
use lockkeeper_migrate::engine;
use lockkeeper_migrate::plan::Goal;

use crate::exit::{Exit, Failure};
use crate::migrate::flags::{self, Common, DsnArg};
use crate::migrate::job::Missing;
use crate::migrate::plan_view::PlanView;
use crate::migrate::{failure, plan_text};
use crate::output;

#[derive(Debug, Args)]
pub(in crate::migrate) struct PlanArgs {
    #[command(flatten)]
    dsn: DsnArg,
    /// What up-to VERSION would do
    #[arg(long, value_name = "VERSION")]
    to: Option<String>,
}

impl PlanArgs {
    pub(in crate::migrate) async fn run(self, common: &Common) -> Result<Exit, Failure> {
        let goal = match &self.to {
            Some(text) => Goal::To(flags::version(text)?),
            None => Goal::Latest,
        };
        // As for `up`: a file that is not there yet is one where everything is pending. Looking does not make it.
        let job = common.job(&self.dsn, Missing::Make)?;
        let prospect = engine::prepare(&*job.database, &job.set, &goal)
            .await
            .map_err(failure::of_engine)?;
        let view = PlanView::of(&job, &prospect, &prospect.plan);
        output::print(common.answer.format, &view, |_| {
            plan_text::whole(&job, &prospect, &prospect.plan)
        })?;
        Ok(match prospect.plan.steps.is_empty() {
            true => Exit::Ok,
            false => Exit::Pending,
        })
    }
}
