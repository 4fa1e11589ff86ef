//! No data is lost without a backup: what `up`, `down` and their like do about it before they run.

use std::time::Duration;

use lockkeeper_migrate::backup::{self, BackupReport, Destination, Need, Order, Stale, Trial};
use lockkeeper_migrate::db::{self, Inspection, Upkeep};
use lockkeeper_migrate::dsn::Dsn;
use lockkeeper_migrate::plan::Plan;

use super::flags::{BackupArgs, Common, Protection};
use super::job::{Job, Missing};
use super::progress::Reporter;

use super::{failure, interrupt};
use crate::exit::{Exit, Failure};
use crate::prompt::{self, Answer};

/// What has to be done before a plan runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing.
    Nothing,
    /// A backup is made.
    BackUp(Destination),
    /// A person is asked whether one is made.
    Offer {
        /// What is asked.
        question: String,
        /// Where it would go.
        destination: Destination,
    },
}

/// What a person agreed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Agreed {
    /// The plan runs, after a backup into this place if there is one.
    GoOn(Option<Destination>),
    /// Nothing happens.
    Declined,
}

impl Before {
    /// Asks what there is to ask.
    pub(super) fn agree(self) -> Result<Agreed, Failure> {
        let (question, destination) = match self {
            Self::Nothing => return Ok(Agreed::GoOn(None)),
            Self::BackUp(destination) => return Ok(Agreed::GoOn(Some(destination))),
            Self::Offer {
                question,
                destination,
            } => (question, destination),
        };
        Ok(match prompt::ask(&question)? {
            Answer::Yes => Agreed::GoOn(Some(destination)),
            Answer::No => Agreed::Declined,
        })
    }
}

/// Decides, and refuses a plan that may not run as it was asked for. Changes nothing.
pub(super) async fn decide(
    common: &Common,
    args: &BackupArgs,
    job: &Job,
    inspection: &Inspection,
    plan: &Plan,
) -> Result<Before, Failure> {
    let (max_age, offer) = match args.protection()? {
        Protection::Waived => return Ok(Before::Nothing),
        Protection::Make(destination) => return Ok(Before::BackUp(destination)),
        Protection::Demand { max_age, offer } => (max_age, offer),
    };
    let upkeep = upkeep(common, &job.dsn);
    let need = backup::need(plan, &*upkeep).await.map_err(failure::of_db)?;
    let Some(need) = need else {
        return Ok(Before::Nothing);
    };
    match backup::fresh(&*upkeep, inspection, max_age)
        .await
        .map_err(failure::of_db)?
    {
        Ok(_) => Ok(Before::Nothing),
        Err(stale) if common.answer.yes => Err(refusal(&need, &stale)),
        Err(stale) => Ok(offered(&need, &stale, offer)),
    }
}

fn offered(need: &Need, stale: &Stale, destination: Destination) -> Before {
    let place = match &destination {
        Destination::Directory(directory) => directory.display().to_string(),
        Destination::Command(command) => command.clone(),
    };
    Before::Offer {
        question: format!(
            "{need}, and {stale}. (--without-backup goes on without.)\nBack up into {place} first?"
        ),
        destination,
    }
}

fn refusal(need: &Need, stale: &Stale) -> Failure {
    Failure::new(Exit::WrongState, format!("{need}, and {stale}"))
        .hint("--backup auto makes one first; --without-backup goes on without")
}

/// Makes the backup that was agreed on.
pub(super) async fn carry_out(
    common: &Common,
    args: &BackupArgs,
    job: &Job,
    destination: Option<&Destination>,
) -> Result<Option<BackupReport>, Failure> {
    match destination {
        None => Ok(None),
        Some(destination) => {
            let report = make(common, &job.dsn, destination, args.trial(), args.limit()).await?;
            Ok(Some(report))
        }
    }
}

/// Makes a backup, and ends its programs when a person interrupts.
pub(super) async fn make(
    common: &Common,
    dsn: &Dsn,
    destination: &Destination,
    trial: Trial,
    limit: Duration,
) -> Result<BackupReport, Failure> {
    let database = common.open(dsn, Missing::Refuse);
    let upkeep = upkeep(common, dsn);
    let reporter = Reporter::new();
    let order = Order {
        dsn,
        database: &*database,
        upkeep: &*upkeep,
        destination,
        trial,
        limit,
        lock_timeout: common.limits.lock_timeout(),
        who: &super::change::who(),
    };
    let made = interrupt::unless_interrupted(backup::back_up(&order, &reporter)).await?;
    reporter.end();
    made.map_err(failure::of_backup)
}

pub(super) fn upkeep(common: &Common, dsn: &Dsn) -> Box<dyn Upkeep> {
    db::upkeep(dsn, common.options(Missing::Refuse))
}
