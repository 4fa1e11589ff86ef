//! Plain data that crosses the database port.

use std::fmt;
use std::time::Duration;

use lockkeeper_core::epoch::LeaderEpoch;
pub use lockkeeper_core::row::{ExecutorId, GateRow, ServerIdentity};
use lockkeeper_core::strength::Strength;
use lockkeeper_core::version::{SchemaVersion, VersionOrder};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::DbError;
use super::measure::{Detail, Measurement};
use crate::ledger::origin::{self, Facts};
use crate::ledger::resolve::newest;
use crate::ledger::{EditRecord, Fingerprint, How, LedgerChoice, LedgerEntry, Tool};

/// How to reach and treat a database, beside its DSN.
#[derive(Debug, Clone)]
pub struct DatabaseOptions {
    /// Longest wait for a new session.
    pub connect_timeout: Duration,
    /// Longest wait of one migration statement for a lock: as long as others may queue up behind it. A lock that is
    /// not had is tried for again, a dozen times, with pauses that let the others through.
    pub lock_timeout: Duration,
    /// Longest run of one migration statement; `None` is without limit.
    pub statement_timeout: Option<Duration>,
    /// SQLite only: make the file when it is missing.
    pub create_if_missing: bool,
    /// Where this target records what is applied.
    pub ledger: LedgerChoice,
    /// Strength of the fences that are raised here. At [`Strength::Epoch`] a gate has its epoch table.
    pub strength: Strength,
    /// How much is looked at while a migration runs.
    pub detail: Detail,
}

impl Default for DatabaseOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(2),
            statement_timeout: None,
            create_if_missing: false,
            ledger: LedgerChoice::Own,
            strength: Strength::default(),
            detail: Detail::Plain,
        }
    }
}

/// Under which right a target is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The fleet's leader: supersedes every smaller epoch.
    Leader {
        /// Its epoch.
        epoch: LeaderEpoch,
        /// Random id of this leader process.
        id: Uuid,
    },
    /// `lockkeeper migrate sql` without a fleet: waits for its turn, and refuses a target whose gate a rollout
    /// has closed.
    Standalone {
        /// Who runs it, for others to read: `user@host pid 4711`.
        who: String,
    },
}

/// A login for an external migrator's processes, valid until it is ended. `Debug` leaves the password out.
#[derive(Clone, PartialEq, Eq)]
pub struct Guest {
    /// The login's name.
    pub user: String,
    /// Its password.
    pub password: String,
}

impl std::fmt::Debug for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guest")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// What `inspect` found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// The server as it answers now.
    pub identity: ServerIdentity,
    /// Server product and release, for people: `PostgreSQL 15.18`.
    pub server: String,
    /// The gate row, if lockkeeper has been here.
    pub gate_row: Option<GateRow>,
    /// The ledger that was chosen, in the order in which it was applied.
    pub ledger: Vec<LedgerEntry>,
    /// The state tables of other tools that are here, in order of name.
    pub other_ledgers: Vec<String>,
    /// Which ledger this is, and what else is recorded.
    pub books: Books,
}

/// Which ledger a target has, and which it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Books {
    /// The ledger that was asked for.
    pub chosen: LedgerChoice,
    /// The one that holds the history, as lockkeeper has recorded it.
    pub kept: LedgerChoice,
    /// Lockkeeper's own ledger, where another one was asked for.
    pub own: Vec<LedgerEntry>,
    /// The edits that were accepted, oldest first.
    pub edits: Vec<EditRecord>,
}

/// The names of the tools' state tables as a list of SQL text literals.
pub(crate) fn other_ledgers_literals() -> String {
    let names: Vec<String> = Tool::tables().iter().map(|name| format!("'{name}'")).collect();
    names.join(", ")
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingLevel {
    /// Worth knowing.
    Info,
    /// The fence works, but something is outside of it or will be slow.
    Warning,
    /// The fence or the migration cannot work: preflight refuses.
    Error,
}

/// One thing that preflight found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub level: FindingLevel,
    /// Stable name, for example `not-owner`.
    pub code: String,
    /// What was found, naming the object.
    pub message: String,
    /// What to do about it: the exact statement where there is one.
    pub remedy: String,
}

/// Code of the finding that writers cannot carry the epoch of the gate that is open now.
pub const NO_EPOCH_TABLE: &str = "no-epoch-table";

/// The target is of strength EPOCH, and its gate was opened before it was.
pub(crate) fn no_epoch_table() -> Finding {
    Finding {
        level: FindingLevel::Warning,
        code: NO_EPOCH_TABLE.to_owned(),
        message:
            "writers carry no gate epoch yet: the gate was opened before the target was of strength epoch"
                .to_owned(),
        remedy:
            "run a rollout that requires barrier: its opening brings the epoch table; or remove the target \
                 and declare it again"
                .to_owned(),
    }
}

