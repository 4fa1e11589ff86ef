//! What is wanted.

use std::fmt;

use crate::dialect::Dialect;
use crate::dsn::Dsn;

/// A password. `Debug` leaves it out, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Takes the text as it is.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the statement that sets it only.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// The user that the service logs in as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUser {
    /// Its name.
    pub name: String,
    /// From where it may log in, MariaDB and MySQL only: `%` is from everywhere.
    pub host: String,
    /// Its password; `None` where only a script is wanted.
    pub password: Option<Password>,
}

/// The database and the user that are to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// The database's name; a path for SQLite.
    pub database: String,
    /// The service's user; `None` makes the database alone.
    pub user: Option<NewUser>,
}

/// A set-up that a dialect cannot have. Reads after "failed to".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// A user for a file.
    #[error("make user {name:?}: SQLite knows no users, the file's permissions are what it has")]
    UserOnSqlite {
        /// The user's name.
        name: String,
    },
}

impl Setup {
    /// The set-up of the database that `dsn` names.
    ///
    /// # Errors
    ///
    /// See [`SetupError`].
    pub fn of(dsn: &Dsn, user: Option<NewUser>) -> Result<Self, SetupError> {
        if let (Dialect::Sqlite, Some(user)) = (dsn.dialect(), &user) {
            return Err(SetupError::UserOnSqlite {
                name: user.name.clone(),
            });
        }
        let path = || dsn.path().map(|path| path.display().to_string());
        let database = dsn.database().map(ToOwned::to_owned).or_else(path);
        Ok(Self {
            database: database.unwrap_or_default(),
            user,
        })
    }
}
