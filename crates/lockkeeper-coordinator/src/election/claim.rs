//! What an election says: who leads, as a value and never as a bool.

use lockkeeper_core::epoch::LeaderEpoch;
use lockkeeper_core::id::{CoordinatorName, SessionId};
use lockkeeper_core::time::Instant;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::LEADER_KEY;
use crate::store::Guard;

/// The value of the leader key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderInfo {
    /// Who leads.
    pub coordinator: CoordinatorName,
    /// Its session.
    pub session: SessionId,
    /// Where clients and other coordinators reach it, `host:port`.
    pub address: String,
    /// Random, for this one term: tells two leaders apart that a restored store gave the same epoch.
    pub id: Uuid,
}

/// What this coordinator knows of the leadership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Somebody else leads, or nobody is known to.
    Follower {
        /// Who leads, as far as is known.
        leader: Option<LeaderInfo>,
    },
    /// This coordinator leads until `deadline`, which moves with each renewal.
    Leader {
        /// The fencing token of this term.
        epoch: LeaderEpoch,
        /// The term's random id.
        id: Uuid,
        /// When it ends, on this process's clock, unless it is renewed.
        deadline: Instant,
    },
}

impl Claim {
    /// The epoch under which decisions may be made at `now`.
    #[must_use]
    pub fn leads_at(&self, now: Instant) -> Option<LeaderEpoch> {
        match self {
            Self::Leader { epoch, deadline, .. } if now < *deadline => Some(*epoch),
            Self::Leader { .. } | Self::Follower { .. } => None,
        }
    }

    /// The guard that every write of a leader's decision carries.
    #[must_use]
    pub fn guard(&self) -> Option<Guard> {
        match self {
            Self::Leader { epoch, .. } => Some(Guard::CreateRevision(LEADER_KEY.to_owned(), epoch.revision)),
            Self::Follower { .. } => None,
        }
    }
}
