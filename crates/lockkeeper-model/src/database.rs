//! The model database: one target with the gate row, one user table, and sessions that can stop between any two
//! steps.
//!
//! * A transaction at REPEATABLE READ sees the gate row as it was when it began; locking reads see it as it is.
//! * The row has one lock. A migration holds it; a takeover that does not get it ends the holder first.
//! * A trigger is made only when no writer has an open change on the table, and refuses by [`barrier`].
//! * A statement, once begun, takes effect when the server gets to it, whatever became of the client, unless its
//!   session is ended before.

use std::collections::{BTreeMap, BTreeSet};

use lockkeeper_core::epoch::{GateEpoch, LeaderEpoch};
use lockkeeper_core::mutation::{Mutation, mutated};
use lockkeeper_core::row::{
    Behind, ExecutorId, GateRow, Opening, Refused, ServerIdentity, Terms, Verdict, barrier,
};
use lockkeeper_core::version::SchemaVersion;
use uuid::Uuid;

/// Number of a session; never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionNo(pub u8);

impl SessionNo {
    /// As the gate row names it.
    #[must_use]
    pub fn executor(self) -> ExecutorId {
        ExecutorId {
            session: self.0.to_string(),
            started: String::new(),
        }
    }
}

/// How a migration's statement runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Statement {
    /// In a transaction that holds the row's lock and writes the ledger.
    Transactional,
    /// By itself, after a check, holding nothing; the ledger is written afterwards.
    Bare,
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// Apply.
    Up,
    /// Revert.
    Down,
}

/// A statement of a hand that the server is at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Running {
    /// How.
    pub statement: Statement,
    /// Which way.
    pub way: Way,
    /// Under which epoch it was begun.
    pub epoch: LeaderEpoch,
}

/// What a session is at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Doing {
    /// Nothing.
    Idle,
    /// A writer's transaction, which sees this row.
    Reading(GateRow),
    /// A writer's transaction with an uncommitted change.
    Writing,
    /// A hand's statement.
    Running(Running),
    /// A hand's statement has ended, and the hand has not heard of it.
    Ran(Result<(), Failed>),
}

/// A statement that failed and left nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Failed;

/// Why a step was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The session was ended.
    Gone,
    /// Somebody holds a lock that it needs.
    Busy,
    /// The barrier refused.
    Fenced,
    /// The row no longer names this hand.
    Superseded,
    /// The claim was refused.
    Refused(Refused),
    /// The row is at another fence.
    Behind,
}

impl From<Behind> for Error {
    fn from(_: Behind) -> Self {
        Self::Behind
    }
}

/// What a hand found before its statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// The server is at it.
    Running,
    /// The ledger says that it is done.
    Already,
}

/// The target.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Database {
    row: GateRow,
    lock: Option<SessionNo>,
    triggers: BTreeSet<GateEpoch>,
    sessions: BTreeMap<SessionNo, Doing>,
    next: u8,
    /// What the schema is: each migration that took effect, as often as it did.
    effects: Vec<SchemaVersion>,
    ledger: Vec<SchemaVersion>,
    /// User rows that were committed.
    rows: u8,
}

impl Database {
    /// A target at `version`, open under `opened`.
    #[must_use]
    pub fn new(version: &SchemaVersion, opened: GateEpoch) -> Self {
        Self {
            row: GateRow {
                identity: ServerIdentity(String::new()),
                leader_epoch: LeaderEpoch::NONE,
                leader_id: None,
                gate_epoch: opened,
                opened,
                version: Some(version.clone()),
                executor: None,
                rollout: None,
            },
            lock: None,
            triggers: BTreeSet::new(),
            sessions: BTreeMap::new(),
            next: 0,
            effects: vec![version.clone()],
            ledger: vec![version.clone()],
            rows: 0,
        }
    }

    /// The gate row.
    #[must_use]
    pub fn row(&self) -> &GateRow {
        &self.row
    }

    /// What took effect.
    #[must_use]
    pub fn effects(&self) -> &[SchemaVersion] {
        &self.effects
    }

    /// What the ledger says.
    #[must_use]
    pub fn ledger(&self) -> &[SchemaVersion] {
        &self.ledger
    }

    /// How many user rows are committed.
    #[must_use]
    pub fn rows(&self) -> u8 {
        self.rows
    }

    /// Whether a fence's barrier stands.
    #[must_use]
    pub fn is_barred(&self, fence: GateEpoch) -> bool {
        self.triggers.contains(&fence)
    }

    /// What the barriers say to a stranger whose transaction begins now.
    #[must_use]
    pub fn says_to_strangers(&self) -> Verdict {
        match self.verdict(&self.row, &SessionNo(u8::MAX).executor()) {
            Ok(()) => Verdict::Pass,
            Err(_) => Verdict::Fenced,
        }
    }

