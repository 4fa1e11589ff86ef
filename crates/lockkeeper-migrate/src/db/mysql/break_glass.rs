//! Looking at a fence and releasing it without a fleet.

use std::time::Duration;

use async_trait::async_trait;
use lockkeeper_core::version::SchemaVersion;
use tokio::time::Instant;

use super::database::MySqlDatabase;
use super::gate::{self, Lock, Record};
use super::others::{self, Life};
use super::session::Session;
use super::target::{Facts, Target, number};
use super::text::{literal, literal_or_null};
use super::watch::{Unseen, Watch, update_row};
use super::{barrier, epoch_table};
use crate::db::break_glass::taken_meanwhile;
use crate::db::{
    Blocker, BreakGlass, Database, DbError, ExecutorId, ExecutorState, FenceState, Living, Release,
    ReleaseError, Released, Silent,
};

/// How long an executor may take to end.
const END_LIMIT: Duration = Duration::from_secs(20);

/// How long whoever keeps the row locked is waited for before it is ended: a writer that was refused and left its
/// transaction open.
const ROW_PATIENCE: Duration = Duration::from_secs(2);

#[async_trait]
impl BreakGlass for MySqlDatabase {
    async fn inspect_fence(&self) -> Result<FenceState, DbError> {
        let (mut session, facts) = self.session().await?;
        let state = look(&mut session, &self.target, facts).await;
        session.close().await;
        state
    }

    async fn release_fence(&self, order: &Release) -> Result<Released, ReleaseError> {
        // A help for those who read the row afterwards; a ledger that cannot be read must not be in the way.
        let newest = self.inspect().await.ok().and_then(|mut seen| seen.ledger.pop());
        let version = newest.map(|entry| entry.version);
        let (mut session, facts) = self.session().await?;
        let mut watch = Watch::new(self.target.clone(), facts.clone());
        let released = release(&mut session, &mut watch, &self.target, &facts, (version, order)).await;
        watch.close().await;
        session.close().await;
        released
    }
}

async fn look(session: &mut Session, target: &Target, facts: Facts) -> Result<FenceState, DbError> {
    let mut state = FenceState {
        server: facts.product(),
        identity: facts.identity.clone(),
        row: None,
        closed: false,
        changed_at: None,
        executor: None,
        barrier: Vec::new(),
        epoch_tables: Vec::new(),
    };
    if gate::missing_tables(session, target).await? {
        return Ok(state);
    }
    let record = gate::read_present(session, target, Lock::None).await?;
    state.closed = record.row.is_closed();
    state.changed_at = session
        .value(&format!(
            "SELECT DATE_FORMAT(changed_at, '%Y-%m-%dT%H:%i:%sZ') FROM {}",
            target.own("lockkeeper_gate")
        ))
        .await?;
    if let Some(id) = record.row.executor.clone() {
        let alive = others::life(session, target, &facts, &id).await? == Life::Alive;
        let who = record.who.clone();
        state.executor = Some(ExecutorState { id, who, alive });
    }
    state.barrier = barrier::objects(session, target).await?;
    let tables = epoch_table::all(session, target).await?;
    state.epoch_tables = tables.into_iter().map(epoch_table::name).collect();
    state.row = Some(record.row);
    Ok(state)
}

async fn release(
    session: &mut Session,
    watch: &mut Watch,
    target: &Target,
    facts: &Facts,
    (version, order): (Option<SchemaVersion>, &Release),
) -> Result<Released, ReleaseError> {
    if gate::missing_tables(session, target)
        .await
        .map_err(DbError::from)?
    {
        return Err(ReleaseError::NoGate);
    }
    let record = gate::read_present(session, target, Lock::None).await?;
    let ended = match &record.row.executor {
        Some(id) => end_executor(session, target, facts, id, order.living).await?,
        None => None,
    };
    let was_closed = record.row.is_closed();
    if was_closed {
        let version = version.or_else(|| record.row.version.clone());
        let version = literal_or_null(version.as_ref().map(|version| version.as_str()));
        let sql = update(target, &record, &version, order);
        let matched = update_row(session, watch, &sql, ROW_PATIENCE, Unseen::End, &Silent).await?;
        if matched == 0 {
            return Err(taken_meanwhile().into());
        }
    }
    let row = gate::read_present(session, target, Lock::None).await?.row;
    let left = barrier::drop_opened(session, target, row.opened).await?;
    Ok(Released {
        was_closed,
        row,
        ended,
        left,
    })
}

fn update(target: &Target, record: &Record, version: &str, order: &Release) -> String {
    let (session, started) = match &record.row.executor {
        Some(id) => (number(&id.session).to_string(), literal(&id.started)),
        None => ("NULL".to_owned(), "NULL".to_owned()),
    };
    format!(
        "UPDATE {} SET opened = gate_epoch, version = {version}, superseded = 0, executor_session = NULL, \
         executor_started = NULL, executor_who = NULL, rollout = {}, changed_at = UTC_TIMESTAMP(6) \
         WHERE one = 1 AND gate_epoch = {} AND opened < gate_epoch AND executor_session <=> {session} \
         AND executor_started <=> {started}",
        target.own("lockkeeper_gate"),
        literal(&order.mark()),
        record.row.gate_epoch.0,
    )
}

/// Sees to it that no executor lives.
async fn end_executor(
    session: &mut Session,
    target: &Target,
    facts: &Facts,
    id: &ExecutorId,
    living: Living,
) -> Result<Option<Blocker>, ReleaseError> {
    if others::life(session, target, facts, id)
        .await
        .map_err(DbError::from)?
        == Life::Gone
    {
        return Ok(None);
    }
    match living {
        Living::Refuse => {
            let seen = others::describe(session, facts, &[number(&id.session)]).await;
            let seen = seen.map_err(DbError::from)?.into_iter().next();
            Err(ReleaseError::ExecutorLives {
                executor: seen.map_or_else(|| id.to_string(), |blocker| blocker.to_string()),
            })
        }
        Living::End => {
            let deadline = Instant::now() + END_LIMIT;
            Ok(others::end_executor(session, target, facts, id, deadline).await?)
        }
    }
}
