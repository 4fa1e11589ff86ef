//! What can go wrong, and what state it leaves.

use std::path::PathBuf;

use crate::db::{DbError, TakeError};
use crate::dump_tools::ToolError;

/// A backup that was not made. Nothing is recorded, and no file of it is left.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The database cannot be asked.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A program failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// A file cannot be written or read.
    #[error("{what} {}: {error}", path.display())]
    File {
        /// `write`, `read`.
        what: &'static str,
        /// Which one.
        path: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
    /// The dump was made and cannot be used.
    #[error("read the backup back: {0}")]
    Unreadable(String),
    /// It was restored elsewhere, and differs.
    #[error("compare the restored backup with its source: {0}")]
    Differs(String),
    /// No database can be made to try the restore in.
    #[error("make a scratch database to try the backup in: {reason}; {remedy}")]
    NoScratch {
        /// The server's words.
        reason: String,
        /// What helps.
        remedy: String,
    },
    /// What was asked for makes no sense together.
    #[error("{0}")]
    Usage(String),
}

/// A restore that did not come to its end, and what the database holds now.
#[derive(Debug, thiserror::Error)]
#[error("{cause}; {state}")]
pub struct RestoreError {
    /// What went wrong.
    pub cause: RestoreFailure,
    /// What the database holds.
    pub state: RemainingState,
}

impl RestoreError {
    /// It ended before anything was changed, or all of it was rolled back.
    pub(super) fn untouched(cause: RestoreFailure) -> Self {
        Self {
            cause,
            state: RemainingState::Untouched,
        }
    }
}

/// Why a restore ended.
#[derive(Debug, thiserror::Error)]
pub enum RestoreFailure {
    /// The target cannot be had: its gate is closed, or another executor lives.
    #[error(transparent)]
    Take(#[from] TakeError),
    /// As when a backup is made.
    #[error(transparent)]
    Backup(#[from] BackupError),
}

impl From<DbError> for RestoreFailure {
    fn from(error: DbError) -> Self {
        Self::Backup(error.into())
    }
}

impl From<ToolError> for RestoreFailure {
    fn from(error: ToolError) -> Self {
        Self::Backup(error.into())
    }
}

/// What a failed restore leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemainingState {
    /// Nothing was changed.
    Untouched,
    /// A part of the backup, behind a gate that stays closed.
    Partial,
    /// The connection was lost at the very end, and the database could not be asked.
    Unknown,
}

impl std::fmt::Display for RemainingState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Untouched => "the database is as it was",
            Self::Partial => {
                "the database holds only a part of the backup and nothing of what was there before; its gate stays \
                 closed, so that nobody migrates it: run the same restore again"
            }
            Self::Unknown => {
                "whether it was restored is not known: it was in full, or not at all; look for its record with \
                 `lockkeeper migrate sql backup --list`"
            }
        })
    }
}
