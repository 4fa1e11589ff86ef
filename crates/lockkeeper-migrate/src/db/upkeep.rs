//! What backups, restores and checks ask of a target beside the port.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use async_trait::async_trait;
use lockkeeper_core::version::SchemaVersion;
use serde::{Deserialize, Serialize};

use super::mysql::MySqlDatabase;
use super::postgres::Postgres;
use super::sqlite::SqliteDatabase;
use super::{DatabaseOptions, DbError, Finding, ServerIdentity};
use crate::dialect::Dialect;
use crate::dsn::Dsn;

/// A target as backups and checks see it. Everything but the records is read-only.
#[async_trait]
pub trait Upkeep: Send + Sync + fmt::Debug {
    /// Whether any user table holds a row: without one there is nothing that a migration could lose.
    async fn holds_rows(&self) -> Result<bool, DbError>;

    /// How many rows each user table holds, by the name that a person would use.
    async fn row_counts(&self) -> Result<BTreeMap<String, u64>, DbError>;

    /// A moment that a dump can be taken of, where the server can give one.
    async fn snapshot(&self) -> Result<Option<Box<dyn Snapshot>>, DbError>;

    /// What was backed up and restored, newest first.
    async fn records(&self) -> Result<Vec<BackupRecord>, DbError>;

    /// Adds a record. The same id again is success.
    async fn record(&self, record: &BackupRecord) -> Result<(), DbError>;

    /// What this dialect alone can tell of the health of server and database, beside the port's preflight.
    async fn examine(&self) -> Result<Vec<Finding>, DbError>;

    /// Makes the gate row of a restored or cloned copy this server's own: its identity, open, with no executor. Nothing
    /// when the row is this server's already.
    async fn adopt_copy(&self) -> Result<(), DbError>;
}

/// A session that holds one moment of the database, for as long as it is kept.
#[async_trait]
pub trait Snapshot: Send + fmt::Debug {
    /// What the dump program calls it.
    fn name(&self) -> &str;

    /// As [`Upkeep::row_counts`], at that moment.
    async fn row_counts(&mut self) -> Result<BTreeMap<String, u64>, DbError>;
}

/// The target that `dsn` names, for upkeep. Opens no session yet.
#[must_use]
pub fn upkeep(dsn: &Dsn, options: DatabaseOptions) -> Box<dyn Upkeep> {
    match dsn.dialect() {
        Dialect::Postgres => Box::new(Postgres::new(dsn, options)),
        Dialect::Sqlite => Box::new(SqliteDatabase::new(dsn.path().unwrap_or("".as_ref()), options)),
        Dialect::MySql => Box::new(MySqlDatabase::new(dsn, options)),
    }
}

/// What stands around a dump when it is brought back into a server's database: SQL before it, SQL behind it, and what
/// is there already and stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RestoreFrame {
    pub(crate) before: String,
    pub(crate) after: String,
    /// To make one again often needs a superuser.
    pub(crate) extensions: BTreeSet<String>,
    /// `public`, and those that hold an extension that stays.
    pub(crate) schemas: BTreeSet<String>,
}

/// What a record is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordKind {
    /// A backup was made.
    Backup,
    /// A backup was brought back.
    Restore,
}

impl RecordKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Restore => "restore",
        }
    }

    pub(crate) fn parse(text: &str) -> Self {
        match text {
            "restore" => Self::Restore,
            _ => Self::Backup,
        }
    }
}

/// How far it is known that a backup can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verified {
    /// It was read from beginning to end.
    Readable,
    /// It was restored elsewhere, and every table had as many rows as it should.
    Restored,
}

impl Verified {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Readable => "readable",
            Self::Restored => "restored",
        }
    }

    pub(crate) fn parse(text: &str) -> Self {
        match text {
            "restored" => Self::Restored,
            _ => Self::Readable,
        }
    }
}

/// One row of `lockkeeper_backup`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRecord {
    /// A UUIDv7.
    pub id: String,
    /// Of what.
    pub kind: RecordKind,
    /// How old its content is, in milliseconds: since before the dump began, by the database's own clock.
    pub age_ms: u64,
    /// Host and file, or the command that took it.
    pub place: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of those bytes, in hexadecimal digits.
    pub sha256: String,
    /// The schema version then; `None` before the first migration.
    pub version: Option<SchemaVersion>,
    /// The server that it was taken of.
    pub identity: ServerIdentity,
    /// Program and release that made it.
    pub tool: String,
    /// How far it was tried.
    pub verified: Verified,
    /// Who ran it.
    pub made_by: String,
}
