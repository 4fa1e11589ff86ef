//! A backup brought back.
//!
//! | module | what it holds |
//! |---|---|
//! | `order` | what is asked for and what is answered |
//! | `restoring` | what all dialects share: looking first, taking the target, the record |
//! | `postgres` | one transaction of one psql |
//! | `mysql` | statement by statement, behind a closed gate |
//! | `sqlite` | one online copy of a file that was put right before |
//!
//! On PostgreSQL and SQLite the target is as it was, or restored: never between. MariaDB and MySQL commit with every
//! statement: there the gate is closed first and opened last, so that a restore that is cut off leaves a target that
//! nobody migrates by mistake.

mod mysql;
mod order;
mod postgres;
mod restoring;
mod sqlite;

pub use order::{RestoreOrder, RestoreReport, restore};
pub(crate) use restoring::REASON;
