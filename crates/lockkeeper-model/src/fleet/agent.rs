//! Agents with permits, and writers without.

use std::collections::BTreeMap;

use lockkeeper_core::drain::Holder;
use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_core::mutation::{Mutation, mutated};
use lockkeeper_core::permits::{Cause, Fence, Grant, OnLoss, PermitId, Permits};
use lockkeeper_core::strength::Strength;
use lockkeeper_core::time::Instant;

use super::{Action, Fleet, Message};
use crate::config::{Adapter, Config};
use crate::database::{self, Doing};
use crate::words::{AgentNo, CoordinatorNo, FIRST, OLD, Stream, TARGET, WRITE};

/// One process of a replica.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Agent {
    /// What it may write, and what it has promised.
    pub permits: Permits,
    /// Its newest stream.
    pub stream: Option<Stream>,
    /// When each renewal was sent.
    sent: BTreeMap<u64, Instant>,
    /// The permit that it holds.
    permit: Option<PermitId>,
}

impl Agent {
    /// A process that has not connected yet.
    #[must_use]
    pub fn new(strength: Strength) -> Self {
        let on_loss = match strength {
            Strength::Cooperative => OnLoss::Stop,
            Strength::Barrier | Strength::Epoch => OnLoss::GoOn,
        };
        Self {
            permits: Permits::new(on_loss),
            stream: None,
            sent: BTreeMap::new(),
            permit: None,
        }
    }
}

impl Fleet {
    /// Connected, with a lease, at the beginning.
    pub(super) fn begin_connected(&mut self, no: AgentNo, at: CoordinatorNo, config: &Config) {
        self.connect(no, at);
        let sent = self.agent_clock(config);
        self.agents[no].sent.insert(0, sent);
        let Some(stream) = self.agents[no].stream else {
            return;
        };
        let now = self.coordinator_clock(config);
        let coordinator = &mut self.coordinators[at];
        coordinator.streams.insert(stream, Some(0));
        coordinator
            .book
            .grant(&TARGET, &stream.holder(), FIRST, now, WRITE);
        let grant = Grant {
            gate_epoch: FIRST,
            version: OLD.clone(),
            lease: WRITE,
            sent_at: self.agent_clock(config),
        };
        self.agents[no].permits.granted(&grant);
        self.agents[no].permits.renewal_sent(Instant(0));
    }

    pub(super) fn agent_actions(&self, no: AgentNo, config: &Config, actions: &mut Vec<Action>) {
        let agent = &self.agents[no];
        let at = agent.stream.map(|stream| stream.coordinator);
        for coordinator in 0..self.coordinators.len() {
            if self.left.moves > 0
                && at != Some(coordinator)
                && self.coordinators[coordinator].session.is_some()
            {
                actions.push(Action::Connect(no, coordinator));
            }
        }
        if self.left.renewals > 0 && at.is_some() {
            actions.push(Action::Renew(no));
        }
        let now = self.agent_clock(config);
        if agent.permit.is_none() && self.left.permits > 0 && agent.permits.clone().take(now, "").is_ok() {
            actions.push(Action::Take(no));
        }
        if agent.permit.is_some() {
            actions.push(Action::Write(no));
        }
    }

    /// A new stream. What an older one brought may still be under way.
    pub(super) fn connect(&mut self, no: AgentNo, coordinator: CoordinatorNo) {
        let agent = &mut self.agents[no];
        let stream = Stream {
            agent: no,
            coordinator,
            number: agent.stream.map_or(0, |stream| stream.number + 1),
        };
        agent.stream = Some(stream);
        agent.permits.connected();
        self.coordinators[coordinator].streams.insert(stream, None);
    }

    pub(super) fn renew(&mut self, no: AgentNo, config: &Config) {
        self.left.renewals -= 1;
        let now = self.agent_clock(config);
        let agent = &mut self.agents[no];
        let Some(stream) = agent.stream else { return };
        let sequence = agent.sent.keys().next_back().map_or(0, |last| last + 1);
        agent.sent.insert(sequence, now);
        agent.permits.renewal_sent(Instant(0));
        self.network.insert(Message::Renew(stream, sequence));
    }

