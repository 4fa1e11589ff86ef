//! The agents that are connected to this coordinator.
//!
//! | module | what it holds |
//! |---|---|
//! | [`announce`] | tells the other coordinators who has registered here |
//! | [`hub`] | streams, leases, and what each agent was told last |
//! | [`message`] | what is told to an agent |
//! | [`report`] | drain reports: this coordinator's word to the leader |

pub mod announce;
pub mod hub;
pub mod message;
pub mod report;

pub use hub::{AgentHub, AgentRow, AgentStanding};
pub use message::{Cause, End, Message, Outgoing};

use std::fmt;
use std::time::Duration;

use crate::session::Session;

/// The right to grant write leases. A seam: the hub is tested without a store.
pub trait Granting: Send + Sync + fmt::Debug {
    /// How long a lease may be granted now; `None`: not at all.
    fn grantable(&self, wanted: Duration) -> Option<Duration>;
}

impl Granting for Session {
    fn grantable(&self, wanted: Duration) -> Option<Duration> {
        Self::grantable(self, wanted)
    }
}
