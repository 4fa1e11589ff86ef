//! The database's own refusal, recognised in sqlx's errors.

use ::sqlx::Error;
use ::sqlx::error::DatabaseError;
use ::sqlx::sqlite::SqliteError;

use super::transaction::BeginError;
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
        _ if is_epoch_table(database) => Some(Refusal::Fenced),
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

/// What names of epoch tables begin with, before the number.
const EPOCH_TABLE: &str = "lockkeeper_g";

/// "No such table", of an epoch that is over. Its name is in the text in every language.
fn is_epoch_table(error: &dyn DatabaseError) -> bool {
    let text = error.message();
    let numbered = |(at, _): (usize, &str)| {
        let rest = &text[at + EPOCH_TABLE.len()..];
        rest.starts_with(|c: char| c.is_ascii_digit())
    };
    is_undefined_table(error) && text.match_indices(EPOCH_TABLE).any(numbered)
}

/// Whether the error says that a table whose name begins with `name` does not exist.
pub(super) fn is_no_such_table(error: &Error, name: &str) -> bool {
    let Some(database) = error.as_database_error() else {
        return false;
    };
    let sqlite = database.try_downcast_ref::<SqliteError>().is_some()
        && database.message().starts_with("no such table");
    (sqlite || is_undefined_table(database)) && database.message().contains(name)
}

/// PostgreSQL's and MySQL's codes.
fn is_undefined_table(error: &dyn DatabaseError) -> bool {
    matches!(error.code().as_deref(), Some("42P01" | "42S02"))
}

/// An identifier for MySQL and MariaDB.
pub(super) fn quote_mysql(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

impl Refused for BeginError {
    fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Fenced => Some(Refusal::Fenced),
            Self::Database(error) => refusal(error),
        }
    }
}

impl Refused for Error {
    fn refusal(&self) -> Option<Refusal> {
        refusal(self)
    }
}
