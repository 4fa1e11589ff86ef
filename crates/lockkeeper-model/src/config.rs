//! What one run explores: who takes part, which faults happen how often, and how time goes.

use lockkeeper_core::strength::Strength;

use crate::database::Statement;
use crate::words::CoordinatorNo;

/// How time goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// Not at all: leases end whenever the checker likes, so nothing that holds depends on time.
    Free,
    /// In ticks, so many. Each process has a clock of its own; 100 is a clock that runs right.
    Ticks {
        /// How many.
        ticks: u64,
        /// The gate is closed within so many: when it is closed is one more way that states differ.
        closed_by: u64,
        /// Rate of every coordinator's clock, in per cent.
        coordinators: u64,
        /// Rate of every agent's clock, in per cent.
        agents: u64,
    },
}

/// How often each fault, and each thing that costs states, may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Budget {
    /// A coordinator's process dies.
    pub crashes: u8,
    /// A process starts, or starts again, and opens a session.
    pub joins: u8,
    /// A leader's key vanishes.
    pub depositions: u8,
    /// A session's key vanishes before its time.
    pub vanishings: u8,
    /// A commit in the store gets no answer and is applied later, or never.
    pub lost_answers: u8,
    /// A database session is lost while its hand uses it; a commit under way may be one.
    pub lost_sessions: u8,
    /// A coordinator's watch stalls for ever.
    pub stalls: u8,
    /// A message arrives twice.
    pub duplicates: u8,
    /// A message is lost.
    pub losses: u8,
    /// An agent moves to another coordinator.
    pub moves: u8,
    /// Renewals that an agent sends.
    pub renewals: u8,
    /// Permits that agents take.
    pub permits: u8,
    /// Transactions of writers that are no agents.
    pub transactions: u8,
    /// A migration fails.
    pub failures: u8,
    /// An operator aborts.
    pub aborts: u8,
    /// Rollouts after the first.
    pub rollouts: u8,
    /// A person opens the row by hand while no coordinator lives.
    pub releases: u8,
    /// The store goes back to before the leader was elected.
    pub restores: u8,
}

/// A writer that obeys its lease ends its write at the lease's end, or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adapter {
    /// It disconnects at the deadline.
    EndsAtDeadline,
    /// There is none, but its writes take no time.
    WritesAtOnce,
    /// It is paused between the check and the write: what DESIGN calls an assumption of COOPERATIVE.
    Pauses,
}

/// Whether coordinators' sessions are renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewals {
    /// With every tick.
    Kept,
    /// Those of coordinators with agents are not, from the beginning.
    Lost,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// The target's strength.
    pub strength: Strength,
    /// How time goes.
    pub time: Time,
    /// How many coordinators; the first leads at the beginning.
    pub coordinators: usize,
    /// How many of them have a session at the beginning.
    pub joined: usize,
    /// Agent processes, starts of one replica, oldest first: the coordinator that each is connected to and has a lease
    /// from at the beginning, or none: it connects later.
    pub agents: Vec<Option<CoordinatorNo>>,
    /// What agents do at a permit's deadline.
    pub adapter: Adapter,
    /// Whether sessions are renewed.
    pub renewals: Renewals,
    /// How migrations run.
    pub statement: Statement,
    /// Bounds.
    pub budget: Budget,
}

impl Config {
    /// A run at BARRIER in which time does not count.
    #[must_use]
    pub fn barrier(name: &'static str, about: &'static str, budget: Budget) -> Self {
        Self {
            name,
            about,
            strength: Strength::Barrier,
            time: Time::Free,
            coordinators: 2,
            joined: 2,
            agents: Vec::new(),
            adapter: Adapter::Pauses,
            renewals: Renewals::Kept,
            statement: Statement::Transactional,
            budget,
        }
    }

    /// A run at COOPERATIVE, with the clocks at the end of the margin: agents' run a tenth slower.
    #[must_use]
    pub fn cooperative(name: &'static str, about: &'static str, ticks: u64, budget: Budget) -> Self {
        Self {
            strength: Strength::Cooperative,
            time: Time::Ticks {
                ticks,
                closed_by: 1,
                coordinators: 100,
                agents: 91,
            },
            agents: vec![Some(1)],
            adapter: Adapter::EndsAtDeadline,
            ..Self::barrier(name, about, budget)
        }
    }
}
