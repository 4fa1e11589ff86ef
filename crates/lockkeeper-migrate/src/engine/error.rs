//! What can go wrong while a plan is made, run or verified.

use std::path::PathBuf;

use lockkeeper_core::version::SchemaVersion;

use super::migrate::Report;
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
    /// A step down over a migration that has no down script. A plan never holds one.
    #[error("run version {version} {direction}: it has no script for that")]
    NoScript {
        /// The version.
        version: SchemaVersion,
        /// The direction without a script.
        direction: Direction,
    },
    /// The target failed.
    #[error(transparent)]
    Db(#[from] DbError),
}
