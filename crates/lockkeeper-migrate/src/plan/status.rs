//! How each version stands.

use std::cmp::Ordering;

use lockkeeper_core::version::SchemaVersion;
use serde::{Deserialize, Serialize};

use super::matched::{Matched, Place};
use crate::ledger::resolve::resolve;
use crate::ledger::{EntryState, How, LedgerEntry};
use crate::source::{MigrationKind, MigrationSet};

/// One version of source or ledger, and how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatusRow {
    /// The version.
    pub version: SchemaVersion,
    /// The name: the source's where it has the version.
    pub name: String,
    /// How it stands.
    pub status: VersionStatus,
    /// How it came to be recorded; `None` when it is not.
    pub recorded: Option<How>,
}

/// How a version stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum VersionStatus {
    /// Recorded, and the file is what ran.
    Applied,
    /// In the source and not recorded, or repeatable and changed since.
    Pending,
    /// Recorded and not in the source.
    Missing,
    /// Recorded, and the file was changed since.
    Edited,
    /// Interrupted at a statement that nobody can judge, or failed half-way in the tool that keeps the ledger.
    InDoubt,
    /// A baseline stands for it: it never runs here.
    BelowBaseline,
}

/// All versions of source and ledger, in the source's order.
#[must_use]
pub fn status(set: &MigrationSet, ledger: &[LedgerEntry]) -> Vec<StatusRow> {
    let ledger = resolve(set, ledger);
    let matched = Matched::of(set, &ledger);
    let mut rows = matched
        .places()
        .map(|place| row(&matched, &place))
        .collect::<Vec<_>>();
    // A baseline stands for the lowest ones.
    let counted = matched
        .places()
        .filter(|place| place.migration.kind != MigrationKind::Baseline);
    let below = set.migrations.len() - counted.count();
    for (at, migration) in set.migrations[..below].iter().enumerate() {
        let row = StatusRow {
            version: migration.version.clone(),
            name: migration.name.clone(),
            status: VersionStatus::BelowBaseline,
            recorded: None,
        };
        rows.insert(at, row);
    }
    for entry in matched.unknown_entries() {
        let status = match entry.state {
            EntryState::Applied => VersionStatus::Missing,
            EntryState::InDoubt { .. } | EntryState::Dirty(_) => VersionStatus::InDoubt,
        };
        let row = StatusRow {
            version: entry.version.clone(),
            name: entry.name.clone(),
            status,
            recorded: Some(entry.how),
        };
        // A version that is not of this order's form goes to the end.
        let above = |r: &StatusRow| set.order.compare(&r.version, &row.version) == Some(Ordering::Greater);
        let place = rows.iter().position(above).unwrap_or(rows.len());
        rows.insert(place, row);
    }
    rows
}

fn row(matched: &Matched<'_>, place: &Place<'_>) -> StatusRow {
    let in_doubt = |entry: &LedgerEntry| entry.state != EntryState::Applied;
    let status = if place.entry.is_some_and(in_doubt) {
        VersionStatus::InDoubt
    } else if place.is_pending() {
        VersionStatus::Pending
    } else if place.edited().is_some() && !matched.accepts(place) {
        VersionStatus::Edited
    } else {
        VersionStatus::Applied
    };
    StatusRow {
        version: place.migration.version.clone(),
        name: place.migration.name.clone(),
        status,
        recorded: place.entry.map(|entry| entry.how),
    }
}
