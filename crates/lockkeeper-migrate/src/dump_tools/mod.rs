//! The servers' own dump programs, and SQLite's online copy: found, checked, run and ended in one way.
//!
//! | module | what it holds |
//! |---|---|
//! | `release` | release numbers of programs and servers |
//! | `find` | where a program is, and which of several fits a server |
//! | `login` | how a program logs in, with no secret among its arguments |
//! | `run` | one run: input, output, what it says, its limit, its end |
//! | `copy` | SQLite's online copy, in either direction |
//! | `error` | what can go wrong |
//!
//! A program runs in a process group of its own. Dropping a [`Running`] kills the whole group, so that whoever
//! stops waiting, for whatever reason, leaves nothing behind that still reads or writes the database.

mod copy;
mod error;
mod find;
mod login;
mod release;
mod run;

pub use copy::{CopyStep, copy_database};
pub use error::ToolError;
pub use find::{Program, Tool, find};
pub use login::Login;
pub use release::Release;
pub use run::{Call, Input, Output, Running};
