//! What every coordinator does: its session, its view, its agents' leases, and standing for election.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lockkeeper_core::commit::{Guard, Revision};
use lockkeeper_core::drain::{DrainReport, LeaseBook};
use lockkeeper_core::epoch::LeaderEpoch;
use lockkeeper_core::gate::Gate;
use lockkeeper_core::lease::holder_deadline;
use lockkeeper_core::mutation::{Mutation, mutated};
use lockkeeper_core::presence::Heartbeats;
use lockkeeper_core::strength::Strength;
use lockkeeper_core::time::Instant;

use super::driver::Driver;
use super::{Action, Fleet, Key, Message, Value, View};
use crate::config::{Config, Time};
use crate::store::{LeaseId, Outcome, Txn};
use crate::words::{CoordinatorNo, PRESENCE, SessionNo, Stream, TARGET, WRITE};

/// A coordinator's process.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Coordinator {
    /// Sessions that it has had.
    pub starts: u8,
    /// Its session; none: the process is dead, or has not joined yet.
    pub session: Option<Presence>,
    /// What it granted.
    pub book: LeaseBook,
    /// Agents' streams, and the last renewal of each.
    pub streams: BTreeMap<Stream, Option<u64>>,
    /// The election.
    pub candidacy: Candidacy,
    /// A leader's work.
    pub driver: Option<Box<Driver>>,
    /// Gates that it has read before it joined: only as a seeded bug.
    pub peeked: Option<View>,
}

/// How a coordinator stands in the election.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Candidacy {
    /// It follows.
    #[default]
    Follows,
    /// It has created the key, and has not heard so yet.
    Created(Revision, LeaseId),
    /// It leads.
    Leads(Revision),
}

/// A coordinator's session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Presence {
    /// Which.
    pub no: SessionNo,
    /// Its lease in the store.
    pub lease: LeaseId,
    /// Create revision of its key.
    pub created: Revision,
    /// Until when it surely lives, on this coordinator's clock.
    pub deadline: Instant,
    /// Own heartbeats.
    pub beats: Heartbeats,
    /// What the watch has brought.
    pub view: View,
    /// The watch brings nothing any more.
    pub stalled: bool,
    /// The closing that it has reported on.
    pub reported: Option<lockkeeper_core::epoch::GateEpoch>,
}

/// The gate in a view.
#[must_use]
pub fn gate_in(view: &View) -> Option<&Gate> {
    match view.get(&Key::Gate).map(|record| &record.value) {
        Some(Value::Gate(gate)) => Some(gate),
        Some(Value::Leader(_) | Value::Session | Value::Progress(_) | Value::Drain(_)) | None => None,
    }
}

/// The sessions in a view.
#[must_use]
pub fn sessions_in(view: &View) -> BTreeSet<SessionNo> {
    let session = |key: &Key| match key {
        Key::Session(session) => Some(*session),
        Key::Leader | Key::Gate | Key::Progress | Key::Drain(_) => None,
    };
    view.keys().filter_map(session).collect()
}

impl Coordinator {
    fn presence(&mut self) -> Option<&mut Presence> {
        self.session.as_mut()
    }

    /// How long a lease may be granted now; as the product's hub asks it of its session.
    fn grantable(&self, now: Instant) -> Option<Duration> {
        let session = self.session.as_ref()?;
        session.beats.lease(now, session.deadline, WRITE)
    }
}

impl Fleet {
    pub(super) fn coordinator_actions(&self, no: CoordinatorNo, config: &Config, actions: &mut Vec<Action>) {
        let coordinator = &self.coordinators[no];
        let Some(session) = &coordinator.session else {
            if self.left.joins > 0 {
                actions.push(Action::Join(no));
                if mutated(Mutation::JoinerBornOpen) && coordinator.peeked.is_none() {
                    actions.push(Action::Peek(no));
                }
            }
            return;
        };
        let news = *session.view != *self.store.records()
            || session
                .beats
                .lease(self.coordinator_clock(config), Instant(u64::MAX), WRITE)
                .is_none();
        // A view matters to whom agents are connected, and to a leader that waits for reports.
        let agents =
            !coordinator.streams.is_empty() || (coordinator.driver.is_some() && !self.agents.is_empty());
        let by_itself = coordinator.driver.is_some() && Self::leader_sees_at_once(config);
        if agents && !session.stalled && news && !by_itself {
            actions.push(Action::Look(no));
        }
        if self.must_give_up(session, config) {
            actions.push(Action::GiveUp(no));
        }
        match coordinator.candidacy {
            // With a watch that has stalled its session ends before much can come of it.
            Candidacy::Follows if session.stalled => {}
            // Where leases alone are looked at, one without agents leads: it does not matter who.
            Candidacy::Follows
                if matches!(config.time, Time::Ticks { .. }) && !coordinator.streams.is_empty() => {}
            Candidacy::Follows
                if self.store.get(&Key::Leader).is_none()
                    && self.store.get(&Key::Session(session.no)).is_some() =>
            {
                actions.push(Action::Campaign(no));
            }
            Candidacy::Follows => {}
            Candidacy::Created(..) => actions.push(Action::Confirm(no)),
            Candidacy::Leads(revision) => {
                let leader = self.store.records().get(&Key::Leader);
                if leader.is_none_or(|record| record.revisions.created != revision) {
                    actions.push(Action::StepDown(no));
                }
            }
        }
    }

