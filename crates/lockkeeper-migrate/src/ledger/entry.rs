//! One version that is recorded as applied.

use std::fmt;

use lockkeeper_core::version::SchemaVersion;
use serde::{Deserialize, Serialize};

use super::origin::{Tool, ToolSum};
use crate::source::{Checksum, Migration};

/// One row of a target's ledger. A ledger is a slice of them, in the order in which they were applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// The version that was applied.
    pub version: SchemaVersion,
    /// The migration's name then; empty where the record has none.
    pub name: String,
    /// What ran, as far as the record tells.
    pub checksum_up: Fingerprint,
    /// When it was applied, in milliseconds since 1970, by the clock of whoever applied it; 0 where the record does
    /// not tell.
    pub applied_at_unix_ms: i64,
    /// How long it took, in milliseconds.
    pub duration_ms: i64,
    /// Who applied it.
    pub applied_by: String,
    /// The leader epoch it was applied under; `None` outside of a fleet.
    pub leader_epoch: Option<String>,
    /// The layout it was read from.
    pub layout: String,
    /// How many warnings the server gave.
    pub warnings: i64,
    /// Whether it is known to be applied.
    pub state: EntryState,
    /// How it came to be recorded.
    pub how: How,
    /// Which versions the row stands for.
    pub extent: Extent,
}

/// Whether a migration is known to be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryState {
    /// All of it took effect.
    Applied,
    /// It was interrupted, and nobody can tell whether this statement took effect.
    InDoubt {
        /// The statement's place in its file, counted from 1.
        statement: u32,
    },
    /// This tool says that it failed half-way.
    Dirty(Tool),
}

/// How a version came to be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// It ran.
    #[default]
    Ran,
    /// A person said that the database has it already.
    Baseline,
    /// Another tool's record was taken over.
    Adopted,
}

impl How {
    /// Its name in the ledger.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ran => "ran",
            Self::Baseline => "baseline",
            Self::Adopted => "adopted",
        }
    }

    /// The one of this name; what a newer release may have invented counts as run.
    #[must_use]
    pub fn named(name: &str) -> Self {
        match name {
            "baseline" => Self::Baseline,
            "adopted" => Self::Adopted,
            _ => Self::Ran,
        }
    }
}

/// Which versions a row stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Extent {
    /// Its own.
    #[default]
    One,
    /// Its own and all below it: golang-migrate's single row.
    UpTo,
    /// Its own and every longer one that begins with it: pop's rows of 14 digits.
    Prefix,
}

/// What a record tells of the file that ran.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fingerprint {
    /// Lockkeeper's own checksum.
    Own(Checksum),
    /// The checksum of the tool that keeps the record.
    Tool(ToolSum),
    /// Nothing.
    Unknown,
}

impl Fingerprint {
    /// Whether the migration's up file is what ran. Where nothing is recorded, nothing speaks against it.
    #[must_use]
    pub fn is_of(&self, migration: &Migration) -> bool {
        match self {
            Self::Own(checksum) => *checksum == migration.up.checksum,
            Self::Tool(sum) => sum.is_of(migration),
            Self::Unknown => true,
        }
    }

    /// What would be recorded of this migration now, in the same terms.
    #[must_use]
    pub fn same_kind_of(&self, migration: &Migration) -> Self {
        match self {
            Self::Own(_) => Self::Own(migration.up.checksum.clone()),
            Self::Tool(sum) => Self::Tool(sum.same_kind_of(migration)),
            Self::Unknown => Self::Unknown,
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(checksum) => checksum.fmt(f),
            Self::Tool(sum) => sum.fmt(f),
            Self::Unknown => f.write_str("not recorded"),
        }
    }
}

impl From<Checksum> for Fingerprint {
    fn from(checksum: Checksum) -> Self {
        Self::Own(checksum)
    }
}

impl LedgerEntry {
    /// An entry that `tool` keeps, of which nothing but the version is known.
    #[must_use]
    pub(crate) fn of_tool(tool: Tool, version: &str) -> Self {
        Self {
            version: version.into(),
            name: String::new(),
            checksum_up: Fingerprint::Unknown,
            applied_at_unix_ms: 0,
            duration_ms: 0,
            applied_by: tool.to_string(),
            leader_epoch: None,
            layout: tool.to_string(),
            warnings: 0,
            state: EntryState::Applied,
            how: How::Ran,
            extent: Extent::One,
        }
    }
}
