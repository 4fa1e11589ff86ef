//! What each statement writes anew, and how many rows it changes, for rehearsals.
//!
//! There is one lock, on the whole file, and the migration holds it from its first statement to its commit.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::gate;
use super::session::Session;
use crate::db::DbError;
use crate::db::measure::{Blocks, Effects, Evidence, LockTaken, Measurement, Rewritten};
use crate::sql::{Statement, StatementKind};

/// Where the pages of tables and indexes begin: another page is another copy.
const ROOT_PAGES: &str = "SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 0 \
                          AND name NOT LIKE 'lockkeeper!_%' ESCAPE '!' AND name NOT LIKE 'sqlite!_%' ESCAPE '!'";

/// Runs the statement at `position` (from 0) of its script.
pub(super) async fn run(
    session: &Session,
    position: usize,
    statement: &Statement,
    limit: Option<Duration>,
) -> Result<Measurement, DbError> {
    let before = root_pages(session).await?;
    let began = Instant::now();
    session.execute_within(&statement.text, limit).await?;
    let duration = began.elapsed();
    let rows = changes(session, statement).await?;
    let after = root_pages(session).await?;
    let effects = Effects {
        duration,
        rows,
        locks: lock(statement).into_iter().collect(),
        rewritten: rewritten(&before, &after),
        algorithm: None,
    };
    Ok(effects.of(position, statement))
}

async fn root_pages(session: &Session) -> Result<BTreeMap<String, i64>, DbError> {
    let rows = session.rows(sqlx::query(ROOT_PAGES)).await?;
    rows.iter()
        .map(|row| Ok((gate::text(row, "name")?, gate::integer(row, "rootpage")?)))
        .collect()
}

/// What was there before under this name and lies elsewhere now: also a table that was built anew and renamed.
fn rewritten(before: &BTreeMap<String, i64>, after: &BTreeMap<String, i64>) -> Vec<Rewritten> {
    let moved = after
        .iter()
        .filter(|(name, page)| before.get(*name).is_some_and(|before| before != *page));
    moved
        .map(|(name, _)| Rewritten {
            object: name.clone(),
            evidence: Evidence::Seen,
        })
        .collect()
}

/// SQLite remembers the count of the last statement that changed rows.
async fn changes(session: &Session, statement: &Statement) -> Result<Option<u64>, DbError> {
    if statement.kind != StatementKind::RowChange {
        return Ok(None);
    }
    let rows = session.rows(sqlx::query("SELECT changes() AS n")).await?;
    let count = rows.first().map(|row| gate::integer(row, "n")).transpose()?;
    Ok(count.and_then(|count| u64::try_from(count).ok()))
}

fn lock(statement: &Statement) -> Option<LockTaken> {
    let changes = match statement.kind {
        StatementKind::RowChange
        | StatementKind::Ddl
        | StatementKind::Other
        | StatementKind::NonTransactional { .. } => true,
        StatementKind::Query
        | StatementKind::Session
        | StatementKind::Savepoint
        | StatementKind::Pragma { .. }
        | StatementKind::TransactionControl(_) => false,
    };
    changes.then(|| LockTaken {
        blocks: Blocks::Writes,
        mode: "RESERVED".to_owned(),
        object: "the file".to_owned(),
        evidence: Evidence::Documented,
    })
}
