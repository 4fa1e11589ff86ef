//! Streams, leases, and what each agent was told last.
//!
//! One lock holds the lease book and the streams together, and the view of the store is read *inside* it: a lease
//! is granted only if the newest picture that this coordinator has seen shows the gate open, and the reporter that
//! counts what is outstanding under a closed gate takes the same lock after having seen it closed. So whatever was
//! granted before is counted, and nothing is granted after.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lockkeeper_core::drain::{Holder, LeaseBook, Straggler};
use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_core::gate::Gate;
use lockkeeper_core::id::{AgentId, Incarnation, Region, ServiceName, TargetName};
use lockkeeper_core::time::{Instant, WallTime};
use lockkeeper_core::version::{SchemaVersion, VersionRange};
use tokio::sync::{Notify, mpsc, watch};

use crate::agents::Granting;
use crate::agents::message::{Cause, End, Message, Outgoing};
use crate::clock::{Clock, wall_now};
use crate::view::FleetView;

/// Messages that may wait for a slow agent before its stream is given up.
const OUTGOING_MAX: usize = 256;

/// How long registrations are collected before the other coordinators are told: a herd is told in few calls.
const ANNOUNCE_PAUSE: Duration = Duration::from_millis(100);

/// Most targets that one agent may register for.
pub const TARGETS_PER_AGENT_MAX: usize = 1024;

/// Who registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Its service.
    pub service: ServiceName,
    /// Its stable name.
    pub agent: AgentId,
    /// Its process start.
    pub incarnation: Incarnation,
    /// Where it runs.
    pub region: Region,
    /// Its program's release.
    pub release: String,
    /// What it writes to.
    pub targets: Vec<(TargetName, VersionRange)>,
}

/// What an agent told about its permits on a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeldPermits {
    /// How many.
    pub permits: u32,
    /// Label of the oldest.
    pub label: Option<String>,
}

/// What an agent may do on a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AgentStanding {
    /// Holds a write lease.
    Open,
    /// Was told to stop, lease neither acked nor run out.
    Draining,
    /// May not write.
    Fenced,
    /// A waiter.
    Waiting,
    /// Stream gone, lease not run out.
    Lost,
}

/// One agent on one target, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRow {
    /// Who.
    pub registration: Arc<Registration>,
    /// On what.
    pub target: TargetName,
    /// What it may do.
    pub standing: AgentStanding,
    /// Why it is fenced.
    pub reason: String,
    /// Its permits.
    pub held: HeldPermits,
    /// What is left of its lease.
    pub lease_left: Option<Duration>,
    /// Since when it is connected, or told otherwise.
    pub since: WallTime,
}

#[derive(Debug)]
struct Told {
    message: Option<Message>,
    since: WallTime,
    held: HeldPermits,
}

#[derive(Debug)]
struct Stream {
    registration: Arc<Registration>,
    holder: Holder,
    /// `None`: the stream is gone, and its leases are still counted.
    outgoing: Option<mpsc::Sender<Outgoing>>,
    waiter: bool,
    last_renewal: Option<u64>,
    told: BTreeMap<TargetName, Told>,
}

#[derive(Debug, Default)]
struct Inner {
    book: LeaseBook,
    streams: BTreeMap<u64, Stream>,
    next_stream: u64,
    leaving: bool,
    newcomers: Vec<(AgentId, Incarnation)>,
}

/// A replica's newer incarnation is connected already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// A newer incarnation of the replica is connected.
    #[error("a newer incarnation ({newer}) of replica {agent} is registered: this one stays fenced")]
    Superseded {
        /// The replica.
        agent: AgentId,
        /// The incarnation that won.
        newer: Incarnation,
    },
    /// This coordinator is leaving.
    #[error("this coordinator is leaving: connect to another")]
    Leaving,
}

/// The connected agents.
#[derive(Debug)]
pub struct AgentHub {
    clock: Arc<dyn Clock>,
    granting: Arc<dyn Granting>,
    view: watch::Receiver<FleetView>,
    write_lease: Duration,
    inner: Mutex<Inner>,
    /// Told whenever a drain report may have changed.
    pub(super) changed: Notify,
    arrived: Notify,
}

