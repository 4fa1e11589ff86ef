//! Verifying a version and opening the gate at it.

use std::time::Duration;

use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_core::mutation::{Mutation, mutated};
use lockkeeper_core::rollout::{Event, Goal, State};
use lockkeeper_core::spec::RowInvariant;
use lockkeeper_migrate::db::DbError;
use lockkeeper_migrate::engine::{self, EngineError};

use super::{Step, TargetDriver, Trouble, needs_person};
use crate::records::ProgressRecord;

/// Shortest time that a verification is given: the budget may be used up by then.
const VERIFY_MIN: Duration = Duration::from_secs(5);

/// The same for an old version, which there is no way back from.
const VERIFY_OLD_MIN: Duration = Duration::from_secs(30);

impl TargetDriver {
    pub(super) async fn verify(&mut self, goal: Goal) -> Step<Event> {
        self.stand().await?;
        let started = tokio::time::Instant::now();
        self.leader
            .waits
            .next(self.name(), "open the gate", Some(self.budget_end()));
        let patience = self.budget_left().max(match goal {
            Goal::New => VERIFY_MIN,
            Goal::Unchanged | Goal::Restored => VERIFY_OLD_MIN,
        });
        let Ok(checked) = tokio::time::timeout(patience, self.check(goal)).await else {
            self.drop_hand().await;
            let seconds = patience.as_secs_f64();
            let reason =
                format!("verification did not end within {seconds:.0} s, the rest of the fence budget");
            return Ok(Event::VerificationFailed(reason));
        };
        let (failure, mut record) = checked?;
        record.verify_time = Some(started.elapsed());
        self.write(record, Vec::new()).await?;
        Ok(match failure {
            None => Event::Verified,
            Some(_) if mutated(Mutation::VerificationIgnored) => Event::Verified,
            Some(reason) => Event::VerificationFailed(reason),
        })
    }

    /// Ledger, scripts and row invariants. Gives the first failure.
    async fn check(&mut self, goal: Goal) -> Step<(Option<String>, ProgressRecord)> {
        let mut failure = if self.is_external() {
            self.check_external(goal).await?
        } else {
            self.check_files(goal).await?
        };
        if let Some(version) = self.unfinished().await? {
            failure.get_or_insert_with(|| format!("version {version} is applied in part"));
        }
        let mut record = self.progress.record.clone();
        if self.stands() {
            if let Some(changed) = self.compare_invariants(&mut record).await? {
                failure.get_or_insert(changed);
            }
        } else {
            // Writers may have written since, as they should: nothing was run.
            record.invariants.clear();
        }
        Ok((failure, record))
    }

    /// Ledger and verify scripts. Gives the first failure.
    async fn check_files(&mut self, goal: Goal) -> Step<Option<String>> {
        let version = self.version_of(goal);
        let Self { hand, migrations, .. } = self;
        let (Some(hand), Some(migrations)) = (hand.as_mut(), migrations.as_ref()) else {
            return Err(needs_person(DbError::ConnectionLost(String::new())));
        };
        let scripts = match goal {
            Goal::New => migrations.verify.as_slice(),
            Goal::Unchanged | Goal::Restored => &[],
        };
        let verified = engine::verify(hand.as_mut(), &migrations.set, version.as_ref(), scripts).await;
        Ok(match verified {
            Ok(verification) if verification.passed() => None,
            Ok(verification) => Some(verification.failures().join("; ")),
            Err(EngineError::Db(error)) => return Err(needs_person(error)),
            Err(error) => Some(error.to_string()),
        })
    }

    /// Asks every row invariant again. Gives the first that answers otherwise than just after drained.
    async fn compare_invariants(&mut self, record: &mut ProgressRecord) -> Step<Option<String>> {
        let mut failure = None;
        for (invariant, seen) in self.target.invariants.clone().iter().zip(&mut record.invariants) {
            match self.ask(invariant).await? {
                Ok(after) => seen.after = after,
                Err(error) => drop(failure.get_or_insert(error)),
            }
            if seen.after != seen.before {
                let text = |answer: &Option<String>| answer.clone().unwrap_or_else(|| "NULL".to_owned());
                let (before, after) = (text(&seen.before), text(&seen.after));
                failure.get_or_insert(format!(
                    "row invariant {} changed from {before} to {after}",
                    invariant.name
                ));
            }
        }
        Ok(failure)
    }

    /// A row invariant's answer, or what is wrong with its query.
    pub(super) async fn ask(&mut self, invariant: &RowInvariant) -> Step<Result<Option<String>, String>> {
        match self.hand()?.scalar(&invariant.query).await {
            Ok(answer) => Ok(Ok(answer)),
            Err(DbError::Server { code, message }) => Ok(Err(format!(
                "row invariant {}: database error {code}: {message}",
                invariant.name
            ))),
            Err(error) => Err(needs_person(error)),
        }
    }

    /// Opens the target's row; the store's gate follows in the commit of the final state.
    pub(super) async fn open(&mut self) -> Step<Event> {
        let event = self.prepare().await?;
        if event == Some(Event::Opened) {
            let mut record = self.progress.record.clone();
            record.total_time = record.closed_at.map(|at| self.elapsed_since(at));
            self.write(record, Vec::new()).await?;
        }
        Ok(event.unwrap_or_else(|| Event::NeedsPerson("nothing says how to open the gate".to_owned())))
    }

    pub(super) async fn open_row(&mut self, epoch: GateEpoch) -> Step<()> {
        let State::Opening(goal) = self.progress.record.target.state else {
            return Err(Trouble::Event(Event::NeedsPerson(
                "nothing is verified that could be opened".to_owned(),
            )));
        };
        let version = self.version_of(goal);
        self.hand()?
            .open(epoch, version.as_ref())
            .await
            .map_err(needs_person)
    }
}
