//! Asks the promises' predicates of everything that the simulated databases and the simulated store do.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lockkeeper_coordinator::records::{ProgressRecord, key};
use lockkeeper_coordinator::store::Entry;
use lockkeeper_core::epoch::{GateEpoch, LeaderEpoch};
use lockkeeper_core::gate::Gate;
use lockkeeper_core::invariant::{self, Violation};
use lockkeeper_core::rollout::{Goal, State};
use lockkeeper_core::row::{ExecutorId, GateRow};
use lockkeeper_core::strength::Strength;
use lockkeeper_core::version::SchemaVersion;
use lockkeeper_migrate::source::Direction;

use crate::store::Committed;
use crate::tell;
use crate::trace::Trace;

/// Statements that each simulated migration has.
pub const STATEMENTS: usize = 3;

/// Watches one run. Its clones are the same watcher.
#[derive(Clone)]
pub struct Checker {
    trace: Trace,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    targets: BTreeMap<String, Target>,
    counts: Counts,
}

/// What one run has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Writes that users' transactions have committed.
    pub writes: usize,
    /// Writes that the database refused.
    pub refused: usize,
    /// Fences that were raised.
    pub fences: usize,
    /// Gates that were opened.
    pub openings: usize,
    /// Statements of migrations that took effect.
    pub statements: usize,
    /// Times that a target was taken.
    pub takes: usize,
}

impl std::ops::Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            writes: self.writes + other.writes,
            refused: self.refused + other.refused,
            fences: self.fences + other.fences,
            openings: self.openings + other.openings,
            statements: self.statements + other.statements,
            takes: self.takes + other.takes,
        }
    }
}

#[derive(Default)]
struct Target {
    strength: Strength,
    row: Option<GateRow>,
    /// The fence that stands.
    quiet: Option<GateEpoch>,
    /// How often each statement's effect is there.
    effects: BTreeMap<u64, [i32; STATEMENTS]>,
    /// The fence under which a statement ran last.
    changed_under: GateEpoch,
    state: Option<State>,
    /// What the verify script said last, and under which fence.
    verified: Option<(Option<GateEpoch>, bool)>,
}

impl fmt::Debug for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Checker")
    }
}

/// Whose statement it is.
#[derive(Debug, Clone)]
pub struct By {
    /// The session.
    pub executor: ExecutorId,
    /// The epoch under which it was registered.
    pub epoch: LeaderEpoch,
}

/// A write of a user's transaction.
#[derive(Debug, Clone)]
pub struct UserWrite {
    /// Who.
    pub who: String,
    /// Its number.
    pub number: u64,
    /// The gate epoch that it carries.
    pub carried: Option<GateEpoch>,
}

impl Checker {
    /// One that has seen nothing.
    #[must_use]
    pub fn new(trace: &Trace) -> Self {
        Self {
            trace: trace.clone(),
            seen: Arc::default(),
        }
    }

    /// The trace it writes to.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// There is a target of this strength.
    pub fn target(&self, name: &str, strength: Strength) {
        self.seen().targets.entry(name.to_owned()).or_default().strength = strength;
    }