    /// What a session is at; `None`: it was ended.
    #[must_use]
    pub fn doing(&self, session: SessionNo) -> Option<&Doing> {
        self.sessions.get(&session)
    }

    /// Sessions whose statement the server is at.
    pub fn running(&self) -> impl Iterator<Item = (SessionNo, &Running)> {
        self.sessions.iter().filter_map(|(no, doing)| match doing {
            Doing::Running(running) => Some((*no, running)),
            Doing::Idle | Doing::Reading(_) | Doing::Writing | Doing::Ran(_) => None,
        })
    }

    /// How many sessions there have been.
    #[must_use]
    pub fn sessions_opened(&self) -> u8 {
        self.next
    }

    /// Opens a session.
    pub fn connect(&mut self) -> SessionNo {
        let no = SessionNo(self.next);
        self.next += 1;
        self.sessions.insert(no, Doing::Idle);
        no
    }

    /// Ends a session. What it had not committed is undone.
    pub fn end(&mut self, session: SessionNo) {
        self.sessions.remove(&session);
        if self.lock == Some(session) {
            self.lock = None;
        }
    }

    /// Ends the session that a row names, if there is one.
    pub fn end_executor(&mut self, executor: &ExecutorId) {
        let found = self
            .sessions
            .keys()
            .copied()
            .find(|no| no.executor() == *executor);
        if let Some(session) = found {
            self.end(session);
        }
    }

    /// A client went away: the server notices where no statement runs.
    pub fn abandon(&mut self, session: SessionNo) {
        if !matches!(self.sessions.get(&session), Some(Doing::Running(_))) {
            self.end(session);
        }
    }

    fn lockable(&self, session: SessionNo) -> Result<(), Error> {
        if !self.sessions.contains_key(&session) {
            return Err(Error::Gone);
        }
        match self.lock {
            Some(holder) if holder != session => Err(Error::Busy),
            Some(_) | None => Ok(()),
        }
    }

    fn hold(&self, session: SessionNo, terms: &Terms) -> Result<(), Error> {
        self.lockable(session)?;
        if terms.stand(&self.row) {
            Ok(())
        } else {
            Err(Error::Superseded)
        }
    }

    /// Writes a leader's claim into the row, and leaves the executor as it is.
    ///
    /// # Errors
    /// The row is locked, or refuses.
    pub fn claim(&mut self, session: SessionNo, epoch: LeaderEpoch, id: Uuid) -> Result<(), Error> {
        self.row.admit(epoch, id).map_err(Error::Refused)?;
        self.lockable(session)?;
        self.row.leader_epoch = epoch;
        self.row.leader_id = Some(id);
        Ok(())
    }

    /// Registers a session as executor in the place of `gone`.
    ///
    /// # Errors
    /// The row is locked or refuses; [`Error::Busy`] if another session is registered by now.
    pub fn register(
        &mut self,
        session: SessionNo,
        (epoch, id): (LeaderEpoch, Uuid),
        gone: Option<&ExecutorId>,
    ) -> Result<Terms, Error> {
        self.row.admit(epoch, id).map_err(Error::Refused)?;
        self.lockable(session)?;
        if self.row.executor.as_ref() != gone {
            return Err(Error::Busy);
        }
        self.row.executor = Some(session.executor());
        Ok(Terms {
            executor: session.executor(),
            epoch,
            leader_id: Some(id),
        })
    }

    /// Records a fence.
    ///
    /// # Errors
    /// The hand is superseded or its session gone, the row is locked or further.
    pub fn close(&mut self, session: SessionNo, terms: &Terms, epoch: GateEpoch) -> Result<(), Error> {
        self.hold(session, terms)?;
        self.row.admit_closing(epoch)?;
        self.row.gate_epoch = epoch;
        Ok(())
    }

    /// Makes the barrier's triggers.
    ///
    /// # Errors
    /// [`Error::Busy`]: a writer has an open change. The others as for [`Self::close`].
    pub fn raise(&mut self, session: SessionNo, terms: &Terms, epoch: GateEpoch) -> Result<(), Error> {
        self.hold(session, terms)?;
        if self.writers().next().is_some() {
            return Err(Error::Busy);
        }
        self.triggers.insert(epoch);
        Ok(())
    }

    fn writers(&self) -> impl Iterator<Item = SessionNo> {
        let writing = self
            .sessions
            .iter()
            .filter(|(_, doing)| matches!(doing, Doing::Writing));
        writing.map(|(no, _)| *no)
    }

    /// Ends every session that has an open change.
    pub fn end_writers(&mut self) {
        let writers: Vec<SessionNo> = self.writers().collect();
        for session in writers {
            self.end(session);
        }
    }

