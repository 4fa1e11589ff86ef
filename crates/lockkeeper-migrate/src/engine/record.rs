//! What is recorded of a migration, whether it ran or not.

use std::sync::Arc;

use crate::db::{LedgerWrite, Provenance};
use crate::ledger::origin::Facts;
use crate::ledger::{EditRecord, Fingerprint};
use crate::source::{Direction, Layout, Migration};

/// The record of an applied migration.
pub(super) fn of(
    migration: &Arc<Migration>,
    layout: Layout,
    applied_by: &str,
    provenance: Provenance,
) -> LedgerWrite {
    LedgerWrite {
        version: migration.version.clone(),
        name: migration.name.clone(),
        checksum: migration.up.checksum.0.clone(),
        direction: Direction::Up,
        layout: layout.to_string(),
        applied_by: applied_by.to_owned(),
        provenance,
        facts: Some(Facts {
            migration: Arc::clone(migration),
            below: None,
        }),
    }
}

/// The record of an accepted edit.
#[must_use]
pub fn edit_of(migration: &Migration, was: &Fingerprint, accepted_by: &str, reason: &str) -> EditRecord {
    EditRecord {
        version: migration.version.clone(),
        was: was.to_string(),
        now: was.same_kind_of(migration).to_string(),
        accepted_by: accepted_by.to_owned(),
        accepted_at_unix_ms: jiff::Timestamp::now().as_millisecond(),
        reason: reason.to_owned(),
    }
}
