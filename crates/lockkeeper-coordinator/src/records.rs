//! What stands in the store: keys, and JSON records.
//!
//! | key (below `/lockkeeper/<fleet>/`) | record | written by |
//! |---|---|---|
//! | `leader` | the election | the election |
//! | `generation` | first half of every leader epoch; missing means 1 | the leader, `lockkeeper store migrate` |
//! | `adoptions/<generation>` | [`AdoptionRecord`]: who raised the generation, and why | the leader |
//! | `moving` | a store that is being filled by `lockkeeper store migrate`: no coordinator starts on it | that command |
//! | `sessions/<coordinator>/<uuid>` | [`SessionRecord`], under the presence lease | each coordinator |
//! | `left/<coordinator>/<uuid>` | a clean leave: no write lease was out | each coordinator |
//! | `drains/<coordinator>/<uuid>/<target>` | [`DrainReport`](lockkeeper_core::drain::DrainReport) | each coordinator |
//! | `targets/<target>` | [`TargetSpec`](lockkeeper_core::spec::TargetSpec) | the leader |
//! | `gates/<target>` | [`Gate`](lockkeeper_core::gate::Gate) | the leader |
//! | `retired/<target>` | the last gate epoch of a removed target: agents that heard it ignore lower ones | the leader |
//! | `active/<target>` | [`RolloutId`]: the rollout that works on it | the leader |
//! | `rollouts/<id>` | [`RolloutRecord`] | the leader |
//! | `progress/<id>/<target>` | [`ProgressRecord`] | the leader |

use std::time::Duration;

use lockkeeper_core::id::{CoordinatorName, Region, RolloutId, SessionId, TargetName};
use lockkeeper_core::rollout::{AbortWay, Ruling, StatementOutcome, Steering, Target};
use lockkeeper_core::spec::RolloutSpec;
use lockkeeper_core::time::WallTime;
use lockkeeper_core::version::SchemaVersion;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::store::Entry;

/// Keys and prefixes, each spelt once.
pub mod key {
    use super::{RolloutId, SessionId, TargetName};

    /// Prefix of coordinators' sessions.
    pub const SESSIONS: &str = "sessions/";
    /// Prefix of clean leaves.
    pub const LEFT: &str = "left/";
    /// Prefix of drain reports.
    pub const DRAINS: &str = "drains/";
    /// Prefix of declared targets.
    pub const TARGETS: &str = "targets/";
    /// Prefix of gates.
    pub const GATES: &str = "gates/";
    /// Prefix of the last gate epochs of targets that were removed.
    pub const RETIRED: &str = "retired/";
    /// Prefix of the marks that a rollout works on a target.
    pub const ACTIVE: &str = "active/";
    /// Prefix of rollouts.
    pub const ROLLOUTS: &str = "rollouts/";
    /// Prefix of rollouts' targets.
    pub const PROGRESS: &str = "progress/";
    /// The leader's election key.
    pub const LEADER: &str = "leader";
    /// First half of every leader epoch.
    pub const GENERATION: &str = "generation";
    /// Prefix of the records of raised generations.
    pub const ADOPTIONS: &str = "adoptions/";
    /// Mark of a store that is not filled completely yet.
    pub const MOVING: &str = "moving";

    /// Who raised the generation to this one.
    #[must_use]
    pub fn adoption(generation: u64) -> String {
        format!("{ADOPTIONS}{generation}")
    }

    /// A coordinator's session.
    #[must_use]
    pub fn session(id: &SessionId) -> String {
        format!("{SESSIONS}{id}")
    }
    /// A coordinator's clean leave.
    #[must_use]
    pub fn left(id: &SessionId) -> String {
        format!("{LEFT}{id}")
    }
    /// A coordinator's report on a target.
    #[must_use]
    pub fn drain(session: &SessionId, target: &TargetName) -> String {
        format!("{DRAINS}{session}/{target}")
    }
    /// A declared target.
    #[must_use]
    pub fn target(name: &TargetName) -> String {
        format!("{TARGETS}{name}")
    }
    /// A target's gate.
    #[must_use]
    pub fn gate(name: &TargetName) -> String {
        format!("{GATES}{name}")
    }
    /// The last gate epoch of a target that was removed.
    #[must_use]
    pub fn retired(name: &TargetName) -> String {
        format!("{RETIRED}{name}")
    }
    /// The rollout that works on a target.
    #[must_use]
    pub fn active(name: &TargetName) -> String {
        format!("{ACTIVE}{name}")
    }
    /// A rollout.
    #[must_use]
    pub fn rollout(id: &RolloutId) -> String {
        format!("{ROLLOUTS}{id}")
    }
    /// A rollout's target.
    #[must_use]
    pub fn progress(id: &RolloutId, target: &TargetName) -> String {
        format!("{PROGRESS}{id}/{target}")
    }
}

/// A coordinator that is present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Its name.
    pub coordinator: CoordinatorName,
    /// Where it runs.
    pub region: Region,
    /// Where other coordinators and clients reach it: `host:port`.
    pub address: String,
    /// Its program's release.
    pub release: String,
}

