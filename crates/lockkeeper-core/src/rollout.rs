//! One target's way through a rollout, as a pure state machine, and the order of targets in waves.
//!
//! ```text
//! PENDING → PREFLIGHT → FENCING → MIGRATING → VERIFYING → OPENING → DONE
//!              │            │         │           │
//!              │            │         └───────────┴→ ROLLING_BACK → VERIFYING(old) → OPENING → ROLLED_BACK
//!              │            └→ VERIFYING(old) → OPENING → ABORTED            │
//!              └→ ABORTED                     anything that needs a person → HELD
//!
//! With a bake: OPENING → BAKING → DONE, or → ROLLING_BACK behind another fence.
//! ```
//!
//! The state is persisted *before* its command is carried out, and every command can be carried out again: a new
//! leader reads the state and issues [`Target::command`].

mod act;
mod schedule;
mod steering;
mod step;

use serde::{Deserialize, Serialize};

use crate::epoch::GateEpoch;
use crate::version::SchemaVersion;

pub use act::{Act, Ground, StoreGate, next_act};
pub use schedule::{
    Overall, Plan, TargetInWave, Turn, Wait, WaveTerms, Window, overall, stop_the_rest, to_start, turn,
};
pub use steering::{Decided, Member, Picture, Refusal, Ruling, StatementOutcome, Steering, decide};
pub use step::{Rejected, step};

/// What a failure leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// Revert, open at the old version, and start no other wave.
    #[default]
    Rollback,
    /// Leave everything as it is for a person.
    Hold,
    /// Revert this target; the others go on.
    Continue,
}

/// What becomes of a target that an abort finds behind its fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum AbortWay {
    /// Revert what the rollout has applied, and open at the old version.
    #[default]
    RollBack,
    /// Open at the old version if the target still is at it; where something took effect, hold. Reverts nothing.
    Reopen,
    /// Stop, and leave the fence up for a person.
    Hold,
}

/// Which version is to be verified and opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// The rollout's version.
    New,
    /// The old version; no statement of a migration ran.
    Unchanged,
    /// The old version, after reverting.
    Restored,
}

/// How far a held target had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeldAt {
    /// The gate was not touched yet.
    BeforeFence,
    /// The gate is closed.
    Fenced,
    /// The gate was found open, though this rollout had not opened it: a person released it.
    ReleasedByHand,
    /// The gate is open at the new version, and a condition did not hold there.
    Opened,
}

/// Where a target stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Waits for its wave.
    Pending,
    /// Being looked at.
    Preflight,
    /// The gate is closing.
    Fencing,
    /// Migrations run.
    Migrating,
    /// A version is being verified.
    Verifying(Goal),
    /// A verified version is being opened.
    Opening(Goal),
    /// Migrations are being reverted.
    RollingBack,
    /// A person must decide.
    Held(HeldAt),
    /// Open at the new version, and being looked at.
    Baking,
    /// Open at the new version.
    Done,
    /// Open at the old version; nothing ran.
    Aborted,
    /// Open at the old version, reverted.
    RolledBack,
    /// Left out by an operator, its gate open.
    Skipped,
}

impl State {
    /// Whether nothing more will happen by itself or by a decision.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Done | Self::Aborted | Self::RolledBack | Self::Skipped
        )
    }

    /// Whether a leader stops here: final, or waiting for a wave, for time to pass, or for a person.
    #[must_use]
    pub fn is_resting(self) -> bool {
        self.is_final() || matches!(self, Self::Pending | Self::Baking | Self::Held(_))
    }

    /// Whether this rollout may have closed the gate and not opened it yet.
    #[must_use]
    pub fn is_fenced(self) -> bool {
        match self {
            Self::Fencing
            | Self::Migrating
            | Self::Verifying(_)
            | Self::Opening(_)
            | Self::RollingBack
            | Self::Held(HeldAt::Fenced) => true,
            Self::Pending
            | Self::Preflight
            | Self::Held(HeldAt::BeforeFence | HeldAt::ReleasedByHand | HeldAt::Opened)
            | Self::Baking
            | Self::Done
            | Self::Aborted
            | Self::RolledBack
            | Self::Skipped => false,
        }
    }
}

