//! How strongly a target's fence binds writers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Strength of a fence, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Strength {
    /// Acks and leases only: holds under timing assumptions, and only for writers that are agents.
    Cooperative,
    /// While the gate is closed the database itself refuses every writer, agent or not.
    #[default]
    Barrier,
    /// Besides, a write transaction carries the gate epoch that it was admitted under, and the database refuses an
    /// old one: also a write that was admitted before a fence and arrives after the opening.
    Epoch,
}

impl Strength {
    /// Whether the database itself refuses writers while the gate is closed.
    #[must_use]
    pub fn has_barrier(self) -> bool {
        match self {
            Self::Cooperative => false,
            Self::Barrier | Self::Epoch => true,
        }
    }

    /// Whether the database refuses a write that carries an old gate epoch.
    #[must_use]
    pub fn has_epoch(self) -> bool {
        match self {
            Self::Cooperative | Self::Barrier => false,
            Self::Epoch => true,
        }
    }
}

impl fmt::Display for Strength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Cooperative => "cooperative",
            Self::Barrier => "barrier",
            Self::Epoch => "epoch",
        })
    }
}

/// A text that names no strength.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no fence strength (expected cooperative, barrier or epoch)")]
pub struct StrengthError(String);

impl FromStr for Strength {
    type Err = StrengthError;
    fn from_str(text: &str) -> Result<Self, StrengthError> {
        match text {
            "cooperative" => Ok(Self::Cooperative),
            "barrier" => Ok(Self::Barrier),
            "epoch" => Ok(Self::Epoch),
            _ => Err(StrengthError(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strengths_are_ordered_and_named() {
        let all = [Strength::Cooperative, Strength::Barrier, Strength::Epoch];
        assert!(all.is_sorted());
        for strength in all {
            assert_eq!(strength.to_string().parse(), Ok(strength));
        }
        assert!("strong".parse::<Strength>().is_err());
    }
}
