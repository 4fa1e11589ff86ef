//! The whole fleet as one value: store, target, coordinators, agents, network, clocks; and everything that can happen
//! to it next.
//!
//! | module | what it holds |
//! |---|---|
//! | [`coordinator`] | sessions, views, grants, drain reports, elections |
//! | [`driver`] | the leader's work on the target |
//! | [`agent`] | permits, renewals, writes |
//! | [`faults`] | crashes, losses, restores, releases |
//! | [`observe`] | asks the promises whenever something happened that they are about |

pub mod agent;
pub mod coordinator;
pub mod driver;
pub mod faults;
pub mod observe;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lockkeeper_core::drain::DrainReport;
use lockkeeper_core::epoch::{GateEpoch, LeaderEpoch};
use lockkeeper_core::gate::Gate;
use lockkeeper_core::rollout::{OnFailure, State, Target};
use lockkeeper_core::time::Instant;
use lockkeeper_core::version::VersionOrder;

use self::agent::Agent;
use self::coordinator::Coordinator;
use self::observe::{Broken, Quiet};
use crate::config::{Budget, Config, Renewals, Time};
use crate::database::{self, Database};
use crate::store::{Records, Store};
use crate::words::{AgentNo, CoordinatorNo, FIRST, NEW, OLD, SessionNo, Stream, TICK_MS, verified};

/// Ticks that have passed when the checker begins.
const START: u64 = 5;

/// A key of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// Who leads.
    Leader,
    /// A coordinator's presence.
    Session(SessionNo),
    /// The target's gate.
    Gate,
    /// The rollout's state on the target.
    Progress,
    /// A coordinator's word on the closing.
    Drain(SessionNo),
}

/// A value of the store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Value {
    /// The leader.
    Leader(CoordinatorNo),
    /// Present.
    Session,
    /// The gate.
    Gate(Box<Gate>),
    /// The rollout's state.
    Progress(Box<Target>),
    /// A drain report.
    Drain(DrainReport),
}

/// What a coordinator's watch has brought so far.
pub type View = Arc<Records<Key, Value>>;

/// A message that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    /// Agent: renew my lease.
    Renew(Stream, u64),
    /// Agent: drained.
    Drained(Stream, GateEpoch),
    /// Coordinator: a write lease, as the answer to that renewal.
    Granted(Stream, GateEpoch, Duration, u64),
    /// Coordinator: stop.
    Fenced(Stream, GateEpoch),
}

/// The fleet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fleet {
    /// Real time, in ticks.
    pub ticks: u64,
    /// The store.
    pub store: Store<Key, Value>,
    /// The store as a backup has it.
    pub backup: Option<Arc<Store<Key, Value>>>,
    /// The target.
    pub target: Database,
    /// Coordinators.
    pub coordinators: Vec<Coordinator>,
    /// Agent processes.
    pub agents: Vec<Agent>,
    /// Writers that are no agents.
    pub writers: BTreeSet<database::SessionNo>,
    /// Messages under way.
    pub network: BTreeSet<Message>,
    /// What may still happen.
    pub left: Budget,
    /// What I1 compares with.
    pub quiet: Option<Quiet>,
    /// A fence that a person has released.
    pub released: Option<GateEpoch>,
    /// The first promise that did not hold.
    pub broken: Option<Broken>,
}

/// Something that can happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// A tick passes.
    Tick,
    /// A coordinator opens a session.
    Join(CoordinatorNo),
    /// A coordinator reads the gates before it opens a session (only as a seeded bug).
    Peek(CoordinatorNo),
    /// A coordinator's watch brings everything up to now.
    Look(CoordinatorNo),
    /// A coordinator gives its session up.
    GiveUp(CoordinatorNo),
    /// A coordinator creates the leader's key.
    Campaign(CoordinatorNo),
    /// It hears that it has, and confirms it.
    Confirm(CoordinatorNo),
    /// The leader does its next step.
    Drive(CoordinatorNo),
    /// The same, but the answer to its commit is lost.
    DriveUnanswered(CoordinatorNo),
    /// The leader waits for agents no longer, or for writers: the barrier decides.
    Insist(CoordinatorNo),
    /// An operator aborts.
    Abort(CoordinatorNo),
    /// Another rollout begins.
    Again(CoordinatorNo),
    /// The database gets to a statement's end.
    Finish(database::SessionNo),
    /// It fails instead.
    Fail(database::SessionNo),
    /// An agent connects, or connects to another coordinator.
    Connect(AgentNo, CoordinatorNo),
    /// An agent asks for its lease to be renewed.
    Renew(AgentNo),
    /// An agent takes a permit.
    Take(AgentNo),
    /// An agent writes under its permit, and gives it back.
    Write(AgentNo),
    /// A writer that is no agent begins a transaction.
    Begin,
    /// Its first change.
    Change(database::SessionNo),
    /// Its commit.
    Commit(database::SessionNo),
    /// A message arrives.
    Deliver(Message),
    /// A message arrives, and will again.
    Duplicate(Message),
    /// A message is lost.
    Lose(Message),
    /// A process dies.
    Crash(CoordinatorNo),
    /// A session's key vanishes.
    Vanish(SessionNo),
    /// The leader's key vanishes.
    Depose,
    /// A coordinator notices that it does not lead any more.
    StepDown(CoordinatorNo),
    /// A commit without an answer is applied.
    ApplyLate(usize),
    /// A hand's database session is lost.
    LoseSession(CoordinatorNo),
    /// A coordinator's watch stalls.
    Stall(CoordinatorNo),
    /// A person opens the row by hand.
    Release,
    /// The store goes back.
    Restore,
}

