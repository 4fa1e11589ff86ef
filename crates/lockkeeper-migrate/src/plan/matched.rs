//! A source as one ledger sees it.

use std::cmp::Ordering;
use std::sync::Arc;

use lockkeeper_core::version::SchemaVersion;

use super::error::{Edited, PlanError};
use super::{Amendment, Plan, Step};
use crate::ledger::LedgerEntry;
use crate::source::{Direction, Migration, MigrationKind, MigrationSet, OutOfOrder};

/// The migrations that count for a ledger, each with its entry.
pub(super) struct Matched<'a> {
    set: &'a MigrationSet,
    ledger: &'a [LedgerEntry],
    /// In the set's order, repeatable ones last. A baseline stands in place of the versions up to its own.
    migrations: Vec<&'a Arc<Migration>>,
    /// Per migration.
    entries: Vec<Option<&'a LedgerEntry>>,
    /// Per ledger entry: whether the source has its version.
    known: Vec<bool>,
}

/// One migration and how it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) at: usize,
    pub(super) migration: &'a Arc<Migration>,
    pub(super) entry: Option<&'a LedgerEntry>,
}

impl Place<'_> {
    /// Whether it would run: it never did, or it is repeatable and its file has changed.
    pub(super) fn is_pending(&self) -> bool {
        match self.entry {
            None => true,
            Some(entry) => self.migration.kind.is_repeatable() && !entry.checksum_up.is_of(self.migration),
        }
    }

    /// How its file differs from what ran, where that is wrong.
    pub(super) fn edited(&self) -> Option<Edited> {
        let entry = self.entry?;
        let differs = !self.migration.kind.is_repeatable() && !entry.checksum_up.is_of(self.migration);
        differs.then(|| Edited {
            version: self.migration.version.clone(),
            path: self.migration.up.path.clone(),
            applied: entry.checksum_up.clone(),
            found: entry.checksum_up.same_kind_of(self.migration),
        })
    }
}

impl<'a> Matched<'a> {
    pub(super) fn of(set: &'a MigrationSet, ledger: &'a [LedgerEntry]) -> Self {
        Self::with(set, ledger, baseline(set, ledger, None))
    }

    /// For a goal: no baseline above it is taken.
    pub(super) fn up_to(set: &'a MigrationSet, ledger: &'a [LedgerEntry], goal: &SchemaVersion) -> Self {
        Self::with(set, ledger, baseline(set, ledger, Some(goal)))
    }

    fn with(set: &'a MigrationSet, ledger: &'a [LedgerEntry], baseline: Option<&'a Arc<Migration>>) -> Self {
        let counts = |m: &&Arc<Migration>| baseline.is_none_or(|b| is_above(set, &m.version, &b.version));
        let migrations = baseline
            .into_iter()
            .chain(set.migrations.iter().filter(counts))
            .collect::<Vec<_>>();
        let mut matched = Self {
            set,
            ledger,
            entries: vec![None; migrations.len()],
            migrations,
            known: vec![false; ledger.len()],
        };
        for (at, entry) in ledger.iter().enumerate() {
            if let Some(place) = matched.place_of(&entry.version) {
                matched.entries[place] = Some(entry);
                matched.known[at] = true;
            }
        }
        matched
    }

    /// The migrations, in order.
    pub(super) fn places(&self) -> impl DoubleEndedIterator<Item = Place<'a>> + '_ {
        (0..self.migrations.len()).map(|at| Place {
            at,
            migration: self.migrations[at],
            entry: self.entries[at],
        })
    }

    /// Those that a version counts: all but the repeatable ones.
    pub(super) fn steps_of_the_version(&self) -> impl DoubleEndedIterator<Item = Place<'a>> + '_ {
        self.places()
            .filter(|place| !place.migration.kind.is_repeatable())
    }

    /// How many of the migrations a version counts.
    pub(super) fn versioned(&self) -> usize {
        self.steps_of_the_version().count()
    }

    pub(super) fn is_applied(&self, place: usize) -> bool {
        self.entries[place].is_some()
    }

    /// An edit that nobody has accepted.
    pub(super) fn edited(&self) -> Option<Edited> {
        let mut open = self.places().filter(|place| !self.accepts(place));
        open.find_map(|place| place.edited())
    }

    /// Whether the allow list accepts an edit of it.
    pub(super) fn accepts(&self, place: &Place<'_>) -> bool {
        self.set.accepts(place.migration).is_some()
    }

