//! The agent's side of one target: what may be written now, and what was promised to the coordinator.
//!
//! [`Permits`] hears grants and fences, hands out permits, and says when the ack *drained* is due. It decides by the
//! gate epoch alone, never by the order in which messages come, because two streams (before and after a reconnect)
//! have no common order:
//!
//! * The highest gate epoch ever heard counts; whatever carries a lower one is ignored. A late grant of `g7` after
//!   the fence of `g8` therefore changes nothing.
//! * A closing raises the epoch (`g8`) and its opening keeps it, so a grant of `g8` after the fence of `g8` can only
//!   mean that the gate is open again: no coordinator grants a closed gate.
//! * A late fence of `g8` after the grant of `g8` stops the agent until the next renewal is answered: safe.
//!
//! The policy and the permits that are out live in one value on purpose: "is anything out?" and "may anything go
//! out?" are answered together, so no permit can slip out between the two questions.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::epoch::GateEpoch;
use crate::id::RolloutId;
use crate::lease::{LeaseSettings, RENEW_AT_FRACTION, holder_deadline};
use crate::mutation::{Mutation, mutated};
use crate::time::Instant;
use crate::version::SchemaVersion;

/// How often a fenced agent that still has permits out reports them: people wait for that news.
pub const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Renewals never come closer together than this, however short the leases are.
pub const RENEW_EVERY_AT_LEAST: Duration = Duration::from_millis(50);

/// What an agent does about a target whose gate it last saw open when no coordinator renews its lease any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum OnLoss {
    /// Stops at the lease's end. Needed where only leases bind writers (cooperative targets).
    #[default]
    Stop,
    /// Goes on: losing every coordinator stops no writes. Only for targets with a barrier, where the database itself
    /// refuses whoever has missed a fence.
    GoOn,
}

/// Why a target may not be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// No coordinator has granted a lease yet: agents join fenced.
    Joining,
    /// A rollout has closed the gate.
    GateClosed,
    /// The schema is older than the agent's range.
    SchemaTooOld,
    /// The schema is newer than the agent's range.
    SchemaTooNew,
    /// No target of this name has been declared.
    UnknownTarget,
    /// The target's version is not known, or cannot be compared.
    UnknownVersion,
    /// The coordinator has lost touch with its store and may not grant.
    CoordinatorIsolated,
    /// No coordinator has renewed the write lease in time.
    LeaseExpired,
    /// A newer start of the same replica has registered.
    Superseded,
    /// The agent is shutting down.
    Leaving,
    /// The coordinator gave no cause that this release knows.
    Unspecified,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Joining => "joining",
            Self::GateClosed => "gate closed",
            Self::SchemaTooOld => "schema too old",
            Self::SchemaTooNew => "schema too new",
            Self::UnknownTarget => "unknown target",
            Self::UnknownVersion => "unknown version",
            Self::CoordinatorIsolated => "coordinator isolated",
            Self::LeaseExpired => "lease expired",
            Self::Superseded => "superseded",
            Self::Leaving => "leaving",
            Self::Unspecified => "fenced",
        })
    }
}

/// A refusal to write, and why.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fence {
    /// The gate epoch that the refusal is about.
    pub gate_epoch: GateEpoch,
    /// Why, for programs.
    pub cause: Cause,
    /// Why, in words.
    pub reason: String,
    /// The rollout that closed the gate, if one did.
    pub rollout: Option<RolloutId>,
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.cause, self.gate_epoch)?;
        if let Some(rollout) = &self.rollout {
            write!(f, " by rollout {rollout}")?;
        }
        if !self.reason.is_empty() {
            write!(f, ": {}", self.reason)?;
        }
        Ok(())
    }
}

impl std::error::Error for Fence {}

/// A write lease, as a coordinator granted it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Grant {
    /// Gate epoch under which permits may be given.
    pub gate_epoch: GateEpoch,
    /// Schema version that the gate is open at.
    pub version: SchemaVersion,
    /// How long.
    pub lease: Duration,
    /// When the renewal that this answers was *sent*, on the agent's own clock.
    pub sent_at: Instant,
}

/// Names one permit that is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PermitId(u64);

