//! The ledger's rows: our own, or the chosen tool's.

use std::time::Duration;

use lockkeeper_core::epoch::LeaderEpoch;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::apply::Run;
use super::book::Book;
use super::schema::Names;
use super::session::{ask, db_error, literal, run};
use super::take::signed;
use crate::db::{Books, DbError, LedgerWrite};
use crate::dialect::Dialect;
use crate::ledger::origin::Event;
use crate::ledger::{EditRecord, EntryState, Extent, Fingerprint, How, LedgerChoice, LedgerEntry};
use crate::source::{Checksum, Direction, Migration};

/// All entries of the chosen ledger, oldest first; behind them what the journal knows to be in doubt.
pub(super) async fn read(conn: &mut PgConnection, names: &Names) -> Result<Vec<LedgerEntry>, DbError> {
    let mut entries = match &names.book {
        Book::Own => own(conn, names).await?,
        Book::Tool(table) => table.read(conn).await?,
    };
    let query = format!(
        "SELECT DISTINCT ON (version) version, position, (extract(epoch FROM started_at) * 1000)::bigint FROM {} \
         WHERE state = 'in doubt' ORDER BY version, position",
        names.journal
    );
    let rows = ask(conn, query).await?;
    for row in rows {
        let state = EntryState::InDoubt {
            statement: u32::try_from(row.get::<i32, _>(1)).unwrap_or(0),
        };
        let version: String = row.get(0);
        match entries.iter_mut().find(|entry| entry.version.as_str() == version) {
            Some(entry) => entry.state = state,
            None => entries.push(doubtful(version, row.get(2), state)),
        }
    }
    Ok(entries)
}

/// All entries of our own ledger, oldest first.
pub(super) async fn own(conn: &mut PgConnection, names: &Names) -> Result<Vec<LedgerEntry>, DbError> {
    let (how, order) = if names.format >= 2 {
        ("how", "place")
    } else {
        ("'ran'", "applied_at, version")
    };
    let query = format!(
        "SELECT version, name, checksum, (extract(epoch FROM applied_at) * 1000)::bigint, duration_ms, \
                applied_by, generation, revision, layout, warnings, {how} \
         FROM {} ORDER BY {order}",
        names.ledger
    );
    let rows = ask(conn, query).await?;
    Ok(rows.iter().map(entry).collect())
}

fn entry(row: &PgRow) -> LedgerEntry {
    let number = |column: usize| u64::try_from(row.get::<i64, _>(column)).unwrap_or(0);
    let epoch = LeaderEpoch {
        generation: number(6),
        revision: number(7),
    };
    LedgerEntry {
        version: row.get::<String, _>(0).into(),
        name: row.get(1),
        checksum_up: Fingerprint::Own(Checksum(row.get(2))),
        applied_at_unix_ms: row.get(3),
        duration_ms: row.get(4),
        applied_by: row.get(5),
        leader_epoch: (epoch != LeaderEpoch::NONE).then(|| epoch.to_string()),
        layout: row.get(8),
        warnings: row.get(9),
        state: EntryState::Applied,
        how: How::named(row.get(10)),
        extent: Extent::One,
    }
}

fn doubtful(version: String, applied_at_unix_ms: i64, state: EntryState) -> LedgerEntry {
    LedgerEntry {
        version: version.into(),
        name: String::new(),
        checksum_up: Fingerprint::Unknown,
        applied_at_unix_ms,
        duration_ms: 0,
        applied_by: String::new(),
        leader_epoch: None,
        layout: String::new(),
        warnings: 0,
        state,
        how: How::Ran,
        extent: Extent::One,
    }
}

/// Which ledger is kept, and what else is recorded.
pub(super) async fn books(conn: &mut PgConnection, names: &Names) -> Result<Books, DbError> {
    let own = match names.book {
        Book::Own => Vec::new(),
        Book::Tool(_) => own(conn, names).await?,
    };
    Ok(Books {
        chosen: names.book.choice(),
        kept: names.kept,
        own,
        edits: edits(conn, names).await?,
    })
}

