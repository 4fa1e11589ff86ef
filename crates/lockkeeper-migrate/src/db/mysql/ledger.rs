//! The ledger table.

use std::time::Duration;

use lockkeeper_core::epoch::LeaderEpoch;
use lockkeeper_core::version::SchemaVersion;

use super::failure::Failure;
use super::session::{Row, Session};
use super::target::{Target, number};
use super::text::literal;
use crate::db::LedgerWrite;
use crate::ledger::{EntryState, LedgerEntry};
use crate::source::{Checksum, Direction};

/// How a version stands in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has no row.
    Absent,
    /// It is applied.
    Applied,
    /// A statement of it is in doubt.
    Doubtful,
}

/// All entries, in the order in which they were applied.
pub(super) async fn read(session: &mut Session, target: &Target) -> Result<Vec<LedgerEntry>, Failure> {
    let rows = session
        .rows(&format!(
            "SELECT version, name, checksum, layout, \
             CAST(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', applied_at) DIV 1000 AS SIGNED), \
             duration_ms, applied_by, generation, revision, warnings, doubtful FROM {} ORDER BY place",
            target.own("lockkeeper_ledger")
        ))
        .await?;
    Ok(rows.into_iter().map(entry).collect())
}

fn entry(row: Row) -> LedgerEntry {
    let mut columns = row.into_iter();
    let mut next = || columns.next().flatten();
    let mut text = || next().unwrap_or_default();
    let (version, name, checksum, layout) = (text(), text(), text(), text());
    let applied_at_unix_ms = text().parse().unwrap_or(0);
    let duration_ms = text().parse().unwrap_or(0);
    let applied_by = text();
    let epoch = LeaderEpoch {
        generation: number(&text()),
        revision: number(&text()),
    };
    let warnings = text().parse().unwrap_or(0);
    let doubtful = next().and_then(|statement| statement.parse().ok());
    LedgerEntry {
        version: SchemaVersion(version),
        name,
        checksum_up: Checksum(checksum),
        applied_at_unix_ms,
        duration_ms,
        applied_by,
        leader_epoch: (epoch != LeaderEpoch::NONE).then(|| epoch.to_string()),
        layout,
        warnings,
        state: doubtful.map_or(EntryState::Applied, |statement| EntryState::InDoubt { statement }),
    }
}

/// How `version` stands.
pub(super) async fn standing(
    session: &mut Session,
    target: &Target,
    version: &SchemaVersion,
) -> Result<Standing, Failure> {
    let row = session
        .row(&format!(
            "SELECT doubtful FROM {} WHERE version = {}",
            target.own("lockkeeper_ledger"),
            literal(version.as_str())
        ))
        .await?;
    Ok(match row.map(|row| row.into_iter().next().flatten()) {
        None => Standing::Absent,
        Some(None) => Standing::Applied,
        Some(Some(_)) => Standing::Doubtful,
    })
}

/// What is recorded beside the [`LedgerWrite`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// The epoch that it ran under; [`LeaderEpoch::NONE`] outside of a fleet.
    pub(super) epoch: LeaderEpoch,
    pub(super) duration: Duration,
    pub(super) warnings: usize,
}

/// The statement that records a migration as run in its direction.
pub(super) fn record(target: &Target, write: &LedgerWrite, run: Run) -> String {
    match write.direction {
        Direction::Up => put(target, write, run, None),
        Direction::Down => format!(
            "DELETE FROM {} WHERE version = {}",
            target.own("lockkeeper_ledger"),
            literal(write.version.as_str())
        ),
    }
}

/// The statement that records that the statement `index`, counted from 1, is in doubt.
pub(super) fn record_doubt(target: &Target, write: &LedgerWrite, run: Run, index: usize) -> String {
    put(target, write, run, Some(index))
}

fn put(target: &Target, write: &LedgerWrite, run: Run, doubtful: Option<usize>) -> String {
    let clip = |text: &str| literal(&text.chars().take(255).collect::<String>());
    format!(
        "INSERT INTO {} (version, name, checksum, layout, applied_at, duration_ms, applied_by, generation, revision, \
         warnings, doubtful) VALUES ({}, {}, {}, {}, UTC_TIMESTAMP(6), {}, {}, {}, {}, {}, {doubtful}) \
         ON DUPLICATE KEY UPDATE applied_at = VALUES(applied_at), duration_ms = VALUES(duration_ms), \
         applied_by = VALUES(applied_by), generation = VALUES(generation), revision = VALUES(revision), \
         warnings = VALUES(warnings), doubtful = VALUES(doubtful)",
        target.own("lockkeeper_ledger"),
        literal(write.version.as_str()),
        clip(&write.name),
        literal(&write.checksum),
        clip(&write.layout),
        run.duration.as_millis(),
        clip(&write.applied_by),
        run.epoch.generation,
        run.epoch.revision,
        run.warnings,
        doubtful = doubtful.map_or_else(|| "NULL".to_owned(), |index| index.to_string()),
    )
}