    /// The edits that the allow list accepts.
    pub(super) fn accepted(&self) -> impl Iterator<Item = Amendment> + '_ {
        self.places().filter_map(|place| {
            Some(Amendment::AcceptEdit {
                migration: Arc::clone(place.migration),
                was: place.edited()?.applied,
                reason: self.set.accepts(place.migration)?.reason.clone(),
            })
        })
    }

    /// Ledger entries of versions that the source lacks.
    pub(super) fn unknown_entries(&self) -> impl Iterator<Item = &'a LedgerEntry> + '_ {
        let pairs = self.ledger.iter().zip(&self.known);
        pairs.filter(|(_, known)| !**known).map(|(entry, _)| entry)
    }

    pub(super) fn unknown(&self) -> Vec<SchemaVersion> {
        self.unknown_entries()
            .map(|entry| entry.version.clone())
            .collect()
    }

    /// The place of the highest applied version.
    fn highest(&self) -> Option<usize> {
        let applied = self.steps_of_the_version().rfind(|place| place.entry.is_some());
        applied.map(|place| place.at)
    }

    fn version_at(&self, place: Option<usize>) -> Option<SchemaVersion> {
        place.map(|at| self.migrations[at].version.clone())
    }

    /// The migration of a ledger entry, if the source has it.
    pub(super) fn migration_of(&self, entry: &LedgerEntry) -> Option<&'a Arc<Migration>> {
        self.place_of(&entry.version).map(|at| self.migrations[at])
    }

    pub(super) fn place_of(&self, version: &SchemaVersion) -> Option<usize> {
        let order = self.set.order;
        self.migrations
            .binary_search_by(|m| order.compare(&m.version, version).unwrap_or(Ordering::Less))
            .ok()
            .filter(|at| self.set.same(&self.migrations[*at].version, version))
    }

    pub(super) fn place_of_goal(&self, version: &SchemaVersion) -> Result<usize, PlanError> {
        let place = self.place_of(version).filter(|_| !version.is_repeatable());
        place.ok_or_else(|| PlanError::UnknownGoal {
            version: version.clone(),
        })
    }

    /// Whether a migration may run below an applied version.
    pub(super) fn may_be_late(&self, kind: MigrationKind) -> bool {
        match kind {
            MigrationKind::Late => true,
            MigrationKind::Versioned | MigrationKind::Repeatable | MigrationKind::Baseline => {
                self.set.out_of_order == OutOfOrder::Allow
            }
        }
    }

    /// Plans all pending migrations before place `end`, then the repeatable ones.
    pub(super) fn up(&self, end: usize) -> Result<Plan, PlanError> {
        let highest = self.highest();
        self.check_late(highest)?;
        let pending = |place: &Place<'_>| place.is_pending();
        let versioned = self
            .steps_of_the_version()
            .take(end)
            .filter(pending)
            .collect::<Vec<_>>();
        if let (Some(highest), Some(current)) = (highest, self.version_at(highest))
            && end <= highest
            && versioned.is_empty()
        {
            let version = self.migrations[end - 1].version.clone();
            return Err(PlanError::GoalBelowCurrent { version, current });
        }
        let repeatable = self.places().filter(|place| place.migration.kind.is_repeatable());
        let steps = versioned.into_iter().chain(repeatable.filter(pending));
        Ok(Plan {
            steps: steps.map(|place| step(Direction::Up, place.migration)).collect(),
            from: self.version_at(highest),
            to: self.version_at(highest.max(end.checked_sub(1))),
            amendments: Vec::new(),
        })
    }

    fn check_late(&self, highest: Option<usize>) -> Result<(), PlanError> {
        let Some(highest) = highest else { return Ok(()) };
        let below = self.steps_of_the_version().take(highest);
        let late = below.filter(|place| place.entry.is_none() && !self.may_be_late(place.migration.kind));
        let pending = late
            .map(|place| place.migration.version.clone())
            .collect::<Vec<_>>();
        if pending.is_empty() {
            return Ok(());
        }
        Err(PlanError::OutOfOrder {
            pending,
            highest: self.migrations[highest].version.clone(),
        })
    }

    /// Plans to take back the applied migrations that `take` wants, told how many applied ones lie above each
    /// and its place. Repeatable ones stay.
    pub(super) fn down(&self, take: impl Fn(usize, usize) -> bool) -> Result<Plan, PlanError> {
        let applied = self
            .steps_of_the_version()
            .rev()
            .filter(|place| place.entry.is_some());
        let (taken, kept): (Vec<_>, Vec<_>) = applied
            .enumerate()
            .partition(|(from_top, place)| take(*from_top, place.at));
        let down = |migration: &Arc<Migration>| match (&migration.down, &migration.down_problem) {
            (Some(_), _) => Ok(step(Direction::Down, migration)),
            (None, Some(problem)) => Err(PlanError::BrokenDown {
                version: migration.version.clone(),
                problem: problem.clone(),
            }),
            (None, None) => Err(PlanError::MissingDown {
                version: migration.version.clone(),
                up: migration.up.path.clone(),
            }),
        };
        let steps = taken
            .into_iter()
            .map(|(_, place)| down(place.migration))
            .collect::<Result<_, _>>()?;
        Ok(Plan {
            steps,
            from: self.version_at(self.highest()),
            to: self.version_at(kept.first().map(|(_, place)| place.at)),
            amendments: Vec::new(),
        })
    }
}

fn step(direction: Direction, migration: &Arc<Migration>) -> Step {
    Step {
        direction,
        migration: Arc::clone(migration),
    }
}

fn is_above(set: &MigrationSet, version: &SchemaVersion, other: &SchemaVersion) -> bool {
    set.order.compare(version, other) == Some(Ordering::Greater)
}

/// The baseline that this ledger began with, or would begin with on its way to `goal`.
fn baseline<'a>(
    set: &'a MigrationSet,
    ledger: &[LedgerEntry],
    goal: Option<&SchemaVersion>,
) -> Option<&'a Arc<Migration>> {
    let mut entries = ledger.iter().filter(|entry| !entry.version.is_repeatable());
    let Some(first) = entries.next() else {
        return set
            .baselines
            .iter()
            .rfind(|b| goal.is_none_or(|goal| !is_above(set, &b.version, goal)));
    };
    let lowest = entries.fold(first, |lowest, entry| {
        if is_above(set, &lowest.version, &entry.version) {
            entry
        } else {
            lowest
        }
    });
    let baseline = set
        .baselines
        .iter()
        .find(|b| set.same(&b.version, &lowest.version))?;
    // A versioned migration may have the same version. Where others lie below it, it cannot have been the first.
    let twin = set.get(&lowest.version);
    let below = set
        .migrations
        .first()
        .is_some_and(|m| is_above(set, &lowest.version, &m.version));
    let began = twin.is_none() || below || lowest.checksum_up.is_of(baseline);
    began.then_some(baseline)
}
