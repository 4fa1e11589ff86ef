//! What `up`, `up-to`, `down` and `redo` share: plan, show, ask, migrate, tell.

use lockkeeper_migrate::backup::BackupReport;
use lockkeeper_migrate::db::{Claim, DbError, Hand};
use lockkeeper_migrate::engine::{self, EngineError, Prospect, Report};
use lockkeeper_migrate::plan::{Goal, Plan, Step};

use super::flags::{BackupArgs, ChangeArgs, Common, DsnArg, Intent};
use super::guard::{self, check_identity};
use super::job::{Job, Missing};
use super::journey::{Course, Journey};
use super::plan_view::PlanView;
use super::progress::Reporter;
use super::protect::{self, Agreed};
use super::stop::{Cause, Stop};
use super::summary::Summary;
use super::{failure, plan_text};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::prompt::{self, Answer};

/// What is to be done.
#[derive(Debug)]
pub(super) struct Change<'a> {
    pub(super) course: Course,
    /// Where to; for a redo, how far down.
    pub(super) goal: Goal,
    pub(super) dsn: &'a DsnArg,
    pub(super) args: &'a ChangeArgs,
    /// What is done before something can be lost.
    pub(super) backup: &'a BackupArgs,
}

impl Change<'_> {
    /// Plans the way, shows it, asks, and goes it.
    pub(super) async fn run(&self, common: &Common) -> Result<Exit, Failure> {
        let missing = match self.course {
            Course::Up => Missing::Make,
            Course::Down | Course::Redo => Missing::Refuse,
        };
        let job = common.job(self.dsn, missing)?;
        let prospect = engine::prepare(&*job.database, &job.set, &self.goal)
            .await
            .map_err(failure::of_engine)?;
        check_identity(common, &prospect)?;
        let journey = match self.course {
            Course::Up | Course::Down => Journey::straight(self.course, prospect.plan.clone(), job.set.order),
            Course::Redo => Journey::there_and_back(prospect.plan.clone(), job.set.order),
        };
        match self.args.intent() {
            Intent::Show => show(common, &job, &prospect, &journey),
            Intent::Do => self.go(common, &job, &prospect, &journey).await,
        }
    }

    async fn go(
        &self,
        common: &Common,
        job: &Job,
        prospect: &Prospect,
        journey: &Journey,
    ) -> Result<Exit, Failure> {
        let tell = |result, answer| finish(common, job, journey, result, answer);
        if journey.plan.steps.is_empty() && prospect.moves.is_none() {
            return tell(Ok(Done::default()), Answer::Yes);
        }
        show_before(common, job, prospect, journey)?;
        let backup = self.backup;
        let before = match protect::decide(common, backup, job, &prospect.inspection, &journey.plan).await {
            Ok(before) => before,
            Err(failure) => return tell(Err(Ended::at_once(failure)), Answer::Yes),
        };
        if !common.answer.yes && prompt::ask(&question(journey, job))? == Answer::No {
            return tell(Ok(Done::default()), Answer::No);
        }
        let destination = match before.agree()? {
            Agreed::GoOn(destination) => destination,
            Agreed::Declined => return tell(Ok(Done::default()), Answer::No),
        };
        let result = match protect::carry_out(common, backup, job, destination.as_ref()).await {
            Ok(backup) => migrate(common, job, prospect, journey, &self.goal)
                .await
                .map(|report| Done { report, backup }),
            Err(failure) => Err(Ended::at_once(failure)),
        };
        tell(result, Answer::Yes)
    }
}

/// What was done.
#[derive(Debug, Default)]
struct Done {
    report: Report,
    /// What was made before.
    backup: Option<BackupReport>,
}

/// A dry run: the plan is the result.
fn show(common: &Common, job: &Job, prospect: &Prospect, journey: &Journey) -> Result<Exit, Failure> {
    let view = PlanView::of(job, prospect, &journey.plan);
    output::print(common.answer.format, &view, |_| {
        plan_text::whole(job, prospect, &journey.plan)
    })?;
    Ok(Exit::Ok)
}

fn question(journey: &Journey, job: &Job) -> String {
    let migrations = match journey.migrations() {
        1 => "1 migration".to_owned(),
        several => format!("{several} migrations"),
    };
    const WARNING: &str = "Taking migrations back can lose data for good.";
    match journey.course {
        Course::Up => format!("Apply {migrations} to {}?", job.dsn),
        Course::Down => format!("{WARNING}\nTake {migrations} back on {}?", job.dsn),
        Course::Redo => format!(
            "{WARNING}\nTake {migrations} back and apply again on {}?",
            job.dsn
        ),
    }
}

/// For people on standard output; with another format only when somebody is about to be asked.
fn show_before(common: &Common, job: &Job, prospect: &Prospect, journey: &Journey) -> Result<(), Failure> {
    let text = plan_text::whole(job, prospect, &journey.plan) + "\n";
    if common.answer.format.is_for_people() {
        return output::write(&text);
    }
    if !common.answer.yes {
        eprint!("{text}");
    }
    Ok(())
}

