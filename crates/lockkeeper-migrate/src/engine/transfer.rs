//! Which ledger holds a target's history, and taking the history from one ledger into another.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use lockkeeper_core::version::SchemaVersion;

use super::record;
use crate::db::{Books, Inspection, LedgerWrite, Provenance};
use crate::ledger::resolve::{holds, resolve};
use crate::ledger::{EntryState, How, LedgerChoice, LedgerEntry};
use crate::plan::{self, VersionStatus};
use crate::source::{Migration, MigrationSet};

/// How the ledger that was asked for stands to the one that holds the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It holds the history, or nothing is recorded yet.
    Ready,
    /// Our own ledger holds it: the tool's table has to be written from it first.
    Move,
}

/// Another ledger holds the history, or another migrator has been here and lockkeeper has not: what is applied
/// already would be applied again. Reads after "failed to".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OtherLedger {
    /// A tool's table is here, and nothing is recorded where it was asked for.
    #[error(
        "plan for this database: it has table {table} of another migrator and nothing in the ledger {chosen}, so what \
         is applied already would be applied again; keep that tool's table with --ledger, or take its history over \
         with adopt --from"
    )]
    Foreign {
        /// The other migrator's table.
        table: String,
        /// The ledger that was asked for.
        chosen: LedgerChoice,
    },
    /// The history is kept in a tool's table.
    #[error(
        "plan for this database: its history is kept in table {} of {kept}, not in the ledger {chosen}; use --ledger \
         {kept}, or move it with adopt --from {kept}", kept.table()
    )]
    Kept {
        /// The ledger that holds it.
        kept: LedgerChoice,
        /// The ledger that was asked for.
        chosen: LedgerChoice,
    },
    /// The history is in our own ledger, and a tool's was asked for.
    #[error(
        "plan for this database: its history is in lockkeeper's own ledger, not in {chosen}'s table; move it with \
         `lockkeeper migrate sql adopt --from own --ledger {chosen}`"
    )]
    Own {
        /// The ledger that was asked for.
        chosen: LedgerChoice,
    },
}

/// How the ledger that was asked for stands to the one that holds the history.
///
/// # Errors
///
/// Where using it would run over a history that is recorded elsewhere.
pub fn standing(inspection: &Inspection) -> Result<Standing, OtherLedger> {
    let Books {
        chosen, kept, own, ..
    } = &inspection.books;
    let (chosen, kept) = (*chosen, *kept);
    match (kept, chosen) {
        (LedgerChoice::Own, LedgerChoice::Tool(_)) if !own.is_empty() => return Ok(Standing::Move),
        (LedgerChoice::Tool(_), _) if kept != chosen => return Err(OtherLedger::Kept { kept, chosen }),
        (LedgerChoice::Own | LedgerChoice::Tool(_), _) => {}
    }
    let foreign = inspection
        .other_ledgers
        .iter()
        .find(|table| *table != chosen.table());
    match foreign {
        Some(table) if inspection.ledger.is_empty() => Err(OtherLedger::Foreign {
            table: table.clone(),
            chosen,
        }),
        Some(_) | None => Ok(Standing::Ready),
    }
}

/// Refuses a target whose history is not in the ledger that was asked for.
///
/// # Errors
///
/// As [`standing`]; a history that would have to be moved first is refused too.
pub fn refuse_other_ledgers(inspection: &Inspection) -> Result<(), OtherLedger> {
    match standing(inspection)? {
        Standing::Ready => Ok(()),
        Standing::Move => Err(OtherLedger::Own {
            chosen: inspection.books.chosen,
        }),
    }
}

/// The history, in whichever ledger it is.
///
/// # Errors
///
/// As [`standing`].
pub fn history(inspection: &Inspection) -> Result<&[LedgerEntry], OtherLedger> {
    Ok(match standing(inspection)? {
        Standing::Ready => &inspection.ledger,
        Standing::Move => &inspection.books.own,
    })
}

/// A history that cannot be taken over. Reads after "failed to"; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// A version is not clean, is not in the directory, or its file is another one.
    #[error("take over version {version}: {problem}")]
    Version {
        /// The version.
        version: SchemaVersion,
        /// What is wrong with it.
        problem: String,
    },
    /// The ledger that is to be written has versions that the other one lacks.
    #[error("take over the history: {to} has {}, which {from} lacks; one of them has gone on without the other", list(.versions))]
    Ahead {
        /// The ledger that is read.
        from: LedgerChoice,
        /// The ledger that is to be written.
        to: LedgerChoice,
        /// The versions.
        versions: Vec<SchemaVersion>,
    },
    /// A ledger with one row cannot say that versions in between are missing.
    #[error("take over the history: {} not applied below version {highest}, and one row of {to} means all up to it", list(.missing))]
    Gap {
        /// The ledger that is to be written.
        to: LedgerChoice,
        /// What is missing.
        missing: Vec<SchemaVersion>,
        /// The highest applied version.
        highest: SchemaVersion,
    },
}

fn list(versions: &[SchemaVersion]) -> String {
    let names: Vec<&str> = versions.iter().map(SchemaVersion::as_str).collect();
    format!("version {}", names.join(", "))
}

/// A ledger and what it says.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// Which one.
    pub ledger: LedgerChoice,
    /// Its entries.
    pub entries: &'a [LedgerEntry],
}

