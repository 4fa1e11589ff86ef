//! The SQL dialects that a target can speak.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The SQL dialect of a target. MariaDB speaks the `mysql` dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Dialect {
    /// PostgreSQL.
    #[serde(rename = "postgres", alias = "postgresql", alias = "pg")]
    Postgres,
    /// MySQL and MariaDB.
    #[serde(rename = "mysql", alias = "mariadb")]
    MySql,
    /// SQLite.
    #[serde(rename = "sqlite", alias = "sqlite3")]
    Sqlite,
}

impl Dialect {
    /// The dialect's one name: `postgres`, `mysql` or `sqlite`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::MySql => "mysql",
            Self::Sqlite => "sqlite",
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names no dialect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("use dialect {0:?}: it is not one of postgres, mysql (mariadb), sqlite")]
pub struct DialectError(String);

impl FromStr for Dialect {
    type Err = DialectError;

    fn from_str(name: &str) -> Result<Self, DialectError> {
        match name.to_ascii_lowercase().as_str() {
            "postgres" | "postgresql" | "pg" => Ok(Self::Postgres),
            "mysql" | "mariadb" => Ok(Self::MySql),
            "sqlite" | "sqlite3" => Ok(Self::Sqlite),
            _ => Err(DialectError(name.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_mean_the_same_dialect() {
        for (alias, dialect) in [
            ("postgres", Dialect::Postgres),
            ("PostgreSQL", Dialect::Postgres),
            ("mariadb", Dialect::MySql),
            ("mysql", Dialect::MySql),
            ("sqlite3", Dialect::Sqlite),
        ] {
            assert_eq!(alias.parse::<Dialect>().unwrap(), dialect);
        }
        let error = "oracle".parse::<Dialect>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "use dialect \"oracle\": it is not one of postgres, mysql (mariadb), sqlite"
        );
    }

    #[test]
    fn the_printed_name_is_the_serialised_name() {
        for dialect in [Dialect::Postgres, Dialect::MySql, Dialect::Sqlite] {
            assert_eq!(serde_json::to_string(&dialect).unwrap(), format!("\"{dialect}\""));
            assert_eq!(dialect.to_string().parse::<Dialect>().unwrap(), dialect);
        }
    }
}
