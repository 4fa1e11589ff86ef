//! Taking a target, closing its gate, draining its agents and raising its barrier.

use std::time::Duration;

use lockkeeper_core::drain::Pending;
use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_core::id::SessionId;
use lockkeeper_core::lease::with_margin;
use lockkeeper_core::mutation::{Mutation, mutated};
use lockkeeper_core::rollout::{Event, State};
use lockkeeper_core::time::WallTime;
use lockkeeper_core::version::SchemaVersion;
use lockkeeper_migrate::db::{BarrierReport, Claim, DbError, Hand, TakeError};
use lockkeeper_migrate::plan;
use tracing::{info, warn};

use super::{Step, TAKE_PATIENCE, TargetDriver, Trouble, needs_person};
use crate::leader::fence;
use crate::leader::writer::{RecordChange, WriteError};
use crate::records::{InvariantRecord, key};

/// Shortest patience with a barrier that has to be raised again: the budget may be used up by then, and without a
/// fence nothing can be verified or reverted.
const RAISE_AGAIN_MIN: Duration = Duration::from_secs(5);

/// The part of the budget (one over this) after which sessions that still hold writes are ended: the rest of it is
/// for the migrations. Ended at the budget's end, they would be ended for a rollout that is over.
const WRITERS_PART: u32 = 2;

impl TargetDriver {
    pub(super) async fn fence(&mut self) -> Step<Event> {
        self.stand().await?;
        let mut record = self.progress.record.clone();
        record.fence_time = record.closed_at.map(|at| self.elapsed_since(at));
        self.write(record, Vec::new()).await?;
        Ok(Event::Fenced)
    }

    /// Takes the target, unless this driver's hand is on it.
    pub(super) async fn take(&mut self) -> Step<()> {
        if self.hand.is_some() {
            return Ok(());
        }
        self.leader.waits.next(
            self.name(),
            "take the target: end what an earlier leader left running",
            None,
        );
        let claim = Claim::Leader {
            epoch: self.leader.writer.epoch(),
            id: self.leader.id,
        };
        let taken = self.database()?.take(&claim, TAKE_PATIENCE, &self.observer).await;
        match taken {
            Ok(hand) => {
                self.hand = Some(hand);
                self.ground.taken();
                Ok(())
            }
            Err(TakeError::Db(DbError::Superseded { by })) => {
                warn!(target = %self.name(), by, "superseded on the target");
                Err(Trouble::Stop(WriteError::NotLeader))
            }
            Err(TakeError::Db(error)) => Err(needs_person(error)),
            Err(error) => Err(Trouble::Event(Event::NeedsPerson(error.to_string()))),
        }
    }

    pub(super) fn hand(&mut self) -> Step<&mut Box<dyn Hand>> {
        self.hand
            .as_mut()
            .ok_or_else(|| Trouble::Event(Event::NeedsPerson("no session on the target".to_owned())))
    }

    /// Closes the store's gate under the next epoch and lists the sessions to wait for in the same transaction.
    pub(super) async fn close_store_gate(&mut self) -> Step<()> {
        let Some(gate) = self.leader.gate(self.name()) else {
            return Err(Trouble::Event(Event::NeedsPerson(
                "the target has no gate in the store".to_owned(),
            )));
        };
        let in_target = self.hand()?.gate_row().gate_epoch;
        let epoch = GateEpoch::next(gate.record.epoch, in_target);
        let now = self.leader.wall();
        let closed = gate
            .record
            .close(epoch, self.rollout.clone(), self.leader.writer.epoch(), now);
        let mut record = self.progress.record.clone();
        record.target.gate_epoch = Some(epoch);
        record.closed_at = Some(now);
        record.fence_time = None;
        // They were asked behind another fence, if at all.
        record.invariants.clear();
        let change = RecordChange::gate(key::gate(self.name()), &gate, &closed);
        let lists = self
            .write_and_list(record, vec![change], &[key::SESSIONS])
            .await?;
        let listed = lists.first().map(fence::sessions_of);
        self.drains = listed.map(|listed| fence::watch(&self.leader, epoch, listed));
        info!(target = %self.name(), gate_epoch = %epoch, "gate closed");
        Ok(())
    }

    /// Closes the target's row under this rollout's gate epoch.
    pub(super) async fn close_row(&mut self, epoch: GateEpoch) -> Step<()> {
        let rollout = self.rollout.clone();
        self.hand()?
            .close(epoch, rollout.as_str())
            .await
            .map_err(needs_person)?;
        self.ground.row_closed();
        Ok(())
    }

    /// The version that the ledger proves; none where it leaves a doubt, so that agents do not fit.
    pub(super) async fn version_in_ledger(&mut self) -> Step<Option<SchemaVersion>> {
        if self.unfinished().await?.is_some() {
            return Ok(None);
        }
        if self.is_external() {
            return self.external_version().await;
        }
        let ledger = self.hand()?.ledger().await.map_err(needs_person)?;
        let planned = plan::plan(&self.migrations()?.set, &ledger, &plan::Goal::Latest);
        Ok(planned.ok().and_then(|plan| plan.from))
    }

