//! What `up` and `down` share: plan, ask, take, migrate, tell.

use lockkeeper_migrate::db::{Claim, DbError};
use lockkeeper_migrate::engine::{self, EngineError, Prospect, Report, StepReport};
use lockkeeper_migrate::plan::{self, Goal, Plan};
use lockkeeper_migrate::source::Direction;
use serde::Serialize;

use super::flags::{Common, DsnArg};
use super::job::{Job, Missing};
use super::progress::Reporter;
use super::{failure, plan_text};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::prompt::{self, Answer};

/// What `up` and `down` print.
#[derive(Debug, Serialize)]
struct Summary {
    /// The database, without login.
    target: String,
    direction: Direction,
    /// Version before, as it was when the plan was made.
    from: Option<String>,
    /// Version after.
    to: Option<String>,
    /// Steps that ran now.
    ran: usize,
    /// Steps that another runner had done when their turn came.
    already: usize,
    /// Notices and warnings of the server.
    notices: usize,
    /// Whether a person said no.
    declined: bool,
    /// What went wrong; `null` when nothing did.
    error: Option<String>,
    steps: Vec<StepReport>,
}

/// Plans the way to `goal`, shows it, asks, and goes it.
pub(super) async fn run(
    common: &Common,
    dsn: &DsnArg,
    direction: Direction,
    goal: &Goal,
) -> Result<Exit, Failure> {
    let missing = match direction {
        Direction::Up => Missing::Make,
        Direction::Down => Missing::Refuse,
    };
    let job = common.job(dsn, missing)?;
    let prospect = engine::prepare(&*job.database, &job.set, goal)
        .await
        .map_err(failure::of_engine)?;
    let steps = prospect.plan.steps.len();
    if steps == 0 {
        finish(
            common,
            &job,
            direction,
            &prospect.plan,
            Ok(Report::default()),
            Answer::Yes,
        )?;
        return Ok(Exit::Ok);
    }
    show_plan(common, &job, &prospect)?;
    if !common.answer.yes && prompt::ask(&question(direction, steps, &job))? == Answer::No {
        finish(
            common,
            &job,
            direction,
            &prospect.plan,
            Ok(Report::default()),
            Answer::No,
        )?;
        return Ok(Exit::Ok);
    }
    let result = migrate(common, &job, &prospect.plan).await;
    finish(common, &job, direction, &prospect.plan, result, Answer::Yes)?;
    Ok(Exit::Ok)
}

fn question(direction: Direction, steps: usize, job: &Job) -> String {
    let migrations = if steps == 1 {
        "1 migration".to_owned()
    } else {
        format!("{steps} migrations")
    };
    match direction {
        Direction::Up => format!("Apply {migrations} to {}?", job.dsn),
        Direction::Down => format!(
            "Taking migrations back can lose data for good: back up first.\nTake {migrations} back on {}?",
            job.dsn
        ),
    }
}

/// For people on standard output; with another format only when somebody is about to be asked.
fn show_plan(common: &Common, job: &Job, prospect: &Prospect) -> Result<(), Failure> {
    let rows = plan::status(&job.set, &prospect.inspection.ledger);
    let text = format!(
        "{} ({}), {} layout\n\n{}{}\n",
        job.dsn,
        prospect.inspection.server,
        job.set.layout,
        plan_text::status_table(&rows),
        plan_text::statements(&prospect.plan)
    );
    if common.answer.format.is_for_people() {
        return output::write(&text);
    }
    if !common.answer.yes {
        eprint!("{text}");
    }
    Ok(())
}

async fn migrate(common: &Common, job: &Job, plan: &Plan) -> Result<Report, Ended> {
    let reporter = Reporter::new();
    let who = who();
    let claim = Claim::Standalone { who: who.clone() };
    let patience = common.limits.patience();
    let taken = job.database.take(&claim, patience, &reporter).await;
    let mut hand = taken.map_err(|error| Ended {
        report: Report::default(),
        failure: failure::of_take(error),
    })?;
    let result = engine::migrate(&mut *hand, plan, job.set.layout, &who, &reporter).await;
    let released = hand.release().await;
    reporter.end();
    let report = result.map_err(Ended::from)?;
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

impl From<EngineError> for Ended {
    fn from(error: EngineError) -> Self {
        let report = match &error {
            EngineError::Apply { report, .. } => report.clone(),
            _ => Report::default(),
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
    direction: Direction,
    plan: &Plan,
    result: Result<Report, Ended>,
    answer: Answer,
) -> Result<(), Failure> {
    let (report, failure) = match result {
        Ok(report) => (report, None),
        Err(ended) => (ended.report, Some(ended.failure)),
    };
    let complete = failure.is_none() && answer == Answer::Yes;
    let version =
        |version: &Option<lockkeeper_core::version::SchemaVersion>| version.as_ref().map(ToString::to_string);
    let reached = if complete {
        version(&plan.to)
    } else {
        reached(direction, plan, &report)
    };
    let summary = Summary {
        target: job.dsn.place(),
        direction,
        from: version(&plan.from),
        to: reached,
        ran: report.ran(),
        already: report.steps.len() - report.ran(),
        notices: report.notices(),
        declined: answer == Answer::No,
        error: failure.as_ref().map(Failure::message),
        steps: report.steps,
    };
    output::print(common.answer.format, &summary, sentence)?;
    failure.map_or(Ok(()), Err)
}

/// The version after some of the plan's steps.
fn reached(direction: Direction, plan: &Plan, report: &Report) -> Option<String> {
    let done = report.steps.len();
    let version = match direction {
        Direction::Up => done.checked_sub(1).map_or(plan.from.as_ref(), |last| {
            plan.steps.get(last).map(|step| &step.migration.version)
        }),
        // Going down, the next step's version is the one that still stands.
        Direction::Down => plan.steps.get(done).map(|step| &step.migration.version),
    };
    version.map(ToString::to_string)
}

fn sentence(summary: &Summary) -> String {
    let version = summary.to.as_deref().unwrap_or("none");
    let Summary {
        ran,
        already,
        notices,
        ..
    } = summary;
    if summary.declined {
        return "declined, nothing was changed\n".to_owned();
    }
    if summary.error.is_none() && ran + already == 0 {
        return format!("nothing to do, schema version {version}\n");
    }
    let done = match summary.direction {
        Direction::Up => "applied",
        Direction::Down => "taken back",
    };
    let mut text = format!("{ran} {done}, schema version {version}");
    if *already > 0 {
        text.push_str(&format!(", {already} done by another runner"));
    }
    if *notices > 0 {
        text.push_str(&format!(", {notices} notices from the server"));
    }
    text + "\n"
}

/// Who runs this, for the ledger and for others that wait.
fn who() -> String {
    let user = std::env::var("USER")
        .or_else(|_| std::env::var("LOGNAME"))
        .unwrap_or_else(|_| "unknown".to_owned());
    let host =
        std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "localhost".to_owned());
    format!("{user}@{} pid {}", host.trim(), std::process::id())
}
