//! Why there is no report.

use lockkeeper_core::epoch::GateEpoch;

use super::reach::Beyond;
use crate::db::{DbError, TakeError};
use crate::dump_tools::ToolError;
use crate::engine::EngineError;

/// A rehearsal that did not come to its end. Reads after "failed to"; the clone is dropped. A migration that fails
/// is no such error: it stands in the report.
#[derive(Debug, thiserror::Error)]
pub enum RehearseError {
    /// Target and directory give no plan.
    #[error(transparent)]
    Engine(Box<EngineError>),
    /// The target, or the clone, failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The clone could not be taken.
    #[error("take the clone: {0}")]
    Take(#[from] TakeError),
    /// A dump program is missing, or failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// A file beside the dump.
    #[error("{what}: {error}")]
    Io {
        /// Doing what.
        what: &'static str,
        /// The system's words.
        error: std::io::Error,
    },
    /// Statements that would change more than the clone.
    #[error("rehearse: {} would reach beyond the clone: {}", if found.len() == 1 { "a statement" } else { "statements" }, list(found))]
    Beyond {
        /// Each with its place.
        found: Vec<Beyond>,
    },
    /// A fence is on: what a barrier puts into the target would be cloned with it.
    #[error("rehearse: the gate is closed ({epoch}{}); rehearse before the fence, or after it", rollout.as_ref().map_or(String::new(), |r| format!(", by rollout {r}")))]
    GateClosed {
        /// The fence.
        epoch: GateEpoch,
        /// Whose it is.
        rollout: Option<String>,
    },
    /// The scratch place speaks another dialect.
    #[error("rehearse in {place}: it is of another dialect than the target")]
    OtherDialect {
        /// The place.
        place: String,
    },
    /// The server's release cannot be told, so no dump program can be chosen.
    #[error("read the release of {server:?}")]
    UnknownRelease {
        /// What the server says.
        server: String,
    },
    /// Somebody stopped it.
    #[error("rehearse: stopped; the clone was dropped")]
    Stopped,
    /// The clone could not be dropped.
    #[error("drop the clone {name}: {error}; the next rehearsal tries again{}", also(before.as_deref()))]
    NotDropped {
        /// Its name.
        name: String,
        /// Why.
        error: DbError,
        /// What had failed before.
        before: Option<Box<RehearseError>>,
    },
}

impl From<EngineError> for RehearseError {
    fn from(error: EngineError) -> Self {
        Self::Engine(Box::new(error))
    }
}

fn list(found: &[Beyond]) -> String {
    let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

fn also(before: Option<&RehearseError>) -> String {
    before.map_or_else(String::new, |error| format!("; before that: {error}"))
}