    /// Opens a fence.
    ///
    /// # Errors
    /// As for [`Self::close`].
    pub fn open(
        &mut self,
        session: SessionNo,
        terms: &Terms,
        epoch: GateEpoch,
        version: Option<&SchemaVersion>,
    ) -> Result<(), Error> {
        self.hold(session, terms)?;
        if self.row.admit_opening(epoch)? == Opening::Due {
            self.row.opened = epoch;
            self.row.version = version.cloned();
        }
        Ok(())
    }

    /// A person opens the row, with nothing but the database. The executor is ended first: its statement may be under way
    /// though its client is dead, and would take effect behind an open gate.
    pub fn release(&mut self) {
        if let Some(executor) = self.row.executor.clone()
            && !mutated(Mutation::ReleaseWithoutEnding)
        {
            self.end_executor(&executor);
        }
        self.row.opened = self.row.gate_epoch;
        self.row.executor = None;
        self.row.rollout = Some("released by hand".to_owned());
    }

    /// Begins the statement of a migration. What took effect without the ledger's knowledge is recorded as done.
    ///
    /// # Errors
    /// As for [`Self::close`].
    pub fn begin(
        &mut self,
        session: SessionNo,
        terms: &Terms,
        version: &SchemaVersion,
        (way, statement): (Way, Statement),
    ) -> Result<Begun, Error> {
        self.hold(session, terms)?;
        let there = self.ledger.contains(version);
        let done = self.effects.contains(version);
        if done != there && !mutated(Mutation::AppliedWithoutLedger) {
            self.record(version, done);
        }
        if done == (way == Way::Up) && !mutated(Mutation::AppliedWithoutLedger) {
            return Ok(Begun::Already);
        }
        if statement == Statement::Transactional {
            self.lock = Some(session);
        }
        let running = Running {
            statement,
            way,
            epoch: terms.epoch,
        };
        self.sessions.insert(session, Doing::Running(running));
        Ok(Begun::Running)
    }

    fn record(&mut self, version: &SchemaVersion, done: bool) {
        self.ledger.retain(|known| known != version);
        if done {
            self.ledger.push(version.clone());
        }
    }

    /// The server gets to a statement's end: it takes effect, or fails.
    pub fn finish(&mut self, session: SessionNo, version: &SchemaVersion, result: Result<(), Failed>) {
        let Some(Doing::Running(running)) = self.sessions.get(&session).cloned() else {
            return;
        };
        if result.is_ok() {
            match running.way {
                Way::Up => self.effects.push(version.clone()),
                Way::Down => self.effects.retain(|known| known != version),
            }
            if running.statement == Statement::Transactional {
                self.record(version, running.way == Way::Up);
            }
        }
        if self.lock == Some(session) {
            self.lock = None;
        }
        self.sessions.insert(session, Doing::Ran(result));
    }

    /// The hand hears how its statement ended; after a bare one it writes the ledger.
    ///
    /// # Errors
    /// As for [`Self::close`].
    pub fn hear(
        &mut self,
        session: SessionNo,
        terms: &Terms,
        version: &SchemaVersion,
    ) -> Result<Result<(), Failed>, Error> {
        let Some(Doing::Ran(result)) = self.sessions.get(&session).cloned() else {
            return Err(Error::Gone);
        };
        self.hold(session, terms)?;
        self.record(version, self.effects.contains(version));
        self.sessions.insert(session, Doing::Idle);
        Ok(result)
    }

    /// A writer's transaction begins: from here on it sees this row.
    pub fn begin_reading(&mut self) -> SessionNo {
        let session = self.connect();
        self.sessions.insert(session, Doing::Reading(self.row.clone()));
        session
    }

    /// Its first change.
    ///
    /// # Errors
    /// [`Error::Fenced`]: refused, and rolled back.
    pub fn write(&mut self, session: SessionNo) -> Result<(), Error> {
        let Some(Doing::Reading(seen)) = self.sessions.get(&session).cloned() else {
            return Err(Error::Gone);
        };
        if let Err(error) = self.verdict(&seen, &session.executor()) {
            self.end(session);
            return Err(error);
        }
        self.sessions.insert(session, Doing::Writing);
        Ok(())
    }

    /// Commits the change and closes the session.
    ///
    /// # Errors
    /// The session was ended meanwhile.
    pub fn commit_write(&mut self, session: SessionNo) -> Result<(), Error> {
        let Some(Doing::Writing) = self.sessions.get(&session) else {
            return Err(Error::Gone);
        };
        self.end(session);
        self.rows += 1;
        Ok(())
    }

    fn verdict(&self, seen: &GateRow, me: &ExecutorId) -> Result<(), Error> {
        for fence in &self.triggers {
            match barrier(seen, *fence, me) {
                Verdict::Pass => {}
                Verdict::Confirm if self.row.executor.as_ref() == Some(me) => {}
                Verdict::Confirm => return Err(Error::Superseded),
                Verdict::Fenced => return Err(Error::Fenced),
            }
        }
        Ok(())
    }
}