    /// What was seen so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.seen().counts
    }

    /// A target's gate row has changed.
    pub fn row_changed(&self, target: &str, after: &GateRow) {
        let mut seen = self.seen();
        let seen = &mut *seen;
        let known = seen.targets.entry(target.to_owned()).or_default();
        let before = known.row.replace(after.clone());
        let Some(before) = before else { return };
        tell!(
            self.trace,
            target,
            "row {}: {} opened {}, executor {:?}",
            after.leader_epoch,
            after.gate_epoch,
            after.opened,
            after.executor.as_ref().map(|e| &e.session)
        );
        self.judge(invariant::row_change(&before, after));
        if before.leader_epoch < after.leader_epoch {
            seen.counts.takes += 1;
        }
        if before.opened < after.opened {
            seen.counts.openings += 1;
            self.opened(known, after);
        }
    }

    fn opened(&self, known: &mut Target, row: &GateRow) {
        known.quiet = None;
        if !matches!(known.state, Some(State::Opening(_))) {
            let text = format!("the row opens {} in state {:?}", row.opened, known.state);
            self.judge(Err(Violation::Unverified(text)));
        }
        if known.state == Some(State::Opening(Goal::New))
            && known.verified == Some((Some(row.gate_epoch), false))
        {
            let text = format!("{} opens, and its verify script has failed", row.opened);
            self.judge(Err(Violation::Unverified(text)));
        }
        if known.effects.values().any(is_partial) {
            let text = format!(
                "{} opens over a part of a migration: {:?}",
                row.opened, known.effects
            );
            self.judge(Err(Violation::Unverified(text)));
        }
        let whole = known
            .effects
            .iter()
            .filter(|(_, statements)| statements.iter().all(|n| *n == 1));
        let found = whole
            .map(|(version, _)| SchemaVersion(version.to_string()))
            .next_back();
        self.judge(invariant::opened_at(row.version.as_ref(), found.as_ref()));
    }

    /// The barrier of this fence stands, and no older writer is left.
    pub fn raised(&self, target: &str, fence: GateEpoch) {
        tell!(self.trace, target, "{fence} is raised");
        let mut seen = self.seen();
        seen.counts.fences += 1;
        seen.targets.entry(target.to_owned()).or_default().quiet = Some(fence);
    }

    /// A user's transaction has committed.
    pub fn user_committed(&self, target: &str, write: &UserWrite) {
        let mut seen = self.seen();
        seen.counts.writes += 1;
        let known = seen.targets.entry(target.to_owned()).or_default();
        tell!(
            self.trace,
            target,
            "{} commits {} ({:?})",
            write.who,
            write.number,
            write.carried
        );
        let quiet = if known.quiet.is_some() {
            invariant::quiet(&[], &[(&write.who, write.number)])
        } else {
            Ok(())
        };
        self.judge(quiet);
        // An abort before any statement ran opens a gate that older writes may still pass: nothing has changed for them.
        let changed = known.changed_under;
        if known.strength.has_epoch() && write.carried.is_some_and(|carried| carried < changed) {
            let who = format!(
                "a write of {:?} commits over a schema of {changed}",
                write.carried
            );
            self.trace.violated(&format_args!("{who}"));
        }
    }

    /// The database has refused a user's statement.
    pub fn user_refused(&self, target: &str) {
        let mut seen = self.seen();
        seen.counts.refused += 1;
        let known = seen.targets.entry(target.to_owned()).or_default();
        if let Some(row) = known.row.as_ref() {
            self.judge(invariant::open_to_all(row, lockkeeper_core::row::Verdict::Fenced));
        }
    }

    /// A statement of a migration has taken effect.
    pub fn effect(
        &self,
        target: &str,
        version: &SchemaVersion,
        direction: Direction,
        statement: usize,
        by: &By,
    ) {
        let mut seen = self.seen();
        let seen = &mut *seen;
        seen.counts.statements += 1;
        let known = seen.targets.entry(target.to_owned()).or_default();
        tell!(
            self.trace,
            target,
            "{version} {direction:?} statement {statement} of {} takes effect",
            by.epoch
        );
        if let Some(row) = known.row.as_ref()
            && row.executor.as_ref() != Some(&by.executor)
        {
            self.judge(invariant::one_hand(by.epoch, row.leader_epoch));
        }
        if known.quiet.is_none() {
            let text = format!("a statement of {version} runs, and no fence stands");
            self.judge(Err(Violation::Unverified(text)));
        }
        known.changed_under = known.row.as_ref().map_or(GateEpoch::ZERO, |row| row.gate_epoch);
        let statements = known.effects.entry(number(version)).or_default();
        statements[statement] += match direction {
            Direction::Up => 1,
            Direction::Down => -1,
        };
        if !(0..=1).contains(&statements[statement]) {
            self.judge(Err(Violation::NotOnce {
                version: version.clone(),
                times: usize::try_from(statements[statement]).unwrap_or_default(),
            }));
        }
    }

    /// The target's verify script was run.
    pub fn verified(&self, target: &str, fence: Option<GateEpoch>, passed: bool) {
        self.seen().targets.entry(target.to_owned()).or_default().verified = Some((fence, passed));
    }

    /// Whether a statement's effect can be seen in the target.
    #[must_use]
    pub fn is_there(&self, target: &str, version: &SchemaVersion, statement: usize) -> bool {
        let seen = self.seen();
        let effects = seen
            .targets
            .get(target)
            .and_then(|known| known.effects.get(&number(version)));
        effects.is_some_and(|statements| statements[statement] > 0)
    }

    /// The store has committed.
    pub fn committed(&self, committed: &Committed<'_>) {
        for (before, after) in &committed.changes {
            let Some(after) = after else { continue };
            if let Some(target) = after.key.strip_prefix(key::GATES) {
                self.gate(target, *before, after);
            }
            if let Some(path) = after.key.strip_prefix(key::PROGRESS) {
                self.progress(path, *before, after);
            }
        }
    }

    fn gate(&self, target: &str, before: Option<&Entry>, after: &Entry) {
        let (Some(before), Some(after)) = (before.and_then(read::<Gate>), read::<Gate>(after)) else {
            return;
        };
        tell!(
            self.trace,
            "store",
            "gate {target}: {} {}",
            after.epoch,
            position(&after)
        );
        self.judge(invariant::gate_change(&before, &after));
        if let Some(row) = self
            .seen()
            .targets
            .get(target)
            .and_then(|known| known.row.as_ref())
        {
            self.judge(invariant::open_order(&after, row));
        }
    }

    fn progress(&self, path: &str, before: Option<&Entry>, after: &Entry) {
        let Some(record) = read::<ProgressRecord>(after) else {
            return;
        };
        let Some((rollout, target)) = path.split_once('/') else {
            return;
        };
        let before = before.and_then(read::<ProgressRecord>);
        if before.as_ref().map(|b| b.target.state) != Some(record.target.state) {
            let (state, why) = (record.target.state, &record.target.reason);
            tell!(self.trace, "store", "{rollout} {target}: {state:?} {why}");
        }
        self.judge(invariant::progress(&record.target));
        if let Some(before) = before {
            self.judge(invariant::opens_verified(&before.target, &record.target));
        }
        let mut seen = self.seen();
        let known = seen.targets.entry(target.to_owned()).or_default();
        // With nothing but leases, the fence stands when the driver says so.
        let drained =
            matches!(record.target.state, State::Fencing | State::Migrating) && !record.drained_by.is_empty();
        if !known.strength.has_barrier() && drained && known.quiet.is_none() {
            known.quiet = record.target.gate_epoch;
        }
        known.state = Some(record.target.state);
    }

    fn judge(&self, verdict: Result<(), Violation>) {
        if let Err(violation) = verdict {
            self.trace.violated(&format_args!("{violation}"));
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn number(version: &SchemaVersion) -> u64 {
    version.0.parse().unwrap_or(0)
}

fn is_partial(statements: &[i32; STATEMENTS]) -> bool {
    let there = statements.iter().filter(|n| **n > 0).count();
    there != 0 && there != STATEMENTS
}

fn position(gate: &Gate) -> &'static str {
    if gate.is_open() { "open" } else { "closed" }
}

fn read<T: serde::de::DeserializeOwned>(entry: &Entry) -> Option<T> {
    serde_json::from_slice(&entry.value).ok()
}
