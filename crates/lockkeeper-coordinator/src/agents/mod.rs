//! The agents that are connected to this coordinator.
//!
//! | module | what it holds |
//! |---|---|
//! | [`hub`] | streams, leases, and what each agent was told last |
//! | [`message`] | what is told to an agent |
//! | [`report`] | drain reports: this coordinator's word to the leader |

pub mod hub;
pub mod message;
pub mod report;

pub use hub::{AgentHub, AgentRow, AgentStanding};
pub use message::{Cause, End, Message, Outgoing};
