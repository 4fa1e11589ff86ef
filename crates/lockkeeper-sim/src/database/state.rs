//! Sessions and locks. Time comes in as data.

use std::collections::{BTreeMap, BTreeSet};

use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_core::row::{ExecutorId, GateRow, ServerIdentity};
use lockkeeper_core::version::SchemaVersion;
use lockkeeper_migrate::ledger::LedgerEntry;
use lockkeeper_migrate::source::Direction;

use crate::checker::{Checker, UserWrite};

/// A session's number: what a backend's pid is.
pub(super) type Pid = u64;

#[derive(Debug, Default)]
pub(super) struct Session {
    /// The client's process.
    pub(super) node: String,
    /// A statement of it runs at this moment.
    pub(super) busy: bool,
    /// Its client is gone: it ends with the statement.
    pub(super) orphaned: bool,
    /// Its statement is to be cancelled.
    pub(super) cancelled: bool,
    /// What its transaction has written, and not committed.
    pub(super) writes: Vec<UserWrite>,
    /// The epoch table that its transaction has touched.
    pub(super) touched: Option<GateEpoch>,
}

/// A migration that is not whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Journal {
    pub(super) version: SchemaVersion,
    pub(super) direction: Direction,
    /// Statements that are known to be done.
    pub(super) done: usize,
    /// The next one was begun.
    pub(super) begun: bool,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) up: bool,
    pub(super) starts: u64,
    last_pid: Pid,
    pub(super) sessions: BTreeMap<Pid, Session>,
    pub(super) row: Option<GateRow>,
    /// Who holds the gate row's lock.
    pub(super) row_lock: Option<Pid>,
    /// Who makes triggers: writers queue up behind it.
    pub(super) table_lock: Option<Pid>,
    pub(super) barriers: BTreeSet<GateEpoch>,
    pub(super) epoch_tables: BTreeSet<GateEpoch>,
    pub(super) ledger: Vec<LedgerEntry>,
    pub(super) journal: Option<Journal>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            up: true,
            starts: 1,
            last_pid: 100,
            sessions: BTreeMap::new(),
            row: None,
            row_lock: None,
            table_lock: None,
            barriers: BTreeSet::new(),
            epoch_tables: BTreeSet::new(),
            ledger: Vec::new(),
            journal: None,
        }
    }
}

impl State {
    pub(super) fn identity() -> ServerIdentity {
        ServerIdentity("simulated".to_owned())
    }

    pub(super) fn open_session(&mut self, node: &str) -> Option<Pid> {
        if !self.up {
            return None;
        }
        self.last_pid += 1;
        let session = Session {
            node: node.to_owned(),
            ..Session::default()
        };
        self.sessions.insert(self.last_pid, session);
        Some(self.last_pid)
    }

    pub(super) fn executor(&self, pid: Pid) -> ExecutorId {
        ExecutorId {
            session: pid.to_string(),
            started: self.starts.to_string(),
        }
    }

    pub(super) fn lives(&self, pid: Pid) -> bool {
        self.sessions.contains_key(&pid)
    }

    pub(super) fn living(&self) -> Vec<Pid> {
        self.sessions.keys().copied().collect()
    }

    /// Ends a session: its transaction is rolled back, its locks are free.
    pub(super) fn end(&mut self, pid: Pid) {
        self.sessions.remove(&pid);
        self.row_lock = self.row_lock.filter(|holder| *holder != pid);
        self.table_lock = self.table_lock.filter(|holder| *holder != pid);
    }

    pub(super) fn end_all(&mut self) {
        for pid in self.living() {
            self.end(pid);
        }
    }

    /// The client of these sessions is gone.
    pub(super) fn orphan(&mut self, node: &str) {
        let of_node = |(pid, session): (&Pid, &Session)| (session.node == node).then_some(*pid);
        let pids: Vec<Pid> = self.sessions.iter().filter_map(of_node).collect();
        for pid in pids {
            self.leave(pid);
        }
    }

    /// The client has closed the session: it ends when its statement has come to an end.
    pub(super) fn leave(&mut self, pid: Pid) {
        match self.sessions.get_mut(&pid) {
            Some(session) if session.busy => session.orphaned = true,
            Some(_) => self.end(pid),
            None => {}
        }
    }

    /// Another session than `pid` that has written, or holds an epoch table older than `epoch`.
    pub(super) fn writers_beside(&self, pid: Pid, epoch: GateEpoch) -> Vec<Pid> {
        let holds = |session: &Session| {
            !session.writes.is_empty() || session.touched.is_some_and(|touched| touched < epoch)
        };
        let others = self
            .sessions
            .iter()
            .filter(|(other, session)| **other != pid && holds(session));
        others.map(|(other, _)| *other).collect()
    }

    /// Changes the gate row, in sight of the checker.
    pub(super) fn set_row(&mut self, target: &str, checker: &Checker, change: impl FnOnce(&mut GateRow)) {
        let Some(row) = self.row.as_mut() else { return };
        change(row);
        checker.row_changed(target, row);
    }
}
