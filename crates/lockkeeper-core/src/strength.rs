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
}

impl fmt::Display for Strength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Cooperative => "cooperative",
            Self::Barrier => "barrier",
        })
    }
}

/// A text that names no strength.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no fence strength (expected cooperative or barrier)")]
pub struct StrengthError(String);

impl FromStr for Strength {
    type Err = StrengthError;
    fn from_str(text: &str) -> Result<Self, StrengthError> {
        match text {
            "cooperative" => Ok(Self::Cooperative),
            "barrier" => Ok(Self::Barrier),
            _ => Err(StrengthError(text.to_owned())),
        }
    }
}
