//! The names of the one small fleet that is modelled.

use std::sync::LazyLock;
use std::time::Duration;

use lockkeeper_core::drain::Holder;
use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_core::gate::Verification;
use lockkeeper_core::id::{AgentId, CoordinatorName, Incarnation, RolloutId, SessionId, TargetName};
use lockkeeper_core::lease::LeaseSettings;
use lockkeeper_core::time::WallTime;
use lockkeeper_core::version::SchemaVersion;
use uuid::Uuid;

/// One tick of the real time, on a clock that runs right.
pub const TICK_MS: u64 = 100;

/// The write lease: two ticks.
pub const WRITE: Duration = Duration::from_millis(2 * TICK_MS);

/// The presence lease: four ticks.
pub const PRESENCE: Duration = Duration::from_millis(4 * TICK_MS);

/// The fleet's leases.
pub const LEASES: LeaseSettings = LeaseSettings {
    write: WRITE,
    presence: PRESENCE,
    leadership: PRESENCE,
};

/// The gate epoch that everything begins with.
pub const FIRST: GateEpoch = GateEpoch(1);

/// Index of a coordinator.
pub type CoordinatorNo = usize;

/// Index of an agent process.
pub type AgentNo = usize;

/// A coordinator's session: which one, and the how manieth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionNo {
    /// Whose.
    pub coordinator: CoordinatorNo,
    /// Counts its sessions.
    pub start: u8,
}

impl SessionNo {
    /// As core names it.
    #[must_use]
    pub fn id(self) -> SessionId {
        SessionId {
            coordinator: COORDINATORS[self.coordinator].clone(),
            start: Uuid::from_u128(u128::from(self.start)),
        }
    }
}

/// A stream of an agent process to a coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stream {
    /// Whose.
    pub agent: AgentNo,
    /// To whom.
    pub coordinator: CoordinatorNo,
    /// The how manieth of this process.
    pub number: u8,
}

impl Stream {
    /// As core names it: all agent processes are starts of one replica.
    #[must_use]
    pub fn holder(self) -> Holder {
        Holder {
            agent: REPLICA.clone(),
            incarnation: Incarnation(Uuid::from_u128(self.agent as u128)),
            stream: u64::from(self.number),
        }
    }
}

static COORDINATORS: LazyLock<Vec<CoordinatorName>> = LazyLock::new(|| {
    ["c1", "c2", "c3"]
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect()
});

static REPLICA: LazyLock<AgentId> = LazyLock::new(|| name("a"));

/// The target.
pub static TARGET: LazyLock<TargetName> = LazyLock::new(|| name("t"));

/// The rollout.
pub static ROLLOUT: LazyLock<RolloutId> = LazyLock::new(|| name("r"));

/// The version before a rollout.
pub static OLD: LazyLock<SchemaVersion> = LazyLock::new(|| SchemaVersion("1".to_owned()));

/// The version that it is to reach.
pub static NEW: LazyLock<SchemaVersion> = LazyLock::new(|| SchemaVersion("2".to_owned()));

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    match text.parse() {
        Ok(name) => name,
        Err(error) => unreachable!("{text} is a good name: {error:?}"),
    }
}

/// What an opening at `version` follows.
#[must_use]
pub fn verified(version: Option<SchemaVersion>) -> Verification {
    Verification {
        version,
        checked: String::new(),
        at: WallTime(0),
    }
}
