//! The two fencing numbers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The leader's fencing token, ordered as the pair (generation, revision). Prints as `e1.42`.
///
/// `revision` is the create revision of the leader's election key. A store that was restored or rebuilt can hand
/// out a revision again; `generation` is raised by a person when that has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaderEpoch {
    /// Raised by a person when the store went back in time. Starts at 1.
    pub generation: u64,
    /// Create revision of the leader's election key in the store.
    pub revision: u64,
}

impl LeaderEpoch {
    /// The epoch of a target that no leader has ever taken; smaller than every leader's.
    pub const NONE: Self = Self {
        generation: 0,
        revision: 0,
    };
}

impl fmt::Display for LeaderEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{}.{}", self.generation, self.revision)
    }
}

/// A text that is not an epoch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an epoch (expected e1.42 or g7)")]
pub struct EpochError(String);

impl FromStr for LeaderEpoch {
    type Err = EpochError;
    fn from_str(text: &str) -> Result<Self, EpochError> {
        let error = || EpochError(text.to_owned());
        let (generation, revision) = text
            .strip_prefix('e')
            .and_then(|t| t.split_once('.'))
            .ok_or_else(error)?;
        Ok(Self {
            generation: generation.parse().map_err(|_| error())?,
            revision: revision.parse().map_err(|_| error())?,
        })
    }
}

/// Counts the changes of one target's gate. Prints as `g7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct GateEpoch(pub u64);

impl GateEpoch {
    /// Before the first change.
    pub const ZERO: Self = Self(0);

    /// The epoch of the next change: larger than what the store *and* the target have seen, because either may
    /// have been restored from an older copy.
    #[must_use]
    pub fn next(store: Self, target: Self) -> Self {
        Self(store.max(target).0 + 1)
    }
}

impl fmt::Display for GateEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raised_generation_beats_any_revision() {
        let before_restore = LeaderEpoch {
            generation: 1,
            revision: 900,
        };
        let after_adopt = LeaderEpoch {
            generation: 2,
            revision: 3,
        };
        assert!(after_adopt > before_restore);
        assert_eq!(
            before_restore.to_string().parse::<LeaderEpoch>(),
            Ok(before_restore)
        );
    }

    #[test]
    fn the_next_gate_epoch_is_above_both_records() {
        assert_eq!(GateEpoch::next(GateEpoch(3), GateEpoch(9)), GateEpoch(10));
        assert_eq!(GateEpoch::next(GateEpoch(9), GateEpoch(3)).to_string(), "g10");
    }
}