/// A session or transaction that something is being waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocker {
    /// `session` or `prepared transaction`.
    pub kind: String,
    /// pid, connection id, or the prepared transaction's name.
    pub id: String,
    /// Database user, where it can be seen.
    pub user: Option<String>,
    /// Application name, or program, or client host.
    pub application: Option<String>,
    /// What it runs or ran last, shortened; `None` when it may not be seen.
    pub query: Option<String>,
    /// Age of its transaction (or statement), in milliseconds.
    pub age_ms: u64,
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.id)?;
        if let Some(user) = &self.user {
            write!(f, " of {user}")?;
        }
        if let Some(application) = self.application.as_deref().filter(|a| !a.is_empty()) {
            write!(f, " ({application})")?;
        }
        #[expect(clippy::cast_precision_loss, reason = "seconds for people")]
        let seconds = self.age_ms as f64 / 1000.0;
        write!(f, ", {seconds:.1} s old")?;
        match self.query.as_deref().filter(|q| !q.is_empty()) {
            Some(query) => write!(f, ": {query}"),
            None => Ok(()),
        }
    }
}

/// What raising the barrier did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BarrierReport {
    /// Tables that carry the barrier now, in order of name.
    pub tables: Vec<String>,
    /// Sessions that were ended because they did not finish within the patience.
    pub ended: Vec<Blocker>,
    /// Whether a barrier of the same fence already stood on every table, so that no writer can have come between.
    pub continued: bool,
}

/// A server's message beside its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// `NOTICE`, `WARNING`, `Note`, …
    pub severity: String,
    /// The text.
    pub message: String,
}

/// What `apply` records in the ledger when it succeeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerWrite {
    /// The version that is applied or reverted.
    pub version: SchemaVersion,
    /// The migration's name, for people.
    pub name: String,
    /// Checksum of the *up* script, whatever the direction.
    pub checksum: String,
    /// Which way.
    pub direction: crate::source::Direction,
    /// Layout it was read from.
    pub layout: String,
    /// Who runs it.
    pub applied_by: String,
    /// How it comes to be recorded, when it did not just run.
    pub provenance: Provenance,
    /// What another tool's row tells of it; needed where such a ledger is kept.
    pub facts: Option<Facts>,
}

impl LedgerWrite {
    /// Whether it runs again when its file has changed.
    pub(crate) fn is_repeatable(&self) -> bool {
        let facts = self.facts.as_ref();
        facts.is_some_and(|facts| facts.migration.kind.is_repeatable())
    }

    /// Whether a row with this fingerprint is that of the file as it is now. Only a repeatable migration may differ.
    pub(crate) fn is_current(&self, recorded: &Fingerprint) -> bool {
        match &self.facts {
            Some(facts) if facts.migration.kind.is_repeatable() => recorded.is_of(&facts.migration),
            Some(_) | None => true,
        }
    }

    /// Whether a tool's entries hold the version, of the file as it is now.
    pub(crate) fn is_held_by(&self, entries: &[LedgerEntry], order: VersionOrder) -> bool {
        newest(entries, order, &self.version).is_some_and(|recorded| self.is_current(&recorded))
    }

    /// The changes of a tool's table that `make` makes of this.
    pub(crate) fn tool_changes(
        &self,
        duration: Duration,
        make: impl FnOnce(&origin::Event<'_>) -> Vec<origin::Change>,
    ) -> Result<Vec<origin::Change>, DbError> {
        let facts = self.facts.as_ref().ok_or_else(|| {
            DbError::Unsupported(format!(
                "version {}: its file is needed for the tool's row",
                self.version
            ))
        })?;
        let now = || jiff::Timestamp::now().as_millisecond();
        Ok(make(&origin::Event {
            facts,
            direction: self.direction,
            how: self.provenance.how,
            duration: self.provenance.duration.unwrap_or(duration),
            at_unix_ms: self.provenance.applied_at_unix_ms.unwrap_or_else(now),
        }))
    }
}

/// How a version comes to be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Provenance {
    /// Whether it ran.
    pub how: How,
    /// When it was applied, in milliseconds since 1970, when that was not just now.
    pub applied_at_unix_ms: Option<i64>,
    /// How long it had taken, when it did not just run.
    pub duration: Option<Duration>,
}

/// What became of an `apply`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// It ran.
    Ran {
        /// How long it took.
        duration: Duration,
        /// What the server said meanwhile.
        notices: Vec<Notice>,
    },
    /// The ledger already said so (another runner did it, or an earlier try whose answer was lost).
    Already,
}

/// What a verification script said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifyOutcome {
    /// Nothing raised, and the last query was true.
    Passed,
    /// Why not.
    Failed(String),
}

/// Something worth showing while a call runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Statement `index` of `total` starts (both count from 1).
    Statement {
        /// Which one.
        index: usize,
        /// Of how many.
        total: usize,
        /// Its first line, shortened.
        text: String,
    },
    /// The call waits for these.
    Waiting {
        /// For what: `lock on public.t`, `transactions older than the barrier`, `another migrator`.
        what: String,
        /// Who is in the way, as far as it can be seen.
        blockers: Vec<Blocker>,
    },
    /// A session was ended.
    Ended(Blocker),
    /// The server said something.
    Notice(Notice),
    /// A statement came to its end. Told with [`Detail::Measured`] only; again when it had to be tried again.
    Measured(Measurement),
}

/// Receives progress. Called from within the port's methods: must not block.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn event(&self, event: Event);

    /// Whether the run is being stopped. Asked before anything is tried again or begun: what runs is cancelled by
    /// [`Database::cancel`](super::Database::cancel).
    fn is_stopping(&self) -> bool {
        false
    }
}

/// An observer that listens to nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _: Event) {}
}
