//! A backup: dumped, read back, and recorded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lockkeeper_core::version::SchemaVersion;
use serde::Serialize;
use tokio::time::Instant;
use uuid::Uuid;

use super::dump::Dumper;
use super::error::BackupError;
use super::file::{self, Content, Unfinished};
use super::{check, scratch, stream};
use crate::db::{BackupRecord, Database, Inspection, Observer, RecordKind, Upkeep, Verified};
use crate::dsn::Dsn;
use crate::dump_tools::{Call, Output, ToolError, copy_database};

/// Where a backup goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A file in this directory, which is made when it is missing.
    Directory(PathBuf),
    /// The standard input of this shell command.
    Command(String),
}

/// How far a backup is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    /// It is read from beginning to end.
    Read,
    /// It is also restored into a scratch database, and its rows are counted.
    Restore,
}

/// What is to be backed up, and how.
#[derive(Debug)]
pub struct Order<'a> {
    /// How programs log in.
    pub dsn: &'a Dsn,
    /// The target.
    pub database: &'a dyn Database,
    /// The same, for counts and records.
    pub upkeep: &'a dyn Upkeep,
    /// Where it goes.
    pub destination: &'a Destination,
    /// How far it is tried.
    pub trial: Trial,
    /// Longest run of each program.
    pub limit: Duration,
    /// Longest wait for a lock that somebody's DDL holds.
    pub lock_timeout: Duration,
    /// Who runs it.
    pub who: &'a str,
}

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackupReport {
    /// Its record's id.
    pub id: String,
    /// The database, without login.
    pub target: String,
    /// Host and file, or the command.
    pub place: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of them.
    pub sha256: String,
    /// The schema version that it is of.
    pub version: Option<SchemaVersion>,
    /// Program and release.
    pub tool: String,
    /// How far it was tried.
    pub verified: Verified,
    /// Rows in user tables, when they were counted.
    pub rows: Option<u64>,
    /// How long all of it took, in milliseconds.
    pub duration_ms: u64,
}

