//! What a rehearsal found. Plain data: `migrate sql rehearse --format json` prints it, and whoever plans with the
//! times or compares the fingerprint reads it again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lockkeeper_core::version::SchemaVersion;
use serde::{Deserialize, Serialize};

use crate::db::{LockTaken, Measurement, Notice};
use crate::dialect::Dialect;
use crate::fingerprint::{Fingerprint, SchemaDiff};

/// The form of the report; another one cannot be read by this release.
pub const FORM: &str = "r1";

/// A rehearsal that came to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsal {
    /// [`FORM`].
    pub form: String,
    /// The target, without login.
    pub target: String,
    /// Its dialect.
    pub dialect: Dialect,
    /// Product and release of the target's server.
    pub server: String,
    /// The layout of the migrations.
    pub layout: String,
    /// When it began, in milliseconds since 1970.
    pub began_at_unix_ms: u64,
    /// How long all of it took, in milliseconds.
    pub duration_ms: u64,
    /// Whether rows were cloned: without them times say little.
    pub with_data: bool,
    /// The target's version.
    pub from: Option<SchemaVersion>,
    /// The version that was reached.
    pub to: Option<SchemaVersion>,
    /// The target's schema now.
    pub fingerprint_before: Fingerprint,
    /// The clone's schema at the end: what the target's will be. `None` when it was not reached.
    pub fingerprint: Option<Fingerprint>,
    /// How the clone differed from the target before anything ran; `None` when it did not. Then the fingerprint at
    /// the end will not be the target's.
    pub clone_differs: Option<SchemaDiff>,
    /// The migrations, in order.
    pub migrations: Vec<MigrationTrial>,
    /// What is wrong, one sentence each; empty when nothing is.
    pub problems: Vec<String>,
    /// Clones of killed rehearsals that were dropped on the way.
    pub swept: Vec<String>,
}

/// One migration: up, and where it has a way back, down and up again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationTrial {
    /// Its version.
    pub version: SchemaVersion,
    /// Its name.
    pub name: String,
    /// The checksum of its up script.
    pub checksum: String,
    /// The first run.
    pub up: Run,
    /// Whether down gives back what was there before.
    pub reversal: Reversal,
    /// The way back; `None` when there is none.
    pub down: Option<Run>,
    /// The second run up; `None` when there was no way back.
    pub up_again: Option<Run>,
}

/// What came of going down and up again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Reversal {
    /// Down gives the old schema, and up the new one again.
    Restores,
    /// There is no down script.
    None,
    /// The first up failed.
    NotReached,
    /// Down failed; its run says why.
    DownFailed,
    /// Down ran and left another schema than the one before.
    DownDoesNotRestore {
        /// From the old schema to what down left.
        difference: SchemaDiff,
    },
    /// The second up failed; its run says why.
    UpAgainFailed,
    /// The second up gave another schema than the first.
    UpAgainDiffers {
        /// From the first result to the second.
        difference: SchemaDiff,
    },
}

/// One script that ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The file.
    pub path: PathBuf,
    /// Whether it runs in one transaction.
    pub transactional: bool,
    /// How long it took, in milliseconds, the engine's own work and the measuring included.
    pub duration_ms: u64,
    /// Its statements that ran to their end, in order.
    pub statements: Vec<Measurement>,
    /// What the server said meanwhile.
    pub notices: Vec<Notice>,
    /// Why it failed; `None` when it did not.
    pub error: Option<String>,
}

impl Run {
    /// The time of its statements alone.
    #[must_use]
    pub fn statement_time(&self) -> Duration {
        let times = self.statements.iter().map(|statement| statement.duration_us);
        Duration::from_micros(times.sum())
    }

    /// The lock of all its statements that is worst for others.
    #[must_use]
    pub fn strongest_lock(&self) -> Option<&LockTaken> {
        let locks = self
            .statements
            .iter()
            .filter_map(|statement| statement.locks.first());
        locks.max_by_key(|lock| lock.blocks)
    }
}

impl Rehearsal {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.problems.is_empty()
    }

    /// The time of all statements on the way up: what a fence would take at least, on a server like the rehearsal's.
    #[must_use]
    pub fn up_time(&self) -> Duration {
        self.migrations
            .iter()
            .map(|migration| migration.up.statement_time())
            .sum()
    }

    /// Reads a report that was printed as JSON.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is no report, or is one of another release's form.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let text = std::fs::read(path).map_err(|error| ReportError::Read {
            path: path.to_owned(),
            error,
        })?;
        let report: Self = serde_json::from_slice(&text).map_err(|error| ReportError::Form {
            path: path.to_owned(),
            error,
        })?;
        if report.form == FORM {
            return Ok(report);
        }
        Err(ReportError::OtherForm {
            path: path.to_owned(),
            form: report.form,
        })
    }
}

/// Why a file is no report. Reads after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// It cannot be read.
    #[error("read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
    /// It is none.
    #[error("read {}: it is no report of a rehearsal: {error}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Where and what.
        error: serde_json::Error,
    },
    /// Another release made it.
    #[error("read {}: it has form {form}, and this release reads {FORM}; rehearse again", path.display())]
    OtherForm {
        /// The file.
        path: PathBuf,
        /// Its form.
        form: String,
    },
}