    /// The session is over when the store says so, when its time has passed, or when own heartbeats do not come back.
    fn must_give_up(&self, session: &Presence, config: &Config) -> bool {
        let gone = self.store.get(&Key::Session(session.no)).is_none();
        match config.time {
            Time::Free => gone || (session.stalled && session.beats.is_stalled(Instant(u64::MAX))),
            Time::Ticks { .. } => {
                let now = self.coordinator_clock(config);
                now >= session.deadline || session.beats.is_stalled(now)
            }
        }
    }

    /// Where leases alone are looked at, a leader that sees things late only waits longer; unless somebody joins.
    pub(super) fn leader_sees_at_once(config: &Config) -> bool {
        config.strength < Strength::Barrier && config.budget.joins == 0
    }

    pub(super) fn leads_with_old_view(&self, no: CoordinatorNo) -> bool {
        let coordinator = &self.coordinators[no];
        let old = |session: &Presence| !session.stalled && *session.view != *self.store.records();
        coordinator.driver.is_some() && coordinator.session.as_ref().is_some_and(old)
    }

    pub(super) fn peek(&mut self, no: CoordinatorNo) {
        self.coordinators[no].peeked = Some(Arc::new(self.store.records().clone()));
    }

    /// Creates the session's key, and takes the gates from the same transaction.
    pub(super) fn join(&mut self, no: CoordinatorNo, config: &Config) {
        self.left.joins -= 1;
        let now = self.coordinator_clock(config);
        let lease = self.store.grant(self.store_clock(), PRESENCE);
        let coordinator = &mut self.coordinators[no];
        coordinator.starts += 1;
        let session = SessionNo {
            coordinator: no,
            start: coordinator.starts,
        };
        let txn = Txn {
            guards: vec![Guard::ModRevision(Key::Session(session), 0)],
            puts: vec![(Key::Session(session), Value::Session, Some(lease))],
        };
        let Outcome::Committed(created) = self.store.commit(&txn) else {
            return;
        };
        let listed = Arc::new(self.store.records().clone());
        let view = coordinator.peeked.take().unwrap_or(listed);
        coordinator.book = LeaseBook::default();
        coordinator.streams.clear();
        coordinator.session = Some(Presence {
            no: session,
            lease,
            created,
            deadline: holder_deadline(now, PRESENCE),
            beats: Heartbeats::new(PRESENCE, now),
            view,
            stalled: false,
            reported: None,
        });
    }

    /// A session as it stands when it was just renewed.
    pub(super) fn begin_renewed(&mut self, no: CoordinatorNo, config: &Config) {
        let (now, at) = (self.coordinator_clock(config), self.store_clock());
        if let Some(session) = self.coordinators[no].presence() {
            self.store.keep_alive(session.lease, at, PRESENCE);
            session.deadline = holder_deadline(now, PRESENCE);
            session.beats = Heartbeats::new(PRESENCE, now);
        }
    }

    /// A renewal that is sent, and answered at once: later answers only make the deadline an earlier one.
    pub(super) fn keep_alive(&mut self, no: CoordinatorNo, config: &Config) {
        let (now, at) = (self.coordinator_clock(config), self.store_clock());
        let Some(session) = self.coordinators[no].presence() else {
            return;
        };
        // An answer that comes after the deadline does not bring the session back.
        if self.store.keep_alive(session.lease, at, PRESENCE) && now < session.deadline {
            session.deadline = holder_deadline(now, PRESENCE);
        }
    }

