//! Statements in doubt, and what a person says about them.

use std::fmt;

use lockkeeper_core::version::SchemaVersion;
use serde::{Deserialize, Serialize};

use super::DbError;
use crate::source::Direction;

/// A statement of an interrupted migration of which the database does not tell whether it took effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Doubt {
    /// The migration.
    pub version: SchemaVersion,
    /// Which of its scripts.
    pub direction: Direction,
    /// The statement's place in its script, from 1.
    pub statement: u32,
}

/// What became of a statement, as a person says who has looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ruling {
    /// It took effect: go on behind it.
    Done,
    /// It did not, or what it left has been removed: run it again.
    NotDone,
}

impl Ruling {
    /// As it is recorded: `done` or `not-done`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::NotDone => "not-done",
        }
    }
}

impl fmt::Display for Ruling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A ruling with who made it and why; recorded in `lockkeeper_resolution`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// What became of the statement.
    pub ruling: Ruling,
    /// Who says so.
    pub by: String,
    /// Why, if they say.
    pub reason: Option<String>,
}

/// The refusal of a ruling that nobody needs.
pub(super) fn not_in_doubt(doubt: &Doubt) -> DbError {
    DbError::Unsupported(format!(
        "statement {} of version {} {} is not in doubt",
        doubt.statement, doubt.version, doubt.direction
    ))
}

/// The direction that a journal's row names.
pub(super) fn direction(text: &str) -> Direction {
    if text == "down" {
        Direction::Down
    } else {
        Direction::Up
    }
}