    pub(super) fn take_permit(&mut self, no: AgentNo, config: &Config) {
        self.left.permits -= 1;
        let now = self.agent_clock(config);
        let agent = &mut self.agents[no];
        agent.permit = agent.permits.take(now, "").ok().map(|taken| taken.id);
        if config.adapter == Adapter::WritesAtOnce {
            self.write_under_permit(no, config);
        }
    }

    /// The write arrives, and the permit is given back. An adapter that obeys the deadline has disconnected by then.
    pub(super) fn write_under_permit(&mut self, no: AgentNo, config: &Config) {
        let now = self.agent_clock(config);
        let agent = &mut self.agents[no];
        let Some(permit) = agent.permit.take() else { return };
        let deadline = agent.permits.deadline(permit);
        agent.permits.release(permit);
        let late = deadline.is_some_and(|deadline| now >= deadline);
        if late && config.adapter == Adapter::EndsAtDeadline {
            return;
        }
        let session = self.target.begin_reading();
        if self.target.write(session).is_ok() {
            self.commit_transaction(session);
        }
    }

    pub(super) fn ack(&mut self, no: AgentNo) {
        let agent = &mut self.agents[no];
        let (Some(stream), Some(epoch)) = (agent.stream, agent.permits.ack_due()) else {
            return;
        };
        agent.permits.ack_sent(epoch);
        self.network.insert(Message::Drained(stream, epoch));
    }

    pub(super) fn deliver(&mut self, message: Message, config: &Config) {
        self.network.remove(&message);
        match message {
            Message::Renew(stream, sequence) => {
                let streams = &mut self.coordinators[stream.coordinator].streams;
                if let Some(renewal) = streams.get_mut(&stream) {
                    *renewal = Some(sequence.max(renewal.unwrap_or(0)));
                    self.answer(stream, Some(sequence), config);
                }
            }
            Message::Drained(stream, epoch) => self.hear_ack(stream, epoch),
            Message::Granted(stream, epoch, lease, sequence) => {
                let agent = &mut self.agents[stream.agent];
                let Some(sent_at) = agent.sent.get(&sequence).copied() else {
                    return;
                };
                let grant = Grant {
                    gate_epoch: epoch,
                    version: OLD.clone(),
                    lease,
                    sent_at,
                };
                let now = self.agent_clock(config);
                let grant = if mutated(Mutation::LeaseFromAnswer) {
                    Grant {
                        sent_at: now,
                        ..grant
                    }
                } else {
                    grant
                };
                self.agents[stream.agent].permits.granted(&grant);
            }
            Message::Fenced(stream, gate_epoch) => {
                let fence = Fence {
                    gate_epoch,
                    cause: Cause::GateClosed,
                    reason: String::new(),
                    rollout: None,
                };
                self.agents[stream.agent].permits.fenced(fence);
            }
        }
    }

    /// An ack is the word of a process: it counts for all of its streams, as in the product's hub.
    fn hear_ack(&mut self, stream: Stream, epoch: GateEpoch) {
        let coordinator = &mut self.coordinators[stream.coordinator];
        if !coordinator.streams.contains_key(&stream) {
            return;
        }
        let same = coordinator
            .streams
            .keys()
            .filter(|other| other.agent == stream.agent);
        let holders: Vec<Holder> = same.map(|stream| stream.holder()).collect();
        for holder in holders {
            coordinator.book.ack(&TARGET, &holder, epoch);
        }
    }

    pub(super) fn writer_actions(&self, actions: &mut Vec<Action>) {
        if self.left.transactions > 0 {
            actions.push(Action::Begin);
        }
        for writer in &self.writers {
            match self.target.doing(*writer) {
                Some(Doing::Reading(_)) => actions.push(Action::Change(*writer)),
                Some(Doing::Writing) => actions.push(Action::Commit(*writer)),
                Some(Doing::Idle | Doing::Running(_) | Doing::Ran(_)) | None => {}
            }
        }
    }

    pub(super) fn begin_transaction(&mut self) {
        self.left.transactions -= 1;
        let session = self.target.begin_reading();
        self.writers.insert(session);
    }

    pub(super) fn change(&mut self, session: database::SessionNo) {
        if self.target.write(session).is_err() {
            self.writers.remove(&session);
        }
    }

    pub(super) fn commit_transaction(&mut self, session: database::SessionNo) {
        self.writers.remove(&session);
        if self.target.commit_write(session).is_ok() {
            self.observe_write();
        }
    }
}