    /// The watch brings everything up to now, own heartbeats too; agents are told what is new for them.
    pub(super) fn look(&mut self, no: CoordinatorNo, config: &Config) {
        let now = self.coordinator_clock(config);
        let view = Arc::new(self.store.records().clone());
        let Some(session) = self.coordinators[no].presence() else {
            return;
        };
        if session.stalled {
            return;
        }
        let gate = gate_in(&session.view).map(|gate| (gate.epoch, gate.is_open()));
        session.view = Arc::clone(&view);
        // A heartbeat went out and came back. How many there have been is no difference between states.
        if session.beats.clone().beat(now).is_ok() {
            session.beats = Heartbeats::new(PRESENCE, now);
        }
        self.see_departures(no, &view, now);
        if gate_in(&view).map(|gate| (gate.epoch, gate.is_open())) != gate {
            let streams: Vec<(Stream, Option<u64>)> = self.coordinators[no]
                .streams
                .iter()
                .map(|(s, r)| (*s, *r))
                .collect();
            for (stream, renewal) in streams {
                self.answer(stream, renewal, config);
            }
        }
    }

    /// A renewal's answer; after news the last one is answered again.
    pub(super) fn answer(&mut self, stream: Stream, renewal: Option<u64>, config: &Config) {
        let now = self.coordinator_clock(config);
        let coordinator = &mut self.coordinators[stream.coordinator];
        let lease = coordinator.grantable(now);
        let Some(gate) = coordinator
            .session
            .as_ref()
            .and_then(|session| gate_in(&session.view))
        else {
            return;
        };
        let message = match (gate.is_open(), lease, renewal) {
            (true, Some(lease), Some(renewal)) => {
                coordinator
                    .book
                    .grant(&TARGET, &stream.holder(), gate.epoch, now, lease);
                Message::Granted(stream, gate.epoch, lease, renewal)
            }
            // Opened, or isolated: an agent without a lease stays as it is.
            (true, _, _) => return,
            (false, _, _) => Message::Fenced(stream, gate.epoch),
        };
        self.network.insert(message);
    }

    pub(super) fn may_report(&self, no: CoordinatorNo, config: &Config) -> bool {
        let coordinator = &self.coordinators[no];
        let Some(session) = &coordinator.session else {
            return false;
        };
        let Some(gate) = gate_in(&session.view).filter(|gate| !gate.is_open()) else {
            return false;
        };
        let now = self.coordinator_clock(config);
        session.reported != Some(gate.epoch)
            && coordinator.book.outstanding(&TARGET, gate.epoch, now).is_empty()
    }

    pub(super) fn report(&mut self, no: CoordinatorNo) {
        let Some(session) = self.coordinators[no].session.as_mut() else {
            return;
        };
        let Some(gate_epoch) = gate_in(&session.view).map(|gate| gate.epoch) else {
            return;
        };
        let report = DrainReport {
            gate_epoch,
            stragglers: Vec::new(),
        };
        let txn = Txn {
            guards: vec![Guard::CreateRevision(Key::Session(session.no), session.created)],
            puts: vec![(Key::Drain(session.no), Value::Drain(report), Some(session.lease))],
        };
        session.reported = Some(gate_epoch);
        self.store.commit(&txn);
    }

    /// The term ends whole: with the session go the book, the streams and the leadership.
    pub(super) fn give_up(&mut self, no: CoordinatorNo) {
        self.step_down(no);
        let coordinator = &mut self.coordinators[no];
        let Some(session) = coordinator.session.take() else {
            return;
        };
        coordinator.book = LeaseBook::default();
        coordinator.streams.clear();
        if session.stalled {
            self.store.end(session.lease);
        }
    }

    /// Creates the leader's key, if there is none.
    pub(super) fn campaign(&mut self, no: CoordinatorNo) {
        let lease = self.store.grant(self.store_clock(), PRESENCE);
        let txn = Txn {
            guards: vec![Guard::ModRevision(Key::Leader, 0)],
            puts: vec![(Key::Leader, Value::Leader(no), Some(lease))],
        };
        if let Outcome::Committed(revision) = self.store.commit(&txn) {
            self.coordinators[no].candidacy = Candidacy::Created(revision, lease);
        }
    }

    /// Hears that the key was created, and rewrites it in a guarded commit before it believes that it leads.
    pub(super) fn confirm(&mut self, no: CoordinatorNo, config: &Config) {
        let Candidacy::Created(revision, lease) = self.coordinators[no].candidacy else {
            return;
        };
        let txn = Txn {
            guards: vec![Guard::CreateRevision(Key::Leader, revision)],
            puts: vec![(Key::Leader, Value::Leader(no), Some(lease))],
        };
        let confirmed =
            mutated(Mutation::CreationTrusted) || matches!(self.store.commit(&txn), Outcome::Committed(_));
        self.coordinators[no].candidacy = Candidacy::Follows;
        if confirmed {
            self.look(no, config);
            self.coordinators[no].candidacy = Candidacy::Leads(revision);
            self.lead(
                no,
                LeaderEpoch {
                    generation: 1,
                    revision,
                },
                config,
            );
        }
    }
}
