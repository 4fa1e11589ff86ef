//! Recognises the database's own refusal in sqlx's errors (feature `sqlx`).

use ::sqlx::Error;
use ::sqlx::error::DatabaseError;
use ::sqlx::sqlite::SqliteError;

use crate::refusal::{Refusal, Refused};

/// SQLSTATE of a write that the barrier refused.
pub const FENCED: &str = "LK001";

/// SQLSTATE of a statement whose epoch is over.
pub const SUPERSEDED: &str = "LK002";

/// SQLite's primary result code "busy", which a fence's open write transaction gives every other writer. A busy
/// timeout that passed without any fence looks the same, and is retried the same.
const SQLITE_BUSY: i32 = 5;

/// SQLite keeps the primary result code in the low byte of an extended one.
const SQLITE_PRIMARY_MASK: i32 = 0xff;

/// Whether `error` is the database's own refusal, and which.
#[must_use]
pub fn refusal(error: &Error) -> Option<Refusal> {
    let database = error.as_database_error()?;
    let code = database.code()?;
    match code.as_ref() {
        FENCED => Some(Refusal::Fenced),
        SUPERSEDED => Some(Refusal::Superseded),
        code if is_sqlite_busy(database, code) => Some(Refusal::Fenced),
        _ => None,
    }
}

/// A bare number means busy only on SQLite.
fn is_sqlite_busy(database: &dyn DatabaseError, code: &str) -> bool {
    database.try_downcast_ref::<SqliteError>().is_some()
        && code
            .parse::<i32>()
            .is_ok_and(|code| code & SQLITE_PRIMARY_MASK == SQLITE_BUSY)
}

impl Refused for Error {
    fn refusal(&self) -> Option<Refusal> {
        refusal(self)
    }
}
