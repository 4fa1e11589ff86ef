//! What can go wrong at the database port, each kind once.

use lockkeeper_core::epoch::{GateEpoch, LeaderEpoch};
use lockkeeper_core::row::{Behind, Refused};

use super::types::{Blocker, ServerIdentity};
use crate::ledger::LedgerChoice;

/// A failed operation. Texts never hold a password.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// No session could be had.
    #[error("connect to {place}: {reason}")]
    Unreachable {
        /// Scheme, host, port and database, without user and password.
        place: String,
        /// The driver's words.
        reason: String,
    },
    /// The role may not do what is needed.
    #[error("missing permission: {what}; {remedy}")]
    Permission {
        /// What was refused.
        what: String,
        /// The GRANT that helps.
        remedy: String,
    },
    /// A newer leader (or another executor) has taken the target: stop, do not retry.
    #[error("superseded: the target was taken by {by}")]
    Superseded {
        /// Epoch or session that the gate row names now.
        by: String,
    },
    /// The server is not the one that the gate row was written on: a restored copy, a clone, or a failover.
    #[error("server identity changed: the gate row was written on {recorded}, this is {seen}")]
    IdentityChanged {
        /// What the row says.
        recorded: ServerIdentity,
        /// What the server says.
        seen: ServerIdentity,
    },
    /// A gate epoch that is lower than the row's.
    #[error("gate epoch {given} is behind the target's {recorded}")]
    EpochBehind {
        /// What was asked for.
        given: GateEpoch,
        /// What the row says.
        recorded: GateEpoch,
    },
    /// A wait took longer than allowed.
    #[error("timed out while waiting for {what}{}", list(blockers))]
    TimedOut {
        /// For what.
        what: String,
        /// Who was in the way.
        blockers: Vec<Blocker>,
    },
    /// Lockkeeper's own tables have another shape than this release knows.
    #[error("table {table} has an unexpected shape: {detail}")]
    ForeignTable {
        /// Which one.
        table: String,
        /// What differs.
        detail: String,
    },
    /// Lockkeeper's own tables were written by a newer release.
    #[error(
        "lockkeeper's tables here have format {found}, written by lockkeeper {made_by}, and this release knows \
         formats up to {known}: use that release or a newer one"
    )]
    NewerFormat {
        /// The format that was found.
        found: i64,
        /// The newest one that this release knows.
        known: i64,
        /// The release that wrote it.
        made_by: String,
    },
    /// The history is kept in another ledger than the one that was chosen.
    #[error(
        "the history of this database is kept in the ledger {kept}, not in {chosen}: use --ledger {kept}, or adopt it first"
    )]
    OtherBook {
        /// The ledger that holds it.
        kept: LedgerChoice,
        /// The one that was asked for.
        chosen: LedgerChoice,
    },
    /// The session is gone; what it was doing may or may not have taken effect.
    #[error("connection lost: {0}")]
    ConnectionLost(String),
    /// The server refused a statement.
    #[error("database error {code}: {message}")]
    Server {
        /// SQLSTATE, or the driver's code.
        code: String,
        /// The server's words.
        message: String,
    },
    /// What this dialect cannot do.
    #[error("{0}")]
    Unsupported(String),
}

fn list(blockers: &[Blocker]) -> String {
    if blockers.is_empty() {
        return String::new();
    }
    let names: Vec<String> = blockers.iter().map(ToString::to_string).collect();
    format!(": {}", names.join("; "))
}

impl DbError {
    /// The row is not at the fence `given`.
    pub(super) fn behind(behind: Behind, given: GateEpoch) -> Self {
        Self::EpochBehind {
            given,
            recorded: behind.recorded,
        }
    }
}

/// Why a target could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The target has seen a larger epoch than the store gave: the store went back in time.
    #[error(
        "target is ahead of the store: it has seen {recorded}, this leader is {claimed}; \
         the store was restored or rebuilt, or another fleet works on this target"
    )]
    TargetAhead {
        /// What the row says.
        recorded: LeaderEpoch,
        /// What was claimed.
        claimed: LeaderEpoch,
    },
    /// The same epoch is held by another leader process: two stores, or a restored one.
    #[error(
        "epoch {epoch} is held by another leader process: two stores, or a restored one, lead on this target"
    )]
    EpochTaken {
        /// The epoch that both have.
        epoch: LeaderEpoch,
    },
    /// A standalone claim met a gate that a rollout has closed.
    #[error("the gate is closed by rollout {rollout} ({epoch}): let it finish, or abort it")]
    GateClosed {
        /// Which rollout.
        rollout: String,
        /// Its fence.
        epoch: GateEpoch,
    },
    /// Something else.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl TakeError {
    /// The row refused the claim of `claimed`.
    pub(super) fn refused(refused: Refused, claimed: LeaderEpoch) -> Self {
        match refused {
            Refused::Ahead { recorded } => Self::TargetAhead { recorded, claimed },
            Refused::Taken => Self::EpochTaken { epoch: claimed },
        }
    }
}

/// Why a migration was not applied, and what that leaves behind.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A statement failed and everything of this migration was rolled back.
    #[error("line {line}: {message} (rolled back, nothing of this migration remains)")]
    RolledBack {
        /// Line in the script, from 1.
        line: usize,
        /// The server's words, with its code.
        message: String,
    },
    /// A statement of a non-transactional migration failed; earlier ones took effect and are in the journal.
    #[error("line {line}: {message} ({done} of {total} statements of this migration took effect)")]
    Partial {
        /// Line of the failed statement, from 1.
        line: usize,
        /// The server's words, with its code.
        message: String,
        /// How many statements took effect.
        done: usize,
        /// How many the script has.
        total: usize,
    },
    /// It cannot be told whether a statement took effect; a person must look.
    #[error("line {line}: statement {index} is in doubt: {seen}")]
    InDoubt {
        /// Line of the statement, from 1.
        line: usize,
        /// Its number in the script, from 1.
        index: usize,
        /// What was seen when looking.
        seen: String,
    },
    /// Something around the statements failed; nothing of this migration was committed by this call.
    #[error(transparent)]
    Db(#[from] DbError),
}
