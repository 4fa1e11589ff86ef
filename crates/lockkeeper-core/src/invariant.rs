//! The promises as predicates. Each takes plain observations, so that unit tests, end-to-end tests and debug
//! assertions ask the same question.

use std::collections::BTreeMap;

use crate::epoch::LeaderEpoch;
use crate::gate::{Gate, Position};
use crate::rollout::{State, Target};
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
    /// I5.
    #[error("I5 progress: no command in state {0:?}")]
    Stuck(State),
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
    let opened = before.is_fenced() && after.state.is_final();
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