/// Moves the history where it was asked for, and looks again under the lock.
async fn make_ready(hand: &mut dyn Hand, job: &Job, prospect: &Prospect, goal: &Goal) -> Result<(), Failure> {
    if let Some(records) = &prospect.moves {
        hand.record(records).await.map_err(failure::of_db)?;
    }
    match goal {
        Goal::Latest | Goal::To(_) => guard::confirm(hand, job, prospect, goal).await,
        // What is no longer applied is skipped when its turn comes.
        Goal::DownSteps(_) | Goal::DownTo(_) => Ok(()),
    }
}

async fn migrate(
    common: &Common,
    job: &Job,
    prospect: &Prospect,
    journey: &Journey,
    goal: &Goal,
) -> Result<Report, Ended> {
    let mut stop = Stop::listen(common.limits.run_timeout).map_err(Ended::at_once)?;
    let reporter = Reporter::stopped_by(stop.stopping());
    let who = who();
    let claim = Claim::Standalone { who: who.clone() };
    let patience = common.limits.patience();
    let taking = job.database.take(&claim, patience, &reporter);
    let taken = stop.before(taking).await.map_err(|cause| {
        let text = format!("{} while waiting for its turn; nothing was changed", cause.text());
        Ended::at_once(Failure::new(cause.exit(), text))
    })?;
    let mut hand = taken.map_err(|error| Ended::at_once(failure::of_take(error)))?;
    make_ready(&mut *hand, job, prospect, goal)
        .await
        .map_err(Ended::at_once)?;
    let executor = hand.executor().clone();
    let work = engine::migrate(&mut *hand, &journey.plan, job.set.layout, &who, &reporter);
    let (result, stopped) = stop.during(&*job.database, &executor, work).await;
    let released = hand.release().await;
    reporter.end();
    let report = result.map_err(|error| match stopped {
        Some(cause) => Ended::stopped(cause, error, &journey.plan),
        None => Ended::from(error),
    })?;
    match released {
        // Everything is applied and committed; the next runner finds an executor that has ended.
        Ok(()) | Err(DbError::ConnectionLost(_)) => Ok(report),
        Err(error) => Err(Ended {
            report,
            failure: failure::of_db(error),
        }),
    }
}

/// A run that failed, with what it did before.
struct Ended {
    report: Report,
    failure: Failure,
}

impl Ended {
    /// Before anything was done.
    fn at_once(failure: Failure) -> Self {
        Self {
            report: Report::default(),
            failure,
        }
    }

    /// Because somebody asked for it: says what is applied and what is not.
    fn stopped(cause: Cause, error: EngineError, plan: &Plan) -> Self {
        let ended = Self::from(error);
        let (done, left) = plan
            .steps
            .split_at(ended.report.steps.len().min(plan.steps.len()));
        let text = format!(
            "{}: {}; {}; {}",
            cause.text(),
            ended.failure.message(),
            versions("done", done),
            versions("not done", left)
        );
        Self {
            report: ended.report,
            failure: Failure::new(cause.exit(), text).hint("run it again to go on from there"),
        }
    }
}

fn versions(what: &str, steps: &[Step]) -> String {
    let names: Vec<&str> = steps.iter().map(|step| step.migration.version.as_str()).collect();
    match names.as_slice() {
        [] => format!("{what}: none"),
        _ => format!("{what}: {}", names.join(", ")),
    }
}

impl From<EngineError> for Ended {
    fn from(error: EngineError) -> Self {
        let report = match &error {
            EngineError::Apply { report, .. } | EngineError::Stopped { report, .. } => report.clone(),
            EngineError::Plan(_)
            | EngineError::OtherLedger(_)
            | EngineError::NoScript { .. }
            | EngineError::Transfer(_)
            | EngineError::Unfinished { .. }
            | EngineError::Db(_) => Report::default(),
        };
        Self {
            report,
            failure: failure::of_engine(error),
        }
    }
}

fn finish(
    common: &Common,
    job: &Job,
    journey: &Journey,
    result: Result<Done, Ended>,
    answer: Answer,
) -> Result<Exit, Failure> {
    let (done, failure) = match result {
        Ok(done) => (done, None),
        Err(ended) => {
            let (report, backup) = (ended.report, None);
            (Done { report, backup }, Some(ended.failure))
        }
    };
    let Done { report, backup } = done;
    let mut summary = Summary::of(job, journey, report);
    summary.backup = backup;
    summary.declined = answer == Answer::No;
    summary.error = failure.as_ref().map(Failure::message);
    output::print(common.answer.format, &summary, Summary::sentence)?;
    failure.map_or(Ok(Exit::Ok), Err)
}

/// Who runs this, for the ledger and for others that wait.
pub(crate) fn who() -> String {
    let user = std::env::var("USER")
        .or_else(|_| std::env::var("LOGNAME"))
        .unwrap_or_else(|_| "unknown".to_owned());
    let host =
        std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "localhost".to_owned());
    format!("{user}@{} pid {}", host.trim(), std::process::id())
}