async fn edits(conn: &mut PgConnection, names: &Names) -> Result<Vec<EditRecord>, DbError> {
    if names.format < 2 {
        return Ok(Vec::new());
    }
    let query = format!(
        "SELECT version, was, now, accepted_by, (extract(epoch FROM accepted_at) * 1000)::bigint, reason \
         FROM {} ORDER BY place",
        names.edits
    );
    let rows = ask(conn, query).await?;
    let edit = |row: &PgRow| EditRecord {
        version: row.get::<String, _>(0).into(),
        was: row.get(1),
        now: row.get(2),
        accepted_by: row.get(3),
        accepted_at_unix_ms: row.get(4),
        reason: row.get(5),
    };
    Ok(rows.iter().map(edit).collect())
}

/// Asks what our own ledger has of a version: one row with one column, so that it can go along in another message.
pub(super) fn standing(names: &Names, write: &LedgerWrite) -> String {
    match &names.book {
        Book::Own => format!(
            "SELECT (SELECT checksum FROM {} WHERE version = {})",
            names.ledger,
            literal(write.version.as_str())
        ),
        Book::Tool(_) => "SELECT NULL::text".to_owned(),
    }
}

/// Whether the ledger already says what `write` is about to make it say. Another ledger than the one that holds
/// the history can say nothing. `standing` is the answer to [`standing`], asked under the lock on the gate row.
pub(super) async fn says_so(
    tx: &mut PgConnection,
    names: &Names,
    write: &LedgerWrite,
    standing: &PgRow,
) -> Result<bool, DbError> {
    let chosen = names.book.choice();
    if names.kept != chosen {
        let kept = names.kept;
        return Err(DbError::OtherBook { kept, chosen });
    }
    let there = match &names.book {
        Book::Own => is_current(standing, write),
        Book::Tool(table) => {
            let entries = table.read(tx).await?;
            write.is_held_by(&entries, table.origin.order())
        }
    };
    Ok(match write.direction {
        Direction::Up => there,
        Direction::Down => !there,
    })
}

fn is_current(standing: &PgRow, write: &LedgerWrite) -> bool {
    let checksum: Option<String> = standing.get(0);
    checksum.is_some_and(|checksum| write.is_current(&Fingerprint::Own(Checksum(checksum))))
}

/// What the chosen tool writes in the migration's transaction before the file runs.
pub(super) async fn begin(tx: &mut PgConnection, names: &Names, migration: &Run<'_>) -> Result<(), DbError> {
    let Book::Tool(table) = &names.book else {
        return Ok(());
    };
    let begin = |event: &Event<'_>| table.origin.begin(Dialect::Postgres, event);
    let changes = migration.write.tool_changes(Duration::ZERO, begin)?;
    table.write(tx, &changes).await
}

/// The statements that record that the migration was applied, or take its record out when it was reverted; its
/// journal goes too.
pub(super) fn record(names: &Names, migration: &Run<'_>, epoch: LeaderEpoch) -> Result<String, DbError> {
    let warnings = i64::try_from(migration.heard.warnings()).unwrap_or(i64::MAX);
    let row = RowOf {
        write: migration.write,
        duration: migration.began.elapsed(),
        epoch,
        warnings,
    };
    let mut statements = statements(names, &row)?;
    statements.push(format!(
        "DELETE FROM {} WHERE version = {}",
        names.journal,
        literal(migration.write.version.as_str())
    ));
    Ok(statements.join("; "))
}

/// What is written of one version.
pub(super) struct RowOf<'a> {
    pub(super) write: &'a LedgerWrite,
    pub(super) duration: Duration,
    pub(super) epoch: LeaderEpoch,
    pub(super) warnings: i64,
}

/// Puts a version into the chosen ledger, or takes it out.
pub(super) async fn put(tx: &mut PgConnection, names: &Names, row: &RowOf<'_>) -> Result<(), DbError> {
    run(tx, statements(names, row)?.join("; ")).await
}

fn statements(names: &Names, row: &RowOf<'_>) -> Result<Vec<String>, DbError> {
    match &names.book {
        Book::Own => Ok(vec![own_statement(names, row)]),
        Book::Tool(table) => {
            let finish = |event: &Event<'_>| table.origin.finish(Dialect::Postgres, event);
            let changes = row.write.tool_changes(row.duration, finish)?;
            Ok(table.statements(&changes))
        }
    }
}

