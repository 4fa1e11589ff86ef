//! The names of the layouts.

use std::fmt;
use std::str::FromStr;

use lockkeeper_core::version::VersionOrder;
use serde::{Deserialize, Serialize};

use super::Reader;
use super::dbmate::DbmateReader;
use super::diesel::DieselReader;
use super::flyway::FlywayReader;
use super::golang_migrate::GolangMigrateReader;
use super::goose::GooseReader;
use super::pop::PopReader;
use super::refinery::RefineryReader;
use super::sqlx::SqlxReader;

/// The naming and ordering rules of a migration directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// pop, as Kratos uses it: `20150100000001000000_networks.postgres.up.sql`.
    Pop,
    /// golang-migrate: `000001_create_users.up.sql`.
    GolangMigrate,
    /// goose: `00001_create_users.sql` with `-- +goose Up` and `-- +goose Down`.
    Goose,
    /// dbmate: `20200101000000_create_users.sql` with `-- migrate:up` and `-- migrate:down`.
    Dbmate,
    /// sqlx: `1_create_users.sql`, or `1_create_users.up.sql` and `1_create_users.down.sql`.
    Sqlx,
    /// refinery: `V1__create_users.sql`, and `U2__late.sql` for what may come late.
    Refinery,
    /// Flyway: `V1.2__create_users.sql`, with `U`, `R` and `B` for undo, repeatable and baseline.
    Flyway,
    /// diesel: `2020-01-01-000000_create_users/up.sql` and `down.sql`.
    Diesel,
}

impl Layout {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Pop,
        Self::GolangMigrate,
        Self::Goose,
        Self::Dbmate,
        Self::Sqlx,
        Self::Refinery,
        Self::Flyway,
        Self::Diesel,
    ];

    /// The layout's name, as `--layout` takes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pop => "pop",
            Self::GolangMigrate => "golang-migrate",
            Self::Goose => "goose",
            Self::Dbmate => "dbmate",
            Self::Sqlx => "sqlx",
            Self::Refinery => "refinery",
            Self::Flyway => "flyway",
            Self::Diesel => "diesel",
        }
    }

    /// How this layout orders its versions.
    #[must_use]
    pub const fn order(self) -> VersionOrder {
        match self {
            Self::Pop | Self::Diesel => VersionOrder::Lexical,
            Self::GolangMigrate | Self::Goose | Self::Sqlx | Self::Refinery => VersionOrder::Numeric,
            Self::Dbmate => VersionOrder::FileName,
            Self::Flyway => VersionOrder::Parts,
        }
    }

    /// The reader for this layout.
    #[must_use]
    pub fn reader(self) -> &'static dyn Reader {
        match self {
            Self::Pop => &PopReader,
            Self::GolangMigrate => &GolangMigrateReader,
            Self::Goose => &GooseReader,
            Self::Dbmate => &DbmateReader,
            Self::Sqlx => &SqlxReader,
            Self::Refinery => &RefineryReader,
            Self::Flyway => &FlywayReader,
            Self::Diesel => &DieselReader,
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

/// A text that names no layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("use layout {name:?}: there is no such layout; known are {}, auto", names())]
pub struct LayoutError {
    name: String,
}

/// The names of all layouts, for people.
pub(super) fn names() -> String {
    Layout::ALL.map(Layout::as_str).join(", ")
}

impl FromStr for Layout {
    type Err = LayoutError;

    fn from_str(name: &str) -> Result<Self, LayoutError> {
        let known = Self::ALL.into_iter().find(|layout| layout.as_str() == name);
        known.ok_or_else(|| LayoutError {
            name: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_interface_has_an_answer() {
        assert_eq!(Layout::parse_choice("auto").unwrap(), None);
        for layout in Layout::ALL {
            assert_eq!(Layout::parse_choice(layout.as_str()).unwrap(), Some(layout));
            assert_eq!(layout.reader().layout(), layout);
            assert_eq!(serde_json::to_string(&layout).unwrap(), format!("\"{layout}\""));
        }
        let error = "rails".parse::<Layout>().unwrap_err().to_string();
        assert_eq!(
            error,
            "use layout \"rails\": there is no such layout; known are pop, golang-migrate, goose, dbmate, sqlx, \
             refinery, flyway, diesel, auto"
        );
    }
}
