//! Applying what is pending, and reverting what was applied.

use std::time::Duration;

use lockkeeper_core::mutation::{Mutation, mutated};
use lockkeeper_core::rollout::{Damage, Event};
use lockkeeper_core::version::SchemaVersion;
use lockkeeper_migrate::db::DbError;
use lockkeeper_migrate::engine::{self, EngineError};
use lockkeeper_migrate::plan::{self, Plan};
use tracing::warn;

use super::{Step, TargetDriver, Trouble, needs_person};
use crate::leader::writer::WriteError;
use crate::records::ProgressRecord;

/// Most server notices that are kept per target; all are counted.
const NOTICES_KEPT_MAX: usize = 50;

/// How long reverting may take at least, whatever the fence budget: it is the way out, and cutting it short leaves a
/// hold. A script that waits for ever must still end in one.
const REVERT_LIMIT_MIN: Duration = Duration::from_secs(15 * 60);

impl TargetDriver {
    pub(super) async fn migrate(&mut self) -> Step<Event> {
        if self.is_external() {
            return self.migrate_external().await;
        }
        let started = tokio::time::Instant::now();
        self.stand().await?;
        let plan = self.pending().await?;
        // What is applied already needs no time: a budget that is used up must not keep it from being opened.
        if plan.steps.is_empty() {
            return Ok(Event::Migrated);
        }
        let left = self.budget_left();
        self.leader
            .waits
            .next(self.name(), "verify, then open", Some(self.budget_end()));
        let outcome = tokio::time::timeout(left, self.apply(&plan)).await;
        let Ok(outcome) = outcome else {
            return self.over_budget().await;
        };
        let event = match outcome? {
            Ok(()) => Event::Migrated,
            Err(failure) => self.migration_failed(&failure)?,
        };
        let mut record = self.progress.record.clone();
        record.migrate_time = Some(started.elapsed());
        self.keep_notices(&mut record);
        self.write(record, Vec::new()).await?;
        Ok(event)
    }

    /// What the ledger says is left to do.
    async fn pending(&mut self) -> Step<Plan> {
        let ledger = self.hand()?.ledger().await.map_err(needs_person)?;
        let goal = self
            .progress
            .record
            .target
            .to
            .clone()
            .map_or(plan::Goal::Latest, plan::Goal::To);
        plan::plan(&self.migrations()?.set, &ledger, &goal)
            .map_err(|error| Trouble::Event(Event::NeedsPerson(error.to_string())))
    }

    async fn apply(&mut self, plan: &Plan) -> Step<Result<(), EngineError>> {
        let layout = self.migrations()?.set.layout;
        let Self {
            hand,
            observer,
            leader,
            ..
        } = self;
        let Some(hand) = hand.as_mut() else {
            return Err(needs_person(DbError::ConnectionLost(String::new())));
        };
        let report = engine::migrate(hand.as_mut(), plan, layout, &leader.applied_by(), observer).await;
        Ok(report.map(drop))
    }

    pub(super) fn keep_notices(&self, record: &mut ProgressRecord) {
        let notices = self.observer.take_notices();
        record.warnings_count += notices.len();
        let room = NOTICES_KEPT_MAX.saturating_sub(record.warnings.len());
        record.warnings.extend(
            notices
                .into_iter()
                .take(room)
                .map(|n| format!("{}: {}", n.severity, n.message)),
        );
    }

    pub(super) fn migration_failed(&self, failure: &EngineError) -> Step<Event> {
        let reason = failure.to_string();
        settle_elsewhere(failure)?;
        warn!(target = %self.name(), reason, "migration failed");
        let damage = if failure.is_unclear() {
            Damage::Unclear
        } else {
            Damage::Clean
        };
        Ok(Event::MigrationFailed { damage, reason })
    }

