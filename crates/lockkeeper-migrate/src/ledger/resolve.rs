//! What a ledger's entries say of a directory's migrations.
//!
//! A row does not always stand for one version of the directory: golang-migrate's single row means all versions up
//! to it, a Flyway baseline as well, and pop's rows of 14 digits mean every version that begins with them.

use std::cmp::Ordering;
use std::sync::Arc;

use lockkeeper_core::version::{SchemaVersion, VersionOrder};

use super::{EntryState, Extent, Fingerprint, How, LedgerEntry};
use crate::source::{Migration, MigrationSet};

impl LedgerEntry {
    /// Whether this entry stands for `version`, in a directory with this order.
    #[must_use]
    pub fn covers(&self, order: VersionOrder, version: &SchemaVersion) -> bool {
        let compared = order.compare(version, &self.version);
        match self.extent {
            Extent::One => *version == self.version || compared == Some(Ordering::Equal),
            Extent::UpTo => matches!(compared, Some(Ordering::Less | Ordering::Equal)),
            Extent::Prefix => version.as_str().starts_with(self.version.as_str()),
        }
    }
}

/// Whether the entries say that `version` is applied.
#[must_use]
pub fn holds(entries: &[LedgerEntry], order: VersionOrder, version: &SchemaVersion) -> bool {
    entries
        .iter()
        .any(|entry| entry.state == EntryState::Applied && entry.covers(order, version))
}

/// What the newest of the entries for `version` tells of its file; `None` when no entry holds it.
#[must_use]
pub fn newest(entries: &[LedgerEntry], order: VersionOrder, version: &SchemaVersion) -> Option<Fingerprint> {
    let own = entries.iter().rfind(|entry| entry.version == *version);
    let recorded = own.map_or(Fingerprint::Unknown, |entry| entry.checksum_up.clone());
    holds(entries, order, version).then_some(recorded)
}

/// One entry per version: rows that stand for several become one entry for each migration that they stand for.
/// What the directory does not have stays as it is.
#[must_use]
pub fn resolve(set: &MigrationSet, entries: &[LedgerEntry]) -> Vec<LedgerEntry> {
    let mut resolved = Vec::with_capacity(entries.len());
    for entry in entries {
        if entry.extent == Extent::One || entry.state != EntryState::Applied {
            resolved.push(entry.clone());
            continue;
        }
        let meant: Vec<_> = meant(set, entries, entry).collect();
        let known = entry.how == How::Baseline || set.migrations.iter().any(|m| names(set, entry, m));
        resolved.extend(meant.iter().map(|migration| of(entry, migration)));
        if !known {
            resolved.push(LedgerEntry {
                extent: Extent::One,
                ..entry.clone()
            });
        }
    }
    if !entries
        .iter()
        .any(|entry| matches!(entry.checksum_up, Fingerprint::Own(_)))
    {
        // Tools' tables are read in the order of versions, or of times that do not tell: it is no evidence.
        resolved.sort_by(|a, b| {
            set.order
                .compare(&a.version, &b.version)
                .unwrap_or(Ordering::Equal)
        });
    }
    resolved
}

/// The migrations that count as applied through a row of pop's that is not their own.
#[must_use]
pub fn without_own_row(set: &MigrationSet, entries: &[LedgerEntry]) -> Vec<Arc<Migration>> {
    let old = entries.iter().filter(|entry| entry.extent == Extent::Prefix);
    let meant = old.flat_map(|entry| meant(set, entries, entry));
    meant
        .filter(|migration| !entries.iter().any(|entry| entry.version == migration.version))
        .cloned()
        .collect()
}

/// The migrations that the entry stands for and that have no entry of their own.
fn meant<'a>(
    set: &'a MigrationSet,
    entries: &'a [LedgerEntry],
    entry: &'a LedgerEntry,
) -> impl Iterator<Item = &'a Arc<Migration>> {
    let own = |migration: &Migration| {
        let of_one = |e: &&LedgerEntry| e.extent == Extent::One;
        entries
            .iter()
            .filter(of_one)
            .any(|e| e.covers(set.order, &migration.version))
    };
    set.migrations
        .iter()
        .filter(move |migration| entry.covers(set.order, &migration.version) && !own(migration))
}

/// Whether the directory has what the row names: for pop's old rows, any version that begins so.
fn names(set: &MigrationSet, entry: &LedgerEntry, migration: &Migration) -> bool {
    match entry.extent {
        Extent::One | Extent::UpTo => set.same(&migration.version, &entry.version),
        Extent::Prefix => entry.covers(set.order, &migration.version),
    }
}

fn of(entry: &LedgerEntry, migration: &Migration) -> LedgerEntry {
    // A row for several can have the checksum of one at most.
    let checksum_up = match &entry.checksum_up {
        sum if sum.is_of(migration) => sum.clone(),
        _ => Fingerprint::Unknown,
    };
    LedgerEntry {
        version: migration.version.clone(),
        name: migration.name.clone(),
        checksum_up,
        extent: Extent::One,
        ..entry.clone()
    }
}

#[cfg(test)]
mod tests;