/// What has to be written into one ledger so that it says what another one says.
///
/// # Errors
///
/// The first doubt about either of them, or about the directory.
pub fn transfer(
    set: &MigrationSet,
    from: Side<'_>,
    to: Side<'_>,
    applied_by: &str,
) -> Result<Vec<LedgerWrite>, TransferError> {
    check(set, from.entries)?;
    let source = resolve(set, from.entries);
    refuse_ahead(set, from, to, &source)?;
    let applied = |m: &&Arc<Migration>| holds(&source, set.order, &m.version);
    let taken: Vec<_> = set.migrations.iter().filter(applied).collect();
    refuse_gap(set, to.ledger, &taken)?;
    let new = taken
        .into_iter()
        .filter(|m| !holds(to.entries, set.order, &m.version));
    let write = |migration: &Arc<Migration>| {
        let entry = source.iter().find(|e| e.covers(set.order, &migration.version));
        let provenance = entry.map_or_else(Provenance::default, adopted);
        record::of(migration, set.layout, applied_by, provenance)
    };
    Ok(new.map(write).collect())
}

fn adopted(entry: &LedgerEntry) -> Provenance {
    Provenance {
        how: How::Adopted,
        applied_at_unix_ms: (entry.applied_at_unix_ms != 0).then_some(entry.applied_at_unix_ms),
        duration: Some(Duration::from_millis(entry.duration_ms.unsigned_abs())),
    }
}

/// Every entry is clean, and stands for a file of the directory that is what ran.
fn check(set: &MigrationSet, entries: &[LedgerEntry]) -> Result<(), TransferError> {
    let problem = |version: &SchemaVersion, problem: String| {
        let version = version.clone();
        Err(TransferError::Version { version, problem })
    };
    for entry in entries {
        match entry.state {
            EntryState::Applied => {}
            EntryState::InDoubt { statement } => {
                return problem(&entry.version, format!("its statement {statement} is in doubt"));
            }
            EntryState::Dirty(tool) => {
                return problem(
                    &entry.version,
                    format!(
                        "{tool} marked it as failed half-way (dirty); look what of it took effect, finish it or undo \
                         it by hand, tell {tool} so ({}), then adopt again",
                        plan::how_to_clean(tool)
                    ),
                );
            }
        }
    }
    for row in plan::status(set, entries) {
        match row.status {
            VersionStatus::Missing => {
                return problem(&row.version, "the directory has no such version".to_owned());
            }
            VersionStatus::Edited => {
                return problem(&row.version, "its file is not what was applied".to_owned());
            }
            _ => {}
        }
    }
    Ok(())
}

fn refuse_ahead(
    set: &MigrationSet,
    from: Side<'_>,
    to: Side<'_>,
    source: &[LedgerEntry],
) -> Result<(), TransferError> {
    let lacks =
        |entry: &&LedgerEntry| entry.how != How::Baseline && !holds(source, set.order, &entry.version);
    let target = resolve(set, to.entries);
    let versions: Vec<_> = target.iter().filter(lacks).map(|e| e.version.clone()).collect();
    if versions.is_empty() {
        return Ok(());
    }
    Err(TransferError::Ahead {
        from: from.ledger,
        to: to.ledger,
        versions,
    })
}

/// golang-migrate's row means all versions up to its own.
fn refuse_gap(set: &MigrationSet, to: LedgerChoice, taken: &[&Arc<Migration>]) -> Result<(), TransferError> {
    let one_row = to == LedgerChoice::Tool(crate::ledger::Tool::GolangMigrate);
    let Some(highest) = taken.last().filter(|_| one_row) else {
        return Ok(());
    };
    let below = |m: &&Arc<Migration>| {
        set.order.compare(&m.version, &highest.version) == Some(Ordering::Less)
            && !taken.iter().any(|t| t.version == m.version)
    };
    let missing: Vec<_> = set
        .migrations
        .iter()
        .filter(below)
        .map(|m| m.version.clone())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let highest = highest.version.clone();
    Err(TransferError::Gap { to, missing, highest })
}

/// A version that cannot be made the baseline. Reads after "failed to"; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BaselineError {
    /// It is not in the directory.
    #[error("set the baseline to version {version}: there is no such version in the directory")]
    Unknown {
        /// The version.
        version: SchemaVersion,
    },
    /// Versions above it are applied.
    #[error("set the baseline to version {version}: version {applied} above it is applied already")]
    Below {
        /// The version.
        version: SchemaVersion,
        /// The first applied one above it.
        applied: SchemaVersion,
    },
    /// The ledger leaves a doubt.
    #[error(transparent)]
    Ledger(#[from] TransferError),
}

/// What marks every version up to `version` as applied, without running any.
///
/// # Errors
///
/// A version that the directory lacks, or that lies below an applied one; a ledger that leaves a doubt.
pub fn baseline(
    set: &MigrationSet,
    entries: &[LedgerEntry],
    version: &SchemaVersion,
    applied_by: &str,
) -> Result<Vec<LedgerWrite>, BaselineError> {
    check(set, entries)?;
    if set.get(version).is_none() {
        let version = version.clone();
        return Err(BaselineError::Unknown { version });
    }
    let resolved = resolve(set, entries);
    let above = |m: &&Arc<Migration>| set.order.compare(&m.version, version) == Some(Ordering::Greater);
    let (above, marked): (Vec<_>, Vec<_>) = set.migrations.iter().partition(above);
    let applied = |m: &&&Arc<Migration>| holds(&resolved, set.order, &m.version);
    if let Some(applied) = above.iter().find(applied) {
        let (version, applied) = (version.clone(), applied.version.clone());
        return Err(BaselineError::Below { version, applied });
    }
    let provenance = Provenance {
        how: How::Baseline,
        ..Provenance::default()
    };
    let new = marked
        .into_iter()
        .filter(|m| !holds(&resolved, set.order, &m.version));
    Ok(new
        .map(|m| record::of(m, set.layout, applied_by, provenance))
        .collect())
}

#[cfg(test)]
mod tests;
