//! What a coordinator tells an agent.

use std::time::Duration;

use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_core::gate::Admission;
use lockkeeper_core::id::{RolloutId, TargetName};
use lockkeeper_core::version::{Fit, SchemaVersion};

/// Why an agent is fenced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// A rollout has closed the gate.
    Closed(RolloutId),
    /// The schema is older than the agent's range.
    SchemaTooOld(Option<SchemaVersion>),
    /// The schema is newer than the agent's range.
    SchemaTooNew(Option<SchemaVersion>),
    /// The version is not known, or cannot be compared.
    UnknownVersion,
    /// The target is declared, and no leader has reached it yet.
    NotAdopted,
    /// No target of this name is declared.
    UnknownTarget,
    /// This coordinator has lost touch with its store.
    Isolated,
}

impl Cause {
    /// The cause behind an admission that is none; `None` when the agent is admitted.
    #[must_use]
    pub fn of(admission: &Admission, version: Option<&SchemaVersion>) -> Option<Self> {
        match admission {
            Admission::Admitted | Admission::DoesNotFit(Fit::Fits) => None,
            Admission::Closed { rollout } => Some(Self::Closed(rollout.clone())),
            Admission::DoesNotFit(Fit::SchemaTooOld) => Some(Self::SchemaTooOld(version.cloned())),
            Admission::DoesNotFit(Fit::SchemaTooNew) => Some(Self::SchemaTooNew(version.cloned())),
            Admission::DoesNotFit(Fit::Unknown) => Some(Self::UnknownVersion),
        }
    }

    /// The cause in words, for the agent's log.
    #[must_use]
    pub fn reason(&self, target: &TargetName) -> String {
        let at = |version: &Option<SchemaVersion>| {
            version
                .as_ref()
                .map_or_else(|| "at no version".to_owned(), |v| format!("at version {v}"))
        };
        match self {
            Self::Closed(rollout) => format!("{target} is closed by rollout {rollout}"),
            Self::SchemaTooOld(version) => {
                format!(
                    "{target} is {}, which is older than this release needs: it waits for an upgrade",
                    at(version)
                )
            }
            Self::SchemaTooNew(version) => {
                format!(
                    "{target} is {}, which is newer than this release knows: start a newer release",
                    at(version)
                )
            }
            Self::UnknownVersion => {
                format!("{target} has no version that can be compared with the declared range")
            }
            Self::NotAdopted => format!("{target} is declared, and no leader has reached its database yet"),
            Self::UnknownTarget => format!("{target} is not declared: `lockkeeper target apply` declares it"),
            Self::Isolated => "this coordinator has lost touch with its store and grants nothing".to_owned(),
        }
    }

    /// The rollout, when one is the cause.
    #[must_use]
    pub fn rollout(&self) -> Option<&RolloutId> {
        match self {
            Self::Closed(rollout) => Some(rollout),
            Self::SchemaTooOld(_)
            | Self::SchemaTooNew(_)
            | Self::UnknownVersion
            | Self::NotAdopted
            | Self::UnknownTarget
            | Self::Isolated => None,
        }
    }
}

/// A message to one agent about one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// It may write.
    Granted {
        /// Under this epoch.
        epoch: GateEpoch,
        /// At this version.
        version: Option<SchemaVersion>,
        /// For this long, counted from when it sent the renewal.
        lease: Duration,
        /// The renewal that this answers.
        sequence: u64,
    },
    /// It may not.
    Fenced {
        /// Permits up to this epoch are to be ended.
        epoch: GateEpoch,
        /// Why.
        cause: Cause,
        /// Trace context of the rollout that closed the gate.
        traceparent: Option<String>,
    },
    /// The gate is open at a version that fits.
    Opened {
        /// The epoch.
        epoch: GateEpoch,
        /// The version.
        version: Option<SchemaVersion>,
    },
}

/// Why a stream is ended by the coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// A waiter has reached its goal.
    Reached,
    /// A newer incarnation of the same replica has registered.
    Superseded,
    /// This coordinator is leaving, or may not grant any more.
    Leaving,
}

/// What goes down a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    /// A message about a target.
    Tell(TargetName, Message),
    /// The stream's end.
    End(End),
}
