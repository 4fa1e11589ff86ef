//! The promises as predicates. Each takes plain observations, so that unit tests, end-to-end tests and debug
//! assertions ask the same question.

use std::collections::BTreeMap;

use crate::commit::Revision;
use crate::epoch::{GateEpoch, LeaderEpoch};
use crate::gate::{Gate, Position};
use crate::permits::TargetView;
use crate::rollout::{State, Target};
use crate::row::{GateRow, Verdict};
use crate::version::SchemaVersion;

/// A promise that does not hold, with what was seen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// I1.
    #[error("I1 quiet: {0} rows appeared between drained and opened")]
    NotQuiet(usize),
    /// I2.
    #[error("I2 one hand: a statement of {statement} took effect after {row} had taken over")]
    SecondHand {
        /// Epoch of the statement.
        statement: LeaderEpoch,
        /// Epoch of the gate row.
        row: LeaderEpoch,
    },
    /// I3.
    #[error("I3 verified: {0}")]
    Unverified(String),
    /// I4.
    #[error("I4 once: migration {version} was applied {times} times")]
    NotOnce {
        /// Which one.
        version: SchemaVersion,
        /// How often.
        times: usize,
    },
    /// I2: leadership was claimed without the key.
    #[error("I2 one hand: leadership was claimed under {0} without the leader's key")]
    Unclaimed(LeaderEpoch),
    /// I5.
    #[error("I5 progress: no command in state {0:?}")]
    Stuck(State),
    /// I6: a writer is stopped though the gate is open.
    #[error("I6 no new single point of failure: a writer is stopped though the gate is open: {0}")]
    StoppedWriter(String),
    /// I6: a fence that a person has released by hand was used as if it stood.
    #[error("I6 no new single point of failure: {0} was released by hand, and a statement ran under it")]
    Disrespected(GateEpoch),
}

/// I1: the writes found just before the opening are those found just after drained.
///
/// # Errors
/// The number of writes that are new.
pub fn quiet<K: Ord>(after_drained: &[K], before_opening: &[K]) -> Result<(), Violation> {
    let seen: std::collections::BTreeSet<&K> = after_drained.iter().collect();
    match before_opening
        .iter()
        .filter(|write| !seen.contains(write))
        .count()
    {
        0 => Ok(()),
        new => Err(Violation::NotQuiet(new)),
    }
}

/// I2: no statement of an older epoch takes effect once the row carries a newer one.
///
/// # Errors
/// The two epochs.
pub fn one_hand(statement: LeaderEpoch, row: LeaderEpoch) -> Result<(), Violation> {
    if statement < row {
        Err(Violation::SecondHand { statement, row })
    } else {
        Ok(())
    }
}

/// I3, in the store: a gate changes only by a closing under a higher epoch or an opening under the same one, and
/// never by an older leader.
///
/// # Errors
/// What is wrong with the change.
pub fn gate_change(before: &Gate, after: &Gate) -> Result<(), Violation> {
    let wrong = |what: &str| {
        Err(Violation::Unverified(format!(
            "{what}: {} -> {}",
            before.epoch, after.epoch
        )))
    };
    if after.leader_epoch < before.leader_epoch {
        return wrong("an older leader changed the gate");
    }
    match (&before.position, &after.position) {
        (_, Position::Closed { .. }) if after.epoch <= before.epoch => wrong("closed without a higher epoch"),
        (Position::Closed { .. }, Position::Open { .. }) if after.epoch != before.epoch => {
            wrong("opened under another epoch than it was closed")
        }
        (_, Position::Closed { .. } | Position::Open { .. }) => Ok(()),
    }
}

/// I3, in the rollout: only a state that has verified leads to a target that is open again.
///
/// # Errors
/// The two states.
pub fn opens_verified(before: &Target, after: &Target) -> Result<(), Violation> {
    let verified = matches!(before.state, State::Opening(_));
    let opened = before.is_fenced() && (after.state.is_final() || after.state == State::Baking);
    let skipped = matches!(after.state, State::Opening(_)) && !matches!(before.state, State::Verifying(_));
    if (opened && !verified) || (skipped && before.state != after.state) {
        let text = format!(
            "{:?} -> {:?} opens without a verification",
            before.state, after.state
        );
        return Err(Violation::Unverified(text));
    }
    Ok(())
}

