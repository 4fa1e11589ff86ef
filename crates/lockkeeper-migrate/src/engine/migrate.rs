//! Runs a plan.

use std::sync::Arc;
use std::time::Duration;

use lockkeeper_core::version::SchemaVersion;
use serde::{Deserialize, Serialize};

use super::{EngineError, record};
use crate::db::{Applied, Hand, LedgerWrite, Notice, Observer, Provenance, Silent};
use crate::ledger::origin::Facts;
use crate::plan::{Amendment, Plan, Step};
use crate::source::{Direction, Layout};

/// What became of a plan, step by step.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Report {
    /// The steps, in the order they ran.
    pub steps: Vec<StepReport>,
}

impl Report {
    /// How many steps this call ran, rather than found done.
    #[must_use]
    pub fn ran(&self) -> usize {
        self.steps
            .iter()
            .filter(|step| step.outcome == Outcome::Ran)
            .count()
    }

    /// How many notices and warnings the server gave.
    #[must_use]
    pub fn notices(&self) -> usize {
        self.steps.iter().map(|step| step.notices.len()).sum()
    }
}

/// What became of one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    /// The migration's version.
    pub version: SchemaVersion,
    /// Its name.
    pub name: String,
    /// Which of its scripts.
    pub direction: Direction,
    /// Whether this call ran it.
    pub outcome: Outcome,
    /// How long it took, in milliseconds; 0 when it did not run.
    pub duration_ms: u64,
    /// What the server said meanwhile.
    pub notices: Vec<Notice>,
}

/// Whether a step ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It ran now.
    Ran,
    /// The ledger already had it: another runner was faster, or an earlier answer was lost.
    Already,
}

/// Receives a run's progress, beside the events of the port.
pub trait Progress: Observer {
    /// Step `index` of `total` starts (both count from 1).
    fn started(&self, _step: &Step, _index: usize, _total: usize) {}
    /// A step ended well.
    fn finished(&self, _report: &StepReport) {}
}

impl Progress for Silent {}

/// Runs `plan` through `hand`, in order, and stops at the first step that fails. Each step looks at the ledger
/// again under the target's lock, so a plan may be run twice, or by several runners at once.
///
/// # Errors
///
/// [`EngineError::Apply`] with the steps that were done before; what the failed one left behind stands in its
/// [`ApplyError`](crate::db::ApplyError).
pub async fn migrate(
    hand: &mut dyn Hand,
    plan: &Plan,
    layout: Layout,
    applied_by: &str,
    progress: &dyn Progress,
) -> Result<Report, EngineError> {
    refuse_unfinished(hand, plan).await?;
    amend(hand, plan, layout, applied_by).await?;
    let mut report = Report::default();
    for (at, step) in plan.steps.iter().enumerate() {
        if progress.is_stopping() {
            let version = step.migration.version.clone();
            return Err(EngineError::Stopped { version, report });
        }
        progress.started(step, at + 1, plan.steps.len());
        let write = write_of(plan, at, layout, applied_by);
        let done = run(hand, step, &write, progress, &report).await?;
        progress.finished(&done);
        report.steps.push(done);
    }
    Ok(report)
}

/// Nothing runs beside a version of which only a part has taken effect, unless the plan takes that one further.
async fn refuse_unfinished(hand: &mut dyn Hand, plan: &Plan) -> Result<(), EngineError> {
    if plan.steps.is_empty() {
        return Ok(());
    }
    let Some(version) = super::unfinished(hand).await? else {
        return Ok(());
    };
    let direction = match super::unfinished_up(hand).await? {
        Some(up) if up == version => Direction::Up,
        Some(_) | None => Direction::Down,
    };
    let taken_further = |step: &Step| step.migration.version == version && step.direction == direction;
    if plan.steps.iter().any(taken_further) {
        Ok(())
    } else {
        Err(EngineError::Unfinished { version, direction })
    }
}

/// What a step leaves in the ledger.
fn write_of(plan: &Plan, at: usize, layout: Layout, applied_by: &str) -> LedgerWrite {
    let Step { direction, migration } = &plan.steps[at];
    // Going down, the next step's version stands once this one is taken back.
    let below = match plan.steps.get(at + 1) {
        Some(next) => Some(next.migration.version.clone()),
        None => plan.to.clone(),
    };
    LedgerWrite {
        direction: *direction,
        facts: Some(Facts {
            migration: Arc::clone(migration),
            below: below.filter(|_| *direction == Direction::Down),
        }),
        ..record::of(migration, layout, applied_by, Provenance::default())
    }
}

/// Tells the ledger what it has to know before the steps run.
async fn amend(
    hand: &mut dyn Hand,
    plan: &Plan,
    layout: Layout,
    applied_by: &str,
) -> Result<(), EngineError> {
    let mut spelled = Vec::new();
    for amendment in &plan.amendments {
        match amendment {
            Amendment::SpellOut(migration) => {
                spelled.push(record::of(migration, layout, applied_by, Provenance::default()));
            }
            Amendment::AcceptEdit {
                migration,
                was,
                reason,
            } => {
                let edit = record::edit_of(migration, was, applied_by, reason);
                hand.accept_edit(migration, &edit).await?;
            }
        }
    }
    if !spelled.is_empty() {
        hand.record(&spelled).await?;
    }
    Ok(())
}

async fn run(
    hand: &mut dyn Hand,
    step: &Step,
    write: &LedgerWrite,
    progress: &dyn Progress,
    before: &Report,
) -> Result<StepReport, EngineError> {
    let Step { direction, migration } = step;
    let script = migration
        .script(*direction)
        .ok_or_else(|| EngineError::NoScript {
            version: migration.version.clone(),
            direction: *direction,
        })?;
    let applied = hand
        .apply(script, write, progress)
        .await
        .map_err(|error| EngineError::Apply {
            version: migration.version.clone(),
            direction: *direction,
            path: script.path.clone(),
            error,
            report: before.clone(),
        })?;
    let (outcome, duration, notices) = match applied {
        Applied::Ran { duration, notices } => (Outcome::Ran, duration, notices),
        Applied::Already => (Outcome::Already, Duration::ZERO, Vec::new()),
    };
    Ok(StepReport {
        version: migration.version.clone(),
        name: migration.name.clone(),
        direction: *direction,
        outcome,
        duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        notices,
    })
}
