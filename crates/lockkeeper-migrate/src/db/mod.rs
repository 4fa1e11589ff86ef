//! The database port: what the engine and the rollout driver ask of a target, whatever its dialect.
//!
//! Two traits. A [`Database`] looks at a target and takes it; a [`Hand`] is the leader's own hand: *one* direct
//! session that was registered in the gate row before its first statement and is never reconnected. Whatever
//! changes a target goes through a hand, and every change checks, inside the same transaction where the dialect
//! has one, that the gate row still names this hand's claim.
//!
//! The rules that every implementation keeps, and the conformance suite (`tests/conformance`) checks:
//!
//! * An epoch is taken only if it is larger than the row's, continued only if equal *and* of the same leader id.
//! * After [`Database::take`] has returned, no statement of an earlier hand can take effect any more.
//! * [`Hand::raise_barrier`] returns only when no writer that started before it can still commit, and from then
//!   on every writer but this hand is refused with `LK001` until the row's `opened` reaches the fence's epoch.
//! * [`Hand::open`] is one guarded update of the gate row. Nothing else opens.
//! * Everything is idempotent: a new leader issues the same command again.

mod break_glass;
pub mod create;
mod error;
pub(crate) mod findings;
mod measure;
pub mod mysql;
mod open;
pub mod postgres;
mod resolution;
mod retry;
pub mod scratch;
pub mod sqlite;
mod types;
mod upkeep;

pub use break_glass::{
    BreakGlass, ExecutorState, FenceState, Living, Release, ReleaseError, Released, break_glass,
};
pub use error::{ApplyError, DbError, TakeError};
pub use measure::{Algorithm, Blocks, Detail, Evidence, LockTaken, Measurement, Rewritten};
pub use open::open;
pub use resolution::{Doubt, Resolution, Ruling};
pub use types::{
    Applied, BarrierReport, Blocker, Books, Claim, DatabaseOptions, Event, ExecutorId, Finding, FindingLevel,
    GateRow, Guest, Inspection, LedgerWrite, NO_EPOCH_TABLE, Notice, Observer, Provenance, ServerIdentity,
    Silent, VerifyOutcome,
};

pub(crate) use upkeep::RestoreFrame;
pub use upkeep::{BackupRecord, RecordKind, Snapshot, Upkeep, Verified, upkeep};

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_core::version::SchemaVersion;

use crate::dialect::Dialect;
use crate::fingerprint::Schema;
use crate::ledger::{EditRecord, LedgerEntry};
use crate::source::{Migration, Script};
use crate::sql::Statement;

/// A target as seen from outside: it can be looked at and taken. Cheap to keep; opens sessions on demand.
#[async_trait]
pub trait Database: Send + Sync + fmt::Debug {
    /// The dialect that migrations for this target must be written in.
    fn dialect(&self) -> Dialect;

    /// Identity, gate row and ledger, in one read-only session. Creates nothing: on a target that lockkeeper has
    /// never touched, the row is `None` and the ledger empty.
    async fn inspect(&self) -> Result<Inspection, DbError>;

    /// The schema as it is now, in one read-only session, without lockkeeper's own objects.
    async fn schema(&self) -> Result<Schema, DbError>;

    /// Runs a verification script in a session of its own that may change nothing: see [`Hand::verify`].
    async fn verify(&self, statements: &[Statement]) -> Result<VerifyOutcome, DbError>;

    /// What would stop a fence or a migration: missing privileges (with the exact GRANT), a standby, tables that
    /// cannot be barred, subscriptions, replicas, prepared transactions, long transactions. Read-only.
    async fn preflight(&self) -> Result<Vec<Finding>, DbError>;

    /// Takes the target: makes lockkeeper's tables when they are missing, checks the claim against the gate row,
    /// ends the registered executor of an older claim and confirms that it is gone, then registers a new session.
    ///
    /// A standalone claim waits while another live executor is registered; a leader's claim ends it.
    /// `patience` bounds the whole call.
    async fn take(
        &self,
        claim: &Claim,
        patience: Duration,
        observer: &dyn Observer,
    ) -> Result<Box<dyn Hand>, TakeError>;

    /// Sessions that the executor waits for at this moment, read through a second session.
    async fn blockers(&self, executor: &ExecutorId) -> Result<Vec<Blocker>, DbError>;

    /// Ends the session `executor` (by both its identifiers) and waits until it is confirmed gone. Already gone
    /// is success. Used for a migration over its budget; taking over does the same by itself.
    async fn end_executor(&self, executor: &ExecutorId, patience: Duration) -> Result<(), DbError>;

    /// What keeps an external migrator from passing a fence here: whoever can run its commands is let in by a login of
    /// its own. Read-only.
    async fn guest_findings(&self) -> Result<Vec<Finding>, DbError> {
        Ok(vec![no_guests(self.dialect())])
    }

    /// Cancels the statement that the session `executor` runs at this moment; the session stays, and its call answers
    /// an error. Nothing running is success.
    async fn cancel(&self, executor: &ExecutorId) -> Result<(), DbError>;
}

