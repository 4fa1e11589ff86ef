//! The ledger's rows: our own, or the chosen tool's.

use std::time::Duration;

use lockkeeper_core::epoch::LeaderEpoch;
use lockkeeper_core::version::SchemaVersion;
use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteRow;

use super::book::ToolTable;
use super::gate::{integer, number, signed, text};
use super::meta::{self, Meta};
use super::session::Session;
use crate::db::{Books, DbError, LedgerWrite};
use crate::dialect::Dialect;
use crate::ledger::origin::Event;
use crate::ledger::resolve::newest;
use crate::ledger::{EditRecord, EntryState, Extent, Fingerprint, How, LedgerChoice, LedgerEntry};
use crate::source::{Direction, Migration};

/// Which ledger a session was asked for, and what the file says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Book {
    pub(super) chosen: LedgerChoice,
    pub(super) meta: Meta,
}

impl Book {
    fn table(self) -> Option<ToolTable> {
        ToolTable::of(self.chosen)
    }

    /// Makes the chosen ledger ready: the first session on a file decides where its history is kept, and a tool's
    /// table is made when it is missing. The caller holds the write lock.
    pub(super) async fn open(session: &Session, chosen: LedgerChoice) -> Result<Self, DbError> {
        let mut meta = meta::ensure(session, chosen).await?;
        let book = Self { chosen, meta };
        if meta.kept == LedgerChoice::Own && chosen != meta.kept && own(session, meta).await?.is_empty() {
            meta::keep(session, chosen).await?;
            meta.kept = chosen;
        }
        if let Some(table) = book.table().filter(|_| meta.kept == chosen) {
            table.ensure(session).await?;
        }
        Ok(Self { chosen, meta })
    }
}

/// The whole chosen ledger, in the order in which it was written.
pub(super) async fn all(session: &Session, book: Book) -> Result<Vec<LedgerEntry>, DbError> {
    match book.table() {
        Some(table) => table.read(session).await,
        None => own(session, book.meta).await,
    }
}

/// Our own ledger: rows leave it only from its end, so that their ids are in order.
pub(super) async fn own(session: &Session, meta: Meta) -> Result<Vec<LedgerEntry>, DbError> {
    let how = if meta.format >= 2 { "how" } else { "'ran'" };
    // A Julian day is turned into milliseconds since 1970.
    let query = format!(
        "SELECT version, name, checksum, layout, duration_ms, applied_by, generation, revision, {how} AS how, \
         CAST(round((julianday(applied_at) - 2440587.5) * 86400000) AS INTEGER) AS applied_at_ms \
         FROM lockkeeper_ledger ORDER BY rowid"
    );
    let rows = session.rows(sqlx::query(AssertSqlSafe(query))).await?;
    rows.iter().map(entry).collect()
}

/// Whether `version` is applied. Another ledger than the one that holds the history can say nothing.
pub(super) async fn has(session: &Session, book: Book, version: &SchemaVersion) -> Result<bool, DbError> {
    Ok(held(session, book, version).await?.is_some())
}

/// What is recorded of the file of `version`, if that is applied.
pub(super) async fn held(
    session: &Session,
    book: Book,
    version: &SchemaVersion,
) -> Result<Option<Fingerprint>, DbError> {
    let (kept, chosen) = (book.meta.kept, book.chosen);
    if kept != chosen {
        return Err(DbError::OtherBook { kept, chosen });
    }
    if let Some(table) = book.table() {
        let entries = table.read(session).await?;
        return Ok(newest(&entries, table.origin.order(), version));
    }
    let query = "SELECT checksum FROM lockkeeper_ledger WHERE version = ?";
    let rows = session.rows(sqlx::query(query).bind(version.0.clone())).await?;
    let checksum = rows.first().map(|row| text(row, "checksum")).transpose()?;
    Ok(checksum.map(|checksum| Fingerprint::Own(checksum.into())))
}

fn entry(row: &SqliteRow) -> Result<LedgerEntry, DbError> {
    let epoch = LeaderEpoch {
        generation: number(row, "generation")?,
        revision: number(row, "revision")?,
    };
    Ok(LedgerEntry {
        version: text(row, "version")?.into(),
        name: text(row, "name")?,
        checksum_up: Fingerprint::Own(text(row, "checksum")?.into()),
        applied_at_unix_ms: integer(row, "applied_at_ms")?,
        duration_ms: integer(row, "duration_ms")?,
        applied_by: text(row, "applied_by")?,
        leader_epoch: (epoch != LeaderEpoch::NONE).then(|| epoch.to_string()),
        layout: text(row, "layout")?,
        // SQLite gives none.
        warnings: 0,
        // A statement and its record are one transaction here: nothing is ever in doubt.
        state: EntryState::Applied,
        how: How::named(&text(row, "how")?),
        extent: Extent::One,
    })
}

/// Which ledger is kept, and what else is recorded.
pub(super) async fn books(session: &Session, book: Book) -> Result<Books, DbError> {
    let own = match book.chosen {
        LedgerChoice::Own => Vec::new(),
        LedgerChoice::Tool(_) => own(session, book.meta).await?,
    };
    Ok(Books {
        chosen: book.chosen,
        kept: book.meta.kept,
        own,
        edits: edits(session, book.meta).await?,
    })
}

