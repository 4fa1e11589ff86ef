//! What is asked for and what is answered.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::restoring::{Restoring, version_of};
use super::{mysql, postgres, sqlite};
use crate::backup::error::{RemainingState, RestoreError};
use crate::db::{DatabaseOptions, Observer};
use crate::dialect::Dialect;
use crate::dsn::Dsn;

/// What is to be brought back, and how.
#[derive(Debug)]
pub struct RestoreOrder<'a> {
    /// The target.
    pub dsn: &'a Dsn,
    /// How to treat it.
    pub options: &'a DatabaseOptions,
    /// The backup.
    pub file: &'a Path,
    /// How long to wait for other migrators.
    pub patience: Duration,
    /// Longest run of each program.
    pub limit: Duration,
    /// Who runs it.
    pub who: &'a str,
}

/// A restore that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestoreReport {
    /// Its record's id.
    pub id: String,
    /// The database, without login.
    pub target: String,
    /// The backup.
    pub file: PathBuf,
    /// SHA-256 of the backup.
    pub sha256: String,
    /// Whether the target had a record of a backup with this hash.
    pub known: bool,
    /// The schema version that the target had.
    pub from: Option<String>,
    /// The schema version that it has now.
    pub version: Option<String>,
    /// The gate epoch now: never lower than before.
    pub gate_epoch: u64,
    /// How long all of it took, in milliseconds.
    pub duration_ms: u64,
}

/// Brings a backup back: what was in the target is gone afterwards.
///
/// # Errors
/// With what the target holds then.
pub async fn restore(
    order: &RestoreOrder<'_>,
    observer: &dyn Observer,
) -> Result<RestoreReport, RestoreError> {
    let started = Instant::now();
    let restoring = Restoring::prepare(order, observer)
        .await
        .map_err(RestoreError::untouched)?;
    match order.dsn.dialect() {
        Dialect::Postgres => postgres::run(&restoring).await?,
        Dialect::MySql => mysql::run(&restoring).await?,
        Dialect::Sqlite => sqlite::run(&restoring).await.map_err(RestoreError::untouched)?,
    }
    let now = restoring.database.inspect().await.map_err(|error| RestoreError {
        cause: error.into(),
        state: RemainingState::Unknown,
    })?;
    Ok(RestoreReport {
        target: order.dsn.place(),
        file: order.file.to_owned(),
        known: restoring.known,
        from: version_of(&restoring.before),
        version: version_of(&now),
        gate_epoch: now.gate_row.map_or(0, |row| row.gate_epoch.0),
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        id: restoring.record.id,
        sha256: restoring.record.sha256,
    })
}
