//! Looking at a fence and releasing it without a fleet.
//!
//! The fence of an SQLite file is an open transaction: it falls with the process that holds it, and the file then
//! says that the gate is open. So there is something to release only while that process lives, and nobody but the
//! operating system can end it; or in a copy that was made out of a fence.

use std::time::Duration;

use async_trait::async_trait;
use lockkeeper_core::version::SchemaVersion;

use super::database::SqliteDatabase;
use super::lock::{self, Wait};
use super::session::{self, Mode, Session};
use super::take::registered;
use super::{gate, witness};
use crate::db::{
    BreakGlass, Database, DbError, ExecutorState, FenceState, GateRow, Release, ReleaseError, Released,
    Silent,
};

/// How long the write lock is waited for.
const LOCK_LIMIT: Duration = Duration::from_secs(5);

#[async_trait]
impl BreakGlass for SqliteDatabase {
    async fn inspect_fence(&self) -> Result<FenceState, DbError> {
        let inspection = self.inspect().await?;
        let mut state = FenceState {
            server: inspection.server,
            identity: inspection.identity,
            row: inspection.gate_row,
            closed: false,
            changed_at: None,
            executor: None,
            barrier: Vec::new(),
            epoch_tables: Vec::new(),
        };
        let Some(row) = &state.row else {
            return Ok(state);
        };
        let path = session::canonical(&self.path)?;
        state.closed = row.is_closed();
        if let Some(id) = row.executor.clone() {
            let alive = witness::lives(&path, &id.session);
            state.executor = Some(ExecutorState { id, who: None, alive });
        }
        let session = Session::open(&self.path, Mode::Look, LOCK_LIMIT).await?;
        state.changed_at = gate::changed_at(&session).await?;
        session.close().await?;
        Ok(state)
    }

    async fn release_fence(&self, order: &Release) -> Result<Released, ReleaseError> {
        let mut inspection = self.inspect().await?;
        let Some(seen) = inspection.gate_row else {
            return Err(ReleaseError::NoGate);
        };
        let version = inspection.ledger.pop().map(|entry| entry.version);
        let path = session::canonical(&self.path)?;
        if let Some(executor) = seen
            .executor
            .as_ref()
            .filter(|id| witness::lives(&path, &id.session))
        {
            let executor = format!("{}; end its process", registered(&path, executor));
            return Err(ReleaseError::ExecutorLives { executor });
        }
        let session = Session::open(&self.path, Mode::Change, LOCK_LIMIT).await?;
        let mut wait = Wait::new(&path, "the write lock", LOCK_LIMIT, &Silent);
        lock::begin_immediate(&session, &mut wait).await?;
        let row = gate::read_row(&session).await?;
        let was_closed = row.is_closed();
        let row = match was_closed {
            true => open(&session, row, version, order).await?,
            false => row,
        };
        lock::commit(&session, &mut wait).await?;
        session.close().await?;
        Ok(Released {
            was_closed,
            row,
            ended: None,
            left: 0,
        })
    }
}

async fn open(
    session: &Session,
    row: GateRow,
    version: Option<SchemaVersion>,
    order: &Release,
) -> Result<GateRow, DbError> {
    let row = GateRow {
        opened: row.gate_epoch,
        version: version.or(row.version),
        executor: None,
        rollout: Some(order.mark()),
        ..row
    };
    gate::write(session, &row, None).await?;
    Ok(row)
}