    pub(super) async fn over_budget(&mut self) -> Step<Event> {
        let reason = format!("over the fence budget of {} s", self.spec.budget.as_secs_f64());
        warn!(target = %self.name(), reason, "stopping the migration");
        let statement = self.leader.waits.of(self.name()).statement;
        let running = statement.map(|s| format!(" (at {s})")).unwrap_or_default();
        self.drop_hand().await;
        // A cancelled commit may have been a commit: what the ledger says now decides.
        self.take().await?;
        let ledger = self.hand()?.ledger().await.map_err(needs_person)?;
        let goal = self
            .progress
            .record
            .target
            .to
            .clone()
            .map_or(plan::Goal::Latest, plan::Goal::To);
        let planned = plan::plan(&self.migrations()?.set, &ledger, &goal);
        self.drop_hand().await;
        Ok(match planned {
            Ok(plan) if plan.steps.is_empty() => Event::Migrated,
            Ok(_) => Event::MigrationFailed {
                damage: Damage::Clean,
                reason: format!("{reason}{running}"),
            },
            Err(error) => Event::MigrationFailed {
                damage: Damage::Unclear,
                reason: format!("{reason}{running}: {error}"),
            },
        })
    }

    pub(super) async fn roll_back(&mut self) -> Step<Event> {
        if self.is_external() {
            return self.revert_external().await;
        }
        self.stand().await?;
        self.leader
            .waits
            .next(self.name(), "verify the old version, then open it", None);
        let ledger = self.hand()?.ledger().await.map_err(needs_person)?;
        let from = self.progress.record.target.from.clone();
        let unfinished = engine::unfinished_up(self.hand()?.as_mut()).await;
        let unfinished = unfinished.map_err(needs_person)?;
        if let Some(version) = unfinished.filter(|_| !mutated(Mutation::UnfinishedNotAsked)) {
            return Ok(Event::RevertFailed(format!(
                "cannot roll back: version {version} is applied in part"
            )));
        }
        let set = &self.migrations()?.set;
        if plan::verify(set, &ledger, from.as_ref()).is_ok() {
            return Ok(Event::Reverted);
        }
        let plan = match plan::plan(set, &ledger, &plan::Goal::DownTo(from)) {
            Ok(plan) => plan,
            Err(error) => return Ok(Event::RevertFailed(format!("cannot roll back: {error}"))),
        };
        let layout = set.layout;
        let Self {
            hand,
            observer,
            leader,
            ..
        } = self;
        let Some(hand) = hand.as_mut() else {
            return Err(needs_person(DbError::ConnectionLost(String::new())));
        };
        let applied_by = leader.applied_by();
        let revert = engine::migrate(hand.as_mut(), &plan, layout, &applied_by, observer);
        let limit = self.spec.budget.max(REVERT_LIMIT_MIN);
        let Ok(reverted) = tokio::time::timeout(limit, revert).await else {
            self.drop_hand().await;
            let reason = format!("cannot roll back: not done within {} s", limit.as_secs());
            return Ok(Event::RevertFailed(reason));
        };
        Ok(match reverted {
            Ok(_) => Event::Reverted,
            Err(error) => {
                settle_elsewhere(&error)?;
                Event::RevertFailed(format!("cannot roll back: {error}"))
            }
        })
    }

    pub(super) async fn unfinished(&mut self) -> Step<Option<SchemaVersion>> {
        if mutated(Mutation::UnfinishedNotAsked) {
            return Ok(None);
        }
        engine::unfinished(self.hand()?.as_mut())
            .await
            .map_err(needs_person)
    }
}

/// Whether the failure says nothing of the script: what a lost session did is settled by the next one, since ledger
/// and journal say what is left to do.
fn settle_elsewhere(failure: &EngineError) -> Step<()> {
    match failure.db() {
        Some(DbError::Superseded { .. }) => Err(Trouble::Stop(WriteError::NotLeader)),
        Some(DbError::ConnectionLost(_) | DbError::Unreachable { .. }) => {
            Err(Trouble::Lost(failure.to_string()))
        }
        Some(_) | None => Ok(()),
    }
}
