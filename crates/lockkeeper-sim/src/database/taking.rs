//! How a target is taken: the row's lock, the claim, the older hand's end, the registration.

use std::time::Duration;

use lockkeeper_core::epoch::{GateEpoch, LeaderEpoch};
use lockkeeper_core::row::{ExecutorId, GateRow, Refused, Terms};
use lockkeeper_migrate::db::{DbError, TakeError};
use tokio::time::Instant;
use uuid::Uuid;

use super::Server;
use super::hand::SimulatedHand;
use super::session::{Session, lost};
use super::state::{Pid, State};
use crate::tell;

/// How long the row's lock is waited for before its holder is looked for.
const ROW_PATIENCE: Duration = Duration::from_secs(1);

/// Longest time that a session takes to die when it is told to in the middle of a statement.
const DYING_MS: u64 = 1500;

/// The same for one in a hundred or so, which does something that cannot be interrupted.
const DYING_LONG_MS: u64 = 20_000;

enum Step {
    Registered(Box<GateRow>),
    Refused(Refused),
    End(ExecutorId),
}

/// Takes the target for the leader `epoch` through `session`.
pub(super) async fn take(
    session: Session,
    epoch: LeaderEpoch,
    id: Uuid,
    end: Instant,
) -> Result<SimulatedHand, TakeError> {
    let (server, pid) = (session.server.clone(), session.pid);
    let taken = session
        .run(async move { Ok(take_at_server(&server, pid, epoch, id, end).await) })
        .await?;
    let row = taken?;
    let terms = Terms {
        executor: row.executor.clone().ok_or_else(|| lost("nobody is registered"))?,
        epoch,
        leader_id: Some(id),
    };
    Ok(SimulatedHand::new(session, terms, row))
}

async fn take_at_server(
    server: &Server,
    pid: Pid,
    epoch: LeaderEpoch,
    id: Uuid,
    end: Instant,
) -> Result<GateRow, TakeError> {
    let me = server.state().executor(pid);
    while Instant::now() < end {
        let locked = server
            .lock_row(pid, (Instant::now() + ROW_PATIENCE).min(end))
            .await;
        let step = match locked {
            Locked::Yes => {
                let step = server.change(|state| claim(server, state, &me, epoch, id));
                server.unlock_row(pid);
                step
            }
            Locked::Gone => return Err(lost("the session has ended").into()),
            // Its holder is the registered session, as a rule: ended without the lock.
            Locked::No => {
                let row = server.state().row.clone();
                let older = row.and_then(|row| row.to_end(&me).cloned());
                older.map_or(Step::End(me.clone()), Step::End)
            }
        };
        match step {
            Step::Registered(row) => {
                tell!(
                    server.0.net_trace(),
                    server.name(),
                    "taken by {epoch}, session {pid}"
                );
                return Ok(*row);
            }
            Step::Refused(Refused::Ahead { recorded }) => {
                return Err(TakeError::TargetAhead {
                    recorded,
                    claimed: epoch,
                });
            }
            Step::Refused(Refused::Taken) => return Err(TakeError::EpochTaken { epoch }),
            Step::End(older) if older == me => tokio::time::sleep(Duration::from_millis(100)).await,
            Step::End(older) => {
                end_and_confirm(server, &older, end).await;
            }
        }
    }
    Err(DbError::TimedOut {
        what: "the target's row".to_owned(),
        blockers: Vec::new(),
    }
    .into())
}

/// Under the row's lock: writes the claim, and registers unless an older hand has to be ended first.
fn claim(server: &Server, state: &mut State, me: &ExecutorId, epoch: LeaderEpoch, id: Uuid) -> Step {
    let target = server.name();
    if state.row.is_none() {
        let row = GateRow {
            identity: State::identity(),
            leader_epoch: LeaderEpoch::NONE,
            leader_id: None,
            gate_epoch: GateEpoch::ZERO,
            opened: GateEpoch::ZERO,
            version: None,
            executor: None,
            rollout: None,
        };
        server.0.checker.row_changed(target, &row);
        state.row = Some(row);
        state.epoch_tables.insert(GateEpoch::ZERO);
    }
    let Some(row) = &state.row else {
        return Step::End(me.clone());
    };
    if let Err(refused) = row.admit(epoch, id) {
        return Step::Refused(refused);
    }
    let older = row.to_end(me).cloned();
    let older = older.filter(|executor| lives(state, executor));
    state.set_row(target, &server.0.checker, |row| {
        row.leader_epoch = epoch;
        row.leader_id = Some(id);
        if older.is_none() {
            row.executor = Some(me.clone());
        }
    });
    match (older, &state.row) {
        (Some(older), _) => Step::End(older),
        (None, Some(row)) => Step::Registered(Box::new(row.clone())),
        (None, None) => Step::End(me.clone()),
    }
}

fn lives(state: &State, executor: &ExecutorId) -> bool {
    let pid: Option<Pid> = executor.session.parse().ok();
    executor.started == state.starts.to_string() && pid.is_some_and(|pid| state.lives(pid))
}

async fn end_and_confirm(server: &Server, executor: &ExecutorId, end: Instant) {
    tell!(
        server.0.net_trace(),
        server.name(),
        "session {} is to end",
        executor.session
    );
    self::end(server, executor, end).await;
}

/// Ends a session by both its identifiers, and waits until it is gone.
pub(super) async fn end(server: &Server, executor: &ExecutorId, end: Instant) -> bool {
    let Ok(pid) = executor.session.parse::<Pid>() else {
        return true;
    };
    if !lives(&server.state(), executor) {
        return true;
    }
    server.kill(pid);
    let gone = server.when(end, |state| (!lives(state, executor)).then_some(()));
    gone.await.is_some()
}

/// What became of a wish for the row's lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Locked {
    Yes,
    No,
    /// The session that wanted it has ended.
    Gone,
}

impl Server {
    /// Locks the gate row for a session.
    pub(super) async fn lock_row(&self, pid: Pid, end: Instant) -> Locked {
        let locked = self.when(end, |state| {
            if !state.lives(pid) {
                return Some(Locked::Gone);
            }
            match state.row_lock {
                Some(holder) if holder != pid => None,
                Some(_) | None => {
                    state.row_lock = Some(pid);
                    Some(Locked::Yes)
                }
            }
        });
        locked.await.unwrap_or(Locked::No)
    }

    pub(super) fn unlock_row(&self, pid: Pid) {
        self.change(|state| state.row_lock = state.row_lock.filter(|holder| *holder != pid));
    }

    /// Tells a session to end, which takes it a moment in the middle of a statement.
    pub(super) fn kill(&self, pid: Pid) {
        let busy = self
            .state()
            .sessions
            .get(&pid)
            .is_some_and(|session| session.busy);
        let moment = match busy {
            true if self.0.chance.percent(3) => self.0.chance.millis(1, DYING_LONG_MS),
            true => self.0.chance.millis(1, DYING_MS),
            false if self.0.chance.percent(2) => self.0.chance.millis(1, DYING_LONG_MS),
            false => self.0.chance.millis(1, 20),
        };
        let server = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(moment).await;
            server.change(|state| state.end(pid));
        });
    }
}
