//! What has to be done to a target, told from its source and its ledger alone.
//!
//! | module | what it holds |
//! |---|---|
//! | `matched` | a source as one ledger sees it |
//! | `status` | how each version stands |
//! | `verify` | does a ledger equal its plan |
//! | `error` | why a goal cannot be planned |

mod error;
mod matched;
mod status;
#[cfg(test)]
mod tests;
mod verify;

use std::sync::Arc;

use lockkeeper_core::version::SchemaVersion;

pub(crate) use error::how_to_clean;
pub use error::{Edited, PlanError};
pub use status::{StatusRow, VersionStatus, status};
pub use verify::{VerifyFailure, verify};

use crate::ledger::resolve::{resolve, without_own_row};
use crate::ledger::{EntryState, Fingerprint, LedgerEntry};
use crate::source::{Direction, Migration, MigrationSet};
use matched::Matched;

/// Where to take a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// Up to the newest version of the source.
    Latest,
    /// Up to this version, which must be in the source and not below the target's.
    To(SchemaVersion),
    /// Down by this many migrations, or by all when there are fewer.
    DownSteps(u32),
    /// Down to this version, which stays applied; `None` takes all back.
    DownTo(Option<SchemaVersion>),
}

/// One migration to run in one direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which of its scripts runs.
    pub direction: Direction,
    /// The migration. A step down has a down script.
    pub migration: Arc<Migration>,
}

/// The steps from one version to another, in the order they run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The steps; none when the target is where it should be.
    pub steps: Vec<Step>,
    /// The target's version now; `None` when nothing is applied.
    pub from: Option<SchemaVersion>,
    /// The target's version afterwards.
    pub to: Option<SchemaVersion>,
    /// What the ledger has to be told first.
    pub amendments: Vec<Amendment>,
}

/// What a ledger has to be told before the steps run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Amendment {
    /// This migration counts as applied through an old row that stands for several: it gets a row of its own, as
    /// its tool would give it one.
    SpellOut(Arc<Migration>),
    /// The allow list accepts this edit.
    AcceptEdit {
        /// The migration as it is now.
        migration: Arc<Migration>,
        /// What ran.
        was: Fingerprint,
        /// Why it was changed.
        reason: String,
    },
}

/// Plans the way of a target with this ledger to `goal`.
///
/// # Errors
///
/// The first doubt about source and ledger, in the order of [`PlanError`]'s variants.
pub fn plan(set: &MigrationSet, ledger: &[LedgerEntry], goal: &Goal) -> Result<Plan, PlanError> {
    check_doubt(ledger)?;
    let spelled = without_own_row(set, ledger).into_iter().map(Amendment::SpellOut);
    let ledger = resolve(set, ledger);
    let matched = match goal {
        Goal::To(version) => Matched::up_to(set, &ledger, version),
        Goal::Latest | Goal::DownSteps(_) | Goal::DownTo(_) => Matched::of(set, &ledger),
    };
    let plan = steps(&matched, goal)?;
    let amendments = spelled.chain(matched.accepted()).collect();
    Ok(Plan { amendments, ..plan })
}

fn steps(matched: &Matched<'_>, goal: &Goal) -> Result<Plan, PlanError> {
    if let Some(edited) = matched.edited() {
        return Err(PlanError::Edited(edited));
    }
    let unknown = matched.unknown();
    if !unknown.is_empty() {
        return Err(PlanError::AheadOfDirectory { versions: unknown });
    }
    match goal {
        Goal::Latest => matched.up(matched.versioned()),
        Goal::To(version) => matched.up(matched.place_of_goal(version)? + 1),
        Goal::DownSteps(0) => Err(PlanError::NoSteps),
        Goal::DownSteps(steps) => matched.down(|from_top, _| from_top < *steps as usize),
        Goal::DownTo(None) => matched.down(|_, _| true),
        Goal::DownTo(Some(version)) => {
            let place = matched.place_of_goal(version)?;
            if !matched.is_applied(place) {
                return Err(PlanError::GoalNotApplied {
                    version: version.clone(),
                });
            }
            matched.down(|_, at| at > place)
        }
    }
}

fn check_doubt(ledger: &[LedgerEntry]) -> Result<(), PlanError> {
    let doubt = |entry: &LedgerEntry| {
        let version = entry.version.clone();
        match entry.state {
            EntryState::Applied => None,
            EntryState::InDoubt { statement } => Some(PlanError::StatementInDoubt { version, statement }),
            EntryState::Dirty(tool) => Some(PlanError::Dirty { version, tool }),
        }
    };
    ledger.iter().find_map(doubt).map_or(Ok(()), Err)
}

/// The applied migrations whose files are no longer what ran, whether the allow list accepts that or not.
#[must_use]
pub fn edits(set: &MigrationSet, ledger: &[LedgerEntry]) -> Vec<(Arc<Migration>, Edited)> {
    let ledger = resolve(set, ledger);
    let matched = Matched::of(set, &ledger);
    let edits = matched
        .places()
        .filter_map(|place| Some((Arc::clone(place.migration), place.edited()?)));
    edits.collect()
}