impl AgentHub {
    /// A hub without agents.
    #[must_use]
    pub fn new(
        clock: Arc<dyn Clock>,
        granting: Arc<dyn Granting>,
        view: watch::Receiver<FleetView>,
        write_lease: Duration,
    ) -> Arc<Self> {
        let (inner, changed, arrived) = (Mutex::default(), Notify::new(), Notify::new());
        Arc::new(Self {
            clock,
            granting,
            view,
            write_lease,
            inner,
            changed,
            arrived,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while the lock was held leaves the book complete: entries are added whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a stream and tells it the state of its targets. An older incarnation's streams are ended; its leases
    /// stay counted.
    ///
    /// # Errors
    /// A newer incarnation is connected, or this coordinator is leaving.
    pub fn register(
        &self,
        registration: Registration,
    ) -> Result<(u64, mpsc::Receiver<Outgoing>), RegisterError> {
        // One round of messages about all targets comes at once, before anybody reads.
        let (sender, receiver) = mpsc::channel(OUTGOING_MAX.max(4 * registration.targets.len()));
        let mut inner = self.lock();
        if inner.leaving {
            return Err(RegisterError::Leaving);
        }
        inner.supersede(registration.agent.clone(), registration.incarnation)?;
        let id = inner.next_stream;
        inner.next_stream += 1;
        let (agent, incarnation) = (registration.agent.clone(), registration.incarnation);
        inner.newcomers.push((agent.clone(), incarnation));
        self.arrived.notify_one();
        let stream = Stream {
            registration: Arc::new(registration),
            holder: Holder {
                agent,
                incarnation,
                stream: id,
            },
            outgoing: Some(sender),
            waiter: false,
            last_renewal: None,
            told: BTreeMap::new(),
        };
        inner.streams.insert(id, stream);
        self.tell_all(&mut inner, id);
        Ok((id, receiver))
    }

    /// The stream's client has half-closed without ever renewing: it waits for its targets to open.
    pub fn becomes_waiter(&self, id: u64) {
        let mut inner = self.lock();
        if let Some(stream) = inner.streams.get_mut(&id) {
            stream.waiter = true;
        }
        inner.end_if_reached(id);
    }

    /// Whether the stream has ever asked for a lease.
    #[must_use]
    pub fn has_renewed(&self, id: u64) -> bool {
        self.lock()
            .streams
            .get(&id)
            .is_some_and(|s| s.last_renewal.is_some())
    }

    /// A renewal: answers with a grant, or with why not, for each target.
    pub fn renew(&self, id: u64, sequence: u64, held: impl IntoIterator<Item = (TargetName, HeldPermits)>) {
        let mut inner = self.lock();
        let Some(stream) = inner.streams.get_mut(&id) else {
            return;
        };
        stream.last_renewal = Some(sequence);
        for (target, permits) in held {
            if let Some(told) = stream.told.get_mut(&target) {
                told.held = permits;
            }
        }
        self.grant_all(&mut inner, id);
        drop(inner);
        self.changed.notify_one();
    }

    /// An ack: no permit below `epoch` is out.
    pub fn drained(&self, id: u64, target: &TargetName, epoch: GateEpoch) {
        let mut inner = self.lock();
        let Some(stream) = inner.streams.get_mut(&id) else {
            return;
        };
        let holder = stream.holder.clone();
        // The agent's book is one for all its streams: what it held through an earlier stream of the same process
        // start is out of its hands as well.
        let earlier: Vec<Holder> = inner
            .streams
            .values()
            .filter(|s| s.holder.agent == holder.agent && s.holder.incarnation == holder.incarnation)
            .map(|s| s.holder.clone())
            .collect();
        for holder in earlier {
            inner.book.ack(target, &holder, epoch);
        }
        if let Some(told) = inner.streams.get_mut(&id).and_then(|s| s.told.get_mut(target)) {
            told.held = HeldPermits::default();
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// The stream is gone. Its leases stay counted until they run out.
    pub fn gone(&self, id: u64) {
        let mut inner = self.lock();
        if let Some(stream) = inner.streams.get_mut(&id) {
            stream.outgoing = None;
        }
        inner.sweep(self.clock.now());
        drop(inner);
        self.changed.notify_one();
    }

    /// The store's picture has changed: tells every agent what is new for it.
    pub fn view_changed(&self) {
        let mut inner = self.lock();
        inner.sweep(self.clock.now());
        let ids: Vec<u64> = inner.streams.keys().copied().collect();
        for id in ids {
            self.tell_all(&mut inner, id);
            inner.end_if_reached(id);
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Ends every stream: this coordinator is leaving, or has lost its session. Nothing is granted from here on.
    pub fn leave(&self) {
        let mut inner = self.lock();
        inner.leaving = true;
        for stream in inner.streams.values_mut() {
            stream.end(End::Leaving);
        }
    }

    /// Whether no lease is outstanding: only then may the session leave a clean record.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.lock().book.is_clear(self.clock.now())
    }

    /// Who is still out under the closing `epoch` of `target`.
    #[must_use]
    pub fn stragglers(&self, target: &TargetName, epoch: GateEpoch) -> Vec<Straggler> {
        let now = self.clock.now();
        let inner = self.lock();
        let outstanding = inner.book.outstanding(target, epoch, now);
        let straggler = |(holder, left): (Holder, Duration)| {
            let stream = inner.streams.get(&holder.stream);
            let held = stream
                .and_then(|s| s.told.get(target))
                .map(|t| t.held.clone())
                .unwrap_or_default();
            Straggler {
                holder,
                lease_left_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
                permits: held.permits,
                label: held.label,
                region: stream
                    .map(|s| s.registration.region.to_string())
                    .unwrap_or_default(),
            }
        };
        outstanding.into_iter().map(straggler).collect()
    }

    /// Every agent on every target.
    #[must_use]
    pub fn rows(&self) -> Vec<AgentRow> {
        let now = self.clock.now();
        let inner = self.lock();
        let mut rows = Vec::new();
        for stream in inner.streams.values() {
            for (target, told) in &stream.told {
                let lease_left = inner.book.lease_left(target, &stream.holder, now);
                let Some(standing) = stream.standing(told, lease_left.is_some()) else {
                    continue;
                };
                let reason = match &told.message {
                    Some(Message::Fenced { cause, .. }) => cause.reason(target),
                    Some(Message::Granted { .. } | Message::Opened { .. }) | None => String::new(),
                };
                let (registration, held) = (Arc::clone(&stream.registration), told.held.clone());
                let (target, since) = (target.clone(), told.since);
                rows.push(AgentRow {
                    registration,
                    target,
                    standing,
                    reason,
                    held,
                    lease_left,
                    since,
                });
            }
        }
        rows
    }

    /// Agents that have registered since the last call, for the other coordinators.
    pub async fn newcomers(&self) -> Vec<(AgentId, Incarnation)> {
        self.arrived.notified().await;
        tokio::time::sleep(ANNOUNCE_PAUSE).await;
        std::mem::take(&mut self.lock().newcomers)
    }

    /// Another coordinator has this process start of a replica: older ones here are ended. Gives a newer one that is
    /// connected here, if there is one.
    pub fn announced(&self, agent: &AgentId, incarnation: Incarnation) -> Option<Incarnation> {
        match self.lock().supersede(agent.clone(), incarnation) {
            Err(RegisterError::Superseded { newer, .. }) => Some(newer),
            Ok(()) | Err(RegisterError::Leaving) => None,
        }
    }

    /// Tells a stream what is new about its targets.
    fn tell_all(&self, inner: &mut Inner, id: u64) {
        let view = self.view.borrow();
        let Some(stream) = inner.streams.get_mut(&id) else {
            return;
        };
        let registration = Arc::clone(&stream.registration);
        let mut reopened = false;
        for (target, range) in &registration.targets {
            let message = state_of(&view, target, range);
            let known = stream.told.get(target).and_then(|t| t.message.as_ref());
            // A grant stands for the opening that it implies.
            let same = match (known, &message) {
                (Some(Message::Granted { epoch, version, .. }), Message::Opened { epoch: e, version: v }) => {
                    epoch == e && version == v
                }
                (Some(known), message) => known == message,
                (None, _) => false,
            };
            if !same {
                reopened |= matches!(message, Message::Opened { .. });
                stream.tell(target, message);
            }
        }
        drop(view);
        // The answer to the last renewal, again: the agent counts the lease from when it sent that renewal, so
        // this grants no more than it could have had, and saves a round trip after every opening.
        if reopened && stream.last_renewal.is_some() {
            self.grant_all(inner, id);
        }
    }

    fn grant_all(&self, inner: &mut Inner, id: u64) {
        let view = self.view.borrow();
        let now = self.clock.now();
        let lease = self.lease(inner);
        let Inner { book, streams, .. } = inner;
        let Some(stream) = streams.get_mut(&id) else {
            return;
        };
        let Some(sequence) = stream.last_renewal else {
            return;
        };
        if stream.outgoing.is_none() {
            return;
        }
        let registration = Arc::clone(&stream.registration);
        for (target, range) in &registration.targets {
            let message = match (state_of(&view, target, range), lease) {
                (Message::Opened { epoch, version }, Some(lease)) => {
                    book.grant(target, &stream.holder, epoch, now, lease);
                    Message::Granted {
                        epoch,
                        version,
                        lease,
                        sequence,
                    }
                }
                (Message::Opened { epoch, .. }, None) => Message::Fenced {
                    epoch,
                    cause: Cause::Isolated,
                    traceparent: None,
                },
                (fenced, _) => fenced,
            };
            stream.tell(target, message);
        }
    }

    /// How long a lease may be granted now, if at all.
    fn lease(&self, inner: &Inner) -> Option<Duration> {
        if inner.leaving {
            return None;
        }
        self.granting.grantable(self.write_lease)
    }
}

/// What a target's gate says to a writer of this range.
fn state_of(view: &FleetView, target: &TargetName, range: &VersionRange) -> Message {
    let Some(gate) = view.gates.get(target).map(|stored| &stored.record) else {
        let cause = if view.targets.contains_key(target) {
            Cause::NotAdopted
        } else {
            Cause::UnknownTarget
        };
        return Message::Fenced {
            epoch: GateEpoch::ZERO,
            cause,
            traceparent: None,
        };
    };
    let version: Option<SchemaVersion> = gate.version().cloned();
    let Gate { epoch, .. } = *gate;
    match Cause::of(&gate.admit(range), version.as_ref()) {
        None => Message::Opened { epoch, version },
        Some(cause) => {
            let rollout = cause.rollout().and_then(|id| view.rollouts.get(id));
            let traceparent = rollout.and_then(|rollout| rollout.record.traceparent.clone());
            Message::Fenced {
                epoch,
                cause,
                traceparent,
            }
        }
    }
}

impl Inner {
    fn supersede(&mut self, agent: AgentId, incarnation: Incarnation) -> Result<(), RegisterError> {
        let live = self
            .streams
            .values_mut()
            .filter(|s| s.holder.agent == agent && s.outgoing.is_some());
        for stream in live {
            let known = stream.holder.incarnation;
            if known > incarnation {
                return Err(RegisterError::Superseded { agent, newer: known });
            }
            if known < incarnation {
                stream.end(End::Superseded);
            }
        }
        Ok(())
    }

    fn end_if_reached(&mut self, id: u64) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.waiter
            && stream
                .told
                .values()
                .all(|t| matches!(t.message, Some(Message::Opened { .. })))
        {
            stream.end(End::Reached);
        }
    }

    /// Forgets streams that are gone and hold no lease.
    fn sweep(&mut self, now: Instant) {
        self.book.expire(now);
        let Self { book, streams, .. } = self;
        streams.retain(|_, stream| {
            stream.outgoing.is_some()
                || stream
                    .told
                    .keys()
                    .any(|t| book.lease_left(t, &stream.holder, now).is_some())
        });
    }
}

impl Stream {
    fn tell(&mut self, target: &TargetName, message: Message) {
        let told = self.told.entry(target.clone()).or_insert_with(|| Told {
            message: None,
            since: wall_now(),
            held: HeldPermits::default(),
        });
        let kind = |m: &Message| std::mem::discriminant(m);
        if told.message.as_ref().map(kind) != Some(kind(&message)) {
            told.since = wall_now();
        }
        told.message = Some(message.clone());
        self.send(Outgoing::Tell(target.clone(), message));
    }

    /// Sends without waiting; an agent that does not keep up loses its stream and comes again.
    fn send(&mut self, outgoing: Outgoing) {
        if let Some(sender) = &self.outgoing
            && sender.try_send(outgoing).is_err()
        {
            self.outgoing = None;
        }
    }

    fn end(&mut self, end: End) {
        self.send(Outgoing::End(end));
        self.outgoing = None;
    }

    fn standing(&self, told: &Told, leased: bool) -> Option<AgentStanding> {
        match (&self.outgoing, &told.message, leased) {
            (None, _, true) => Some(AgentStanding::Lost),
            (None, _, false) => None,
            (Some(_), _, _) if self.waiter => Some(AgentStanding::Waiting),
            (Some(_), Some(Message::Granted { .. }), true) => Some(AgentStanding::Open),
            (Some(_), Some(Message::Fenced { .. }), true) => Some(AgentStanding::Draining),
            (Some(_), _, _) => Some(AgentStanding::Fenced),
        }
    }
}

#[cfg(test)]
mod tests;