async fn edits(session: &Session, meta: Meta) -> Result<Vec<EditRecord>, DbError> {
    if meta.format < 2 {
        return Ok(Vec::new());
    }
    let query = "SELECT version, was, now, accepted_by, reason, \
                 CAST(round((julianday(accepted_at) - 2440587.5) * 86400000) AS INTEGER) AS accepted_at_ms \
                 FROM lockkeeper_edits ORDER BY place";
    let rows = session.rows(sqlx::query(query)).await?;
    let edit = |row: &SqliteRow| {
        Ok(EditRecord {
            version: text(row, "version")?.into(),
            was: text(row, "was")?,
            now: text(row, "now")?,
            accepted_by: text(row, "accepted_by")?,
            accepted_at_unix_ms: integer(row, "accepted_at_ms")?,
            reason: text(row, "reason")?,
        })
    };
    rows.iter().map(edit).collect()
}

/// What the chosen tool writes in the migration's transaction before the file runs.
pub(super) async fn begin(session: &Session, book: Book, write: &LedgerWrite) -> Result<(), DbError> {
    let Some(table) = book.table() else {
        return Ok(());
    };
    let begin = |event: &Event<'_>| table.origin.begin(Dialect::Sqlite, event);
    table
        .write(session, &write.tool_changes(Duration::ZERO, begin)?)
        .await
}

/// Puts a version into the chosen ledger, or takes it out.
pub(super) async fn put(
    session: &Session,
    book: Book,
    write: &LedgerWrite,
    duration: Duration,
    epoch: LeaderEpoch,
) -> Result<(), DbError> {
    if let Some(table) = book.table() {
        let finish = |event: &Event<'_>| table.origin.finish(Dialect::Sqlite, event);
        return table.write(session, &write.tool_changes(duration, finish)?).await;
    }
    match write.direction {
        Direction::Up => {
            if write.is_repeatable() {
                // Its newest run is what counts, and comes last.
                remove(session, &write.version).await?;
            }
            insert(session, write, duration, epoch).await
        }
        Direction::Down => remove(session, &write.version).await,
    }
}

async fn insert(
    session: &Session,
    write: &LedgerWrite,
    duration: Duration,
    epoch: LeaderEpoch,
) -> Result<(), DbError> {
    let sql = "INSERT INTO lockkeeper_ledger \
               (version, name, checksum, layout, duration_ms, applied_by, generation, revision, how, applied_at) \
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, \
                       strftime('%Y-%m-%d %H:%M:%f', coalesce(? / 86400000.0 + 2440587.5, julianday('now'))))";
    let query = sqlx::query(sql)
        .bind(write.version.0.clone())
        .bind(write.name.clone())
        .bind(write.checksum.clone())
        .bind(write.layout.clone())
        .bind(signed(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))?)
        .bind(write.applied_by.clone())
        .bind(signed(epoch.generation)?)
        .bind(signed(epoch.revision)?)
        .bind(write.provenance.how.as_str())
        .bind(write.provenance.applied_at_unix_ms);
    session.rows(query).await.map(|_| ())
}

async fn remove(session: &Session, version: &SchemaVersion) -> Result<(), DbError> {
    let sql = "DELETE FROM lockkeeper_ledger WHERE version = ?";
    session
        .rows(sqlx::query(sql).bind(version.0.clone()))
        .await
        .map(|_| ())
}

/// Records versions without running anything; from then on the history is in the chosen ledger.
pub(super) async fn record(
    session: &Session,
    book: Book,
    versions: &[LedgerWrite],
    epoch: LeaderEpoch,
) -> Result<(), DbError> {
    if let Some(table) = book.table() {
        table.ensure(session).await?;
    }
    // Our own rows are from before a tool's table was kept: they are not what the tool says now.
    if book.meta.kept != LedgerChoice::Own && book.chosen == LedgerChoice::Own {
        session.execute("DELETE FROM lockkeeper_ledger").await?;
    }
    for write in versions {
        let duration = write.provenance.duration.unwrap_or_default();
        put(session, book, write, duration, epoch).await?;
    }
    meta::keep(session, book.chosen).await
}

/// Records an accepted edit, and makes the ledger's checksum fit.
pub(super) async fn accept_edit(
    session: &Session,
    book: Book,
    migration: &Migration,
    edit: &EditRecord,
) -> Result<(), DbError> {
    match book.table() {
        Some(table) => table.write(session, &table.origin.accept_edit(migration)).await?,
        None => {
            let sql = "UPDATE lockkeeper_ledger SET checksum = ? WHERE version = ?";
            let query = sqlx::query(sql)
                .bind(migration.up.checksum.0.clone())
                .bind(edit.version.0.clone());
            session.rows(query).await?;
        }
    }
    let sql = "INSERT INTO lockkeeper_edits (version, was, now, accepted_by, reason) VALUES (?, ?, ?, ?, ?)";
    let query = sqlx::query(sql)
        .bind(edit.version.0.clone())
        .bind(edit.was.clone())
        .bind(edit.now.clone())
        .bind(edit.accepted_by.clone())
        .bind(edit.reason.clone());
    session.rows(query).await.map(drop)
}
