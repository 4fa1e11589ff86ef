//! The names of the layouts.

use std::fmt;
use std::str::FromStr;

use lockkeeper_core::version::VersionOrder;
use serde::{Deserialize, Serialize};

use super::Reader;
use super::golang_migrate::GolangMigrateReader;
use super::pop::PopReader;

/// Layouts that lockkeeper knows by name and cannot read yet.
pub(super) const NOT_SUPPORTED_YET: [&str; 6] = ["goose", "dbmate", "sqlx", "refinery", "flyway", "diesel"];

/// The naming and ordering rules of a migration directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// pop, as Kratos uses it: `20150100000001000000_networks.postgres.up.sql`.
    Pop,
    /// golang-migrate: `000001_create_users.up.sql`.
    GolangMigrate,
}

impl Layout {
    /// The layout's name, as `--layout` takes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pop => "pop",
            Self::GolangMigrate => "golang-migrate",
        }
    }

    /// How this layout orders its versions.
    #[must_use]
    pub const fn order(self) -> VersionOrder {
        match self {
            Self::Pop => VersionOrder::Lexical,
            Self::GolangMigrate => VersionOrder::Numeric,
        }
    }

    /// The reader for this layout.
    #[must_use]
    pub fn reader(self) -> &'static dyn Reader {
        match self {
            Self::Pop => &PopReader,
            Self::GolangMigrate => &GolangMigrateReader,
        }
    }

    /// Reads the value of `--layout`: `None` for `auto`.
    ///
    /// # Errors
    ///
    /// See [`LayoutError`].
    pub fn parse_choice(name: &str) -> Result<Option<Self>, LayoutError> {
        if name == "auto" {
            Ok(None)
        } else {
            name.parse().map(Some)
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names no layout lockkeeper can read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The layout is known, but has no reader.
    #[error("use layout {name}: layout {name} is not supported yet; supported are pop and golang-migrate")]
    NotSupportedYet {
        /// The layout's name.
        name: String,
    },
    /// No such layout.
    #[error(
        "use layout {name:?}: there is no such layout; known are pop, golang-migrate, goose, dbmate, sqlx, refinery, \
         flyway, diesel and auto"
    )]
    Unknown {
        /// The name that was given.
        name: String,
    },
}

impl FromStr for Layout {
    type Err = LayoutError;

    fn from_str(name: &str) -> Result<Self, LayoutError> {
        match name {
            "pop" => Ok(Self::Pop),
            "golang-migrate" => Ok(Self::GolangMigrate),
            name if NOT_SUPPORTED_YET.contains(&name) => Err(LayoutError::NotSupportedYet {
                name: name.to_owned(),
            }),
            name => Err(LayoutError::Unknown {
                name: name.to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_interface_has_an_answer() {
        assert_eq!(Layout::parse_choice("auto").unwrap(), None);
        for layout in [Layout::Pop, Layout::GolangMigrate] {
            assert_eq!(Layout::parse_choice(layout.as_str()).unwrap(), Some(layout));
            assert_eq!(layout.reader().layout(), layout);
            assert_eq!(serde_json::to_string(&layout).unwrap(), format!("\"{layout}\""));
        }
        for name in NOT_SUPPORTED_YET {
            let error = name.parse::<Layout>().unwrap_err().to_string();
            assert!(
                error.contains(&format!("layout {name} is not supported yet")),
                "{error}"
            );
        }
        let error = "rails".parse::<Layout>().unwrap_err().to_string();
        assert!(
            error.starts_with("use layout \"rails\": there is no such layout"),
            "{error}"
        );
    }
}