/// I3, between store and target: the store's gate opens only after the target's row.
///
/// # Errors
/// Both epochs.
pub fn open_order(gate: &Gate, row: &GateRow) -> Result<(), Violation> {
    if gate.is_open() && row.opened < gate.epoch {
        let text = format!(
            "the store opened {} while the row stands at {}",
            gate.epoch, row.opened
        );
        return Err(Violation::Unverified(text));
    }
    Ok(())
}

/// I3, at the opening: the target is at the version that was verified.
///
/// # Errors
/// Both versions.
pub fn opened_at(verified: Option<&SchemaVersion>, found: Option<&SchemaVersion>) -> Result<(), Violation> {
    if verified != found {
        let text =
            |version: Option<&SchemaVersion>| version.map_or("nothing".to_owned(), ToString::to_string);
        let text = format!("opened at {} while the schema is {}", text(verified), text(found));
        return Err(Violation::Unverified(text));
    }
    Ok(())
}

/// I2 and I3, in the target: the row's numbers only grow, an epoch belongs to one leader, and nothing is opened that was
/// not closed.
///
/// # Errors
/// What is wrong with the change.
pub fn row_change(before: &GateRow, after: &GateRow) -> Result<(), Violation> {
    let taken_twice = before.leader_epoch == after.leader_epoch && before.leader_id != after.leader_id;
    if after.leader_epoch < before.leader_epoch || taken_twice {
        return Err(Violation::SecondHand {
            statement: after.leader_epoch,
            row: before.leader_epoch,
        });
    }
    let back = after.gate_epoch < before.gate_epoch || after.opened < before.opened;
    if back || after.opened > after.gate_epoch {
        let text = format!(
            "the row went from {} opened {} to {} opened {}",
            before.gate_epoch, before.opened, after.gate_epoch, after.opened
        );
        return Err(Violation::Unverified(text));
    }
    Ok(())
}

/// I2, in the store: leadership is claimed only while the leader's key, made at the epoch's revision, is there.
///
/// # Errors
/// The epoch.
pub fn claimed(epoch: LeaderEpoch, key: Option<Revision>) -> Result<(), Violation> {
    if key == Some(epoch.revision) {
        Ok(())
    } else {
        Err(Violation::Unclaimed(epoch))
    }
}

/// I6: where the row is open, the database refuses nobody, whether a coordinator or a store lives or not; what is left
/// of older barriers is inert.
///
/// # Errors
/// The row's epoch.
pub fn open_to_all(row: &GateRow, verdict: Verdict) -> Result<(), Violation> {
    if verdict == Verdict::Fenced && !row.is_closed() {
        return Err(Violation::StoppedWriter(format!(
            "the database refuses, and is open at {}",
            row.opened
        )));
    }
    Ok(())
}

/// I6: an agent that goes on without a coordinator, and saw the gate open, still does at any later time.
///
/// # Errors
/// What it says later.
pub fn goes_on(now: &TargetView, later: &TargetView) -> Result<(), Violation> {
    match (now, later) {
        (TargetView::Open { .. }, TargetView::Fenced(fence)) => {
            Err(Violation::StoppedWriter(fence.to_string()))
        }
        (TargetView::Open { .. } | TargetView::Fenced(_), _) => Ok(()),
    }
}

/// I6: after a release by hand nothing of a migration runs under the fence that was released.
///
/// # Errors
/// The fence.
pub fn respected(released: GateEpoch, statement: GateEpoch) -> Result<(), Violation> {
    if statement <= released {
        Err(Violation::Disrespected(released))
    } else {
        Ok(())
    }
}

/// I4: each migration was applied exactly once.
///
/// # Errors
/// The first version that was not.
pub fn once<'a>(applied: impl IntoIterator<Item = &'a SchemaVersion>) -> Result<(), Violation> {
    let mut times: BTreeMap<&SchemaVersion, usize> = BTreeMap::new();
    for version in applied {
        *times.entry(version).or_default() += 1;
    }
    match times.into_iter().find(|(_, times)| *times != 1) {
        Some((version, times)) => Err(Violation::NotOnce {
            version: version.clone(),
            times,
        }),
        None => Ok(()),
    }
}

/// I5: a target either rests where it may, or has a command.
///
/// # Errors
/// The state that has neither.
pub fn progress(target: &Target) -> Result<(), Violation> {
    if target.state.is_resting() || target.command().is_some() {
        Ok(())
    } else {
        Err(Violation::Stuck(target.state))
    }
}
