//! What the server or the wire answered, before it becomes one of the port's errors.

use std::fmt;

use sqlx::mysql::MySqlDatabaseError;

use crate::db::DbError;

/// Lock wait timed out: for a row, or for a table's metadata.
const LOCK_WAIT_TIMEOUT: u16 = 1205;
/// Chosen as the victim of a deadlock; the whole transaction is rolled back.
const DEADLOCK: u16 = 1213;
/// A statement was cancelled, or its session is being ended.
pub(super) const QUERY_INTERRUPTED: u16 = 1317;
/// Server shutdown, killed query, killed connection, server gone: the session cannot go on.
const SESSION_GONE: [u16; 6] = [1053, 1317, 1927, 2006, 2013, 4031];
/// `CREATE TRIGGER` with the binary log on and without SUPER.
const BINLOG_NEEDS_SUPER: u16 = 1419;
/// `ALTER TABLE … ADD COLUMN` that somebody was faster with.
const DUPLICATE_COLUMN: u16 = 1060;
/// Access denied, to the database, a command, a column, a privilege, a routine, a definer.
const DENIED: [u16; 8] = [1044, 1045, 1095, 1142, 1143, 1227, 1370, 1698];

/// A failed round trip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server refused.
    Server {
        /// Its error number.
        number: u16,
        /// Its SQLSTATE.
        state: String,
        /// Its words.
        message: String,
    },
    /// The statement was cancelled, and the session goes on.
    Cancelled(String),
    /// The wire broke, or what came over it makes no sense.
    Lost(String),
}

impl Failure {
    /// The server's error number, if it was the server that refused.
    pub(super) fn number(&self) -> Option<u16> {
        match self {
            Self::Server { number, .. } => Some(*number),
            Self::Cancelled(_) => Some(QUERY_INTERRUPTED),
            Self::Lost(_) => None,
        }
    }

    pub(super) fn is(&self, wanted: u16) -> bool {
        self.number() == Some(wanted)
    }

    /// A row or metadata lock was not had in time, or a deadlock was broken here: nothing happened, try again.
    pub(super) fn is_retryable(&self) -> bool {
        self.is(LOCK_WAIT_TIMEOUT) || self.is(DEADLOCK)
    }

    /// The session is gone: whether the statement took effect is unknown.
    pub(super) fn is_lost(&self) -> bool {
        match self {
            Self::Server { number, .. } => SESSION_GONE.contains(number),
            Self::Cancelled(_) => false,
            Self::Lost(_) => true,
        }
    }

    /// The column that was to be added is there already.
    pub(super) fn is_duplicate_column(&self) -> bool {
        self.is(DUPLICATE_COLUMN)
    }

    pub(super) fn is_denied(&self) -> bool {
        self.number().is_some_and(|number| DENIED.contains(&number))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server {
                number,
                state,
                message,
            } => write!(f, "{message} (error {number}, {state})"),
            Self::Cancelled(message) => write!(f, "{message} (error {QUERY_INTERRUPTED})"),
            Self::Lost(reason) => f.write_str(reason),
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        let sqlx::Error::Database(database) = &error else {
            return Self::Lost(error.to_string());
        };
        match database.try_downcast_ref::<MySqlDatabaseError>() {
            Some(refusal) => Self::Server {
                number: refusal.number(),
                state: refusal.code().unwrap_or("HY000").to_owned(),
                message: refusal.message().to_owned(),
            },
            None => Self::Lost(error.to_string()),
        }
    }
}

impl From<Failure> for DbError {
    fn from(failure: Failure) -> Self {
        if failure.is_lost() {
            return Self::ConnectionLost(failure.to_string());
        }
        let denied = failure.is_denied();
        match failure {
            Failure::Lost(reason) => Self::ConnectionLost(reason),
            Failure::Cancelled(message) => Self::Server {
                code: QUERY_INTERRUPTED.to_string(),
                message,
            },
            Failure::Server { state, message, .. } if state == "LK002" => Self::Superseded { by: message },
            Failure::Server {
                number: BINLOG_NEEDS_SUPER,
                message,
                ..
            } => Self::Permission {
                what: message,
                remedy: BINLOG_REMEDY.to_owned(),
            },
            Failure::Server { message, .. } if denied => Self::Permission {
                what: message,
                remedy: "grant it to lockkeeper's role, or run `lockkeeper target check` for the whole list"
                    .to_owned(),
            },
            Failure::Server { state, message, .. } if state.starts_with("LK") => {
                Self::Server { code: state, message }
            }
            Failure::Server {
                number,
                state,
                message,
            } => Self::Server {
                code: format!("{number} ({state})"),
                message,
            },
        }
    }
}

/// What helps against error 1419.
pub(super) const BINLOG_REMEDY: &str = "the binary log is on: run `SET GLOBAL log_bin_trust_function_creators = 1` \
     (and put it into the server's configuration), or `GRANT SUPER ON *.* TO` lockkeeper's role";

#[cfg(test)]
mod tests {
    use super::*;

    fn server(number: u16, state: &str) -> Failure {
        Failure::Server {
            number,
            state: state.to_owned(),
            message: "no".to_owned(),
        }
    }

    #[test]
    fn each_refusal_becomes_the_error_that_callers_act_on() {
        assert!(matches!(
            DbError::from(server(1644, "LK002")),
            DbError::Superseded { .. }
        ));
        assert!(
            matches!(DbError::from(server(1644, "LK001")), DbError::Server { code, .. } if code == "LK001")
        );
        assert!(matches!(
            DbError::from(server(1927, "70100")),
            DbError::ConnectionLost(_)
        ));
        assert!(matches!(
            DbError::from(server(1142, "42000")),
            DbError::Permission { .. }
        ));
        let DbError::Permission { remedy, .. } = DbError::from(server(1419, "HY000")) else {
            panic!("1419 is a missing permission");
        };
        assert!(remedy.contains("log_bin_trust_function_creators"));
        assert!(
            matches!(DbError::from(server(1064, "42000")), DbError::Server { code, .. } if code == "1064 (42000)")
        );
    }
}
