//! The ledger's rows: our own, or the chosen tool's.

use std::time::Duration;

use lockkeeper_core::epoch::LeaderEpoch;
use lockkeeper_core::version::SchemaVersion;

use super::book::ToolTable;
use super::failure::Failure;
use super::meta::Meta;
use super::session::{Row, Session};
use super::target::{Target, number};
use super::text::literal;
use crate::db::{Books, DbError, LedgerWrite};
use crate::dialect::Dialect;
use crate::ledger::origin::Event;
use crate::ledger::{EditRecord, EntryState, Extent, Fingerprint, How, LedgerChoice, LedgerEntry};
use crate::source::{Checksum, Direction, Migration};

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

/// All entries of the chosen ledger, in the order in which they were applied. Doubts are in our own, whichever was
/// chosen.
pub(super) async fn read(
    session: &mut Session,
    target: &Target,
    meta: Meta,
) -> Result<Vec<LedgerEntry>, DbError> {
    let own = own(session, target, meta).await?;
    let Some(table) = ToolTable::chosen(target) else {
        return Ok(own);
    };
    let mut entries = table.read(session, target).await?;
    let doubts = own.into_iter().filter(|entry| entry.state != EntryState::Applied);
    for doubt in doubts {
        entries.retain(|entry| entry.version != doubt.version);
        entries.push(doubt);
    }
    Ok(entries)
}

