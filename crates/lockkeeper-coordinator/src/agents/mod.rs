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

use lockkeeper_core::time::Instant;

use crate::session::Session;

/// The right to grant write leases. A seam: the hub is tested without a store.
pub trait Granting: Send + Sync + fmt::Debug {
    /// Whether a lease may be granted now.
    fn allowed(&self) -> bool;
    /// No lease may outlive this.
    fn deadline(&self) -> Instant;
}

impl Granting for Session {
    fn allowed(&self) -> bool {
        self.granting_allowed()
    }

    fn deadline(&self) -> Instant {
        Self::deadline(self)
    }
}
