//! Asks the promises, as `lockkeeper_core::invariant` words them, whenever something happened that they are about.

use lockkeeper_core::epoch::{GateEpoch, LeaderEpoch};
use lockkeeper_core::invariant::{self, Violation};
use lockkeeper_core::rollout::Rejected;
use lockkeeper_core::time::Instant;
use lockkeeper_core::version::SchemaVersion;

use super::{Fleet, Key, Value};
use crate::config::Config;
use crate::database::SessionNo;
use crate::store::Records;
use crate::words::CoordinatorNo;

/// More database sessions than any way through a rollout needs with the faults that are allowed.
const SESSIONS_MAX: u8 = 24;

/// A promise that did not hold, and what was seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Broken {
    /// Which.
    pub promise: Promise,
    /// What was seen.
    pub seen: String,
}

/// The promises of ARCHITECTURE.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Promise {
    /// I1.
    Quiet,
    /// I2.
    OneHand,
    /// I3.
    Verified,
    /// I4.
    Once,
    /// I5.
    Progress,
    /// I6.
    NoSinglePoint,
}

impl Promise {
    /// As the documents call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Quiet => "I1 quiet",
            Self::OneHand => "I2 one hand",
            Self::Verified => "I3 verified",
            Self::Once => "I4 once",
            Self::Progress => "I5 progress",
            Self::NoSinglePoint => "I6 no new single point of failure",
        }
    }
}

impl From<&Violation> for Promise {
    fn from(violation: &Violation) -> Self {
        match violation {
            Violation::NotQuiet(_) => Self::Quiet,
            Violation::SecondHand { .. } | Violation::Unclaimed(_) => Self::OneHand,
            Violation::Unverified(_) => Self::Verified,
            Violation::NotOnce { .. } => Self::Once,
            Violation::Stuck(_) => Self::Progress,
            Violation::StoppedWriter(_) | Violation::Disrespected(_) => Self::NoSinglePoint,
        }
    }
}

/// A fence that is drained and not opened yet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Quiet {
    /// Which.
    pub epoch: GateEpoch,
    /// The rows at that moment.
    pub rows: u8,
}

fn value(records: &Records<Key, Value>, key: Key) -> Option<&Value> {
    records.get(&key).map(|record| &record.value)
}

impl Fleet {
    fn ask(&mut self, answer: Result<(), Violation>) {
        if let Err(violation) = answer
            && self.broken.is_none()
        {
            self.broken = Some(Broken {
                promise: Promise::from(&violation),
                seen: violation.to_string(),
            });
        }
    }

    /// A commit was made, by whomever and however late: asks about the gate and the rollout's state.
    pub(super) fn observe_commit(&mut self, before: &Records<Key, Value>) {
        if let (Some(Value::Gate(old)), Some(new)) = (value(before, Key::Gate), self.gate().cloned())
            && **old != new
        {
            self.ask(invariant::gate_change(old, &new));
            self.ask(invariant::open_order(&new, self.target.row()));
        }
        if let (Some(Value::Progress(old)), Some(new)) =
            (value(before, Key::Progress), self.progress().cloned())
            && **old != new
        {
            self.ask(invariant::opens_verified(old, &new));
        }
    }

    /// Every change of the row, whoever made it; and whether an open one stops anybody.
    pub(super) fn observe(&mut self, before: &Self) {
        if before.target.row() != self.target.row() {
            let changed = invariant::row_change(before.target.row(), self.target.row());
            self.ask(changed);
        }
        self.observe_circles();
        if !self.target.row().is_closed() {
            let refused = invariant::open_to_all(self.target.row(), self.target.says_to_strangers());
            self.ask(refused);
        }
    }

    /// Behind a barrier no passing of time alone stops an agent, whether a coordinator lives or not.
    pub(super) fn observe_agents(&mut self, config: &Config) {
        let now = self.agent_clock(config);
        for no in 0..self.agents.len() {
            let permits = &self.agents[no].permits;
            let goes_on = invariant::goes_on(&permits.view(now), &permits.view(Instant(u64::MAX)));
            self.ask(goes_on);
        }
    }

    /// A fleet with a bounded number of faults that opens session after session goes round in circles.
    pub(super) fn observe_circles(&mut self) {
        if self.target.sessions_opened() > SESSIONS_MAX
            && let Some(target) = self.progress()
        {
            let stuck = Err(Violation::Stuck(target.state));
            self.ask(stuck);
        }
    }

    /// Drained: from here on the rows stay as they are.
    pub(super) fn observe_drained(&mut self, epoch: GateEpoch) {
        if self.quiet.as_ref().is_none_or(|quiet| quiet.epoch != epoch) {
            let rows = self.target.rows();
            self.quiet = Some(Quiet { epoch, rows });
        }
    }

    /// A write of somebody else than the executor was committed.
    pub(super) fn observe_write(&mut self) {
        let Some(quiet) = self.quiet.clone() else { return };
        let before: Vec<u8> = (0..quiet.rows).collect();
        let now: Vec<u8> = (0..self.target.rows()).collect();
        self.ask(invariant::quiet(&before, &now));
    }

    /// The row was opened.
    pub(super) fn observe_opening(&mut self, _: GateEpoch, version: Option<&SchemaVersion>) {
        self.quiet = None;
        let found = self.target.effects().last();
        let opened = invariant::opened_at(version, found);
        self.ask(opened);
    }

    /// A hand's statement took effect.
    pub(super) fn observe_effect(&mut self, session: SessionNo, statement: LeaderEpoch) {
        let row = self.target.row().clone();
        // A takeover is complete when another session is registered.
        if row.executor != Some(session.executor()) && row.executor.is_some() {
            let one = invariant::one_hand(statement, row.leader_epoch);
            self.ask(one);
        }
        let once = invariant::once(self.target.effects());
        self.ask(once);
        if let Some(released) = self.released {
            let respected = invariant::respected(released, row.gate_epoch);
            self.ask(respected);
        }
    }

    /// A coordinator begins to lead.
    pub(super) fn observe_claim(&mut self, _: CoordinatorNo, epoch: LeaderEpoch) {
        let key = self
            .store
            .records()
            .get(&Key::Leader)
            .map(|record| record.revisions.created);
        self.ask(invariant::claimed(epoch, key));
    }

    /// The driver fed an event that makes no sense: a bug, and a target that nothing moves.
    pub(super) fn observe_rejected(&mut self, rejected: &Rejected) {
        self.ask(Err(Violation::Stuck(rejected.state)));
    }
}
