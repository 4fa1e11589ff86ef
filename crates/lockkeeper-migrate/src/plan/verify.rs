//! Does a ledger equal its plan?

use std::cmp::Ordering;

use lockkeeper_core::version::SchemaVersion;

use super::check_doubt;
use super::error::{Edited, PlanError, list};
use super::matched::{Matched, Place};
use crate::ledger::resolve::resolve;
use crate::ledger::{LedgerEntry, Tool};
use crate::source::MigrationSet;

/// Why a ledger does not equal its plan. Reads after "failed to".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyFailure {
    /// A statement is in doubt.
    #[error("verify version {version}: its statement {statement} is in doubt")]
    InDoubt {
        /// The version.
        version: SchemaVersion,
        /// The statement's place in its file, counted from 1.
        statement: u32,
    },
    /// The tool that keeps the ledger says that it failed half-way.
    #[error("verify version {version}: {tool} marked it as failed half-way")]
    Dirty {
        /// The version.
        version: SchemaVersion,
        /// The tool.
        tool: Tool,
    },
    /// Another file ran than the source has.
    #[error("verify version {}: {} is not what was applied (applied {}, now {})", .0.version, .0.path.display(), .0.applied, .0.found)]
    Checksum(Edited),
    /// The expected version is not in the source.
    #[error("verify version {version}: the directory has no such version")]
    UnknownVersion {
        /// The version.
        version: SchemaVersion,
    },
    /// Versions up to the expected one were not applied.
    #[error("verify the ledger: {} not applied", list(.versions))]
    NotApplied {
        /// The versions.
        versions: Vec<SchemaVersion>,
    },
    /// Versions are applied that the plan does not have: above the expected one, or unknown.
    #[error("verify the ledger: {} applied, which the plan does not have", list(.versions))]
    Unplanned {
        /// The versions.
        versions: Vec<SchemaVersion>,
    },
    /// They were applied in another order than the plan's.
    #[error(
        "verify the ledger: version {later} was applied before version {earlier}; if that was meant, allow it with \
         allow_out_of_order"
    )]
    Order {
        /// The version that the plan has first.
        earlier: SchemaVersion,
        /// The version that the ledger has first.
        later: SchemaVersion,
    },
}

/// Checks that the ledger equals the plan up to `expected`: these versions and no other, each with its checksum,
/// in order, nothing in doubt. `None` expects an empty ledger.
///
/// Order is the slice's order, not that of the time stamps: two leaders' clocks may disagree.
///
/// # Errors
///
/// The first difference, in the order of [`VerifyFailure`]'s variants.
pub fn verify(
    set: &MigrationSet,
    ledger: &[LedgerEntry],
    expected: Option<&SchemaVersion>,
) -> Result<(), VerifyFailure> {
    match check_doubt(ledger) {
        Err(PlanError::StatementInDoubt { version, statement }) => {
            return Err(VerifyFailure::InDoubt { version, statement });
        }
        Err(PlanError::Dirty { version, tool }) => return Err(VerifyFailure::Dirty { version, tool }),
        Err(_) | Ok(()) => {}
    }
    let ledger = resolve(set, ledger);
    let matched = match expected {
        Some(version) => Matched::up_to(set, &ledger, version),
        None => Matched::of(set, &ledger),
    };
    if let Some(edited) = matched.edited() {
        return Err(VerifyFailure::Checksum(edited));
    }
    let end = match expected {
        None => 0,
        Some(version) => {
            let place = matched.place_of_goal(version);
            place.map_err(|_| VerifyFailure::UnknownVersion {
                version: version.clone(),
            })? + 1
        }
    };
    check_versions(&matched, end)?;
    check_order(set, &ledger, &matched)
}

fn check_versions(matched: &Matched<'_>, end: usize) -> Result<(), VerifyFailure> {
    let versions = |wanted: &dyn Fn(&Place<'_>) -> bool| {
        let places = matched.steps_of_the_version().filter(|place| wanted(place));
        places
            .map(|place| place.migration.version.clone())
            .collect::<Vec<_>>()
    };
    // What may come late may also be missing at a version: before it is applied, that is the unchanged old state.
    let missing = versions(&|place| {
        place.at < end && place.entry.is_none() && !matched.may_be_late(place.migration.kind)
    });
    if !missing.is_empty() {
        return Err(VerifyFailure::NotApplied { versions: missing });
    }
    let mut unplanned = versions(&|place| place.at >= end && place.entry.is_some());
    unplanned.extend(matched.unknown());
    if !unplanned.is_empty() {
        return Err(VerifyFailure::Unplanned { versions: unplanned });
    }
    Ok(())
}

fn check_order(
    set: &MigrationSet,
    ledger: &[LedgerEntry],
    matched: &Matched<'_>,
) -> Result<(), VerifyFailure> {
    let ordered = ledger.iter().filter(|entry| {
        let kind = matched.migration_of(entry).map(|migration| migration.kind);
        kind.is_some_and(|kind| !kind.is_repeatable() && !matched.may_be_late(kind))
    });
    let ordered = ordered.collect::<Vec<_>>();
    for pair in ordered.windows(2) {
        if set.order.compare(&pair[0].version, &pair[1].version) != Some(Ordering::Less) {
            let (later, earlier) = (pair[0].version.clone(), pair[1].version.clone());
            return Err(VerifyFailure::Order { earlier, later });
        }
    }
    Ok(())
}
