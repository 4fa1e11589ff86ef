//! What a driver does next, in the state that its target is in: the order of things inside of one command.
//!
//! Whoever drives a target stands on some [`Ground`]: how far the fence stands under *its own* hand. Each command needs
//! a certain level of it, and a new hand starts from the lowest: a hand alone proves nothing, since on some databases
//! the fence falls with the session that raised it.

use super::{Event, Goal, HeldAt, State, Target};
use crate::epoch::GateEpoch;
use crate::mutation::{Mutation, mutated};
use crate::row::GateRow;

/// How far the fence stands under the hand that a driver has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
enum Level {
    /// The target is taken, or is not even that.
    #[default]
    Taken,
    /// The target's row is closed under this rollout's gate epoch.
    RowClosed,
    /// Drained, and the barrier stands, where there is one.
    Fenced,
}

/// What a driver stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Ground {
    level: Level,
    /// The hand was taken in the state that the target is in: what was verified before may not be true any more.
    renewed: bool,
}

impl Ground {
    /// The target was taken, by a new hand.
    pub fn taken(&mut self) {
        *self = Self {
            level: Level::Taken,
            renewed: true,
        };
    }

    /// The row is closed.
    pub fn row_closed(&mut self) {
        self.level = self.level.max(Level::RowClosed);
    }

    /// The fence stands.
    pub fn raised(&mut self) {
        self.level = Level::Fenced;
    }

    /// A new state was committed: what happens from here on happens on this ground.
    pub fn settled(&mut self) {
        self.renewed = false;
    }

    /// Whether the fence stands.
    #[must_use]
    pub fn is_fenced(self) -> bool {
        self.level == Level::Fenced
    }
}

/// Where the store's gate stands, for a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreGate {
    /// There is none.
    Missing,
    /// Open.
    Open,
    /// Closed by this rollout, under the target's gate epoch.
    Ours,
    /// Closed by another rollout.
    Anothers,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Act {
    /// Take the target: end what an earlier leader left running, and register a session.
    Take,
    /// Close the store's gate under the next epoch, and list the sessions in the same transaction.
    CloseStoreGate,
    /// Close the target's row under this epoch.
    CloseRow(GateEpoch),
    /// Wait until drained, and raise the barrier.
    Raise,
    /// Open the target's row.
    OpenRow(GateEpoch),
    /// The ground is there: do the command's own work.
    Work,
    /// Nothing is to be done but to tell the state machine.
    Conclude(Event),
}

/// The next act for `target`, whose row is `row` as the driver's hand knows it; `None`: it has no hand.
///
/// The order is fixed: take the target before any decision about it; the store's gate before the row, so that agents
/// wait instead of failing; the row before the barrier, which refuses by it; and for an opening the row before the
/// store's gate, which opens with the commit of [`Event::Opened`].
#[must_use]
pub fn next_act(target: &Target, ground: Ground, row: Option<&GateRow>, store: StoreGate) -> Act {
    let Some(needed) = needed(target.state) else {
        return Act::Work;
    };
    let Some(row) = row else { return Act::Take };
    let opened = target.gate_epoch.is_some_and(|epoch| row.opened >= epoch);
    if opened && row.released_by_hand().is_some() && !mutated(Mutation::ReleaseIgnored) {
        return found_open(target, row);
    }
    if let State::Opening(goal) = target.state
        && (opened
            || mutated(Mutation::StoreOpensFirst)
            || (ground.level < needed && goal == Goal::Unchanged))
    {
        // Opened by this hand or an earlier one: the store follows. Not opened, by a hand that has not seen the row
        // closed: verify again.
        let done = opened || mutated(Mutation::StoreOpensFirst);
        return Act::Conclude(if done { Event::Opened } else { Event::FenceRenewed });
    }
    if ground.level < needed {
        return establish(target, ground.level, row, store);
    }
    let verified_before = matches!(
        target.state,
        State::Verifying(Goal::New | Goal::Restored) | State::Opening(_)
    );
    match (target.state, target.gate_epoch) {
        _ if ground.renewed && verified_before => Act::Conclude(Event::FenceRenewed),
        (State::Opening(_), _) if store != StoreGate::Ours => {
            needs_person("the store's gate is not this rollout's")
        }
        (State::Opening(_), Some(epoch)) => Act::OpenRow(epoch),
        (State::Opening(_), None) => without_epoch(),
        _ => Act::Work,
    }
}

/// The next step towards a standing fence.
fn establish(target: &Target, level: Level, row: &GateRow, store: StoreGate) -> Act {
    match store {
        StoreGate::Missing => return needs_person("the target has no gate in the store"),
        StoreGate::Anothers => return needs_person("the gate is closed by another rollout"),
        StoreGate::Open => return Act::CloseStoreGate,
        StoreGate::Ours => {}
    }
    let Some(epoch) = target.gate_epoch else {
        return without_epoch();
    };
    match level {
        // Nothing goes on as if it were closed.
        Level::Taken | Level::RowClosed if row.opened >= epoch && !mutated(Mutation::ReleaseIgnored) => {
            found_open(target, row)
        }
        Level::Taken => Act::CloseRow(epoch),
        Level::RowClosed | Level::Fenced => Act::Raise,
    }
}

/// A person has opened the row: writers may have written since, and nothing is continued.
fn found_open(target: &Target, row: &GateRow) -> Act {
    let epoch = target.gate_epoch.unwrap_or(row.opened);
    let reason = match row.released_by_hand() {
        Some(why) => format!("a person released the fence {epoch}: {why}"),
        None => format!("the target's gate row is open at {epoch}, though this rollout has not opened it"),
    };
    Act::Conclude(Event::GateFoundOpen(reason))
}

