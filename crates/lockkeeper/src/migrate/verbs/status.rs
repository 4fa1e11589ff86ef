//! `status`, and its waiting.

use std::time::Duration;

use clap::Args;
use lockkeeper_migrate::db::DbError;
use lockkeeper_migrate::plan::{self, Goal, PlanError, StatusRow, VersionStatus};
use serde::Serialize;
use tokio::time::Instant;

use crate::exit::{Exit, Failure};
use crate::migrate::flags::{Common, DsnArg};
use crate::migrate::job::{Job, Missing};
use crate::migrate::{failure, plan_text};
use crate::output;

/// How often `--block` looks, as users of Kratos know it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(in crate::migrate) struct StatusArgs {
    #[command(flatten)]
    dsn: DsnArg,
    /// Wait until nothing is pending, looking each second
    #[arg(long)]
    block: bool,
}

/// What `status` prints.
#[derive(Debug, Serialize)]
struct Status {
    /// The database, without login.
    target: String,
    dialect: String,
    /// Product and release.
    server: String,
    layout: String,
    /// The newest applied version.
    version: Option<String>,
    applied: usize,
    pending: usize,
    /// Why `up` would refuse; `null` when it would not.
    problem: Option<String>,
    migrations: Vec<StatusRow>,
}

impl StatusArgs {
    pub(in crate::migrate) async fn run(self, common: &Common) -> Result<Exit, Failure> {
        let job = common.job(&self.dsn, Missing::Refuse)?;
        if self.block {
            return wait(common, &job).await;
        }
        show(common, look(&job).await)
    }
}

/// Shows the status as soon as nothing is pending, or it cannot become better by waiting.
async fn wait(common: &Common, job: &Job) -> Result<Exit, Failure> {
    let deadline = common.limits.timeout.map(|timeout| Instant::now() + timeout);
    let mut told = String::new();
    loop {
        let seen = look(job).await;
        let waiting_for = match &seen {
            Ok((status, Exit::Pending)) => format!("{} pending migrations", status.pending),
            // The database may come up later than whoever waits for it.
            Err(error @ DbError::Unreachable { .. }) => error.to_string(),
            _ => String::new(),
        };
        if waiting_for.is_empty() {
            return show(common, seen);
        }
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

fn show(common: &Common, seen: Result<(Status, Exit), DbError>) -> Result<Exit, Failure> {
    let (status, exit) = seen.map_err(failure::of_db)?;
    output::print(common.answer.format, &status, table)?;
    if let Some(problem) = &status.problem {
        eprintln!("error: {problem}");
    }
    Ok(exit)
}

async fn look(job: &Job) -> Result<(Status, Exit), DbError> {
    let inspection = job.database.inspect().await?;
    let migrations = plan::status(&job.set, &inspection.ledger);
    let planned = plan::plan(&job.set, &inspection.ledger, &Goal::Latest);
    let exit = match &planned {
        Ok(plan) if plan.steps.is_empty() => Exit::Ok,
        Ok(_) => Exit::Pending,
        Err(_) => Exit::WrongState,
    };
    let count = |status| migrations.iter().filter(|row| row.status == status).count();
    let newest = migrations
        .iter()
        .rfind(|row| row.status != VersionStatus::Pending);
    let status = Status {
        target: job.dsn.place(),
        dialect: job.dsn.dialect().to_string(),
        server: inspection.server,
        layout: job.set.layout.to_string(),
        version: newest.map(|row| row.version.to_string()),
        applied: count(VersionStatus::Applied),
        pending: count(VersionStatus::Pending),
        problem: planned.err().as_ref().map(PlanError::to_string),
        migrations,
    };
    Ok((status, exit))
}

fn table(status: &Status) -> String {
    plan_text::status_table(&status.migrations)
}