/// Leave to run one write transaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Taken {
    /// Give it back with this.
    pub id: PermitId,
    /// The gate epoch that the permit is bound to.
    pub gate_epoch: GateEpoch,
    /// The schema version that the gate is open at.
    pub version: SchemaVersion,
    /// When the write must have ended; `None`: the database itself refuses late writes ([`OnLoss::GoOn`]).
    pub deadline: Option<Instant>,
}

/// What an agent has out on a target.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Held {
    /// Highest gate epoch heard.
    pub gate_epoch: GateEpoch,
    /// How many permits are out, those past their lease included.
    pub permits: usize,
    /// Label of the permit that is out for the longest time; empty: none, or not labelled.
    pub oldest_label: String,
    /// Age of that permit.
    pub oldest_age: Option<Duration>,
}

/// What a target looks like to whoever wants to write.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TargetView {
    /// Permits are handed out.
    Open {
        /// The gate epoch.
        gate_epoch: GateEpoch,
        /// The schema version.
        version: SchemaVersion,
    },
    /// No permits are handed out.
    Fenced(Fence),
}

impl TargetView {
    /// Whether permits are handed out.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. })
    }
}

/// Whether a message changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It counts.
    Accepted,
    /// It is about an older gate epoch, or the agent has left.
    Ignored,
}

/// The gate, as this agent last heard of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Gate {
    Open {
        gate_epoch: GateEpoch,
        version: SchemaVersion,
        lease_end: Instant,
    },
    Fenced {
        fence: Fence,
        acked: bool,
    },
    /// For good: nothing that is heard later opens it.
    Left {
        fence: Fence,
        acked: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Out {
    gate_epoch: GateEpoch,
    taken_at: Instant,
    deadline: Option<Instant>,
    label: String,
}

/// One target on the agent's side. Starts fenced.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Permits {
    on_loss: OnLoss,
    highest: GateEpoch,
    gate: Gate,
    out: BTreeMap<PermitId, Out>,
    next: u64,
    asked_at: Option<Instant>,
    ask_every: Duration,
}

impl Permits {
    /// A target that has not been heard of.
    #[must_use]
    pub fn new(on_loss: OnLoss) -> Self {
        let fence = Fence {
            gate_epoch: GateEpoch::ZERO,
            cause: Cause::Joining,
            reason: "no coordinator has answered yet".to_owned(),
            rollout: None,
        };
        Self {
            on_loss,
            highest: GateEpoch::ZERO,
            gate: Gate::Fenced { fence, acked: true },
            out: BTreeMap::new(),
            next: 0,
            asked_at: None,
            ask_every: LeaseSettings::default().write / RENEW_AT_FRACTION,
        }
    }

    /// A coordinator has granted a write lease.
    pub fn granted(&mut self, grant: &Grant) -> Heard {
        if self.is_stale(grant.gate_epoch) {
            return Heard::Ignored;
        }
        let granted_end = holder_deadline(grant.sent_at, grant.lease);
        // An answer to an earlier renewal may come after that to a later one: a lease never shrinks within an epoch.
        let lease_end = match &self.gate {
            Gate::Open {
                gate_epoch,
                lease_end,
                ..
            } if *gate_epoch == grant.gate_epoch => granted_end.max(*lease_end),
            Gate::Open { .. } | Gate::Fenced { .. } | Gate::Left { .. } => granted_end,
        };
        self.highest = grant.gate_epoch;
        self.ask_every = (grant.lease / RENEW_AT_FRACTION).max(RENEW_EVERY_AT_LEAST);
        self.extend_permits(grant.gate_epoch, lease_end);
        self.gate = Gate::Open {
            gate_epoch: grant.gate_epoch,
            version: grant.version.clone(),
            lease_end,
        };
        Heard::Accepted
    }

    /// A coordinator has told that the target may not be written.
    pub fn fenced(&mut self, mut fence: Fence) -> Heard {
        // A target without a gate has no epoch to compare; stopping is always safe.
        if fence.cause == Cause::UnknownTarget {
            fence.gate_epoch = fence.gate_epoch.max(self.highest);
        }
        if self.is_stale(fence.gate_epoch) || self.goes_on_in_spite_of(&fence) {
            return Heard::Ignored;
        }
        self.highest = fence.gate_epoch;
        // Told again means that the ack may not have arrived, or that this coordinator has never seen it.
        self.gate = Gate::Fenced { fence, acked: false };
        Heard::Accepted
    }

