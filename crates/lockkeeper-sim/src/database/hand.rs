//! The leader's own hand on the simulated target.

use std::time::Duration;

use async_trait::async_trait;
use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_core::row::{ExecutorId, GateRow, Opening, Terms};
use lockkeeper_core::version::SchemaVersion;
use lockkeeper_migrate::db::{
    Applied, ApplyError, BarrierReport, DbError, Doubt, Hand, LedgerWrite, Observer, Resolution,
    VerifyOutcome,
};
use lockkeeper_migrate::fingerprint::Schema;
use lockkeeper_migrate::ledger::{EditRecord, LedgerEntry};
use lockkeeper_migrate::source::{Direction, Migration, Script};
use lockkeeper_migrate::sql::Statement;
use tokio::time::Instant;

use super::session::{Session, lost};
use super::state::{Pid, State};
use super::taking::Locked;
use super::target::{blocker, empty_schema};
use super::{Server, applying};
use crate::checker::By;

/// How long a hand waits for the row's lock.
const ROW_PATIENCE: Duration = Duration::from_secs(30);

/// How long a session that was told to end is waited for.
const ENDING: Duration = Duration::from_secs(3);

/// A registered session.
#[derive(Debug)]
pub(super) struct SimulatedHand {
    session: Session,
    terms: Terms,
    row: GateRow,
}

impl SimulatedHand {
    pub(super) fn new(session: Session, terms: Terms, row: GateRow) -> Self {
        Self { session, terms, row }
    }

    fn own(&self) -> Own {
        Own {
            server: self.session.server.clone(),
            pid: self.session.pid,
            terms: self.terms.clone(),
        }
    }

    /// Changes the row under its lock, if it still names this hand.
    async fn change_row(
        &mut self,
        change: impl FnOnce(&Own, &mut State) -> Result<(), DbError> + Send + 'static,
    ) -> Result<(), DbError> {
        let own = self.own();
        let row = self
            .session
            .run(async move {
                own.under_lock(|state| {
                    change(&own, state)?;
                    state.row.clone().ok_or_else(|| lost("there is no row"))
                })
                .await
            })
            .await?;
        self.row = row;
        Ok(())
    }
}

/// A hand as the server knows it.
#[derive(Debug, Clone)]
pub(super) struct Own {
    pub(super) server: Server,
    pub(super) pid: Pid,
    pub(super) terms: Terms,
}

impl Own {
    pub(super) fn by(&self) -> By {
        By {
            executor: self.terms.executor.clone(),
            epoch: self.terms.epoch,
        }
    }

    /// Whether the row still names this hand.
    pub(super) fn stands(&self, state: &State) -> Result<(), DbError> {
        let row = state.row.as_ref().ok_or_else(|| lost("there is no row"))?;
        if self.terms.stand(row) {
            Ok(())
        } else {
            Err(DbError::Superseded {
                by: row.leader_epoch.to_string(),
            })
        }
    }

    /// Locks the row; the lock goes with the session.
    pub(super) async fn lock(&self) -> Result<(), DbError> {
        match self
            .server
            .lock_row(self.pid, Instant::now() + ROW_PATIENCE)
            .await
        {
            Locked::Yes => Ok(()),
            Locked::Gone => Err(lost("the session has ended")),
            Locked::No => Err(DbError::TimedOut {
                what: "the gate row".to_owned(),
                blockers: Vec::new(),
            }),
        }
    }

    /// One transaction: locks the row, checks that it names this hand, changes.
    pub(super) async fn under_lock<T>(
        &self,
        change: impl FnOnce(&mut State) -> Result<T, DbError> + Send,
    ) -> Result<T, DbError> {
        self.lock().await?;
        let changed = self.server.change(|state| {
            self.stands(state)?;
            change(state)
        });
        self.server.unlock_row(self.pid);
        changed
    }

    /// Time passes in a statement. Fails when the session has ended meanwhile, or was told to cancel.
    pub(super) async fn works(&self, time: Duration) -> Result<(), DbError> {
        let ended = self.server.when(Instant::now() + time, |state| {
            match state.sessions.get(&self.pid) {
                None => Some(lost("the session has ended")),
                Some(session) if session.cancelled => Some(DbError::Server {
                    code: "57014".to_owned(),
                    message: "canceling statement due to user request".to_owned(),
                }),
                Some(_) => None,
            }
        });
        ended.await.map_or(Ok(()), Err)
    }
}

#[async_trait]
impl Hand for SimulatedHand {
    fn gate_row(&self) -> &GateRow {
        &self.row
    }

    fn executor(&self) -> &ExecutorId {
        &self.terms.executor
    }

    async fn close(&mut self, epoch: GateEpoch, rollout: &str) -> Result<(), DbError> {
        let rollout = rollout.to_owned();
        self.change_row(move |own, state| {
            let row = state.row.as_ref().ok_or_else(|| lost("there is no row"))?;
            row.admit_closing(epoch).map_err(|behind| DbError::EpochBehind {
                given: epoch,
                recorded: behind.recorded,
            })?;
            state.epoch_tables.insert(epoch);
            state.set_row(own.server.name(), &own.server.0.checker, |row| {
                row.gate_epoch = epoch;
                row.rollout = Some(rollout);
            });
            Ok(())
        })
        .await
    }

    async fn raise_barrier(
        &mut self,
        patience: Duration,
        _: &dyn Observer,
    ) -> Result<BarrierReport, DbError> {
        let (own, fence) = (self.own(), self.row.gate_epoch);
        self.session
            .run(async move { raise(&own, fence, patience).await })
            .await
    }

