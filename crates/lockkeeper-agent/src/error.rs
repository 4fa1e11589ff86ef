//! What can go wrong. A fence is not among it: a writer waits.

use std::time::Duration;

use lockkeeper_core::id::{NameError, TargetName};
use lockkeeper_core::permits::Fence;

/// Why an agent cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A name is missing or cannot be used.
    #[error(transparent)]
    Name(#[from] NameError),
    /// No coordinator was given.
    #[error("no coordinator is given; name at least one, for example \"http://127.0.0.1:7400\"")]
    NoCoordinator,
    /// A coordinator's address cannot be used.
    #[error("coordinator {address:?} cannot be used: {problem}")]
    Coordinator {
        /// The address as given.
        address: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No target was given.
    #[error("no target is given; an agent registers for the databases that it writes to")]
    NoTarget,
    /// More targets than one stream may carry.
    #[error("{count} targets are given; at most {} are allowed", crate::TARGETS_MAX)]
    TooManyTargets {
        /// How many.
        count: usize,
    },
    /// A target was given twice.
    #[error("target {0} is given twice")]
    DuplicateTarget(TargetName),
    /// A policy was given for a target that was not.
    #[error("a policy on loss is given for {0:?}, which is none of the targets")]
    PolicyWithoutTarget(String),
    /// There is no tokio runtime to run the agent's task.
    #[error("no tokio runtime is running; build the agent inside one")]
    NoRuntime,
}

/// Why a permit cannot be had, however long one waits; or why waiting ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The agent was not built with this target.
    #[error("target {0:?} is none of the agent's targets; name it when building the agent")]
    UnknownTarget(String),
    /// A newer start of the same replica has registered: this process must not write any more.
    #[error("superseded by a newer start of this replica: {0}")]
    Superseded(String),
    /// No coordinator accepted the registration.
    #[error("registration was rejected: {0}")]
    Rejected(String),
    /// The agent was shut down.
    #[error("the agent was shut down")]
    Closed,
    /// The wait took longer than the time-out that was set.
    #[error("target {target} is still not open after {waited:?}: {fence}")]
    TimedOut {
        /// The target.
        target: TargetName,
        /// How long the wait was.
        waited: Duration,
        /// Why it is not open.
        fence: Fence,
    },
    /// Permits were still out when the time for shutting down was over.
    #[error("target {target} still has {permits} permits out, the oldest ({label:?}) for {age:?}")]
    StillWriting {
        /// The target.
        target: TargetName,
        /// How many permits are out.
        permits: usize,
        /// Label of the one that is out for the longest time; empty: not labelled.
        label: String,
        /// How long it is out.
        age: Duration,
    },
}