/// A target of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// Where it stands.
    pub state: State,
    /// Why it stands there; empty when all goes well.
    pub reason: String,
    /// Version before the rollout, once preflight has looked.
    pub from: Option<SchemaVersion>,
    /// Version to reach, once preflight has looked.
    pub to: Option<SchemaVersion>,
    /// The fence's gate epoch, once chosen.
    pub gate_epoch: Option<GateEpoch>,
    /// What a failure leads to.
    pub on_failure: OnFailure,
    /// Whether it is looked at for a while before it is done.
    #[serde(default)]
    pub bake: Bake,
}

/// Whether a target is looked at for a while before it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Bake {
    /// It is done as soon as it is open.
    #[default]
    No,
    /// As long as its wave says.
    AsTheWave,
}

impl Target {
    /// A target that waits for its wave.
    #[must_use]
    pub fn new(on_failure: OnFailure) -> Self {
        Self {
            state: State::Pending,
            reason: String::new(),
            from: None,
            to: None,
            gate_epoch: None,
            on_failure,
            bake: Bake::No,
        }
    }

    /// Whether this rollout may have closed the gate and not opened it yet. A fence gets its gate epoch in the very
    /// commit that closes the gate: without one, nothing was touched.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        let closes_first = matches!(self.state, State::Fencing | State::RollingBack);
        self.state.is_fenced() && (!closes_first || self.gate_epoch.is_some())
    }

    /// What the leader is to do in this state; `None` where it rests.
    #[must_use]
    pub fn command(&self) -> Option<Command> {
        match self.state {
            State::Preflight => Some(Command::Preflight),
            State::Fencing => Some(Command::Fence),
            State::Migrating => Some(Command::Migrate),
            State::Verifying(goal) => Some(Command::Verify(goal)),
            State::Opening(goal) => Some(Command::Open(goal)),
            State::RollingBack => Some(Command::RollBack),
            State::Pending
            | State::Held(_)
            | State::Baking
            | State::Done
            | State::Aborted
            | State::RolledBack
            | State::Skipped => None,
        }
    }
}

/// What the driver is told to do. Each can be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// Look at the target and make its plan.
    Preflight,
    /// Close the gate, wait until drained, raise the barrier.
    Fence,
    /// Apply what is pending.
    Migrate,
    /// Verify.
    Verify(Goal),
    /// Open: the gate row, then the store's gate.
    Open(Goal),
    /// Revert what this rollout has applied.
    RollBack,
}

/// What a failed migration has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Damage {
    /// Every migration is either applied whole or not at all: it can be reverted.
    Clean,
    /// A migration took effect in part, or a statement is in doubt.
    Unclear,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// The target's turn has come.
    Start,
    /// Preflight found nothing in the way.
    PreflightPassed {
        /// Version now.
        from: Option<SchemaVersion>,
        /// Version to reach.
        to: Option<SchemaVersion>,
        /// How many migrations are pending.
        pending: usize,
    },
    /// Preflight found something in the way.
    PreflightRefused(String),
    /// The fence stands: drained, barrier raised.
    Fenced,
    /// The fence could not be raised in time; no statement ran.
    FenceFailed(String),
    /// Every pending migration is applied.
    Migrated,
    /// A migration failed, or was stopped.
    MigrationFailed {
        /// What it left.
        damage: Damage,
        /// The error.
        reason: String,
    },
    /// The verification passed.
    Verified,
    /// The verification failed.
    VerificationFailed(String),
    /// The gate is open, in the target and in the store.
    Opened,
    /// The session that held the fence was lost (a new leader, or a lost connection) and the fence was raised
    /// again: what was verified before may not be true any more.
    FenceRenewed,
    /// The gate row was found open though this rollout has not opened it.
    GateFoundOpen(String),
    /// Everything that this rollout applied is reverted.
    Reverted,
    /// Reverting failed.
    RevertFailed(String),
    /// Only a person can go on: the target is ahead of the store, its identity changed, …
    NeedsPerson(String),
    /// It was looked at for long enough, and all conditions held.
    Baked,
    /// A condition did not hold while it was looked at.
    BakeFailed(String),
    /// An operator wants the rollout to stop.
    AbortRequested {
        /// What becomes of what is behind its fence.
        way: AbortWay,
        /// Why, and who.
        reason: String,
    },
    /// An operator wants the rollout to rest at the next safe point.
    PauseRequested,
    /// An operator wants the rollout to leave the target out.
    SkipRequested(String),
    /// An operator wants a held target to go on.
    RetryRequested,
}
