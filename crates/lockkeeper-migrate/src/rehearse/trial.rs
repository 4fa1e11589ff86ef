//! One migration in the clone: up, down, up again.

use std::sync::Arc;

use lockkeeper_core::version::SchemaVersion;
use tokio::time::Instant;

use super::error::RehearseError;
use super::listen::Listener;
use super::report::{MigrationTrial, Reversal, Run};
use crate::db::{ApplyError, DbError, Hand};
use crate::engine::{self, EngineError};
use crate::fingerprint::{Schema, diff};
use crate::plan::{Plan, Step};
use crate::source::{Direction, Layout, Migration, Script};

/// Who the clone's ledger names.
pub(super) const WHO: &str = "rehearsal";

/// The clone, and what listens to it.
pub(super) struct Stage<'a> {
    pub(super) hand: &'a mut dyn Hand,
    pub(super) listener: &'a Listener<'a>,
    pub(super) layout: Layout,
    /// The version below the migration that is tried.
    pub(super) below: Option<SchemaVersion>,
}

/// What a migration came to, and the schema after it; `None` when the clone is in no known state any more.
pub(super) struct Tried {
    pub(super) trial: MigrationTrial,
    pub(super) schema: Option<Schema>,
}

impl Stage<'_> {
    /// Runs `migration` in both directions. `before` is the schema that it begins with.
    pub(super) async fn run(
        &mut self,
        migration: &Arc<Migration>,
        before: &Schema,
    ) -> Result<Tried, RehearseError> {
        let up = self.script(migration, Direction::Up, &migration.up).await?;
        let mut trial = MigrationTrial {
            version: migration.version.clone(),
            name: migration.name.clone(),
            checksum: migration.up.checksum.0.clone(),
            reversal: Reversal::None,
            down: None,
            up_again: None,
            up,
        };
        if trial.up.error.is_some() {
            trial.reversal = Reversal::NotReached;
            return Ok(Tried { trial, schema: None });
        }
        let after = self.hand.schema().await?;
        let Some(down) = &migration.down else {
            let schema = Some(after);
            return Ok(Tried { trial, schema });
        };
        let (reversal, schema) = self
            .back_and_again(migration, down, before, after, &mut trial)
            .await?;
        trial.reversal = reversal;
        Ok(Tried { trial, schema })
    }

    async fn back_and_again(
        &mut self,
        migration: &Arc<Migration>,
        down: &Script,
        before: &Schema,
        after: Schema,
        trial: &mut MigrationTrial,
    ) -> Result<(Reversal, Option<Schema>), RehearseError> {
        let back = trial
            .down
            .insert(self.script(migration, Direction::Down, down).await?);
        if back.error.is_some() {
            // In one transaction, nothing of it is left.
            let schema = back.transactional.then_some(after);
            return Ok((Reversal::DownFailed, schema));
        }
        let restored = diff(before, &self.hand.schema().await?);
        let again = self.script(migration, Direction::Up, &migration.up).await?;
        let failed = trial.up_again.insert(again).error.is_some();
        if failed {
            return Ok((unrestored(restored).unwrap_or(Reversal::UpAgainFailed), None));
        }
        let schema = self.hand.schema().await?;
        let repeated = diff(&after, &schema);
        let reversal = unrestored(restored).unwrap_or(if repeated.is_empty() {
            Reversal::Restores
        } else {
            Reversal::UpAgainDiffers { difference: repeated }
        });
        Ok((reversal, Some(schema)))
    }

    async fn script(
        &mut self,
        migration: &Arc<Migration>,
        direction: Direction,
        script: &Script,
    ) -> Result<Run, RehearseError> {
        let plan = self.step(migration, direction);
        let began = Instant::now();
        let ran = engine::migrate(self.hand, &plan, self.layout, WHO, self.listener).await;
        let duration = began.elapsed();
        let (notices, error) = match ran {
            Ok(report) => (
                report.steps.into_iter().flat_map(|step| step.notices).collect(),
                None,
            ),
            Err(EngineError::Apply {
                error: ApplyError::Db(error @ DbError::ConnectionLost(_)),
                ..
            }) => return Err(error.into()),
            Err(EngineError::Apply { error, .. }) => (Vec::new(), Some(error.to_string())),
            Err(error) => return Err(error.into()),
        };
        Ok(Run {
            path: script.path.clone(),
            transactional: script.transaction.is_transactional(),
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            statements: self.listener.take(),
            notices,
            error,
        })
    }

    /// A plan of this one step.
    fn step(&self, migration: &Arc<Migration>, direction: Direction) -> Plan {
        let version = Some(migration.version.clone());
        let (from, to) = match direction {
            Direction::Up => (self.below.clone(), version),
            Direction::Down => (version, self.below.clone()),
        };
        let step = Step {
            direction,
            migration: Arc::clone(migration),
        };
        Plan {
            steps: vec![step],
            from,
            to,
            amendments: Vec::new(),
        }
    }
}

fn unrestored(difference: crate::fingerprint::SchemaDiff) -> Option<Reversal> {
    (!difference.is_empty()).then_some(Reversal::DownDoesNotRestore { difference })
}
