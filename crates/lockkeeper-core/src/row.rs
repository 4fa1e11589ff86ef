//! The gate row: the target's own record of its gate, and what may be done to it.
//!
//! Every dialect keeps the row in one table and asks these functions, under the row's lock where the answer allows a
//! change. The barrier's triggers, which are written in SQL, say what [`barrier`] says.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::epoch::{GateEpoch, LeaderEpoch};
use crate::mutation::{Mutation, mutated};
use crate::version::SchemaVersion;

/// What the gate row's `rollout` begins with after a person has released the fence.
pub const RELEASED_MARK: &str = "released by hand: ";

/// What tells one database server from its copies: a restored dump or a promoted standby answers differently.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServerIdentity(pub String);

impl fmt::Display for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A database session, told by two identifiers so that a reused pid or connection id is not mistaken for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExecutorId {
    /// Backend pid (PostgreSQL), connection id (MariaDB, MySQL), or a random id (SQLite).
    pub session: String,
    /// Backend start (PostgreSQL), server start (MariaDB, MySQL), or the process id (SQLite).
    pub started: String,
}

impl fmt::Display for ExecutorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {} (since {})", self.session, self.started)
    }
}

/// The target's own record of its gate: one row in `lockkeeper_gate`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GateRow {
    /// The server the row was written on.
    pub identity: ServerIdentity,
    /// The newest leader epoch that has taken this target; [`LeaderEpoch::NONE`] when none has.
    pub leader_epoch: LeaderEpoch,
    /// The random id of the leader process that holds `leader_epoch`.
    pub leader_id: Option<Uuid>,
    /// The newest fence.
    pub gate_epoch: GateEpoch,
    /// The newest fence that has been opened; the gate is closed while this is below `gate_epoch`.
    pub opened: GateEpoch,
    /// The schema version at the last opening.
    pub version: Option<SchemaVersion>,
    /// The session that may pass the barrier.
    pub executor: Option<ExecutorId>,
    /// The rollout that closed the gate, or the reason of a break-glass release.
    pub rollout: Option<String>,
}

impl GateRow {
    /// Whether writers are refused.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.opened < self.gate_epoch
    }

    /// Why a person has opened the gate, if it stands open by that.
    #[must_use]
    pub fn released_by_hand(&self) -> Option<&str> {
        let text = self.rollout.as_deref()?.strip_prefix(RELEASED_MARK)?;
        (!self.is_closed()).then_some(text)
    }

    /// Whether a leader may take the target: its epoch is larger than the row's, or equal and of the same leader. The
    /// id tells two leaders apart that a restored store gave the same epoch.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&self, epoch: LeaderEpoch, id: Uuid) -> Result<(), Refused> {
        if self.leader_epoch > epoch {
            return Err(Refused::Ahead {
                recorded: self.leader_epoch,
            });
        }
        let another = self.leader_epoch == epoch && self.leader_id != Some(id);
        if another && !mutated(Mutation::EqualEpochTaken) {
            return Err(Refused::Taken);
        }
        Ok(())
    }

    /// The session that a takeover by `me` must end and confirm gone before it may register itself.
    #[must_use]
    pub fn to_end(&self, me: &ExecutorId) -> Option<&ExecutorId> {
        if mutated(Mutation::TakeoverWithoutEnding) {
            return None;
        }
        self.executor.as_ref().filter(|executor| *executor != me)
    }

    /// Whether the fence `epoch` may be recorded. One that was opened cannot be closed again: what was made for it is
    /// inert.
    ///
    /// # Errors
    /// The row has come further.
    pub fn admit_closing(&self, epoch: GateEpoch) -> Result<(), Behind> {
        if epoch < self.gate_epoch || epoch <= self.opened {
            return Err(Behind {
                recorded: self.gate_epoch,
            });
        }
        Ok(())
    }

    /// Whether the fence `epoch` may be opened, or is open already.
    ///
    /// # Errors
    /// It is not the row's newest fence.
    pub fn admit_opening(&self, epoch: GateEpoch) -> Result<Opening, Behind> {
        if self.gate_epoch != epoch {
            return Err(Behind {
                recorded: self.gate_epoch,
            });
        }
        Ok(if self.opened >= epoch {
            Opening::Already
        } else {
            Opening::Due
        })
    }
}

/// Why a leader's claim on a target is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refused {
    /// A larger epoch has taken it: the leader is superseded, or the store went back.
    Ahead {
        /// The row's epoch.
        recorded: LeaderEpoch,
    },
    /// Another leader has taken it under the same epoch: the store went back.
    Taken,
}

