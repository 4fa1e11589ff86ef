//! What can go wrong while a plan is made, run or verified.

use std::path::PathBuf;

use lockkeeper_core::version::SchemaVersion;

use super::migrate::Report;
use super::transfer::{OtherLedger, TransferError};
use crate::db::{ApplyError, DbError};
use crate::plan::PlanError;
use crate::source::Direction;

/// A failed engine call. Reads after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Source and ledger do not allow the goal.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// One migration was not applied; the ones before it were, and are in the report.
    #[error("run version {version} {direction} ({}): {error}", path.display())]
    Apply {
        /// The version.
        version: SchemaVersion,
        /// Which of its scripts.
        direction: Direction,
        /// The file.
        path: PathBuf,
        /// Why, and what it left behind.
        error: ApplyError,
        /// The steps before it.
        report: Report,
    },
    /// The run was stopped between two migrations.
    #[error("go on: stopped before version {version}")]
    Stopped {
        /// The next one.
        version: SchemaVersion,
        /// The steps before it.
        report: Report,
    },
    /// Another migrator has been here, and lockkeeper has not.
    #[error(transparent)]
    OtherLedger(#[from] OtherLedger),
    /// The history cannot be moved into the ledger that was asked for.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// A step down over a migration that has no down script. A plan never holds one.
    #[error("run version {version} {direction}: it has no script for that")]
    NoScript {
        /// The version.
        version: SchemaVersion,
        /// The direction without a script.
        direction: Direction,
    },
    /// A version that is applied or reverted in part, and that the plan does not take further.
    #[error("go on: version {version} is {} in part; finish that first, with `{}`", partly(*direction), way(*direction))]
    Unfinished {
        /// The version.
        version: SchemaVersion,
        /// Which of its scripts was interrupted.
        direction: Direction,
    },
    /// The target failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

fn partly(direction: Direction) -> &'static str {
    match direction {
        Direction::Up => "applied",
        Direction::Down => "reverted",
    }
}

fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::Up => "up",
        Direction::Down => "down --steps 1",
    }
}

impl EngineError {
    /// Whether a migration has taken effect in part, or a statement is in doubt: then no script can revert it.
    #[must_use]
    pub fn is_unclear(&self) -> bool {
        match self {
            Self::Apply { error, .. } => match error {
                ApplyError::RolledBack { .. } | ApplyError::Partial { done: 0, .. } => false,
                ApplyError::Partial { .. } | ApplyError::InDoubt { .. } => true,
                ApplyError::Db(error) => matches!(error, DbError::ConnectionLost(_)),
            },
            // What was applied in part cannot be reverted; what was reverted in part can be reverted to the end.
            Self::Unfinished { direction, .. } => *direction == Direction::Up,
            Self::Plan(PlanError::StatementInDoubt { .. }) => true,
            Self::Plan(_)
            | Self::NoScript { .. }
            | Self::OtherLedger(_)
            | Self::Transfer(_)
            | Self::Stopped { .. } => false,
            Self::Db(error) => matches!(error, DbError::ConnectionLost(_)),
        }
    }

    /// The port's error, when it is what failed.
    #[must_use]
    pub fn db(&self) -> Option<&DbError> {
        match self {
            Self::Apply {
                error: ApplyError::Db(error),
                ..
            }
            | Self::Db(error) => Some(error),
            Self::Apply { .. }
            | Self::Plan(_)
            | Self::NoScript { .. }
            | Self::OtherLedger(_)
            | Self::Transfer(_)
            | Self::Unfinished { .. }
            | Self::Stopped { .. } => None,
        }
    }
}
