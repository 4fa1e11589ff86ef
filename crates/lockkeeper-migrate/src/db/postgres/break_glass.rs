//! Looking at a fence and releasing it without a fleet.

use std::time::Duration;

use async_trait::async_trait;
use lockkeeper_core::version::SchemaVersion;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use tokio::time::Instant;

use super::gate::{self, Found, Lock};
use super::identity::{identity, server};
use super::schema::{self, Names};
use super::session::{db_error, is_lock_failure, set_lock_timeout};
use super::take::signed;
use super::{Postgres, blockers, clean_up, epoch_table, guest};
use crate::db::break_glass::taken_meanwhile;
use crate::db::{
    Blocker, BreakGlass, Database, DbError, ExecutorState, FenceState, GateRow, Living, Release,
    ReleaseError, Released,
};
use crate::ledger::LedgerChoice;

/// How long an executor may take to end.
const END_LIMIT: Duration = Duration::from_secs(20);

/// How long the row's lock is waited for.
const ROW_WAIT: Duration = Duration::from_secs(5);

#[async_trait]
impl BreakGlass for Postgres {
    async fn inspect_fence(&self) -> Result<FenceState, DbError> {
        let mut session = self.connector.connect().await?;
        let state = look(&mut session.conn, self.connector.settings.ledger).await;
        session.close().await;
        state
    }

    async fn release_fence(&self, order: &Release) -> Result<Released, ReleaseError> {
        // A help for those who read the row afterwards; a ledger that cannot be read must not be in the way.
        let newest = self.inspect().await.ok().and_then(|mut seen| seen.ledger.pop());
        let version = newest.map(|entry| entry.version);
        let mut session = self.connector.connect().await?;
        let names = schema::find(&mut session.conn, self.connector.settings.ledger).await?;
        let names = names.ok_or(ReleaseError::NoGate)?;
        let released = release(&mut session.conn, &names, version, order).await;
        session.close().await;
        released
    }
}

async fn look(conn: &mut PgConnection, choice: LedgerChoice) -> Result<FenceState, DbError> {
    let mut state = FenceState {
        server: server(conn).await?,
        identity: identity(conn).await?,
        row: None,
        closed: false,
        changed_at: None,
        executor: None,
        barrier: Vec::new(),
        epoch_tables: Vec::new(),
    };
    let Some(names) = schema::find(conn, choice).await? else {
        return Ok(state);
    };
    let found = gate::read(conn, &names, Lock::None).await?;
    state.closed = found.row.is_closed();
    state.changed_at = Some(changed_at(conn, &names).await?);
    if let Some(id) = found.row.executor.clone() {
        let alive = blockers::is_alive(conn, &id).await?;
        let who = found.who.clone();
        state.executor = Some(ExecutorState { id, who, alive });
    }
    state.barrier = clean_up::objects(conn, &names).await?;
    let tables = epoch_table::all(conn, &names).await?;
    state.epoch_tables = tables
        .into_iter()
        .map(|epoch| names.own(&epoch_table::name(epoch)))
        .collect();
    state.row = Some(found.row);
    Ok(state)
}

async fn changed_at(conn: &mut PgConnection, names: &Names) -> Result<String, DbError> {
    let query = format!(
        "SELECT to_char(changed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') FROM {}",
        names.gate
    );
    let row = sqlx::query(AssertSqlSafe(query))
        .fetch_one(conn)
        .await
        .map_err(db_error)?;
    Ok(row.get(0))
}

async fn release(
    conn: &mut PgConnection,
    names: &Names,
    version: Option<SchemaVersion>,
    order: &Release,
) -> Result<Released, ReleaseError> {
    let found = gate::read(conn, names, Lock::None).await?;
    let ended = end_executor(conn, &found, order.living).await?;
    end_guests(conn, names, order.living).await?;
    let mut tx = conn.begin().await.map_err(db_error)?;
    let mut row = hold(&mut tx, names).await?;
    if row.executor != found.row.executor {
        return Err(taken_meanwhile().into());
    }
    let was_closed = row.is_closed();
    if was_closed {
        row = GateRow {
            opened: row.gate_epoch,
            version: version.or(row.version),
            executor: None,
            rollout: Some(order.mark()),
            ..row
        };
        open(&mut tx, names, &row).await?;
    }
    tx.commit().await.map_err(db_error)?;
    let left = clean_up::drop_opened(conn, names, row.opened).await?;
    Ok(Released {
        was_closed,
        row,
        ended,
        left,
    })
}

/// Sees to it that no executor lives.
async fn end_executor(
    conn: &mut PgConnection,
    found: &Found,
    living: Living,
) -> Result<Option<Blocker>, ReleaseError> {
    let Some(id) = &found.row.executor else {
        return Ok(None);
    };
    if !blockers::is_alive(conn, id).await? {
        return Ok(None);
    }
    let seen = blockers::describe(conn, id).await?;
    match living {
        Living::Refuse => Err(ReleaseError::ExecutorLives {
            executor: seen.map_or_else(|| id.to_string(), |blocker| blocker.to_string()),
        }),
        Living::End => {
            blockers::end_and_confirm(conn, id, Instant::now() + END_LIMIT).await?;
            Ok(seen)
        }
    }
}

/// The same for an external migrator, which may outlive the executor that let it in.
async fn end_guests(conn: &mut PgConnection, names: &Names, living: Living) -> Result<(), ReleaseError> {
    match living {
        Living::Refuse => match guest::living(conn, names).await?.as_slice() {
            [] => Ok(()),
            sessions => Err(ReleaseError::ExecutorLives {
                executor: format!("an external migrator: {}", sessions.join(", ")),
            }),
        },
        Living::End => {
            guest::end_all(conn, names, Instant::now() + END_LIMIT).await?;
            Ok(())
        }
    }
}

async fn hold(tx: &mut PgConnection, names: &Names) -> Result<GateRow, DbError> {
    set_lock_timeout(tx, ROW_WAIT).await?;
    match gate::read(tx, names, Lock::ForUpdate).await {
        Ok(found) => Ok(found.row),
        Err(error) if is_lock_failure(&error) => Err(DbError::TimedOut {
            what: "the lock on the gate row".to_owned(),
            blockers: Vec::new(),
        }),
        Err(error) => Err(error),
    }
}

async fn open(tx: &mut PgConnection, names: &Names, row: &GateRow) -> Result<(), DbError> {
    let update = format!(
        "UPDATE {} SET opened = $1, version = $2, rollout = $3, executor_session = NULL, executor_started = NULL, \
                executor_who = NULL, changed_at = now()",
        names.gate
    );
    sqlx::query(AssertSqlSafe(update))
        .bind(signed(row.opened.0))
        .bind(row.version.as_ref().map(|version| version.0.clone()))
        .bind(row.rollout.clone())
        .execute(tx)
        .await
        .map_err(db_error)?;
    Ok(())
}