/// The leader's own hand on one target: one registered session. Dropping it closes the session.
#[async_trait]
pub trait Hand: Send + Sync + fmt::Debug {
    /// The gate row as it stood when this hand was registered, or as this hand changed it since.
    fn gate_row(&self) -> &GateRow;

    /// This hand's session, as registered in the gate row.
    fn executor(&self) -> &ExecutorId;

    /// Records the fence in the gate row: `gate_epoch` becomes `epoch`, `opened` stays below it. Refuses an epoch
    /// that is lower than the row's, or that has been opened already; the same epoch again is success.
    async fn close(&mut self, epoch: GateEpoch, rollout: &str) -> Result<(), DbError>;

    /// Raises the barrier of the closed fence on every user table and waits out, or after `patience` ends, every
    /// older writer. Readers are never waited for longer than one short lock attempt. Idempotent. What is being
    /// waited for is told to `observer` at least once a second.
    async fn raise_barrier(
        &mut self,
        patience: Duration,
        observer: &dyn Observer,
    ) -> Result<BarrierReport, DbError>;

    /// Runs one direction of one migration and records it in the ledger: in one transaction where the script and
    /// the dialect allow it, else statement by statement with the journal. The ledger is looked at again under the
    /// row's lock first, so that a migration that is already there is [`Applied::Already`].
    /// A barrier that this hand raised stands again on every table before anything commits.
    async fn apply(
        &mut self,
        script: &Script,
        write: &LedgerWrite,
        observer: &dyn Observer,
    ) -> Result<Applied, ApplyError>;

    /// Makes a login for an external migrator. Its sessions pass the barrier of the closed fence until they are ended, or
    /// until a newer leader has taken the target.
    async fn admit_guest(&mut self) -> Result<Guest, DbError> {
        Err(DbError::Unsupported(
            "this database lets no external migrator through a fence".to_owned(),
        ))
    }

    /// Ends all such logins: none can log in any more, none of their sessions is left. Gives the sessions that were
    /// ended. Taking a target does the same.
    async fn end_guests(&mut self, _patience: Duration) -> Result<Vec<String>, DbError> {
        Ok(Vec::new())
    }

    /// The ledger as this session sees it, in the order in which it was applied.
    async fn ledger(&mut self) -> Result<Vec<LedgerEntry>, DbError>;

    /// The schema as this session sees it: what an opening would make visible.
    async fn schema(&mut self) -> Result<Schema, DbError>;

    /// Lockkeeper's own ledger, whichever was chosen.
    async fn own_ledger(&mut self) -> Result<Vec<LedgerEntry>, DbError>;

    /// Records versions as applied without running anything, and from then on keeps the history in the ledger that
    /// was chosen: in one transaction under the gate row, but for the making of a tool's table.
    async fn record(&mut self, versions: &[LedgerWrite]) -> Result<(), DbError>;

    /// Records that the file of an applied version was changed on purpose.
    async fn accept_edit(&mut self, migration: &Migration, edit: &EditRecord) -> Result<(), DbError>;

    /// The statements in doubt, in order of version and place.
    async fn doubts(&mut self) -> Result<Vec<Doubt>, DbError>;

    /// Settles a doubt as a person says, and records who and why. Refuses when nothing is in doubt there.
    async fn resolve(&mut self, doubt: &Doubt, resolution: &Resolution) -> Result<(), DbError>;

    /// Runs a query that answers one row of one column and gives it as text; NULL or no row is `None`.
    async fn scalar(&mut self, query: &str) -> Result<Option<String>, DbError>;

    /// Runs a verification script in a transaction that is rolled back: it fails by raising an error, or when its
    /// last query answers a first column that is false, 0 or NULL, or no row.
    async fn verify(&mut self, statements: &[Statement]) -> Result<VerifyOutcome, DbError>;

    /// Opens the gate in the target: one guarded update sets `opened` to `epoch` and the version. From this moment
    /// writers pass. Idempotent. On SQLite this is the commit of the whole fence.
    async fn open(&mut self, epoch: GateEpoch, version: Option<&SchemaVersion>) -> Result<(), DbError>;

    /// Drops what is left of barriers whose fence has been opened, with short lock attempts. Gives how many
    /// objects could not be dropped yet: they are inert, and a later call gets them.
    async fn clean_up(&mut self, observer: &dyn Observer) -> Result<usize, DbError>;

    /// Clears the registration and closes the session in good order.
    async fn release(self: Box<Self>) -> Result<(), DbError>;
}

/// The refusal of external migrators where no login of theirs could be told from anybody else's.
fn no_guests(dialect: Dialect) -> Finding {
    let (message, remedy) = match dialect {
        Dialect::Sqlite => (
            "an external migrator cannot pass the fence of a SQLite database, which is one write transaction",
            "give its files as migrations: {layout, dir}, or run it without lockkeeper",
        ),
        Dialect::MySql | Dialect::Postgres => (
            "external migrators are not supported on MariaDB and MySQL yet",
            "give its files as migrations: {layout, dir}",
        ),
    };
    Finding {
        level: FindingLevel::Error,
        code: "external-unsupported".to_owned(),
        message: message.to_owned(),
        remedy: remedy.to_owned(),
    }
}
