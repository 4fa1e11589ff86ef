//! A target's gate as the store records it.

use serde::{Deserialize, Serialize};

use crate::epoch::{GateEpoch, LeaderEpoch};
use crate::id::RolloutId;
use crate::time::WallTime;
use crate::version::{Fit, SchemaVersion, VersionOrder, VersionRange};

/// What was verified before a gate was opened. There is no open gate without one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Verification {
    /// The version that the ledger proved; `None`: nothing was ever applied.
    pub version: Option<SchemaVersion>,
    /// What was checked, for people.
    pub checked: String,
    /// When it passed.
    pub at: WallTime,
}

/// Where the switch stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "position")]
pub enum Position {
    /// Writers that fit may write.
    Open {
        /// The verification that the opening followed.
        verified: Verification,
    },
    /// A rollout has closed the gate.
    Closed {
        /// Which one.
        rollout: RolloutId,
        /// When, for people.
        since: WallTime,
    },
}

/// The gate's record in the store. Changed only by [`Gate::close`] and [`Gate::open`], in a commit that is guarded
/// by the leader's key and by this record's mod revision.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Gate {
    /// Raised by every closing; an opening keeps it.
    pub epoch: GateEpoch,
    /// Open or closed.
    #[serde(flatten)]
    pub position: Position,
    /// The order that versions of this target have.
    pub order: VersionOrder,
    /// The leader that wrote the record.
    pub leader_epoch: LeaderEpoch,
}

impl Gate {
    /// The gate of a target that was just declared, open at the version that was found and verified there.
    #[must_use]
    pub fn first(
        epoch: GateEpoch,
        order: VersionOrder,
        leader_epoch: LeaderEpoch,
        verified: Verification,
    ) -> Self {
        Self {
            epoch,
            position: Position::Open { verified },
            order,
            leader_epoch,
        }
    }

    /// Closed for `rollout` under a higher epoch.
    #[must_use]
    pub fn close(
        &self,
        epoch: GateEpoch,
        rollout: RolloutId,
        leader_epoch: LeaderEpoch,
        since: WallTime,
    ) -> Self {
        debug_assert!(
            epoch > self.epoch,
            "closing raises the epoch: {} -> {epoch}",
            self.epoch
        );
        Self {
            epoch,
            position: Position::Closed { rollout, since },
            order: self.order,
            leader_epoch,
        }
    }

    /// Open at what was verified, under the epoch of the closing.
    #[must_use]
    pub fn open(&self, order: VersionOrder, leader_epoch: LeaderEpoch, verified: Verification) -> Self {
        Self {
            epoch: self.epoch,
            position: Position::Open { verified },
            order,
            leader_epoch,
        }
    }

    /// Whether the gate is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.position, Position::Open { .. })
    }

    /// The version that the gate is open at.
    #[must_use]
    pub fn version(&self) -> Option<&SchemaVersion> {
        match &self.position {
            Position::Open { verified } => verified.version.as_ref(),
            Position::Closed { .. } => None,
        }
    }

    /// What a writer with this range is told.
    #[must_use]
    pub fn admit(&self, range: &VersionRange) -> Admission {
        match &self.position {
            Position::Closed { rollout, .. } => Admission::Closed {
                rollout: rollout.clone(),
            },
            Position::Open { verified } => match range.fit(self.order, verified.version.as_ref()) {
                Fit::Fits => Admission::Admitted,
                misfit => Admission::DoesNotFit(misfit),
            },
        }
    }
}

/// What a gate says to one writer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Admission {
    /// It may be granted a write lease.
    Admitted,
    /// The gate is closed.
    Closed {
        /// By which rollout.
        rollout: RolloutId,
    },
    /// The gate is open, but not for this writer.
    DoesNotFit(Fit),
}
