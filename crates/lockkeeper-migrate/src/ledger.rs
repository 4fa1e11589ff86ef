//! What a target records of the migrations it has had, as plain data.

use lockkeeper_core::version::SchemaVersion;
use serde::{Deserialize, Serialize};

use crate::source::Checksum;

/// One row of a target's ledger. A ledger is a slice of them, in the order in which they were applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// The version that was applied.
    pub version: SchemaVersion,
    /// The migration's name then.
    pub name: String,
    /// The checksum of the up file that ran.
    pub checksum_up: Checksum,
    /// When it was applied, in milliseconds since 1970, by the clock of whoever applied it.
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
}