impl Fleet {
    /// A fleet after a normal start: sessions open, the first coordinator leads, the gate is open, agents hold leases
    /// as configured, and a rollout is about to close the gate.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut fleet = Self {
            ticks: 0,
            store: Store::new(),
            backup: None,
            target: Database::new(&OLD, FIRST),
            coordinators: (0..config.coordinators).map(|_| Coordinator::default()).collect(),
            agents: Vec::new(),
            writers: BTreeSet::new(),
            network: BTreeSet::new(),
            left: Budget {
                joins: u8::MAX,
                ..config.budget
            },
            quiet: None,
            released: None,
            broken: None,
        };
        fleet.begin_with_records();
        for no in 0..config.joined {
            fleet.join(no, config);
        }
        fleet.left.joins = config.budget.joins;
        if config.budget.restores > 0 {
            fleet.backup = Some(Arc::new(fleet.store.clone()));
        }
        fleet.campaign(0);
        fleet.confirm(0, config);
        // This leader is none that has to wait for leases that it cannot know of.
        fleet.ticks = START;
        for no in 0..config.joined {
            fleet.begin_renewed(no, config);
            fleet.look(no, config);
        }
        for (no, at) in config.agents.iter().enumerate() {
            fleet.agents.push(Agent::new(config.strength));
            if let Some(at) = at {
                fleet.begin_connected(no, *at, config);
            }
        }
        fleet.left = config.budget;
        fleet
    }

    fn begin_with_records(&mut self) {
        let gate = Gate::first(
            FIRST,
            VersionOrder::Numeric,
            LeaderEpoch::NONE,
            verified(Some(OLD.clone())),
        );
        let txn = crate::store::Txn {
            guards: Vec::new(),
            puts: vec![
                (Key::Gate, Value::Gate(Box::new(gate)), None),
                (
                    Key::Progress,
                    Value::Progress(Box::new(Self::fresh_rollout())),
                    None,
                ),
            ],
        };
        self.store.commit(&txn);
    }

    /// A rollout on the target that has passed its preflight.
    #[must_use]
    pub fn fresh_rollout() -> Target {
        Target {
            state: State::Fencing,
            from: Some(OLD.clone()),
            to: Some(NEW.clone()),
            ..Target::new(OnFailure::Rollback)
        }
    }

    /// What a process's clock shows, that runs at `rate` per cent.
    fn clock(&self, rate: u64) -> Instant {
        Instant(self.ticks * TICK_MS * rate / 100)
    }

    /// A coordinator's clock.
    #[must_use]
    pub fn coordinator_clock(&self, config: &Config) -> Instant {
        match config.time {
            Time::Free => self.clock(100),
            Time::Ticks { coordinators, .. } => self.clock(coordinators),
        }
    }

    /// An agent's clock.
    #[must_use]
    pub fn agent_clock(&self, config: &Config) -> Instant {
        match config.time {
            Time::Free => self.clock(100),
            Time::Ticks { agents, .. } => self.clock(agents),
        }
    }

    /// The store's clock.
    #[must_use]
    pub fn store_clock(&self) -> Instant {
        self.clock(100)
    }

    /// The gate as the store has it.
    #[must_use]
    pub fn gate(&self) -> Option<&Gate> {
        match self.store.get(&Key::Gate) {
            Some(Value::Gate(gate)) => Some(gate),
            Some(Value::Leader(_) | Value::Session | Value::Progress(_) | Value::Drain(_)) | None => None,
        }
    }

    /// The rollout's state as the store has it.
    #[must_use]
    pub fn progress(&self) -> Option<&Target> {
        match self.store.get(&Key::Progress) {
            Some(Value::Progress(target)) => Some(target),
            Some(Value::Leader(_) | Value::Session | Value::Gate(_) | Value::Drain(_)) | None => None,
        }
    }

    /// Everything that can happen next.
    pub fn actions(&self, config: &Config, actions: &mut Vec<Action>) {
        if self.may_tick(config) {
            actions.push(Action::Tick);
        }
        for no in 0..self.coordinators.len() {
            self.coordinator_actions(no, config, actions);
            self.driver_actions(no, config, actions);
        }
        for no in 0..self.agents.len() {
            self.agent_actions(no, config, actions);
        }
        self.writer_actions(actions);
        self.fault_actions(config, actions);
    }

    fn may_tick(&self, config: &Config) -> bool {
        let Time::Ticks { ticks, closed_by, .. } = config.time else {
            return false;
        };
        let closed = self.gate().is_some_and(|gate| gate.epoch > FIRST);
        self.ticks < START + ticks && (closed || self.ticks < START + closed_by)
    }

    /// What the fleet is after an action.
    #[must_use]
    pub fn after(&self, action: Action, config: &Config) -> Self {
        let mut next = self.clone();
        next.apply(action, config);
        next.speak(config);
        next.observe(self);
        if config.strength.has_barrier() {
            next.observe_agents(config);
        }
        next
    }

    fn tick(&mut self, config: &Config) {
        self.ticks += 1;
        let all = self.coordinators.iter().enumerate();
        let kept: Vec<CoordinatorNo> = all
            .filter(|(_, c)| config.renewals == Renewals::Kept || c.streams.is_empty())
            .map(|(no, _)| no)
            .collect();
        for no in kept {
            self.keep_alive(no, config);
        }
    }

    /// Acks and reports are handed on at once. When they are heard is another matter.
    fn speak(&mut self, config: &Config) {
        for no in 0..self.agents.len() {
            self.ack(no);
        }
        for no in 0..self.coordinators.len() {
            if !self.agents.is_empty() && self.may_report(no, config) {
                self.report(no);
            }
        }
        for no in 0..self.coordinators.len() {
            if Self::leader_sees_at_once(config) && self.leads_with_old_view(no) {
                self.look(no, config);
            }
        }
    }

    fn apply(&mut self, action: Action, config: &Config) {
        match action {
            Action::Tick => self.tick(config),
            Action::Join(no) => self.join(no, config),
            Action::Peek(no) => self.peek(no),
            Action::Look(no) => self.look(no, config),
            Action::GiveUp(no) => self.give_up(no),
            Action::Campaign(no) => self.campaign(no),
            Action::Confirm(no) => self.confirm(no, config),
            Action::Drive(no) => self.drive(no, config, driver::Answer::Comes),
            Action::DriveUnanswered(no) => self.drive(no, config, driver::Answer::IsLost),
            Action::Insist(no) => self.insist(no),
            Action::Abort(no) => self.abort(no, config),
            Action::Again(no) => self.again(no, config),
            Action::Finish(session) => self.finish(session, Ok(())),
            Action::Fail(session) => {
                self.left.failures -= 1;
                self.finish(session, Err(database::Failed));
            }
            Action::Connect(agent, no) => {
                self.left.moves -= 1;
                self.connect(agent, no);
            }
            Action::Renew(agent) => self.renew(agent, config),
            Action::Take(agent) => self.take_permit(agent, config),
            Action::Write(agent) => self.write_under_permit(agent, config),
            Action::Begin => self.begin_transaction(),
            Action::Change(session) => self.change(session),
            Action::Commit(session) => self.commit_transaction(session),
            Action::Deliver(message) => self.deliver(message, config),
            Action::Duplicate(message) => {
                self.left.duplicates -= 1;
                self.deliver(message, config);
                self.network.insert(message);
            }
            Action::Lose(message) => {
                self.left.losses -= 1;
                self.network.remove(&message);
            }
            Action::Crash(no) => self.crash(no),
            Action::Vanish(session) => self.vanish(session),
            Action::Depose => self.depose(),
            Action::StepDown(no) => self.step_down(no),
            Action::ApplyLate(index) => self.apply_late(index),
            Action::LoseSession(no) => self.lose_session(no),
            Action::Stall(no) => self.stall(no),
            Action::Release => self.release(),
            Action::Restore => self.restore(),
        }
    }
}
