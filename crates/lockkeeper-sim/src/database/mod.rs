//! A simulated database server: sessions, transactions, a gate row, barriers and epoch tables, a ledger and a journal.
//!
//! | module | what it holds |
//! |---|---|
//! | `state` | sessions and locks, without time |
//! | `session` | one connection: calls that come late, answers that are lost, statements that go on without their client |
//! | `target` | the port's [`Database`](lockkeeper_migrate::db::Database) |
//! | `hand` | the port's [`Hand`](lockkeeper_migrate::db::Hand) |
//! | `taking` | how a target is taken from an older hand |
//! | `applying` | how a migration runs, in one transaction or journalled |
//! | `writing` | a user's transaction |
//!
//! Locks are those of PostgreSQL, which is also what MariaDB comes to for these questions: a writer holds its table until
//! its transaction ends, making a trigger waits for that, and ends who does not come to an end.

mod applying;
mod hand;
mod session;
mod state;
mod taking;
mod target;
mod writing;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lockkeeper_core::strength::Strength;
use tokio::sync::Notify;
use tokio::time::Instant;

pub use target::Target;
pub use writing::{Refusal, Writer};

use state::State;

use crate::chance::Chance;
use crate::checker::Checker;
use crate::net::Net;
use crate::tell;

/// How the statements of its migrations run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Running {
    /// A migration is one transaction.
    InOneTransaction,
    /// Each statement commits by itself, with a journal around it.
    Journalled,
}

/// A server with one target's database. Its clones are the same server.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    target: String,
    strength: Strength,
    running: Running,
    state: Mutex<State>,
    /// Rung when a lock or a session changes.
    changed: Notify,
    net: Net,
    chance: Chance,
    checker: Checker,
    /// Statements of migrations that fail, in percent.
    fails: u32,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.target)
    }
}

impl Server {
    /// A server that has never seen lockkeeper.
    #[must_use]
    pub fn new(
        target: &str,
        strength: Strength,
        running: Running,
        fails: u32,
        net: &Net,
        chance: Chance,
        checker: &Checker,
    ) -> Self {
        checker.target(target, strength);
        Self(Arc::new(Inner {
            target: target.to_owned(),
            strength,
            running,
            state: Mutex::default(),
            changed: Notify::new(),
            net: net.clone(),
            chance,
            checker: checker.clone(),
            fails,
        }))
    }

    /// The target's name, which is also the server's on the network.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.target
    }

    /// Its strength.
    #[must_use]
    pub fn strength(&self) -> Strength {
        self.0.strength
    }

    /// Whether its users are refused at this moment, by the gate row.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state()
            .row
            .as_ref()
            .is_some_and(lockkeeper_core::row::GateRow::is_closed)
    }

    /// Ends every session, and refuses new ones for a while.
    pub async fn restart(&self, down: Duration) {
        self.change(|state| {
            state.up = false;
            state.end_all();
        });
        tokio::time::sleep(down).await;
        self.change(|state| {
            state.starts += 1;
            state.up = true;
        });
    }

    /// Ends one session at random.
    pub fn end_somebody(&self) {
        let sessions = self.state().living();
        if let Some(session) = self.0.chance.one_of(&sessions) {
            tell!(self.0.net_trace(), self.name(), "ends session {session}");
            self.change(|state| state.end(*session));
        }
    }

    /// The sessions of a process that has died end, each when its statement has come to an end.
    pub fn client_died(&self, node: &str) {
        self.change(|state| state.orphan(node));
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state());
        self.0.changed.notify_waiters();
        changed
    }

    /// Waits until `ready` gives something, at most until `end`.
    async fn when<T>(&self, end: Instant, mut ready: impl FnMut(&mut State) -> Option<T>) -> Option<T> {
        loop {
            let mut changed = std::pin::pin!(self.0.changed.notified());
            changed.as_mut().enable();
            let now = ready(&mut self.state());
            if let Some(found) = now {
                self.0.changed.notify_waiters();
                return Some(found);
            }
            if tokio::time::timeout_at(end, changed).await.is_err() {
                return None;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn net_trace(&self) -> &crate::trace::Trace {
        self.checker.trace()
    }
}
