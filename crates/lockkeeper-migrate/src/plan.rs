//! What has to be done to a target, told from its source and its ledger alone.

use std::cmp::Ordering;
use std::path::PathBuf;
use std::sync::Arc;

use lockkeeper_core::version::SchemaVersion;
use serde::{Deserialize, Serialize};

use crate::ledger::resolve::{resolve, without_own_row};
use crate::ledger::{EntryState, Fingerprint, How, LedgerEntry, Tool};
use crate::source::{Direction, Migration, MigrationSet};

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

/// An applied migration whose file is no longer what ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// Its version.
    pub version: SchemaVersion,
    /// The file.
    pub path: PathBuf,
    /// The checksum of what ran.
    pub applied: Fingerprint,
    /// The checksum of the file now.
    pub found: Fingerprint,
}

/// A goal that cannot be planned. Reads after "failed to"; nothing may be run then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A migration was interrupted, and a person must say what became of one statement.
    #[error(
        "plan past version {version}: its statement {statement} is in doubt; resolve it as done or not done first"
    )]
    StatementInDoubt {
        /// The version.
        version: SchemaVersion,
        /// The statement's place in its file, counted from 1.
        statement: u32,
    },
    /// The tool that keeps the ledger says that it failed half-way.
    #[error(
        "plan past version {version}: {tool} marked it as failed half-way; look what of it took effect, finish it or \
         undo it by hand, then tell {tool} so ({})", how_to_clean(*tool)
    )]
    Dirty {
        /// The version.
        version: SchemaVersion,
        /// The tool.
        tool: Tool,
    },
    /// An applied file was changed.
    #[error(
        "plan over version {}: {} was edited after it was applied (applied {}, now {}); restore the file, or make \
         the change a new migration, or accept it with accept-edit",
        .0.version, .0.path.display(), .0.applied, .0.found
    )]
    Edited(Edited),
    /// The ledger has versions that the source lacks.
    #[error(
        "plan for this database: it is ahead of the directory, which lacks {}; use the directory of the newer release",
        list(.versions)
    )]
    AheadOfDirectory {
        /// The versions, in the ledger's order.
        versions: Vec<SchemaVersion>,
    },
    /// Pending versions lie below an applied one.
    #[error("plan pending {}: below version {highest}, which is applied already", list(.pending))]
    OutOfOrder {
        /// The pending versions below it, ascending.
        pending: Vec<SchemaVersion>,
        /// The highest applied version.
        highest: SchemaVersion,
    },
    /// The goal is no version of the source.
    #[error("plan to version {version}: there is no such version in the directory")]
    UnknownGoal {
        /// The version.
        version: SchemaVersion,
    },
    /// The goal of an up lies below the target's version.
    #[error("plan up to version {version}: the database is at {current} already; to go back, use down")]
    GoalBelowCurrent {
        /// The goal.
        version: SchemaVersion,
        /// The target's version.
        current: SchemaVersion,
    },
    /// The goal of a down is not applied.
    #[error("plan down to version {version}: it is not applied")]
    GoalNotApplied {
        /// The goal.
        version: SchemaVersion,
    },
    /// A down by no steps.
    #[error("plan down by 0 steps: say how many, at least 1")]
    NoSteps,
    /// A migration to take back has no down script.
    #[error("plan down over version {version}: {} has no down migration", up.display())]
    MissingDown {
        /// The version.
        version: SchemaVersion,
        /// Its up file.
        up: PathBuf,
    },
}

/// How a person clears the tool's mark.
pub(crate) fn how_to_clean(tool: Tool) -> &'static str {
    match tool {
        Tool::GolangMigrate => "migrate force VERSION",
        Tool::Flyway => "flyway repair",
        Tool::Sqlx => "set success to true in _sqlx_migrations, or delete the row",
        Tool::Pop | Tool::Goose | Tool::Dbmate | Tool::Refinery | Tool::Diesel => "in its table",
    }
}