/// A rollout as created, and what was decided about it since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutRecord {
    /// Its id.
    pub id: RolloutId,
    /// As the operator wrote it.
    pub spec: RolloutSpec,
    /// The targets of each wave, fixed at creation.
    pub waves: Vec<Vec<TargetName>>,
    /// When.
    pub created_at: WallTime,
    /// Who, as the client claims.
    pub created_by: String,
    /// An operator's wish to stop, with the reason.
    pub abort: Option<Abort>,
    /// What else stands about it as a whole.
    #[serde(default)]
    pub steering: Steering,
    /// Every ruling, oldest first.
    #[serde(default)]
    pub history: Vec<HistoryRecord>,
    /// When its last target reached a final state.
    pub ended_at: Option<WallTime>,
    /// W3C trace context of the request that created it: the rollout's work continues that trace.
    pub traceparent: Option<String>,
}

/// A raised generation: a person's word that this store is the right one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptionRecord {
    /// The generation before.
    pub previous: u64,
    /// Who decided, when and why.
    pub decision: Decision,
    /// Names of the targets that were ahead of the store then.
    pub ahead: Vec<TargetName>,
}

/// What a person decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Why.
    pub reason: String,
    /// Who, as the client claims.
    pub by: String,
    /// When.
    pub at: WallTime,
}

/// A wish to stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abort {
    /// Who, when and why.
    #[serde(flatten)]
    pub decision: Decision,
    /// What becomes of targets behind their fence.
    #[serde(default)]
    pub way: AbortWay,
}

/// One ruling about a rollout, for the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRecord {
    /// What.
    pub ruling: Ruling,
    /// Who, when and why.
    #[serde(flatten)]
    pub decision: Decision,
    /// From which address the request came.
    pub from: String,
    /// What followed, in words.
    pub note: String,
    /// The request's id; empty: it had none.
    pub request_id: String,
    /// The leader that recorded it: its epoch.
    pub leader_epoch: String,
}

/// A target of a rollout: the state machine's state, and what people want to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressRecord {
    /// Index of its wave.
    pub wave: usize,
    /// The state machine's state.
    pub target: Target,
    /// When the state was entered.
    pub since: WallTime,
    /// When the gate was closed.
    pub closed_at: Option<WallTime>,
    /// When a person last let a held target go on: the budget counts from there.
    #[serde(default)]
    pub retried_at: Option<WallTime>,
    /// A person's order to open the held target's gate though nothing has verified it.
    #[serde(default)]
    pub force_open: Option<Decision>,
    /// A person's answer about the statement in doubt that the held target waits for.
    #[serde(default)]
    pub resolve: Option<ResolveOrder>,
    /// Time from closing the gate to drained.
    pub fence_time: Option<Duration>,
    /// Time that the migrations took.
    pub migrate_time: Option<Duration>,
    /// Time that verification took.
    pub verify_time: Option<Duration>,
    /// Time from closing the gate to open.
    pub total_time: Option<Duration>,
    /// Row invariants around the fence.
    pub invariants: Vec<InvariantRecord>,
    /// Sessions that were ended for the barrier, in words.
    pub ended_sessions: Vec<String>,
    /// The server's notices and warnings during the migrations.
    pub warnings: Vec<String>,
    /// How many there were (the list above is cut).
    pub warnings_count: usize,
    /// Version of the migration that runs or ran last.
    pub current: Option<String>,
    /// What the fence was proven with, for people.
    pub drained_by: Vec<String>,
}

/// What a person says about a statement in doubt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolveOrder {
    /// The version whose statement is in doubt.
    pub version: SchemaVersion,
    /// What became of it.
    pub outcome: StatementOutcome,
    /// Who says so, when and why.
    pub decision: Decision,
}

/// A row invariant's answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvariantRecord {
    /// Its name.
    pub name: String,
    /// Just after drained.
    pub before: Option<String>,
    /// Just before opening.
    pub after: Option<String>,
}

impl ProgressRecord {
    /// A target that waits for its wave.
    #[must_use]
    pub fn new(wave: usize, target: Target, now: WallTime) -> Self {
        Self {
            wave,
            target,
            since: now,
            closed_at: None,
            retried_at: None,
            force_open: None,
            resolve: None,
            fence_time: None,
            migrate_time: None,
            verify_time: None,
            total_time: None,
            invariants: Vec::new(),
            ended_sessions: Vec::new(),
            warnings: Vec::new(),
            warnings_count: 0,
            current: None,
            drained_by: Vec::new(),
        }
    }

    /// Since when the fence budget runs: a person who lets a held target go on gives it another one.
    #[must_use]
    pub fn budget_since(&self) -> Option<WallTime> {
        self.retried_at.max(self.closed_at)
    }
}

/// A record that does not parse: written by a newer release, or by hand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("store key {key} holds no valid record: {problem}")]
pub struct RecordError {
    /// Which key.
    pub key: String,
    /// Why.
    pub problem: String,
}

/// Reads an entry.
///
/// # Errors
/// The key and what is wrong with its value.
pub fn decode<T: DeserializeOwned>(entry: &Entry) -> Result<T, RecordError> {
    serde_json::from_slice(&entry.value).map_err(|e| RecordError {
        key: entry.key.clone(),
        problem: e.to_string(),
    })
}

/// Writes a record.
#[must_use]
pub fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    serde_json::to_vec(record).unwrap_or_else(|e| unreachable!("records are plain data: {e}"))
}

/// A record with the revision that a guarded change of it compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<T> {
    /// The record.
    pub record: T,
    /// Revision that made it.
    pub create_revision: u64,
    /// Revision that changed it last.
    pub mod_revision: u64,
}
