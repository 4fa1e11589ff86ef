//! A plan as a program reads it.

use lockkeeper_migrate::dialect::Dialect;
use lockkeeper_migrate::engine::Prospect;
use lockkeeper_migrate::online::{self, Obstacle};
use lockkeeper_migrate::plan::{Plan, Step};
use lockkeeper_migrate::source::{Direction, TransactionMode};
use serde::Serialize;

use super::job::Job;

/// What `plan` and `--dry-run` print.
#[derive(Debug, Serialize)]
pub(super) struct PlanView {
    /// The database, without login.
    target: String,
    dialect: String,
    /// Product and release.
    server: String,
    layout: String,
    /// Version now.
    from: Option<String>,
    /// Version afterwards.
    to: Option<String>,
    steps: Vec<StepView>,
}

/// A migration that would run, and how.
#[derive(Debug, Serialize)]
struct StepView {
    version: String,
    name: String,
    direction: Direction,
    path: String,
    transaction: TransactionMode,
    /// What keeps it from running while writers go on; none: it may.
    obstacles: Vec<Obstacle>,
    statements: Vec<StatementView>,
}

#[derive(Debug, Serialize)]
struct StatementView {
    /// Counted from 1.
    line: u32,
    text: String,
}

impl PlanView {
    pub(super) fn of(job: &Job, prospect: &Prospect, plan: &Plan) -> Self {
        Self {
            target: job.dsn.place(),
            dialect: job.dsn.dialect().to_string(),
            server: prospect.inspection.server.clone(),
            layout: job.set.layout.to_string(),
            from: plan.from.as_ref().map(ToString::to_string),
            to: plan.to.as_ref().map(ToString::to_string),
            steps: plan
                .steps
                .iter()
                .filter_map(|step| StepView::of(job.dsn.dialect(), step))
                .collect(),
        }
    }
}

impl StepView {
    /// A plan holds no step without a script.
    fn of(dialect: Dialect, step: &Step) -> Option<Self> {
        let script = step.migration.script(step.direction)?;
        let statements = script.statements.iter().map(|statement| StatementView {
            line: statement.line,
            text: statement.shown().to_owned(),
        });
        Some(Self {
            version: step.migration.version.to_string(),
            name: step.migration.name.clone(),
            direction: step.direction,
            path: script.path.display().to_string(),
            transaction: script.transaction.clone(),
            obstacles: online::obstacles(dialect, &script.statements),
            statements: statements.collect(),
        })
    }
}
