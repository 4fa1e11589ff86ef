//! What the store recalls of a target, and whether the target is ahead of it.
//!
//! A store can be restored from an older copy, or rebuilt; then it hands out revisions again, and what it says about
//! a target is old. The target's own gate row is the authority: a target that has seen more than the store is left
//! alone until a person has raised the generation.

use std::fmt;

use lockkeeper_core::epoch::{GateEpoch, LeaderEpoch};
use lockkeeper_migrate::db::GateRow;
use uuid::Uuid;

/// What a leader's store recalls of what a target has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recall {
    /// The store knows all that the target has seen.
    Known,
    /// The target has had fences that the store knows nothing of, before a person raised the generation.
    Forgotten,
    /// The target has seen what this leader's store cannot have seen.
    Ahead(Seen),
}

/// What a target has seen that its store has not. Reads after "the target has seen".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// A leader that this one cannot supersede.
    Leader {
        /// As recorded in the target.
        recorded: LeaderEpoch,
        /// This leader's.
        leader: LeaderEpoch,
    },
    /// A fence.
    Gate {
        /// As recorded in the target.
        recorded: GateEpoch,
        /// The newest that the store knows.
        store: GateEpoch,
    },
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leader { recorded, leader } => {
                write!(f, "leader {recorded}, which {leader} cannot supersede")?;
            }
            Self::Gate { recorded, store } => write!(f, "{recorded}, the store knows only {store}")?,
        }
        f.write_str(
            ": the store went back in time or was rebuilt, or another fleet works on this target; if this store is \
             the right one, run `lockkeeper fleet adopt`",
        )
    }
}

impl Recall {
    /// Compares a target's row with `store`, the newest gate epoch that the store knows for it. A target without a
    /// row has seen nothing.
    #[must_use]
    pub fn of(row: Option<&GateRow>, store: GateEpoch, leader: LeaderEpoch, id: Uuid) -> Self {
        let Some(row) = row else { return Self::Known };
        let recorded = row.leader_epoch;
        if row.admit(leader, id).is_err() {
            return Self::Ahead(Seen::Leader { recorded, leader });
        }
        if row.gate_epoch <= store {
            return Self::Known;
        }
        if recorded.generation < leader.generation {
            return Self::Forgotten;
        }
        let recorded = row.gate_epoch;
        Self::Ahead(Seen::Gate { recorded, store })
    }
}

#[cfg(test)]
mod tests {
    use lockkeeper_migrate::db::ServerIdentity;

    use super::*;

    const OURS: Uuid = Uuid::from_u128(1);
    const THEIRS: Uuid = Uuid::from_u128(2);

    fn epoch(generation: u64, revision: u64) -> LeaderEpoch {
        LeaderEpoch { generation, revision }
    }

    fn row(leader_epoch: LeaderEpoch, leader_id: Uuid, gate_epoch: u64) -> GateRow {
        GateRow {
            identity: ServerIdentity("server".to_owned()),
            leader_epoch,
            leader_id: Some(leader_id),
            gate_epoch: GateEpoch(gate_epoch),
            opened: GateEpoch(gate_epoch),
            version: None,
            executor: None,
            rollout: None,
        }
    }

    #[test]
    fn only_a_smaller_epoch_or_our_own_can_be_superseded() {
        let leader = epoch(1, 42);
        let recall = |row: &GateRow| Recall::of(Some(row), GateEpoch(3), leader, OURS);
        let ahead = |recorded| Recall::Ahead(Seen::Leader { recorded, leader });
        assert_eq!(recall(&row(epoch(1, 41), THEIRS, 3)), Recall::Known);
        assert_eq!(recall(&row(leader, OURS, 3)), Recall::Known);
        assert_eq!(recall(&row(leader, THEIRS, 3)), ahead(leader));
        assert_eq!(recall(&row(epoch(1, 43), OURS, 3)), ahead(epoch(1, 43)));
        assert_eq!(recall(&row(epoch(2, 1), OURS, 3)), ahead(epoch(2, 1)));
    }

    #[test]
    fn fences_that_the_store_has_forgotten_are_taken_up_only_after_a_person_said_so() {
        let seen = row(epoch(1, 41), THEIRS, 7);
        let recall = |store, leader| Recall::of(Some(&seen), GateEpoch(store), leader, OURS);
        let (recorded, store) = (GateEpoch(7), GateEpoch(6));
        assert_eq!(
            recall(6, epoch(1, 90)),
            Recall::Ahead(Seen::Gate { recorded, store })
        );
        assert_eq!(recall(6, epoch(2, 5)), Recall::Forgotten);
        assert_eq!(recall(7, epoch(1, 90)), Recall::Known);
        assert_eq!(recall(8, epoch(1, 90)), Recall::Known);
        assert_eq!(Recall::of(None, GateEpoch(8), epoch(1, 90), OURS), Recall::Known);
    }
}