/// All entries of our own ledger, in the order in which they were applied.
pub(super) async fn own(
    session: &mut Session,
    target: &Target,
    meta: Meta,
) -> Result<Vec<LedgerEntry>, Failure> {
    let how = if meta.format >= 2 { "how" } else { "'ran'" };
    let rows = session
        .rows(&format!(
            "SELECT version, name, checksum, layout, \
             CAST(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', applied_at) DIV 1000 AS SIGNED), \
             duration_ms, applied_by, generation, revision, warnings, doubtful, {how} FROM {} ORDER BY place",
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
        checksum_up: Fingerprint::Own(Checksum(checksum)),
        applied_at_unix_ms,
        duration_ms,
        applied_by,
        leader_epoch: (epoch != LeaderEpoch::NONE).then(|| epoch.to_string()),
        layout,
        warnings,
        state: doubtful.map_or(EntryState::Applied, |statement| EntryState::InDoubt { statement }),
        how: How::named(&next().unwrap_or_default()),
        extent: Extent::One,
    }
}

/// Which ledger is kept, and what else is recorded.
pub(super) async fn books(session: &mut Session, target: &Target, meta: Meta) -> Result<Books, Failure> {
    let own = match target.limits.ledger {
        LedgerChoice::Own => Vec::new(),
        LedgerChoice::Tool(_) => own(session, target, meta).await?,
    };
    Ok(Books {
        chosen: target.limits.ledger,
        kept: meta.kept,
        own,
        edits: edits(session, target, meta).await?,
    })
}

async fn edits(session: &mut Session, target: &Target, meta: Meta) -> Result<Vec<EditRecord>, Failure> {
    if meta.format < 2 {
        return Ok(Vec::new());
    }
    let rows = session
        .rows(&format!(
            "SELECT version, was, now, accepted_by, \
             CAST(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', accepted_at) DIV 1000 AS SIGNED), reason \
             FROM {} ORDER BY place",
            target.own("lockkeeper_edits")
        ))
        .await?;
    let edit = |row: Row| {
        let mut columns = row.into_iter();
        let mut text = || columns.next().flatten().unwrap_or_default();
        EditRecord {
            version: text().into(),
            was: text(),
            now: text(),
            accepted_by: text(),
            accepted_at_unix_ms: text().parse().unwrap_or(0),
            reason: text(),
        }
    };
    Ok(rows.into_iter().map(edit).collect())
}

/// How `version` stands. Another ledger than the one that holds the history can say nothing.
pub(super) async fn standing(
    session: &mut Session,
    target: &Target,
    meta: Meta,
    write: &LedgerWrite,
) -> Result<Standing, DbError> {
    let (kept, chosen) = (meta.kept, target.limits.ledger);
    if kept != chosen {
        return Err(DbError::OtherBook { kept, chosen });
    }
    let own = own_standing(session, target, write).await?;
    let Some(table) = ToolTable::chosen(target) else {
        return Ok(own);
    };
    let entries = table.read(session, target).await?;
    Ok(match own {
        Standing::Doubtful => Standing::Doubtful,
        Standing::Absent | Standing::Applied if write.is_held_by(&entries, table.origin.order()) => {
            Standing::Applied
        }
        Standing::Absent | Standing::Applied => Standing::Absent,
    })
}

async fn own_standing(
    session: &mut Session,
    target: &Target,
    write: &LedgerWrite,
) -> Result<Standing, Failure> {
    let row = session
        .row(&format!(
            "SELECT checksum, doubtful FROM {} WHERE version = {}",
            target.own("lockkeeper_ledger"),
            literal(write.version.as_str())
        ))
        .await?;
    let Some(row) = row else {
        return Ok(Standing::Absent);
    };
    let mut columns = row.into_iter();
    let recorded = Fingerprint::Own(Checksum(columns.next().flatten().unwrap_or_default()));
    Ok(match columns.next().flatten() {
        Some(_) => Standing::Doubtful,
        None if write.is_current(&recorded) => Standing::Applied,
        // An older run of a repeatable migration says nothing of this one.
        None => Standing::Absent,
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

/// The statements with which the chosen tool begins, in the migration's own transaction.
pub(super) fn begin(target: &Target, write: &LedgerWrite) -> Result<Vec<String>, DbError> {
    let Some(table) = ToolTable::chosen(target) else {
        return Ok(Vec::new());
    };
    let begin = |event: &Event<'_>| table.origin.begin(Dialect::MySql, event);
    Ok(table.statements(&write.tool_changes(Duration::ZERO, begin)?))
}

/// The statements that record a migration as run in its direction.
pub(super) fn record(target: &Target, write: &LedgerWrite, run: Run) -> Result<Vec<String>, DbError> {
    let Some(table) = ToolTable::chosen(target) else {
        return Ok(vec![match write.direction {
            Direction::Up => put(target, write, run, None),
            Direction::Down => remove(target, write),
        }]);
    };
    let finish = |event: &Event<'_>| table.origin.finish(Dialect::MySql, event);
    let mut statements = table.statements(&write.tool_changes(run.duration, finish)?);
    // A doubt that is settled.
    statements.push(remove(target, write));
    Ok(statements)
}

fn remove(target: &Target, write: &LedgerWrite) -> String {
    format!(
        "DELETE FROM {} WHERE version = {}",
        target.own("lockkeeper_ledger"),
        literal(write.version.as_str())
    )
}

/// The statement that records that the statement `index`, counted from 1, is in doubt.
pub(super) fn record_doubt(target: &Target, write: &LedgerWrite, run: Run, index: usize) -> String {
    put(target, write, run, Some(index))
}

fn put(target: &Target, write: &LedgerWrite, run: Run, doubtful: Option<usize>) -> String {
    let clip = |text: &str| literal(&text.chars().take(255).collect::<String>());
    let applied_at = write.provenance.applied_at_unix_ms.map_or_else(
        || "UTC_TIMESTAMP(6)".to_owned(),
        |ms| format!("TIMESTAMPADD(MICROSECOND, {ms} * 1000, '1970-01-01')"),
    );
    format!(
        "INSERT INTO {} (version, name, checksum, layout, applied_at, duration_ms, applied_by, generation, revision, \
         warnings, how, doubtful) VALUES ({}, {}, {}, {}, {applied_at}, {}, {}, {}, {}, {}, {}, {doubtful}) \
         ON DUPLICATE KEY UPDATE applied_at = VALUES(applied_at), duration_ms = VALUES(duration_ms), \
         applied_by = VALUES(applied_by), generation = VALUES(generation), revision = VALUES(revision), \
         warnings = VALUES(warnings), how = VALUES(how), doubtful = VALUES(doubtful), checksum = VALUES(checksum)",
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
        literal(write.provenance.how.as_str()),
        doubtful = doubtful.map_or_else(|| "NULL".to_owned(), |index| index.to_string()),
    )
}

/// The statements that record an accepted edit, and make the ledger's checksum fit.
pub(super) fn accept_edit(target: &Target, migration: &Migration, edit: &EditRecord) -> Vec<String> {
    let mut statements = match ToolTable::chosen(target) {
        Some(table) => table.statements(&table.origin.accept_edit(migration)),
        None => vec![format!(
            "UPDATE {} SET checksum = {} WHERE version = {}",
            target.own("lockkeeper_ledger"),
            literal(migration.up.checksum.as_str()),
            literal(edit.version.as_str())
        )],
    };
    let clip = |text: &str, limit: usize| literal(&text.chars().take(limit).collect::<String>());
    statements.push(format!(
        "INSERT INTO {} (version, was, now, accepted_by, accepted_at, reason) \
         VALUES ({}, {}, {}, {}, UTC_TIMESTAMP(6), {})",
        target.own("lockkeeper_edits"),
        literal(edit.version.as_str()),
        clip(&edit.was, 255),
        clip(&edit.now, 255),
        clip(&edit.accepted_by, 255),
        clip(&edit.reason, 1000),
    ));
    statements
}