    async fn apply(
        &mut self,
        _: &Script,
        write: &LedgerWrite,
        _: &dyn Observer,
    ) -> Result<Applied, ApplyError> {
        let (own, write) = (self.own(), write.clone());
        let applied = self
            .session
            .run(async move { Ok(applying::apply(&own, &write).await) })
            .await;
        applied?
    }

    async fn ledger(&mut self) -> Result<Vec<LedgerEntry>, DbError> {
        self.session.ask(|state| Ok(state.ledger.clone())).await
    }

    async fn schema(&mut self) -> Result<Schema, DbError> {
        self.session.ask(|_| Ok(empty_schema())).await
    }

    async fn own_ledger(&mut self) -> Result<Vec<LedgerEntry>, DbError> {
        self.ledger().await
    }

    async fn record(&mut self, _: &[LedgerWrite]) -> Result<(), DbError> {
        Err(unsupported("recording without running"))
    }

    async fn accept_edit(&mut self, _: &Migration, _: &EditRecord) -> Result<(), DbError> {
        Err(unsupported("edits"))
    }

    async fn doubts(&mut self) -> Result<Vec<Doubt>, DbError> {
        Ok(Vec::new())
    }

    async fn resolve(&mut self, _: &Doubt, _: &Resolution) -> Result<(), DbError> {
        Err(unsupported("doubts"))
    }

    async fn scalar(&mut self, query: &str) -> Result<Option<String>, DbError> {
        if !query.contains("lockkeeper_journal") {
            return Err(unsupported("queries"));
        }
        let up_only = query.contains("'up'");
        self.session
            .ask(move |state| {
                let journal = state.journal.as_ref();
                let journal = journal.filter(|journal| !up_only || journal.direction == Direction::Up);
                Ok(journal.map(|journal| journal.version.0.clone()))
            })
            .await
    }

    async fn verify(&mut self, _: &[Statement]) -> Result<VerifyOutcome, DbError> {
        let own = self.own();
        self.session
            .ask(move |state| {
                let server = &own.server;
                let passed = !server.0.chance.percent(server.0.fails);
                let fence = state.row.as_ref().map(|row| row.gate_epoch);
                server.0.checker.verified(server.name(), fence, passed);
                Ok(match passed {
                    true => VerifyOutcome::Passed,
                    false => VerifyOutcome::Failed("simulated".to_owned()),
                })
            })
            .await
    }

    async fn open(&mut self, epoch: GateEpoch, version: Option<&SchemaVersion>) -> Result<(), DbError> {
        let version = version.cloned();
        self.change_row(move |own, state| {
            let row = state.row.as_ref().ok_or_else(|| lost("there is no row"))?;
            let opening = row.admit_opening(epoch).map_err(|behind| DbError::EpochBehind {
                given: epoch,
                recorded: behind.recorded,
            })?;
            if opening == Opening::Due {
                state.set_row(own.server.name(), &own.server.0.checker, |row| {
                    row.opened = epoch;
                    row.version = version;
                });
            }
            Ok(())
        })
        .await
    }

    async fn clean_up(&mut self, _: &dyn Observer) -> Result<usize, DbError> {
        self.session
            .ask(|state| {
                let opened = state.row.as_ref().map_or(GateEpoch::ZERO, |row| row.opened);
                state.barriers.retain(|fence| *fence > opened);
                Ok(state.barriers.len())
            })
            .await
    }

    async fn release(mut self: Box<Self>) -> Result<(), DbError> {
        self.change_row(|own, state| {
            state.set_row(own.server.name(), &own.server.0.checker, |row| {
                row.executor = None
            });
            Ok(())
        })
        .await
    }
}

/// Makes the triggers: waits for the writers, ends those that do not come to an end, and drops older epoch tables.
async fn raise(own: &Own, fence: GateEpoch, patience: Duration) -> Result<BarrierReport, DbError> {
    let (server, pid) = (&own.server, own.pid);
    let continued = server.state().barriers.contains(&fence);
    let end = Instant::now() + patience;
    server.change(|state| {
        own.stands(state)?;
        state.table_lock = Some(pid);
        Ok::<_, DbError>(())
    })?;
    let mut ended = Vec::new();
    let mut until = end;
    loop {
        let free = server.when(until, |state| match state.lives(pid) {
            false => Some(Err(lost("the session has ended"))),
            true => state.writers_beside(pid, fence).is_empty().then_some(Ok(())),
        });
        match free.await {
            Some(Ok(())) => break,
            Some(Err(error)) => return Err(error),
            None if until > end => {
                server.change(|state| state.table_lock = state.table_lock.filter(|holder| *holder != pid));
                return Err(DbError::TimedOut {
                    what: "the end of sessions that hold writes".to_owned(),
                    blockers: ended,
                });
            }
            None => {
                let writers = server.state().writers_beside(pid, fence);
                for writer in writers {
                    let node = server
                        .state()
                        .sessions
                        .get(&writer)
                        .map(|session| session.node.clone());
                    ended.push(blocker(writer, &node.unwrap_or_default()));
                    server.kill(writer);
                }
                until = Instant::now() + ENDING;
            }
        }
    }
    own.works(server.0.chance.millis(5, 60)).await?;
    server.change(|state| {
        own.stands(state)?;
        state.barriers.insert(fence);
        state.epoch_tables.retain(|table| *table >= fence);
        state.table_lock = None;
        server.0.checker.raised(server.name(), fence);
        Ok::<_, DbError>(())
    })?;
    Ok(BarrierReport {
        tables: vec!["t".to_owned()],
        ended,
        continued,
    })
}

fn unsupported(what: &str) -> DbError {
    DbError::Unsupported(format!("{what}: not simulated"))
}