/// Makes a backup, checks that it can be read back, and records it in the target.
///
/// # Errors
/// When any of it fails: then nothing is recorded, and no file is left.
pub async fn back_up(order: &Order<'_>, observer: &dyn Observer) -> Result<BackupReport, BackupError> {
    let started = Instant::now();
    let inspection = order.database.inspect().await?;
    let making = Making {
        order,
        inspection,
        observer,
    };
    let made = match (order.destination, order.trial) {
        (Destination::Directory(directory), trial) => making.to_directory(directory, trial).await?,
        (Destination::Command(command), Trial::Read) => making.to_command(command).await?,
        (Destination::Command(_), Trial::Restore) => {
            return Err(BackupError::Usage(
                "what a command took cannot be restored to try it: use a directory, or no --verify-backup"
                    .to_owned(),
            ));
        }
    };
    let record = BackupRecord {
        id: Uuid::now_v7().to_string(),
        kind: RecordKind::Backup,
        age_ms: millis(started.elapsed()),
        place: made.place,
        size: made.content.size,
        sha256: made.content.sha256,
        version: making.version(),
        identity: making.inspection.identity.clone(),
        tool: made.tool,
        verified: if made.rows.is_some() {
            Verified::Restored
        } else {
            Verified::Readable
        },
        made_by: order.who.to_owned(),
    };
    order.upkeep.record(&record).await?;
    Ok(BackupReport {
        id: record.id,
        target: order.dsn.place(),
        place: record.place,
        size: record.size,
        sha256: record.sha256,
        version: record.version,
        tool: record.tool,
        verified: record.verified,
        rows: made.rows,
        duration_ms: millis(started.elapsed()),
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

struct Making<'a> {
    order: &'a Order<'a>,
    inspection: Inspection,
    observer: &'a dyn Observer,
}

struct Made {
    place: String,
    content: Content,
    tool: String,
    /// Counted in the restored copy.
    rows: Option<u64>,
}

/// What the source held around the dump.
enum Counted {
    /// At the dump's own moment.
    Then(BTreeMap<String, u64>),
    /// Before and after it.
    Around(BTreeMap<String, u64>, BTreeMap<String, u64>),
}

impl Making<'_> {
    fn version(&self) -> Option<SchemaVersion> {
        self.inspection.ledger.last().map(|entry| entry.version.clone())
    }

    fn name(&self) -> String {
        let dsn = self.order.dsn;
        let stem = dsn
            .path()
            .and_then(Path::file_stem)
            .map(|stem| stem.to_string_lossy().into_owned());
        let database = dsn.database().map(str::to_owned).or(stem).unwrap_or_default();
        file::name(&database, dsn.dialect(), self.version().as_ref())
    }

    async fn dumper(&self) -> Result<Option<Dumper<'_>>, BackupError> {
        let order = self.order;
        Dumper::find(
            order.dsn,
            &self.inspection.server,
            order.limit,
            order.lock_timeout,
        )
        .await
    }

    async fn to_directory(&self, directory: &Path, trial: Trial) -> Result<Made, BackupError> {
        let unfinished = Unfinished::in_directory(directory, &self.name())?;
        let (tool, counted) = self.write(&unfinished, trial).await?;
        let path = unfinished.partial();
        let order = self.order;
        check::readable(
            order.dsn.dialect(),
            &self.inspection.server,
            path,
            order.limit,
            self.observer,
        )
        .await?;
        let rows = match counted {
            Some(counted) => Some(self.try_restore(path, &counted).await?),
            None => None,
        };
        let content = file::content(path).await?;
        let path = unfinished.finish()?;
        let path = path.canonicalize().unwrap_or(path);
        Ok(Made {
            place: format!("{}:{}", file::host(), path.display()),
            content,
            tool,
            rows,
        })
    }

    /// Gives what wrote it, and what the source held meanwhile when that will be compared.
    async fn write(
        &self,
        unfinished: &Unfinished,
        trial: Trial,
    ) -> Result<(String, Option<Counted>), BackupError> {
        let upkeep = self.order.upkeep;
        let mut snapshot = match trial {
            Trial::Restore => upkeep.snapshot().await?,
            Trial::Read => None,
        };
        let before = match (trial, &snapshot) {
            (Trial::Restore, None) => Some(upkeep.row_counts().await?),
            (Trial::Restore, Some(_)) | (Trial::Read, _) => None,
        };
        let file = unfinished.create()?;
        let tool = match self.dumper().await? {
            Some(dumper) => {
                let call = dumper.call(snapshot.as_ref().map(|snapshot| snapshot.name()))?;
                call.output(Output::File(file)).run(self.observer).await?;
                dumper.tool_name()
            }
            None => {
                drop(file);
                self.copy(unfinished.partial()).await?;
                self.inspection.server.clone()
            }
        };
        let counted = match (&mut snapshot, before) {
            (Some(snapshot), _) => Some(Counted::Then(snapshot.row_counts().await?)),
            (None, Some(before)) => Some(Counted::Around(before, upkeep.row_counts().await?)),
            (None, None) => None,
        };
        Ok((tool, counted))
    }

    async fn copy(&self, to: &Path) -> Result<(), ToolError> {
        let from = self.order.dsn.path().unwrap_or(Path::new(""));
        copy_database(from, to, self.order.limit, |_| {}).await
    }

    async fn to_command(&self, command: &str) -> Result<Made, BackupError> {
        let order = self.order;
        let call = Call::shell(command, order.limit).env("LOCKKEEPER_BACKUP_NAME", self.name());
        let (dialect, server) = (order.dsn.dialect(), &self.inspection.server);
        let (content, tool) = match self.dumper().await? {
            Some(dumper) => {
                let mut dump = dumper.call(None)?.output(Output::Piped).start()?;
                let output = dump.output().ok_or_else(|| broken_pipe(dump.name()))?;
                let ends = dump.end(self.observer);
                let passing =
                    stream::into_command(output, ends, call, dialect, server, order.limit, self.observer);
                (passing.await?, dumper.tool_name())
            }
            None => {
                let folder = tempfile::tempdir().map_err(file::failed("make", &std::env::temp_dir()))?;
                let path = folder.path().join("copy.db");
                self.copy(&path).await?;
                check::readable(dialect, server, &path, order.limit, self.observer).await?;
                let source = tokio::fs::File::open(&path)
                    .await
                    .map_err(file::failed("read", &path))?;
                let ends = async { Ok(()) };
                let passing =
                    stream::into_command(source, ends, call, dialect, server, order.limit, self.observer);
                (passing.await?, server.clone())
            }
        };
        Ok(Made {
            place: format!("command: {command}"),
            content,
            tool,
            rows: None,
        })
    }

    /// Gives how many rows the restored copy holds.
    async fn try_restore(&self, path: &Path, counted: &Counted) -> Result<u64, BackupError> {
        let order = self.order;
        let found = scratch::counts_of(order, &self.inspection.server, path, self.observer).await?;
        compare(counted, &found)?;
        Ok(found.values().sum())
    }
}

fn broken_pipe(program: &str) -> ToolError {
    ToolError::Io {
        program: program.to_owned(),
        error: std::io::Error::other("it has no standard output"),
    }
}

fn compare(counted: &Counted, found: &BTreeMap<String, u64>) -> Result<(), BackupError> {
    let (low, high) = match counted {
        Counted::Then(counts) => (counts, counts),
        Counted::Around(before, after) => (before, after),
    };
    for (table, before) in low {
        let (Some(after), Some(rows)) = (high.get(table), found.get(table)) else {
            return Err(BackupError::Differs(format!("table {table} is not in both")));
        };
        let expected = *before.min(after)..=*before.max(after);
        if !expected.contains(rows) {
            let (low, high) = (expected.start(), expected.end());
            let held = if low == high {
                low.to_string()
            } else {
                format!("{low} to {high}")
            };
            return Err(BackupError::Differs(format!(
                "table {table} has {rows} rows in the backup, and had {held}"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(rows: u64) -> BTreeMap<String, u64> {
        BTreeMap::from([("t".to_owned(), rows)])
    }

    #[test]
    fn counts_must_agree_as_far_as_they_can_be_known() {
        let exact = Counted::Then(counts(5));
        assert!(compare(&exact, &counts(5)).is_ok());
        let wrong = compare(&exact, &counts(4)).unwrap_err().to_string();
        assert!(
            wrong.ends_with("table t has 4 rows in the backup, and had 5"),
            "{wrong}"
        );
        let around = Counted::Around(counts(5), counts(9));
        assert!(compare(&around, &counts(7)).is_ok());
        assert!(compare(&around, &counts(10)).is_err());
        assert!(compare(&exact, &BTreeMap::new()).is_err());
    }
}
