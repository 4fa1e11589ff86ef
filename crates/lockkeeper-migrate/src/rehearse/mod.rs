//! Rehearsals: what is pending is applied to a clone of the target first, taken back, and applied again.
//!
//! | module | what it holds |
//! |---|---|
//! | `order` | what is to be rehearsed, and where |
//! | `run` | the rehearsal: clone, run, drop, whatever happens |
//! | `trial` | one migration there: up, down, up again |
//! | `clone` | a scratch database filled from the target, with the servers' own dump programs |
//! | `filter` | what of a MariaDB dump must not run in the clone |
//! | `reach` | statements that would reach beyond the clone |
//! | `listen` | gathers what is measured |
//! | [`report`] | what was found: the JSON that rollouts and linters read |
//! | `error` | why there is no report |
//!
//! The target is read and never changed. The engine that runs in the clone is the real one, with its own ledger,
//! its journal and its transactions; only its scripts run statement by statement, so that each can be measured.

mod clone;
mod error;
mod filter;
mod listen;
mod order;
mod reach;
pub mod report;
mod run;
mod trial;

pub use error::RehearseError;
pub use order::{Content, Order, Reach};
pub use report::{Rehearsal, ReportError};
pub use run::rehearse;
