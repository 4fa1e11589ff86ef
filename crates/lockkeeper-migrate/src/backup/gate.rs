//! A plan that can lose data needs a backup that is fresh.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use lockkeeper_core::version::SchemaVersion;

use super::destructive::{Loss, losses};
use super::file;
use crate::db::{BackupRecord, DbError, Inspection, RecordKind, Upkeep};
use crate::plan::Plan;
use crate::source::Direction;

/// At most this many statements are spelled out.
const NAMED_MAX: usize = 5;

/// Why a plan needs a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// How many migrations it takes back.
    pub reverted: usize,
    /// What it runs that can lose data.
    pub losses: Vec<Loss>,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.reverted > 0 {
            return write!(f, "taking {} back can lose data", migrations(self.reverted));
        }
        let named: Vec<String> = self
            .losses
            .iter()
            .take(NAMED_MAX)
            .map(ToString::to_string)
            .collect();
        write!(f, "this can lose data ({}", named.join("; "))?;
        match self.losses.len().saturating_sub(NAMED_MAX) {
            0 => write!(f, ")"),
            more => write!(f, "; and {more} more)"),
        }
    }
}

fn migrations(count: usize) -> String {
    match count {
        1 => "1 migration".to_owned(),
        several => format!("{several} migrations"),
    }
}

/// Whether a plan needs a backup: it takes something back, or runs a statement that can lose data, and there is
/// data: a database without a row has nothing to lose.
///
/// # Errors
/// When the database cannot be asked.
pub async fn need(plan: &Plan, upkeep: &dyn Upkeep) -> Result<Option<Need>, DbError> {
    let need = Need {
        reverted: plan
            .steps
            .iter()
            .filter(|step| step.direction == Direction::Down)
            .count(),
        losses: losses(plan),
    };
    if (need.reverted == 0 && need.losses.is_empty()) || !upkeep.holds_rows().await? {
        return Ok(None);
    }
    Ok(Some(need))
}

/// Why the newest backup will not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stale {
    /// There is none.
    None,
    /// It is too old.
    Old {
        /// How old.
        age: Duration,
        /// Where.
        place: String,
    },
    /// It is of another schema version than the database has now.
    OtherVersion {
        /// Of which.
        of: Option<SchemaVersion>,
        /// Where.
        place: String,
    },
    /// It is of another server: this one is a copy, or was restored.
    OtherServer {
        /// Where.
        place: String,
    },
    /// Its file is not there any more, or has another size.
    Gone {
        /// Where it was.
        place: String,
    },
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => write!(f, "no backup is recorded"),
            Self::Old { age, place } => write!(f, "the newest backup is {} old ({place})", in_words(*age)),
            Self::OtherVersion { of: Some(of), place } => {
                write!(f, "the newest backup is of schema version {of} ({place})")
            }
            Self::OtherVersion { of: None, place } => {
                write!(
                    f,
                    "the newest backup was made before the first migration ({place})"
                )
            }
            Self::OtherServer { place } => write!(f, "the newest backup is of another server ({place})"),
            Self::Gone { place } => write!(f, "the newest backup is not there any more ({place})"),
        }
    }
}

fn in_words(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

/// The newest backup, if it is of this database as it is now and not older than `max_age`.
///
/// # Errors
/// When the database cannot be asked.
pub async fn fresh(
    upkeep: &dyn Upkeep,
    inspection: &Inspection,
    max_age: Duration,
) -> Result<Result<BackupRecord, Stale>, DbError> {
    let records = upkeep.records().await?;
    let newest = records
        .into_iter()
        .find(|record| record.kind == RecordKind::Backup);
    Ok(newest
        .ok_or(Stale::None)
        .and_then(|record| judge(record, inspection, max_age)))
}

fn judge(record: BackupRecord, inspection: &Inspection, max_age: Duration) -> Result<BackupRecord, Stale> {
    let place = record.place.clone();
    let age = Duration::from_millis(record.age_ms);
    if record.identity != inspection.identity {
        return Err(Stale::OtherServer { place });
    }
    if age > max_age {
        return Err(Stale::Old { age, place });
    }
    let now = inspection.ledger.last().map(|entry| &entry.version);
    if record.version.as_ref() != now {
        return Err(Stale::OtherVersion {
            of: record.version,
            place,
        });
    }
    if is_gone(&record) {
        return Err(Stale::Gone { place });
    }
    Ok(record)
}

/// A file on this host is looked at; what is elsewhere is believed.
fn is_gone(record: &BackupRecord) -> bool {
    let here = format!("{}:", file::host());
    record.place.strip_prefix(&here).is_some_and(|path| {
        std::fs::metadata(Path::new(path)).map_or(true, |metadata| metadata.len() != record.size)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::{ServerIdentity, Verified};

    fn record(age_s: u64, version: Option<&str>, identity: &str, place: &str) -> BackupRecord {
        BackupRecord {
            id: "1".to_owned(),
            kind: RecordKind::Backup,
            age_ms: age_s * 1000,
            place: place.to_owned(),
            size: 1,
            sha256: String::new(),
            version: version.map(SchemaVersion::from),
            identity: ServerIdentity(identity.to_owned()),
            tool: String::new(),
            verified: Verified::Readable,
            made_by: String::new(),
        }
    }

    #[test]
    fn only_a_backup_of_this_database_as_it_is_now_will_do() {
        let inspection = Inspection {
            identity: ServerIdentity("here".to_owned()),
            server: String::new(),
            gate_row: None,
            ledger: Vec::new(),
            other_ledgers: Vec::new(),
            books: crate::db::Books::default(),
        };
        let verdict = |record| judge(record, &inspection, Duration::from_secs(60)).err();
        assert_eq!(verdict(record(59, None, "here", "elsewhere:/x")), None);
        assert!(matches!(
            verdict(record(61, None, "here", "e:/x")),
            Some(Stale::Old { .. })
        ));
        assert!(matches!(
            verdict(record(1, Some("1"), "here", "e:/x")),
            Some(Stale::OtherVersion { .. })
        ));
        assert!(matches!(
            verdict(record(1, None, "there", "e:/x")),
            Some(Stale::OtherServer { .. })
        ));
        let gone = format!("{}:/no/such/file", file::host());
        assert!(matches!(
            verdict(record(1, None, "here", &gone)),
            Some(Stale::Gone { .. })
        ));
    }
}
