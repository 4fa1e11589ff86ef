//! The tools whose state tables can be kept: those whose directories can be read.

use super::Origin;
pub use crate::source::Layout as Tool;

impl Tool {
    /// The tool's state table.
    #[must_use]
    pub fn origin(self) -> &'static dyn Origin {
        match self {
            Self::Pop => &super::pop::Pop,
            Self::GolangMigrate => &super::golang_migrate::GolangMigrate,
            Self::Goose => &super::goose::Goose,
            Self::Dbmate => &super::dbmate::Dbmate,
            Self::Sqlx => &super::sqlx::Sqlx,
            Self::Refinery => &super::refinery::Refinery,
            Self::Flyway => &super::flyway::Flyway,
            Self::Diesel => &super::diesel::Diesel,
        }
    }

    /// The names of all their tables, each once, in order.
    #[must_use]
    pub fn tables() -> Vec<&'static str> {
        let mut names = Self::ALL.map(|tool| tool.origin().table()).to_vec();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Whether this table, without its schema, is the state table of some tool: what it holds is no data.
    #[must_use]
    pub fn owns(table: &str) -> bool {
        Self::tables().contains(&table)
    }
}