    /// Waits for the agents, raises the barrier, and reads the row invariants.
    pub(super) async fn raise(&mut self) -> Step<()> {
        let first = self.progress.record.fence_time.is_none();
        let drain_timeout = match self.progress.record.target.state {
            State::Fencing => self.spec.drain_timeout,
            // The way back from a bake, which closes the gate itself.
            State::RollingBack if first => self.spec.drain_timeout,
            // The agents were waited for when the fence was raised first.
            _ => Duration::ZERO,
        };
        let epoch = self.hand()?.gate_row().gate_epoch;
        let still_out = self.drain(epoch, drain_timeout).await?;
        let patience = match self.progress.record.target.state {
            State::Fencing => self.left_until(self.writers_end()),
            State::RollingBack if first => self.left_until(self.writers_end()),
            _ => self.budget_left().max(RAISE_AGAIN_MIN),
        };
        let mut record = self.progress.record.clone();
        record.drained_by = vec![match still_out.len() {
            0 => "every agent acked or ran out of its lease".to_owned(),
            n => format!("the barrier, over {n} coordinators or agents that did not answer in time"),
        }];
        if self.target.strength.has_barrier() {
            self.leader.waits.next(
                self.name(),
                "end the sessions that still hold writes, then run the migrations",
                Some(self.after(patience)),
            );
            let Self { hand, observer, .. } = self;
            let Some(hand) = hand.as_mut() else {
                return Err(needs_person(DbError::ConnectionLost(String::new())));
            };
            let raised = hand.raise_barrier(patience, observer).await;
            let report = match raised {
                Err(_) if mutated(Mutation::BarrierFailureIgnored) => BarrierReport::default(),
                raised => raised.map_err(needs_person)?,
            };
            record
                .ended_sessions
                .extend(report.ended.iter().map(ToString::to_string));
            if !report.continued {
                record.invariants.clear();
            }
        }
        if record.invariants.is_empty() {
            for invariant in self.target.invariants.clone() {
                let before = self
                    .ask(&invariant)
                    .await?
                    .map_err(|e| Trouble::Event(Event::NeedsPerson(e)))?;
                record.invariants.push(InvariantRecord {
                    name: invariant.name,
                    before,
                    after: None,
                });
            }
        }
        record.fence_time = record
            .fence_time
            .or_else(|| record.closed_at.map(|at| self.elapsed_since(at)));
        self.write(record, Vec::new()).await?;
        self.ground.raised();
        Ok(())
    }

    /// Waits for the agents. At COOPERATIVE nothing else proves the fence, so not being drained is a failure; with
    /// a barrier it is not.
    pub(super) async fn drain(&mut self, epoch: GateEpoch, drain_timeout: Duration) -> Step<Vec<Pending>> {
        let cooperative = !self.target.strength.has_barrier();
        let (patience, then) = match cooperative {
            true if self.progress.record.target.state == State::Fencing => {
                (self.budget_left(), "reopen, if they do not drain in time")
            }
            // A new leader waits for leases that it has not seen, whether the budget is used up or not.
            true => {
                let leases = with_margin(self.leader.settings.after_vanishing()) + RAISE_AGAIN_MIN;
                (
                    self.budget_left().max(leases),
                    "hold, if they do not drain in time",
                )
            }
            false => (
                drain_timeout.min(self.left_until(self.writers_end())),
                "raise the barrier without them",
            ),
        };
        self.leader
            .waits
            .next(self.name(), then, Some(self.after(patience)));
        let known = self.drains.take().filter(|watch| watch.gate_epoch() == epoch);
        let watch = match known {
            Some(watch) => watch,
            None => fence::watch(&self.leader, epoch, self.sessions_before_closing().await?),
        };
        let watch = self.drains.insert(watch);
        let strength = self.target.strength;
        let pending = fence::drain(&self.leader, &self.target.name, watch, strength, patience).await;
        if cooperative && !pending.is_empty() {
            let now = self.leader.world.clock.now();
            let who: Vec<String> = pending
                .iter()
                .flat_map(|p| fence::described(p, now))
                .map(|(kind, who, detail)| format!("{kind} {who}: {detail}"))
                .collect();
            let reason = format!("not drained within the budget: {}", who.join("; "));
            return Err(Trouble::Event(Event::NeedsPerson(reason)));
        }
        Ok(pending)
    }

    /// For a gate that an earlier leader closed: the sessions that are older than the closing. Those of them that are
    /// gone by now are covered by the time that a new leader waits.
    pub(super) async fn sessions_before_closing(&self) -> Step<Vec<SessionId>> {
        let listing = self.leader.store_list(key::SESSIONS).await?;
        Ok(match self.leader.gate(self.name()) {
            Some(gate) => fence::sessions_before(&listing, &gate),
            None => fence::sessions_of(&listing),
        })
    }

    pub(super) fn budget_end(&self) -> WallTime {
        self.after_closing(self.spec.budget)
    }

    /// When sessions that still hold writes are ended.
    fn writers_end(&self) -> WallTime {
        self.after_closing(self.spec.budget / WRITERS_PART)
    }

    fn after_closing(&self, time: Duration) -> WallTime {
        let closed = self
            .progress
            .record
            .budget_since()
            .unwrap_or_else(|| self.leader.wall());
        WallTime(closed.0.saturating_add(millis(time)))
    }

    /// What is left of the time that writes may be refused.
    pub(super) fn budget_left(&self) -> Duration {
        self.left_until(self.budget_end())
    }

    fn after(&self, time: Duration) -> WallTime {
        WallTime(self.leader.wall().0.saturating_add(millis(time)))
    }

    fn left_until(&self, end: WallTime) -> Duration {
        let left = end.0.saturating_sub(self.leader.wall().0);
        Duration::from_millis(u64::try_from(left).unwrap_or(0))
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