fn list(versions: &[SchemaVersion]) -> String {
    let word = if versions.len() == 1 {
        "version"
    } else {
        "versions"
    };
    format!(
        "{word} {}",
        versions
            .iter()
            .map(SchemaVersion::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    )
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
    let matched = Matched::of(set, &ledger);
    let plan = steps(&matched, goal)?;
    let amendments = spelled.chain(matched.accepted()).collect();
    Ok(Plan { amendments, ..plan })
}

fn steps(matched: &Matched<'_>, goal: &Goal) -> Result<Plan, PlanError> {
    if let Some(edited) = matched.edited().next() {
        return Err(PlanError::Edited(edited));
    }
    let unknown = matched.unknown();
    if !unknown.is_empty() {
        return Err(PlanError::AheadOfDirectory { versions: unknown });
    }
    match goal {
        Goal::Latest => matched.up(matched.set.migrations.len()),
        Goal::To(version) => matched.up(matched.place_of_goal(version)? + 1),
        Goal::DownSteps(0) => Err(PlanError::NoSteps),
        Goal::DownSteps(steps) => matched.down(|from_top, _| from_top < *steps as usize),
        Goal::DownTo(None) => matched.down(|_, _| true),
        Goal::DownTo(Some(version)) => {
            let place = matched.place_of_goal(version)?;
            if matched.entries[place].is_none() {
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

/// A source with the ledger entry of each of its migrations.
struct Matched<'a> {
    set: &'a MigrationSet,
    ledger: &'a [LedgerEntry],
    /// Per migration, in the set's order.
    entries: Vec<Option<&'a LedgerEntry>>,
    /// Per ledger entry: whether the source has its version.
    known: Vec<bool>,
}

impl<'a> Matched<'a> {
    fn of(set: &'a MigrationSet, ledger: &'a [LedgerEntry]) -> Self {
        let mut entries = vec![None; set.migrations.len()];
        let mut known = vec![false; ledger.len()];
        for (at, entry) in ledger.iter().enumerate() {
            if let Some(place) = place_of(set, &entry.version) {
                entries[place] = Some(entry);
                known[at] = true;
            }
        }
        Self {
            set,
            ledger,
            entries,
            known,
        }
    }

    fn pairs(&self) -> impl DoubleEndedIterator<Item = (usize, &Arc<Migration>, Option<&'a LedgerEntry>)> {
        let pairs = self.set.migrations.iter().zip(&self.entries).enumerate();
        pairs
            .map(|(at, (migration, entry))| (at, migration, *entry))
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// The edits that nobody has accepted.
    fn edited(&self) -> impl Iterator<Item = Edited> {
        self.pairs()
            .filter(|(_, migration, _)| self.set.accepts(migration).is_none())
            .filter_map(|(_, migration, entry)| edit(migration, entry?))
    }

    /// The edits that the allow list accepts.
    fn accepted(&self) -> impl Iterator<Item = Amendment> {
        self.pairs().filter_map(|(_, migration, entry)| {
            let was = edit(migration, entry?)?.applied;
            Some(Amendment::AcceptEdit {
                migration: Arc::clone(migration),
                was,
                reason: self.set.accepts(migration)?.reason.clone(),
            })
        })
    }

    fn unknown(&self) -> Vec<SchemaVersion> {
        let pairs = self.ledger.iter().zip(&self.known);
        pairs
            .filter(|(_, known)| !**known)
            .map(|(entry, _)| entry.version.clone())
            .collect()
    }

    fn highest(&self) -> Option<usize> {
        self.entries.iter().rposition(Option::is_some)
    }

    fn version_at(&self, place: Option<usize>) -> Option<SchemaVersion> {
        place.map(|at| self.set.migrations[at].version.clone())
    }

    fn place_of_goal(&self, version: &SchemaVersion) -> Result<usize, PlanError> {
        place_of(self.set, version).ok_or_else(|| PlanError::UnknownGoal {
            version: version.clone(),
        })
    }

    /// Plans all migrations before place `end`.
    fn up(&self, end: usize) -> Result<Plan, PlanError> {
        let highest = self.highest();
        if let (Some(highest), Some(current)) = (highest, self.version_at(highest)) {
            let pending = self
                .pairs()
                .filter(|(at, _, entry)| *at < highest && entry.is_none());
            let pending = pending
                .map(|(_, migration, _)| migration.version.clone())
                .collect::<Vec<_>>();
            if !pending.is_empty() {
                return Err(PlanError::OutOfOrder {
                    pending,
                    highest: current,
                });
            }
            if end <= highest {
                let version = self.set.migrations[end - 1].version.clone();
                return Err(PlanError::GoalBelowCurrent { version, current });
            }
        }
        let start = highest.map_or(0, |at| at + 1);
        let steps = self.set.migrations[start..end].iter();
        let steps = steps.map(|m| Step {
            direction: Direction::Up,
            migration: Arc::clone(m),
        });
        Ok(Plan {
            steps: steps.collect(),
            from: self.version_at(highest),
            to: self.version_at(end.checked_sub(1)),
            amendments: Vec::new(),
        })
    }

    /// Plans to take back the applied migrations that `take` wants, told how many applied ones lie above each
    /// and its place.
    fn down(&self, take: impl Fn(usize, usize) -> bool) -> Result<Plan, PlanError> {
        let applied = self.pairs().rev().filter(|(_, _, entry)| entry.is_some());
        let (taken, kept): (Vec<_>, Vec<_>) = applied
            .enumerate()
            .partition(|(from_top, (at, _, _))| take(*from_top, *at));
        let step = |migration: &Arc<Migration>| match migration.down {
            Some(_) => Ok(Step {
                direction: Direction::Down,
                migration: Arc::clone(migration),
            }),
            None => Err(PlanError::MissingDown {
                version: migration.version.clone(),
                up: migration.up.path.clone(),
            }),
        };
        let steps = taken
            .into_iter()
            .map(|(_, (_, migration, _))| step(migration))
            .collect::<Result<_, _>>()?;
        let to = kept.first().map(|(_, (at, _, _))| *at);
        Ok(Plan {
            steps,
            from: self.version_at(self.highest()),
            to: self.version_at(to),
            amendments: Vec::new(),
        })
    }
}

fn place_of(set: &MigrationSet, version: &SchemaVersion) -> Option<usize> {
    set.migrations
        .binary_search_by(|m| set.order.compare(&m.version, version).unwrap_or(Ordering::Less))
        .ok()
        .filter(|at| set.same(&set.migrations[*at].version, version))
}

fn edit(migration: &Migration, entry: &LedgerEntry) -> Option<Edited> {
    (!entry.checksum_up.is_of(migration)).then(|| Edited {
        version: migration.version.clone(),
        path: migration.up.path.clone(),
        applied: entry.checksum_up.clone(),
        found: entry.checksum_up.same_kind_of(migration),
    })
}

/// The applied migrations whose files are no longer what ran, whether the allow list accepts that or not.
#[must_use]
pub fn edits(set: &MigrationSet, ledger: &[LedgerEntry]) -> Vec<(Arc<Migration>, Edited)> {
    let ledger = resolve(set, ledger);
    let matched = Matched::of(set, &ledger);
    let edits = matched
        .pairs()
        .filter_map(|(_, migration, entry)| Some((Arc::clone(migration), edit(migration, entry?)?)));
    edits.collect()
}

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
    /// In the source and not recorded.
    Pending,
    /// Recorded and not in the source.
    Missing,
    /// Recorded, and the file was changed since.
    Edited,
    /// Interrupted at a statement that nobody can judge, or failed half-way in the tool that keeps the ledger.
    InDoubt,
}

/// All versions of source and ledger, in the source's order.
#[must_use]
pub fn status(set: &MigrationSet, ledger: &[LedgerEntry]) -> Vec<StatusRow> {
    let ledger = resolve(set, ledger);
    let matched = Matched::of(set, &ledger);
    let mut rows = matched.pairs().map(|(_, migration, entry)| StatusRow {
        version: migration.version.clone(),
        name: migration.name.clone(),
        status: status_of(set, migration, entry),
        recorded: entry.map(|entry| entry.how),
    });
    let mut rows = rows.by_ref().collect::<Vec<_>>();
    for (entry, _) in ledger.iter().zip(&matched.known).filter(|(_, known)| !**known) {
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

fn status_of(set: &MigrationSet, migration: &Migration, entry: Option<&LedgerEntry>) -> VersionStatus {
    match entry {
        None => VersionStatus::Pending,
        Some(LedgerEntry {
            state: EntryState::InDoubt { .. } | EntryState::Dirty(_),
            ..
        }) => VersionStatus::InDoubt,
        Some(entry) if edit(migration, entry).is_some() && set.accepts(migration).is_none() => {
            VersionStatus::Edited
        }
        Some(_) => VersionStatus::Applied,
    }
}

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
    #[error("verify the ledger: version {later} was applied before version {earlier}")]
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
    let matched = Matched::of(set, &ledger);
    if let Some(edited) = matched.edited().next() {
        return Err(VerifyFailure::Checksum(edited));
    }
    let end = match expected {
        None => 0,
        Some(version) => {
            place_of(set, version).ok_or_else(|| VerifyFailure::UnknownVersion {
                version: version.clone(),
            })? + 1
        }
    };
    check_versions(&matched, end)?;
    check_order(set, &ledger)
}

fn check_versions(matched: &Matched<'_>, end: usize) -> Result<(), VerifyFailure> {
    let versions = |wanted: &dyn Fn(usize, bool) -> bool| {
        let pairs = matched
            .pairs()
            .filter(|(at, _, entry)| wanted(*at, entry.is_some()));
        pairs
            .map(|(_, migration, _)| migration.version.clone())
            .collect::<Vec<_>>()
    };
    let missing = versions(&|at, applied| at < end && !applied);
    if !missing.is_empty() {
        return Err(VerifyFailure::NotApplied { versions: missing });
    }
    let mut unplanned = versions(&|at, applied| at >= end && applied);
    unplanned.extend(matched.unknown());
    if !unplanned.is_empty() {
        return Err(VerifyFailure::Unplanned { versions: unplanned });
    }
    Ok(())
}

fn check_order(set: &MigrationSet, ledger: &[LedgerEntry]) -> Result<(), VerifyFailure> {
    for pair in ledger.windows(2) {
        if set.order.compare(&pair[0].version, &pair[1].version) != Some(Ordering::Less) {
            let (later, earlier) = (pair[0].version.clone(), pair[1].version.clone());
            return Err(VerifyFailure::Order { earlier, later });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