    /// A coordinator has told that the gate is open at a version that fits. It is not a lease: unless the database
    /// guards itself, it only makes a renewal due at once.
    pub fn opened(&mut self, gate_epoch: GateEpoch, version: SchemaVersion) -> Heard {
        if self.is_stale(gate_epoch) {
            return Heard::Ignored;
        }
        if matches!(&self.gate, Gate::Open { gate_epoch: open, .. } if *open == gate_epoch) {
            return Heard::Accepted;
        }
        self.highest = gate_epoch;
        self.asked_at = None;
        self.gate = match self.on_loss {
            OnLoss::Stop => Gate::Fenced {
                fence: lease_pending(gate_epoch),
                acked: true,
            },
            OnLoss::GoOn => Gate::Open {
                gate_epoch,
                version,
                lease_end: Instant::default(),
            },
        };
        Heard::Accepted
    }

    /// A new stream begins: a renewal is due at once. What was heard, and what is out, stays.
    pub fn connected(&mut self) {
        self.asked_at = None;
    }

    /// The agent leaves (shutdown, or a newer start of the replica has taken its place): no permit is handed out
    /// any more, whatever is heard.
    pub fn leave(&mut self, cause: Cause, reason: impl Into<String>) {
        let fence = Fence {
            gate_epoch: self.highest,
            cause,
            reason: reason.into(),
            rollout: None,
        };
        self.gate = Gate::Left { fence, acked: false };
    }

