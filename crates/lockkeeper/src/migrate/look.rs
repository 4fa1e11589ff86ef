//! How a database stands beside its directory, once or until it is as wanted.

use std::time::Duration;

use lockkeeper_core::version::SchemaVersion;
use lockkeeper_migrate::db::{DbError, Inspection};
use lockkeeper_migrate::engine;
use lockkeeper_migrate::ledger::{EditRecord, LedgerChoice, LedgerEntry};
use lockkeeper_migrate::plan::{self, Goal, PlanError, StatusRow, VersionStatus};
use serde::Serialize;
use tokio::time::Instant;

use super::flags::Common;
use super::job::Job;
use super::{failure, plan_text};
use crate::exit::{Exit, Failure};
use crate::output;

/// How often a wait looks, as users of Kratos know it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What `status` and `wait` print.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    /// The database, without login.
    target: String,
    dialect: String,
    /// Product and release.
    server: String,
    layout: String,
    /// The ledger that holds the history.
    ledger: LedgerChoice,
    /// The newest applied version.
    version: Option<String>,
    applied: usize,
    pending: usize,
    /// Why `up` would refuse; `null` when it would not.
    problem: Option<String>,
    migrations: Vec<StatusRow>,
    /// The edits of applied files that were accepted, oldest first.
    edits: Vec<EditRecord>,
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Until {
    NothingIsPending,
    Reached(SchemaVersion),
}

impl Until {
    fn goal(&self) -> Goal {
        match self {
            Self::NothingIsPending => Goal::Latest,
            Self::Reached(version) => Goal::To(version.clone()),
        }
    }

    fn waiting_for(&self, status: &Status) -> String {
        match self {
            Self::NothingIsPending => format!("{} pending migrations", status.pending),
            Self::Reached(version) => format!("version {version}"),
        }
    }
}

/// Looks once and shows it.
pub(super) async fn once(common: &Common, job: &Job) -> Result<Exit, Failure> {
    let seen = look(job, &Until::NothingIsPending)
        .await
        .map_err(failure::of_db)?;
    show(common, seen)
}

/// Shows the status as soon as it is as wanted, or cannot become so by waiting.
pub(super) async fn wait(
    common: &Common,
    job: &Job,
    until: &Until,
    limit: Option<Duration>,
) -> Result<Exit, Failure> {
    let deadline = limit.map(|limit| Instant::now() + limit);
    let mut told = String::new();
    loop {
        let seen = look(job, until).await;
        let waiting_for = match &seen {
            Ok((status, Exit::Pending)) => until.waiting_for(status),
            // The database may come up later than whoever waits for it.
            Err(error @ DbError::Unreachable { .. }) => error.to_string(),
            _ => return show(common, seen.map_err(failure::of_db)?),
        };
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            if let Ok((status, _)) = &seen {
                output::print(common.answer.format, status, table)?;
            }
            return Err(Failure::new(
                Exit::TimedOut,
                format!("timed out while waiting for {waiting_for}"),
            ));
        }
        if told != waiting_for {
            eprintln!("waiting for {waiting_for}");
            told = waiting_for;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn show(common: &Common, (status, exit): (Status, Exit)) -> Result<Exit, Failure> {
    output::print(common.answer.format, &status, table)?;
    if let Some(problem) = &status.problem {
        eprintln!("error: {problem}");
    }
    Ok(exit)
}

async fn look(job: &Job, until: &Until) -> Result<(Status, Exit), DbError> {
    let inspection = job.database.inspect().await?;
    let history = match engine::history(&inspection) {
        Ok(history) => history.to_vec(),
        Err(other) => {
            let status = Status::of(job, inspection, &[], Some(other.to_string()));
            return Ok((status, Exit::WrongState));
        }
    };
    let planned = plan::plan(&job.set, &history, &until.goal());
    let (exit, problem) = match planned {
        Ok(plan) if plan.steps.is_empty() => (Exit::Ok, None),
        Ok(_) => (Exit::Pending, None),
        // Further than asked for is reached as well.
        Err(PlanError::GoalBelowCurrent { .. }) => (Exit::Ok, None),
        Err(problem) => (Exit::WrongState, Some(problem)),
    };
    let problem = problem.as_ref().map(PlanError::to_string);
    Ok((Status::of(job, inspection, &history, problem), exit))
}

impl Status {
    fn of(job: &Job, inspection: Inspection, history: &[LedgerEntry], problem: Option<String>) -> Self {
        let migrations = plan::status(&job.set, history);
        let count = |status| migrations.iter().filter(|row| row.status == status).count();
        let newest = migrations
            .iter()
            .filter(|row| !row.version.is_repeatable())
            .rfind(|row| !matches!(row.status, VersionStatus::Pending | VersionStatus::BelowBaseline));
        Self {
            target: job.dsn.place(),
            dialect: job.dsn.dialect().to_string(),
            server: inspection.server,
            layout: job.set.layout.to_string(),
            ledger: inspection.books.kept,
            version: newest.map(|row| row.version.to_string()),
            applied: count(VersionStatus::Applied),
            pending: count(VersionStatus::Pending),
            problem,
            migrations,
            edits: inspection.books.edits,
        }
    }
}

fn table(status: &Status) -> String {
    let edits: String = status.edits.iter().map(edit).collect();
    plan_text::status_table(&status.migrations) + &edits
}

fn edit(edit: &EditRecord) -> String {
    let EditRecord {
        version,
        accepted_by,
        reason,
        ..
    } = edit;
    format!("the edit of version {version} was accepted by {accepted_by}: {reason}\n")
}
