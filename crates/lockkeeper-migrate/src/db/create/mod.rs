//! The initial set-up of a database: itself, the service's user, and what that user may do.
//!
//! | module | what it holds | I/O |
//! |---|---|---|
//! | `setup` | what is wanted: database, user, password | none |
//! | `steps` | the statements per dialect, each with the question whether it is needed | none |
//! | `run` | asks and makes, through an administrator's session | talks to the server |
//!
//! All of it can be run again: what is there stays as it is, its password too.

mod run;
mod setup;
mod steps;

pub use run::{Done, Effect, Outcome, create};
pub use setup::{NewUser, Password, Setup, SetupError};
pub use steps::script;