    /// Takes a permit, if at `now` one may be had.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn take(&mut self, now: Instant, label: impl Into<String>) -> Result<Taken, Fence> {
        let (gate_epoch, version, deadline) = match &self.gate {
            Gate::Fenced { fence, .. } | Gate::Left { fence, .. } => return Err(fence.clone()),
            Gate::Open {
                gate_epoch,
                version,
                lease_end,
            } => match self.on_loss {
                OnLoss::GoOn => (*gate_epoch, version.clone(), None),
                OnLoss::Stop if now < *lease_end || mutated(Mutation::LeaseByTimer) => {
                    let deadline = (!mutated(Mutation::PermitOutlivesLease)).then_some(*lease_end);
                    (*gate_epoch, version.clone(), deadline)
                }
                OnLoss::Stop => return Err(lease_expired(*gate_epoch)),
            },
        };
        let id = PermitId(self.next);
        self.next += 1;
        self.out.insert(
            id,
            Out {
                gate_epoch,
                taken_at: now,
                deadline,
                label: label.into(),
            },
        );
        Ok(Taken {
            id,
            gate_epoch,
            version,
            deadline,
        })
    }

    /// Gives a permit back: its write has ended, one way or the other.
    pub fn release(&mut self, id: PermitId) {
        self.out.remove(&id);
    }

    /// When the write under permit `id` must have ended: renewals under the same gate epoch move it on, a fence
    /// stops that. `None`: the database itself refuses late writes, or the permit was given back.
    #[must_use]
    pub fn deadline(&self, id: PermitId) -> Option<Instant> {
        self.out.get(&id).and_then(|out| out.deadline)
    }

    /// The gate epoch to ack with *drained*, if an ack is due: the target is fenced, and no permit is out. A permit
    /// whose lease has run out still counts as out, because its write may not have ended.
    ///
    /// An ack frees what was granted under *lower* epochs. Who leaves gives everything back, so it acks the epoch above.
    #[must_use]
    pub fn ack_due(&self) -> Option<GateEpoch> {
        let may_ack = self.out.is_empty() || mutated(Mutation::AckWithPermitOut);
        self.owed().filter(|_| may_ack)
    }

    /// The ack of `gate_epoch` was handed to the stream.
    pub fn ack_sent(&mut self, sent: GateEpoch) {
        let owed = self.owed();
        match &mut self.gate {
            Gate::Fenced { acked, .. } | Gate::Left { acked, .. } if owed == Some(sent) => *acked = true,
            Gate::Fenced { .. } | Gate::Left { .. } | Gate::Open { .. } => {}
        }
    }

    fn owed(&self) -> Option<GateEpoch> {
        match &self.gate {
            // Nothing was ever granted.
            Gate::Fenced { .. } | Gate::Left { .. } if self.highest == GateEpoch::ZERO => None,
            Gate::Fenced { fence, acked: false } => Some(fence.gate_epoch),
            Gate::Left { fence, acked: false } => Some(GateEpoch::next(fence.gate_epoch, GateEpoch::ZERO)),
            Gate::Fenced { .. } | Gate::Left { .. } | Gate::Open { .. } => None,
        }
    }

    /// When the next renewal is to be sent. `None`: never again.
    #[must_use]
    pub fn renew_at(&self) -> Option<Instant> {
        let every = match &self.gate {
            Gate::Left { .. } if self.out.is_empty() => return None,
            Gate::Left { .. } | Gate::Fenced { .. } if !self.out.is_empty() => {
                self.ask_every.min(PROGRESS_EVERY)
            }
            Gate::Left { .. } | Gate::Fenced { .. } | Gate::Open { .. } => self.ask_every,
        };
        Some(self.asked_at.map_or(Instant::default(), |asked| asked + every))
    }

    /// A renewal was sent.
    pub fn renewal_sent(&mut self, now: Instant) {
        self.asked_at = Some(now);
    }

    /// How long after a renewal the next one is sent while the gate is open.
    #[must_use]
    pub fn renew_every(&self) -> Duration {
        self.ask_every
    }

    /// What a renewal reports.
    #[must_use]
    pub fn held(&self, now: Instant) -> Held {
        let oldest = self.out.values().next();
        Held {
            gate_epoch: self.highest,
            permits: self.out.len(),
            oldest_label: oldest.map(|out| out.label.clone()).unwrap_or_default(),
            oldest_age: oldest.map(|out| now.since(out.taken_at)),
        }
    }

    /// What the target looks like at `now`.
    #[must_use]
    pub fn view(&self, now: Instant) -> TargetView {
        match &self.gate {
            Gate::Fenced { fence, .. } | Gate::Left { fence, .. } => TargetView::Fenced(fence.clone()),
            Gate::Open {
                gate_epoch,
                version,
                lease_end,
            } => {
                if self.on_loss == OnLoss::Stop && *lease_end <= now {
                    TargetView::Fenced(lease_expired(*gate_epoch))
                } else {
                    TargetView::Open {
                        gate_epoch: *gate_epoch,
                        version: version.clone(),
                    }
                }
            }
        }
    }

    /// When the lease ends, if one runs: at that time [`Self::view`] changes by itself ([`OnLoss::Stop`]).
    #[must_use]
    pub fn lease_end(&self) -> Option<Instant> {
        match &self.gate {
            Gate::Open { lease_end, .. } => Some(*lease_end),
            Gate::Fenced { .. } | Gate::Left { .. } => None,
        }
    }

    /// Highest gate epoch heard.
    #[must_use]
    pub fn highest(&self) -> GateEpoch {
        self.highest
    }

    /// Whether no permit is out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    fn is_stale(&self, gate_epoch: GateEpoch) -> bool {
        let lower = gate_epoch < self.highest && !mutated(Mutation::LowerEpochHeard);
        lower || matches!(self.gate, Gate::Left { .. })
    }

    /// A coordinator without its store is a lost coordinator: where the database guards itself, that stops nobody.
    fn goes_on_in_spite_of(&self, fence: &Fence) -> bool {
        self.on_loss == OnLoss::GoOn
            && fence.cause == Cause::CoordinatorIsolated
            && matches!(&self.gate, Gate::Open { gate_epoch, .. } if fence.gate_epoch == *gate_epoch)
    }

    fn extend_permits(&mut self, gate_epoch: GateEpoch, lease_end: Instant) {
        for out in self.out.values_mut().filter(|out| out.gate_epoch == gate_epoch) {
            out.deadline = out.deadline.map(|deadline| deadline.max(lease_end));
        }
    }
}

fn lease_pending(gate_epoch: GateEpoch) -> Fence {
    Fence {
        gate_epoch,
        cause: Cause::Joining,
        reason: "the gate is open, the write lease is not granted yet".to_owned(),
        rollout: None,
    }
}

fn lease_expired(gate_epoch: GateEpoch) -> Fence {
    Fence {
        gate_epoch,
        cause: Cause::LeaseExpired,
        reason: "no coordinator has renewed the write lease in time".to_owned(),
        rollout: None,
    }
}

#[cfg(test)]
mod tests;
