//! Files that were changed after they were applied, and accepted: recorded with who, when and why.

use lockkeeper_core::version::SchemaVersion;
use serde::{Deserialize, Serialize};

use crate::source::Checksum;

/// One line of the allow list: this version's file may have been changed to this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedEdit {
    /// The version.
    pub version: SchemaVersion,
    /// The checksum of the file as it is now: a later change is a new edit.
    pub checksum: Checksum,
    /// Why.
    pub reason: String,
}

/// An accepted edit, as the target records it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditRecord {
    /// The version.
    pub version: SchemaVersion,
    /// What had run.
    pub was: String,
    /// The checksum of the file since.
    pub now: String,
    /// Who accepted it.
    pub accepted_by: String,
    /// When, in milliseconds since 1970.
    pub accepted_at_unix_ms: i64,
    /// Why; empty when nobody said.
    pub reason: String,
}