/// The row is at another fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Behind {
    /// The row's newest fence.
    pub recorded: GateEpoch,
}

/// Whether an opening still has to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Opening {
    /// The row is closed.
    Due,
    /// An earlier try has opened it.
    Already,
}

/// What a hand may rely on: it is the registered executor, under the epoch that it was registered with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Terms {
    /// The session.
    pub executor: ExecutorId,
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// The leader.
    pub leader_id: Option<Uuid>,
}

impl Terms {
    /// Whether the row still names this hand. Asked under the row's lock before each change.
    #[must_use]
    pub fn stand(&self, row: &GateRow) -> bool {
        row.executor.as_ref() == Some(&self.executor)
            && row.leader_epoch == self.epoch
            && row.leader_id == self.leader_id
    }
}

/// What the barrier says to one statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The fence has been opened.
    Pass,
    /// It seems to be the executor's: it passes if a locking read says so too. A superseded one that looks at an old
    /// snapshot fails there.
    Confirm,
    /// Refused: retry when the gate is open.
    Fenced,
}

/// What a trigger that was made for `fence` says to a statement of session `me` whose snapshot shows `row`: refused
/// *unless* `opened` has reached the fence. An old snapshot can only show less, so it refuses in every isolation level;
/// a trigger that is left over is inert.
#[must_use]
pub fn barrier(row: &GateRow, fence: GateEpoch, me: &ExecutorId) -> Verdict {
    let open = if mutated(Mutation::RefuseIfClosed) {
        !row.is_closed()
    } else {
        row.opened >= fence
    };
    if open {
        Verdict::Pass
    } else if row.executor.as_ref() == Some(me) {
        Verdict::Confirm
    } else {
        Verdict::Fenced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn executor(session: &str) -> ExecutorId {
        ExecutorId {
            session: session.to_owned(),
            started: "1".to_owned(),
        }
    }

    fn row() -> GateRow {
        GateRow {
            identity: ServerIdentity("s".to_owned()),
            leader_epoch: LeaderEpoch {
                generation: 1,
                revision: 42,
            },
            leader_id: Some(Uuid::from_u128(1)),
            gate_epoch: GateEpoch(8),
            opened: GateEpoch(7),
            version: None,
            executor: Some(executor("1")),
            rollout: None,
        }
    }

    #[test]
    fn an_epoch_is_taken_if_larger_and_continued_if_equal_and_of_the_same_leader() {
        let epoch = |revision| LeaderEpoch {
            generation: 1,
            revision,
        };
        let (same, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(row().admit(epoch(43), other), Ok(()));
        assert_eq!(row().admit(epoch(42), same), Ok(()));
        assert_eq!(row().admit(epoch(42), other), Err(Refused::Taken));
        let ahead = Refused::Ahead { recorded: epoch(42) };
        assert_eq!(row().admit(epoch(41), same), Err(ahead));
    }

    #[test]
    fn the_barrier_refuses_unless_opened_has_reached_its_fence() {
        let before_the_closing = GateRow {
            gate_epoch: GateEpoch(7),
            ..row()
        };
        let me = executor("9");
        assert_eq!(
            barrier(&before_the_closing, GateEpoch(8), &me),
            Verdict::Fenced,
            "old snapshot"
        );
        assert_eq!(barrier(&row(), GateEpoch(8), &me), Verdict::Fenced);
        assert_eq!(barrier(&row(), GateEpoch(8), &executor("1")), Verdict::Confirm);
        assert_eq!(
            barrier(&row(), GateEpoch(7), &me),
            Verdict::Pass,
            "a left-over trigger is inert"
        );
    }

    #[test]
    fn an_opened_fence_cannot_be_closed_again() {
        assert_eq!(row().admit_closing(GateEpoch(8)), Ok(()), "again is no harm");
        assert!(row().admit_closing(GateEpoch(7)).is_err());
        assert_eq!(row().admit_opening(GateEpoch(8)), Ok(Opening::Due));
        let open = GateRow {
            opened: GateEpoch(8),
            ..row()
        };
        assert!(open.admit_closing(GateEpoch(8)).is_err());
        assert_eq!(open.admit_opening(GateEpoch(8)), Ok(Opening::Already));
        assert!(open.admit_opening(GateEpoch(9)).is_err());
    }
}