fn own_statement(names: &Names, row: &RowOf<'_>) -> String {
    let RowOf {
        write,
        duration,
        epoch,
        warnings,
    } = row;
    if write.direction == Direction::Down {
        let version = literal(write.version.as_str());
        return format!("DELETE FROM {} WHERE version = {version}", names.ledger);
    }
    let applied_at = match write.provenance.applied_at_unix_ms {
        Some(ms) => format!("to_timestamp({ms}::float8 / 1000)"),
        None => "clock_timestamp()".to_owned(),
    };
    format!(
        "INSERT INTO {} (version, name, checksum, layout, duration_ms, applied_by, generation, revision, \
            warnings, how, applied_at) \
         VALUES ({}, {}, {}, {}, {}, {}, {}, {}, {warnings}, {}, {applied_at}){}",
        names.ledger,
        literal(write.version.as_str()),
        literal(&write.name),
        literal(&write.checksum),
        literal(&write.layout),
        duration.as_millis(),
        literal(&write.applied_by),
        signed(epoch.generation),
        signed(epoch.revision),
        literal(write.provenance.how.as_str()),
        if write.is_repeatable() { AGAIN } else { "" },
    )
}

/// A repeatable migration's row is that of its newest run.
const AGAIN: &str = " ON CONFLICT (version) DO UPDATE SET name = excluded.name, checksum = excluded.checksum, \
                     layout = excluded.layout, duration_ms = excluded.duration_ms, applied_by = excluded.applied_by, \
                     generation = excluded.generation, revision = excluded.revision, warnings = excluded.warnings, \
                     how = excluded.how, applied_at = excluded.applied_at";

/// Makes the chosen ledger ready for a hand that is registered: the first one on a target decides where its history
/// is kept, and a tool's table is made when it is missing.
pub(super) async fn open(conn: &mut PgConnection, names: &mut Names) -> Result<(), DbError> {
    let chosen = names.book.choice();
    if names.kept == LedgerChoice::Own && chosen != names.kept && own(conn, names).await?.is_empty() {
        keep(conn, names).await?;
        names.kept = chosen;
    }
    match &names.book {
        Book::Tool(table) if names.kept == chosen => table.ensure(conn).await,
        Book::Tool(_) | Book::Own => Ok(()),
    }
}

/// Our own rows are from before a tool's table was kept: they are not what the tool says now.
pub(super) async fn clear_stale(tx: &mut PgConnection, names: &Names) -> Result<(), DbError> {
    if names.kept == LedgerChoice::Own || names.book.choice() != LedgerChoice::Own {
        return Ok(());
    }
    super::session::run(tx, format!("DELETE FROM {}", names.ledger)).await
}

/// From now on the history is in the chosen ledger.
pub(super) async fn keep(tx: &mut PgConnection, names: &Names) -> Result<(), DbError> {
    let update = format!(
        "UPDATE {} SET ledger = $1, changed_at = now() WHERE ledger <> $1",
        names.meta
    );
    let query = sqlx::query(AssertSqlSafe(update)).bind(names.book.choice().as_str());
    query.execute(tx).await.map(drop).map_err(db_error)
}

/// Records an accepted edit, and makes the ledger's checksum fit.
pub(super) async fn accept_edit(
    tx: &mut PgConnection,
    names: &Names,
    migration: &Migration,
    edit: &EditRecord,
) -> Result<(), DbError> {
    match &names.book {
        Book::Own => {
            let update = format!("UPDATE {} SET checksum = $2 WHERE version = $1", names.ledger);
            sqlx::query(AssertSqlSafe(update))
                .bind(edit.version.as_str())
                .bind(migration.up.checksum.as_str())
                .execute(&mut *tx)
                .await
                .map_err(db_error)?;
        }
        Book::Tool(table) => table.write(tx, &table.origin.accept_edit(migration)).await?,
    }
    let insert = format!(
        "INSERT INTO {} (version, was, now, accepted_by, reason) VALUES ($1, $2, $3, $4, $5)",
        names.edits
    );
    let query = sqlx::query(AssertSqlSafe(insert))
        .bind(edit.version.as_str())
        .bind(&edit.was)
        .bind(&edit.now)
        .bind(&edit.accepted_by)
        .bind(&edit.reason);
    query.execute(tx).await.map(drop).map_err(db_error)
}
