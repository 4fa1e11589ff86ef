//! A user's write transaction.

use std::time::Duration;

use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_core::row::{Verdict, barrier};
use lockkeeper_migrate::db::DbError;
use tokio::time::Instant;

use super::Server;
use super::session::{Session, lost};
use super::state::{Pid, State};
use crate::checker::UserWrite;
use crate::node::Node;

/// How long a statement waits for its table.
const LOCK_PATIENCE: Duration = Duration::from_secs(8);

/// What refuses a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The fence.
    Fenced,
    /// The connection, or the server.
    Lost,
}

/// One process that writes.
#[derive(Debug, Clone)]
pub struct Writer {
    /// The server.
    pub server: Server,
    /// The process.
    pub node: Node,
}

impl Writer {
    /// One transaction with one row. Between its statements the process may be paused for as long as it happens to be.
    ///
    /// # Errors
    /// It was refused, or it cannot be told whether it committed.
    pub async fn write(&self, write: UserWrite, thinks: [Duration; 2]) -> Result<(), Refusal> {
        let session = Session::open(&self.server, &self.node)
            .await
            .map_err(|_| Refusal::Lost)?;
        if let Some(carried) = write.carried.filter(|_| self.server.strength().has_epoch()) {
            self.touch(&session, carried).await?;
        }
        self.node.sleep(thinks[0]).await;
        self.insert(&session, write.clone()).await?;
        self.node.sleep(thinks[1]).await;
        self.commit(&session).await
    }

    /// A write that takes no time, for targets whose safety rests on when writes end.
    pub fn write_at_once(&self, write: &UserWrite) {
        self.server.0.checker.user_committed(self.server.name(), write);
    }

    async fn touch(&self, session: &Session, carried: GateEpoch) -> Result<(), Refusal> {
        let pid = session.pid;
        let touched = session.ask(move |state| {
            let there = state.epoch_tables.contains(&carried);
            if let Some(session) = state.sessions.get_mut(&pid).filter(|_| there) {
                session.touched = Some(carried);
            }
            Ok(there)
        });
        match touched.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Refusal::Fenced),
            Err(_) => Err(Refusal::Lost),
        }
    }

    async fn insert(&self, session: &Session, write: UserWrite) -> Result<(), Refusal> {
        let (server, pid) = (self.server.clone(), session.pid);
        let inserted = session.run(async move {
            let end = Instant::now() + LOCK_PATIENCE;
            let free = server.when(end, |state| match (state.lives(pid), state.table_lock) {
                (false, _) => Some(Err(lost("the session has ended"))),
                (true, None) => Some(Ok(insert(&server, state, pid, &write))),
                (true, Some(_)) => None,
            });
            free.await.unwrap_or_else(|| {
                Err(DbError::TimedOut {
                    what: "the table".to_owned(),
                    blockers: Vec::new(),
                })
            })
        });
        match inserted.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Refusal::Fenced),
            Err(_) => Err(Refusal::Lost),
        }
    }

    async fn commit(&self, session: &Session) -> Result<(), Refusal> {
        let (server, pid) = (self.server.clone(), session.pid);
        let committed = session.ask(move |state| {
            let Some(session) = state.sessions.get_mut(&pid) else {
                return Err(lost("the session has ended"));
            };
            session.touched = None;
            for write in std::mem::take(&mut session.writes) {
                server.0.checker.user_committed(server.name(), &write);
            }
            Ok(())
        });
        committed.await.map_err(|_| Refusal::Lost)
    }
}

/// The statement, with every trigger that stands. Gives whether it passed.
fn insert(server: &Server, state: &mut State, pid: Pid, write: &UserWrite) -> bool {
    let me = state.executor(pid);
    let passes = state.row.as_ref().is_none_or(|row| {
        state
            .barriers
            .iter()
            .all(|fence| match barrier(row, *fence, &me) {
                Verdict::Pass => true,
                Verdict::Confirm => row.executor.as_ref() == Some(&me),
                Verdict::Fenced => false,
            })
    });
    if !passes {
        server.0.checker.user_refused(server.name());
        state.end(pid);
        return false;
    }
    if let Some(session) = state.sessions.get_mut(&pid) {
        session.writes.push(write.clone());
    }
    true
}
