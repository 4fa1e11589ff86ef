//! Other migrators' commands: what is run, and how what they print is read.
//!
//! | module | what it holds |
//! |---|---|
//! | [`rule`] | a status command's output, read by the declared rule; pure |
//! | [`run`] | one run of a command, in a process group of its own |

mod rule;
mod run;

pub use rule::{Left, Rule, RuleError, Status, StatusError};
pub use run::{Call, Ended, RunError};
