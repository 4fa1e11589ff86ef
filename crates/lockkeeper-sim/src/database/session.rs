//! One connection to the server.

use std::future::Future;
use std::time::Duration;

use lockkeeper_migrate::db::DbError;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Server;
use super::state::Pid;
use crate::node::{Life, Node};
use crate::tell;

/// How long a connection that carries nothing is believed in.
const SILENCE: Duration = Duration::from_secs(10);

/// How long the server keeps a session whose client cannot be heard of.
const KEPT: Duration = Duration::from_secs(40);

/// A session with the process that holds it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) server: Server,
    pub(super) node: Node,
    pub(super) pid: Pid,
}

impl Session {
    /// Connects.
    pub(super) async fn open(server: &Server, node: &Node) -> Result<Self, DbError> {
        let unreachable = |reason: &str| DbError::Unreachable {
            place: server.name().to_owned(),
            reason: reason.to_owned(),
        };
        node.running().await;
        let there = tokio::time::timeout(SILENCE, travel(server, node.name(), server.name())).await;
        node.running().await;
        there.map_err(|_| unreachable("no answer"))?;
        let pid = server.change(|state| state.open_session(node.name()));
        let pid = pid.ok_or_else(|| unreachable("the server is not up"))?;
        Ok(Self {
            server: server.clone(),
            node: node.clone(),
            pid,
        })
    }

    /// Has the server carry out `statement`, which goes on whether its client waits or not.
    pub(super) async fn run<T, F>(&self, statement: F) -> Result<T, DbError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, DbError>> + Send + 'static,
    {
        self.node.running().await;
        let end = Instant::now() + SILENCE;
        let sent =
            tokio::time::timeout_at(end, travel(&self.server, self.node.name(), self.server.name())).await;
        if sent.is_err() {
            self.node.running().await;
            return Err(lost("nothing was answered"));
        }
        let (answer, answered) = oneshot::channel();
        let (server, pid) = (self.server.clone(), self.pid);
        let began = server.change(|state| {
            let session = state.sessions.get_mut(&pid)?;
            session.busy = true;
            session.cancelled = false;
            Some(())
        });
        if began.is_some() {
            tokio::spawn(async move {
                let done = statement.await;
                server.change(|state| {
                    if let Some(session) = state.sessions.get_mut(&pid) {
                        session.busy = false;
                        if session.orphaned {
                            state.end(pid);
                        }
                    }
                });
                // The client may be gone.
                let _ = answer.send(done);
            });
        } else {
            drop(answer);
        }
        let done = answered
            .await
            .unwrap_or_else(|_| Err(lost("the session has ended")));
        let back = tokio::time::timeout(
            SILENCE,
            travel(&self.server, self.server.name(), self.node.name()),
        )
        .await;
        self.node.running().await;
        back.map_err(|_| lost("no answer came"))?;
        done
    }

    /// The same for what takes no time at the server.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut super::State) -> Result<T, DbError> + Send + 'static,
    ) -> Result<T, DbError> {
        let (server, pid) = (self.server.clone(), self.pid);
        self.run(async move {
            server.change(|state| {
                if state.lives(pid) {
                    question(state)
                } else {
                    Err(lost("the session has ended"))
                }
            })
        })
        .await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.node.life() == Life::Dead {
            // Whoever killed the process has told the server.
            return;
        }
        let (server, node, pid) = (self.server.clone(), self.node.clone(), self.pid);
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        tokio::spawn(async move {
            let heard = async {
                node.running().await;
                travel(&server, node.name(), server.name()).await;
            };
            if tokio::time::timeout(KEPT, heard).await.is_err() {
                tell!(server.0.net_trace(), server.name(), "gives session {pid} up");
            }
            server.change(|state| state.leave(pid));
        });
    }
}

async fn travel(server: &Server, from: &str, to: &str) {
    let net = &server.0.net;
    tokio::time::sleep(net.latency()).await;
    net.reached(from, to).await;
}

/// The session is gone.
pub(super) fn lost(why: &str) -> DbError {
    DbError::ConnectionLost(why.to_owned())
}
