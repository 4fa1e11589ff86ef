//! `status`, and its waiting.

use std::time::Duration;

use lockkeeper_migrate::db::DbError;
use lockkeeper_migrate::plan::{self, Goal, PlanError, StatusRow, VersionStatus};
use serde::Serialize;
use tokio::time::Instant;

use super::args::{Common, Job, Missing};
use super::{failure, plan_text};
use crate::exit::{Exit, Failure};
use crate::output;

/// How often `--block` looks, as users of Kratos know it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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

pub(super) async fn status(common: &Common, dsn: Option<&str>, block: bool) -> Result<Exit, Failure> {
    let job = common.job(dsn, Missing::Refuse)?;
    let deadline = common.timeout.map(|timeout| Instant::now() + timeout);
    let mut told = String::new();
    loop {
        let seen = look(&job).await;
        let waiting_for = match &seen {
            Ok((status, Exit::Pending)) => format!("{} pending migrations", status.pending),
            // The database may come up later than whoever waits for it.
            Err(error @ DbError::Unreachable { .. }) => error.to_string(),
            _ => String::new(),
        };
        if !block || waiting_for.is_empty() {
            return show(common, seen);
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            if let Ok((status, _)) = &seen {
                output::print(common.format, status, table)?;
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
    output::print(common.format, &status, table)?;
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