fn needs_person(reason: &str) -> Act {
    Act::Conclude(Event::NeedsPerson(reason.to_owned()))
}

fn without_epoch() -> Act {
    needs_person("the fence has no gate epoch")
}

/// The ground that a state's work needs; `None`: no hand at all.
fn needed(state: State) -> Option<Level> {
    match state {
        State::Fencing
        | State::Migrating
        | State::RollingBack
        | State::Verifying(Goal::New | Goal::Restored)
        | State::Opening(Goal::New | Goal::Restored)
        | State::Held(HeldAt::Fenced) => Some(Level::Fenced),
        // Nothing was run. Whatever keeps the fence from standing may do so for long, and writers shall have their gate
        // back.
        State::Verifying(Goal::Unchanged) | State::Opening(Goal::Unchanged) => Some(Level::RowClosed),
        State::Pending
        | State::Preflight
        | State::Held(HeldAt::BeforeFence | HeldAt::ReleasedByHand | HeldAt::Opened)
        | State::Baking
        | State::Done
        | State::Aborted
        | State::RolledBack
        | State::Skipped => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::LeaderEpoch;
    use crate::rollout::OnFailure;
    use crate::row::ServerIdentity;

    const G8: GateEpoch = GateEpoch(8);

    fn target(state: State) -> Target {
        Target {
            state,
            gate_epoch: Some(G8),
            ..Target::new(OnFailure::Rollback)
        }
    }

    fn row(opened: u64) -> GateRow {
        GateRow {
            identity: ServerIdentity(String::new()),
            leader_epoch: LeaderEpoch::NONE,
            leader_id: None,
            gate_epoch: G8,
            opened: GateEpoch(opened),
            version: None,
            executor: None,
            rollout: None,
        }
    }

    fn ground(level: Level) -> Ground {
        Ground {
            level,
            renewed: false,
        }
    }

    #[test]
    fn a_fence_is_taken_closed_in_the_store_closed_in_the_row_and_raised() {
        let open = Target {
            gate_epoch: None,
            ..target(State::Fencing)
        };
        let closed = target(State::Fencing);
        fn act(target: &Target, level: Level, row: Option<&GateRow>, store: StoreGate) -> Act {
            next_act(target, ground(level), row, store)
        }
        assert_eq!(act(&open, Level::Taken, None, StoreGate::Open), Act::Take);
        let mut seen = row(7);
        seen.gate_epoch = GateEpoch(7);
        assert_eq!(
            act(&open, Level::Taken, Some(&seen), StoreGate::Open),
            Act::CloseStoreGate
        );
        assert_eq!(
            act(&closed, Level::Taken, Some(&seen), StoreGate::Ours),
            Act::CloseRow(G8)
        );
        assert_eq!(
            act(&closed, Level::RowClosed, Some(&row(7)), StoreGate::Ours),
            Act::Raise
        );
        assert_eq!(
            act(&closed, Level::Fenced, Some(&row(7)), StoreGate::Ours),
            Act::Work
        );
    }

    #[test]
    fn a_new_hand_verifies_again_what_an_older_one_had_verified() {
        for state in [
            State::Verifying(Goal::New),
            State::Opening(Goal::New),
            State::Opening(Goal::Restored),
        ] {
            let mut fresh = Ground::default();
            fresh.taken();
            assert_eq!(
                next_act(&target(state), fresh, Some(&row(7)), StoreGate::Ours),
                Act::CloseRow(G8)
            );
            fresh.row_closed();
            fresh.raised();
            let renewed = Act::Conclude(Event::FenceRenewed);
            assert_eq!(
                next_act(&target(state), fresh, Some(&row(7)), StoreGate::Ours),
                renewed
            );
            fresh.settled();
            assert_ne!(
                next_act(&target(state), fresh, Some(&row(7)), StoreGate::Ours),
                renewed
            );
        }
    }

    #[test]
    fn the_row_opens_before_the_store_and_an_opened_one_only_needs_the_store() {
        let opening = target(State::Opening(Goal::New));
        let act = |opened| {
            next_act(
                &opening,
                ground(Level::Fenced),
                Some(&row(opened)),
                StoreGate::Ours,
            )
        };
        assert_eq!(act(7), Act::OpenRow(G8));
        assert_eq!(act(8), Act::Conclude(Event::Opened));
        let mut fresh = Ground::default();
        fresh.taken();
        let act = next_act(&opening, fresh, Some(&row(8)), StoreGate::Ours);
        assert_eq!(act, Act::Conclude(Event::Opened), "whatever hand opened it");
    }

    #[test]
    fn a_row_that_a_person_has_opened_is_not_fenced_again() {
        for state in [
            State::Fencing,
            State::Migrating,
            State::RollingBack,
            State::Held(HeldAt::Fenced),
        ] {
            let act = next_act(
                &target(state),
                ground(Level::Taken),
                Some(&row(8)),
                StoreGate::Ours,
            );
            assert!(matches!(act, Act::Conclude(Event::GateFoundOpen(_))), "{state:?}");
        }
    }

    #[test]
    fn where_nothing_ran_a_closed_row_is_enough() {
        let verifying = target(State::Verifying(Goal::Unchanged));
        let act = |level| next_act(&verifying, ground(level), Some(&row(7)), StoreGate::Ours);
        assert_eq!(act(Level::Taken), Act::CloseRow(G8));
        assert_eq!(act(Level::RowClosed), Act::Work);
        let opening = target(State::Opening(Goal::Unchanged));
        let act = |level| next_act(&opening, ground(level), Some(&row(7)), StoreGate::Ours);
        assert_eq!(act(Level::Taken), Act::Conclude(Event::FenceRenewed));
        assert_eq!(act(Level::RowClosed), Act::OpenRow(G8));
    }
}
