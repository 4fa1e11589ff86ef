//! The state tables of the tools that migrations come from.
//!
//! | module | what it holds |
//! |---|---|
//! | [`tool`] | the tools |
//! | [`table`] | a table as data: columns, rows, changes |
//! | [`sql`] | changes and questions as statements, per dialect |
//! | [`sums`] | the tools' checksums |
//! | `pop`, `golang_migrate`, `goose`, `dbmate`, `sqlx`, `refinery`, `flyway`, `diesel` | one table each, behind [`Origin`] |

mod dbmate;
mod diesel;
mod flyway;
mod golang_migrate;
mod goose;
mod pop;
mod refinery;
pub mod sql;
mod sqlx;
pub mod sums;
pub mod table;
#[cfg(test)]
mod tests;
pub mod tool;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lockkeeper_core::version::{SchemaVersion, VersionOrder};

pub use sums::ToolSum;
pub use table::{Change, Column, Kind, Row, ShapeError, Value};
pub use tool::Tool;

use super::{How, LedgerEntry};
use crate::dialect::Dialect;
use crate::source::{Direction, Migration};

/// The state table of one tool. An implementation knows rows, and neither databases nor SQL beyond the statements
/// that make its table, which are the tool's own.
pub trait Origin: fmt::Debug + Send + Sync {
    /// The tool.
    fn tool(&self) -> Tool;

    /// The table's name.
    fn table(&self) -> &'static str;

    /// How the tool compares versions.
    fn order(&self) -> VersionOrder {
        self.tool().order()
    }

    /// The statements that make the table, as the tool does, with `{table}` for its name.
    fn create(&self, dialect: Dialect) -> &'static [&'static str];

    /// The rows of a new table.
    fn first_rows(&self) -> Vec<Change> {
        Vec::new()
    }

    /// The columns that are read, in this order.
    fn columns(&self) -> &'static [Column];

    /// What the rows are ordered by, oldest first.
    fn oldest_first(&self) -> &'static str;

    /// What the rows say.
    ///
    /// # Errors
    ///
    /// A row that the tool cannot have written.
    fn read(&self, rows: &[Row]) -> Result<Vec<LedgerEntry>, String>;

    /// What the tool writes in the migration's transaction before it runs the file.
    fn begin(&self, _dialect: Dialect, _event: &Event<'_>) -> Vec<Change> {
        Vec::new()
    }

    /// What it writes after the file has run.
    fn finish(&self, dialect: Dialect, event: &Event<'_>) -> Vec<Change>;

    /// What makes its row fit a file that was changed after it was applied. Tools without checksums need nothing.
    fn accept_edit(&self, _migration: &Migration) -> Vec<Change> {
        Vec::new()
    }
}

/// What a tool's row can tell of a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The migration.
    pub migration: Arc<Migration>,
    /// The version that stands when this one is taken back.
    pub below: Option<SchemaVersion>,
}

/// A migration that ran, or that is to be recorded.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// What ran.
    pub facts: &'a Facts,
    /// Which way.
    pub direction: Direction,
    /// How it comes to be recorded.
    pub how: How,
    /// How long it took.
    pub duration: Duration,
    /// When it was done, in milliseconds since 1970.
    pub at_unix_ms: i64,
}

impl Event<'_> {
    /// The version as the directory writes it.
    fn version(&self) -> &str {
        self.facts.migration.version.as_str()
    }

    /// The version as a number; the readers admit nothing else for the layouts that count.
    fn number(&self) -> Value {
        Value::number(self.version())
    }
}
