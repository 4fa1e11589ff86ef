//! The leader's work on the target: carries out what [`next_act`] says and feeds back what happened, as the product's
//! driver does.

use std::collections::BTreeSet;

use lockkeeper_core::commit::{Revision, decision_guards};
use lockkeeper_core::drain::{Departures, DrainWatch, must_report};
use lockkeeper_core::epoch::{GateEpoch, LeaderEpoch};
use lockkeeper_core::gate::Gate;
use lockkeeper_core::id::SessionId;
use lockkeeper_core::mutation::{Mutation, mutated};
use lockkeeper_core::rollout::{
    AbortWay, Act, Command, Damage, Event, Goal, Ground, State, StoreGate, Target, next_act, step,
};
use lockkeeper_core::row::Terms;
use lockkeeper_core::strength::Strength;
use lockkeeper_core::time::{Instant, WallTime};
use lockkeeper_core::version::{SchemaVersion, VersionOrder};
use uuid::Uuid;

use super::coordinator::{Candidacy, gate_in, sessions_in};
use super::{Action, Fleet, Key, Value, View};
use crate::config::{Config, Time};
use crate::database::{self, Begun, Doing, Way};
use crate::store::{Outcome, Txn};
use crate::words::{CoordinatorNo, LEASES, NEW, ROLLOUT, verified};

/// Whether a commit's answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It does.
    Comes,
    /// It does not; the commit may be applied later.
    IsLost,
}

/// A leader's work.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Driver {
    /// The fencing token.
    pub epoch: LeaderEpoch,
    /// The leader's random id.
    pub id: Uuid,
    departures: Departures,
    target: Target,
    read: Revision,
    hand: Option<Hand>,
    taking: Option<Taking>,
    ground: Ground,
    listed: Option<Vec<SessionId>>,
    watch: Option<DrainWatch>,
    insists: bool,
    doubt: Option<(Txn<Key, Value>, After)>,
    /// Times that it took the target when its key was gone already.
    late_takes: u8,
}

/// A leader whose key is gone, and who does not know it, may end its successor's try and take the target again before
/// the successor has written its claim. It notices at the end of its own lease at the latest: before it has done so
/// more often than this.
const LATE_TAKES_MAX: u8 = 1;

/// The registered session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Hand {
    session: database::SessionNo,
    terms: Terms,
}

/// A takeover that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Taking {
    /// Connected.
    Connected(database::SessionNo),
    /// The claim is in the row.
    Claimed(database::SessionNo),
}

/// What follows a commit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum After {
    /// The gate was closed under this epoch.
    Closed,
    /// The state was committed.
    Advanced,
}

/// What a driver's next step is about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Next {
    /// Nothing, now.
    Nothing,
    /// Sends a commit again whose outcome is not known.
    Settle,
    /// Goes on taking the target.
    GoOnTaking,
    /// Hears how its statement ended.
    Hear,
    /// An act.
    Act(Act),
}

impl Fleet {
    /// A coordinator begins to lead.
    pub(super) fn lead(&mut self, no: CoordinatorNo, epoch: LeaderEpoch, config: &Config) {
        self.observe_claim(no, epoch);
        let now = self.coordinator_clock(config);
        let Some(view) = self.view_of(no) else { return };
        let Some(record) = view.get(&Key::Progress) else {
            return;
        };
        let Value::Progress(target) = &record.value else {
            return;
        };
        let present: BTreeSet<SessionId> = sessions_in(&view).iter().map(|s| s.id()).collect();
        let starts = u128::from(self.coordinators[no].starts);
        self.coordinators[no].driver = Some(Box::new(Driver {
            epoch,
            id: Uuid::from_u128((no as u128 + 1) * 1000 + starts * 100 + u128::from(epoch.revision)),
            departures: Departures::new(present, now),
            target: (**target).clone(),
            read: record.revisions.modified,
            hand: None,
            taking: None,
            ground: Ground::default(),
            listed: None,
            watch: None,
            insists: false,
            doubt: None,
            late_takes: 0,
        }));
    }

    fn view_of(&self, no: CoordinatorNo) -> Option<View> {
        self.coordinators[no]
            .session
            .as_ref()
            .map(|session| View::clone(&session.view))
    }

    fn driver(&self, no: CoordinatorNo) -> Option<&Driver> {
        self.coordinators[no].driver.as_deref()
    }

    fn driver_mut(&mut self, no: CoordinatorNo) -> Option<&mut Driver> {
        self.coordinators[no].driver.as_deref_mut()
    }

    pub(super) fn see_departures(&mut self, no: CoordinatorNo, view: &View, now: Instant) {
        let present: BTreeSet<SessionId> = sessions_in(view).iter().map(|s| s.id()).collect();
        if let Some(driver) = self.driver_mut(no) {
            driver
                .departures
                .observe(present, |_| false, now, LEASES.after_vanishing());
        }
    }

    pub(super) fn driver_actions(&self, no: CoordinatorNo, config: &Config, actions: &mut Vec<Action>) {
        let Some(driver) = self.driver(no) else { return };
        let next = self.next(driver, no);
        match self.readiness(driver, &next, no, config) {
            Readiness::Ready => {
                actions.push(Action::Drive(no));
                let commits = matches!(next, Next::Act(Act::CloseStoreGate | Act::Conclude(_)));
                if commits && self.left.lost_answers > 0 {
                    actions.push(Action::DriveUnanswered(no));
                }
            }
            Readiness::Waits if config.strength >= Strength::Barrier && !driver.insists => {
                actions.push(Action::Insist(no));
            }
            Readiness::Waits => {}
        }
        let stoppable = matches!(
            driver.target.state,
            State::Fencing | State::Migrating | State::Verifying(Goal::New)
        );
        if self.left.aborts > 0 && stoppable && driver.doubt.is_none() && driver.taking.is_none() {
            actions.push(Action::Abort(no));
        }
        if self.left.rollouts > 0 && driver.target.state.is_final() && driver.doubt.is_none() {
            actions.push(Action::Again(no));
        }
        if self.left.lost_sessions > 0 && driver.hand.is_some() {
            actions.push(Action::LoseSession(no));
        }
    }

    fn next(&self, driver: &Driver, no: CoordinatorNo) -> Next {
        if driver.doubt.is_some() {
            return Next::Settle;
        }
        if driver.taking.is_some() {
            return Next::GoOnTaking;
        }
        let running = driver
            .hand
            .as_ref()
            .and_then(|hand| self.target.doing(hand.session));
        if matches!(running, Some(Doing::Running(_) | Doing::Ran(_))) {
            return Next::Hear;
        }
        if driver.target.command().is_none() && !driver.target.is_fenced() {
            return Next::Nothing;
        }
        let row = driver.hand.as_ref().map(|_| self.target.row());
        let act = next_act(&driver.target, driver.ground, row, self.store_gate(driver, no));
        // A held target whose fence stands: a person must decide.
        if act == Act::Work && driver.target.command().is_none() {
            return Next::Nothing;
        }
        Next::Act(act)
    }

    fn store_gate(&self, driver: &Driver, no: CoordinatorNo) -> StoreGate {
        let Some(view) = self.view_of(no) else {
            return StoreGate::Missing;
        };
        match gate_in(&view) {
            None => StoreGate::Missing,
            Some(gate) if gate.is_open() => StoreGate::Open,
            Some(gate) if Some(gate.epoch) == driver.target.gate_epoch => StoreGate::Ours,
            Some(_) => StoreGate::Anothers,
        }
    }

    fn readiness(&self, driver: &Driver, next: &Next, no: CoordinatorNo, config: &Config) -> Readiness {
        let hand = driver.hand.as_ref();
        match next {
            Next::Nothing => Readiness::Waits,
            Next::Hear => match hand.and_then(|hand| self.target.doing(hand.session)) {
                Some(Doing::Running(_)) => Readiness::Waits,
                Some(Doing::Idle | Doing::Reading(_) | Doing::Writing | Doing::Ran(_)) | None => {
                    Readiness::Ready
                }
            },
            // A held target is looked after without end: once its hand is gone nothing is left to explore.
            Next::Act(Act::Take) if driver.target.command().is_none() => Readiness::Waits,
            Next::Act(Act::Take) if driver.late_takes >= LATE_TAKES_MAX => Readiness::Waits,
            Next::Act(Act::Raise) if !driver.insists && !self.is_drained(driver, no, config) => {
                Readiness::Waits
            }
            Next::Act(_) | Next::Settle | Next::GoOnTaking => Readiness::Ready,
        }
    }

    fn is_drained(&self, driver: &Driver, no: CoordinatorNo, config: &Config) -> bool {
        // The writers' own open changes are waited for as well.
        if config.strength >= Strength::Barrier && self.writers_hold() {
            return false;
        }
        if self.agents.is_empty() {
            return true;
        }
        let Some(view) = self.view_of(no) else {
            return false;
        };
        let mut watch = self.drain_watch(driver, &view);
        self.observe_drain(&mut watch, &view, self.coordinator_clock(config));
        let now = match config.time {
            // Whatever is only waited for has come.
            Time::Free => Instant(u64::MAX),
            Time::Ticks { .. } => self.coordinator_clock(config),
        };
        watch.awaited(config.strength, now).is_empty()
    }

    fn writers_hold(&self) -> bool {
        self.writers
            .iter()
            .any(|writer| matches!(self.target.doing(*writer), Some(Doing::Writing)))
    }

    fn drain_watch(&self, driver: &Driver, view: &View) -> DrainWatch {
        if let Some(watch) = &driver.watch {
            return watch.clone();
        }
        let closing = view.get(&Key::Gate).map_or(0, |record| record.revisions.modified);
        let older = || {
            let sessions = self
                .store
                .records()
                .iter()
                .filter(|(_, r)| must_report(r.revisions.created, closing));
            sessions
                .filter_map(|(key, _)| match key {
                    Key::Session(session) => Some(session.id()),
                    Key::Leader | Key::Gate | Key::Progress | Key::Drain(_) => None,
                })
                .collect()
        };
        let listed = driver.listed.clone().unwrap_or_else(older);
        let departed = driver.departures.gone();
        let gate_epoch = driver.target.gate_epoch.unwrap_or(GateEpoch::ZERO);
        DrainWatch::new(
            gate_epoch,
            LEASES.after_vanishing(),
            listed,
            departed,
            driver.departures.since(),
        )
    }

    fn observe_drain(&self, watch: &mut DrainWatch, view: &View, now: Instant) {
        let present = sessions_in(view);
        for (key, record) in view.iter() {
            if let (Key::Drain(session), Value::Drain(report)) = (key, &record.value) {
                watch.report(&session.id(), report);
            }
        }
        let all = self.coordinators.iter().enumerate();
        for (coordinator, seen) in all {
            for start in 1..=seen.starts {
                let session = crate::words::SessionNo { coordinator, start };
                if !present.contains(&session) {
                    watch.vanish(&session.id(), now);
                }
            }
        }
    }

    /// One step of the leader's work.
    pub(super) fn drive(&mut self, no: CoordinatorNo, config: &Config, answer: Answer) {
        let Some(driver) = self.driver(no) else { return };
        match self.next(driver, no) {
            Next::Nothing => {}
            Next::Settle => self.settle(no, config),
            Next::GoOnTaking => self.go_on_taking(no, config),
            Next::Hear => self.hear(no, config),
            Next::Act(act) => self.carry_out(no, act, config, answer),
        }
        if config.strength < Strength::Barrier && answer == Answer::Comes {
            self.drive_on(no, config);
        }
    }

    /// Where leases alone are looked at, the leader's work is done in few steps, that end with what others can see of
    /// it: the gate is closed, drained, the rollout has ended.
    fn drive_on(&mut self, no: CoordinatorNo, config: &Config) {
        let Some(driver) = self.driver(no) else { return };
        let next = self.next(driver, no);
        let seen = match &next {
            Next::Act(act) => matches!(act, Act::CloseStoreGate | Act::Raise),
            Next::Nothing => true,
            Next::Hear | Next::GoOnTaking | Next::Settle => false,
        };
        let drained = driver.target.state == State::Fencing && next == Next::Act(Act::Work);
        if seen || drained {
            return;
        }
        let before = self.clone();
        let running = self.target.running().next().map(|(session, _)| session);
        match running {
            Some(session) if next == Next::Hear => self.finish(session, Ok(())),
            Some(_) | None => {}
        }
        self.drive(no, config, Answer::Comes);
        self.observe(&before);
    }

    fn carry_out(&mut self, no: CoordinatorNo, act: Act, config: &Config, answer: Answer) {
        match act {
            Act::Take => {
                let session = self.target.connect();
                if let Some(driver) = self.driver_mut(no) {
                    driver.taking = Some(Taking::Connected(session));
                }
                self.go_on_taking(no, config);
            }
            Act::CloseStoreGate => self.close_store_gate(no, config, answer),
            Act::CloseRow(epoch) => {
                if let Some((hand, _)) = self.hand(no) {
                    let closed = self.target.close(hand.session, &hand.terms, epoch);
                    self.went(no, closed, config, Ground::row_closed);
                }
            }
            Act::Raise => self.raise(no, config),
            Act::OpenRow(epoch) => self.open_row(no, epoch, config),
            Act::Work => self.work(no, config),
            Act::Conclude(event) => self.advance(no, event, config, answer),
        }
    }

    fn hand(&self, no: CoordinatorNo) -> Option<(Hand, Target)> {
        let driver = self.driver(no)?;
        Some((driver.hand.clone()?, driver.target.clone()))
    }

    /// A takeover's next step: claim, end the older session and confirm it gone, register.
    fn go_on_taking(&mut self, no: CoordinatorNo, config: &Config) {
        let Some(driver) = self.driver(no) else { return };
        let (claim, taking) = ((driver.epoch, driver.id), driver.taking);
        let taking = match taking {
            None => return,
            Some(Taking::Connected(session)) => match self.target.claim(session, claim.0, claim.1) {
                Ok(()) => Some(Taking::Claimed(session)),
                Err(database::Error::Busy) => {
                    self.end_older(session);
                    Some(Taking::Connected(session))
                }
                Err(error) => return self.not_taken(no, session, &error, config),
            },
            Some(Taking::Claimed(session)) => {
                self.end_older(session);
                let gone = self.target.row().executor.clone();
                match self.target.register(session, claim, gone.as_ref()) {
                    Ok(terms) => {
                        let leads = self.holds_key(no);
                        if let Some(driver) = self.driver_mut(no) {
                            driver.hand = Some(Hand { session, terms });
                            driver.ground.taken();
                            driver.late_takes += u8::from(!leads);
                        }
                        None
                    }
                    Err(database::Error::Busy) => Some(Taking::Claimed(session)),
                    Err(error) => return self.not_taken(no, session, &error, config),
                }
            }
        };
        if let Some(driver) = self.driver_mut(no) {
            driver.taking = taking;
        }
    }

    fn holds_key(&self, no: CoordinatorNo) -> bool {
        let created = self
            .store
            .records()
            .get(&Key::Leader)
            .map(|record| record.revisions.created);
        self.driver(no)
            .is_some_and(|driver| created == Some(driver.epoch.revision))
    }

    fn end_older(&mut self, me: database::SessionNo) {
        if let Some(older) = self.target.row().to_end(&me.executor()).cloned() {
            self.target.end_executor(&older);
        }
    }

    fn not_taken(
        &mut self,
        no: CoordinatorNo,
        session: database::SessionNo,
        error: &database::Error,
        config: &Config,
    ) {
        self.target.end(session);
        if let Some(driver) = self.driver_mut(no) {
            driver.taking = None;
        }
        self.advance(
            no,
            Event::NeedsPerson(format!("{error:?}")),
            config,
            Answer::Comes,
        );
    }

    /// What a step on the target came to.
    fn went(
        &mut self,
        no: CoordinatorNo,
        result: Result<(), database::Error>,
        config: &Config,
        then: impl FnOnce(&mut Ground),
    ) {
        let Some(driver) = self.driver_mut(no) else { return };
        match result {
            Ok(()) => then(&mut driver.ground),
            // Somebody else is at the row for a moment: again.
            Err(database::Error::Busy) => {}
            Err(database::Error::Gone) => driver.lose_hand(),
            Err(database::Error::Superseded) => self.step_down(no),
            Err(
                error @ (database::Error::Fenced | database::Error::Refused(_) | database::Error::Behind),
            ) => {
                self.advance(
                    no,
                    Event::NeedsPerson(format!("{error:?}")),
                    config,
                    Answer::Comes,
                );
            }
        }
    }

    fn raise(&mut self, no: CoordinatorNo, config: &Config) {
        let Some((hand, target)) = self.hand(no) else {
            return;
        };
        let epoch = target.gate_epoch.unwrap_or(GateEpoch::ZERO);
        let raised = if config.strength >= Strength::Barrier {
            self.target.end_writers();
            self.target.raise(hand.session, &hand.terms, epoch)
        } else {
            Ok(())
        };
        if raised.is_ok() {
            self.observe_drained(epoch);
        }
        self.went(no, raised, config, Ground::raised);
    }

    fn open_row(&mut self, no: CoordinatorNo, epoch: GateEpoch, config: &Config) {
        let Some((hand, target)) = self.hand(no) else {
            return;
        };
        let State::Opening(goal) = target.state else {
            return;
        };
        let version = version_of(&target, goal);
        let opened = self
            .target
            .open(hand.session, &hand.terms, epoch, version.as_ref());
        if opened.is_ok() {
            self.observe_opening(epoch, version.as_ref());
        }
        self.went(no, opened, config, |_| {});
    }

    /// The command's own work.
    fn work(&mut self, no: CoordinatorNo, config: &Config) {
        let Some((hand, target)) = self.hand(no) else {
            return;
        };
        match target.command() {
            Some(Command::Fence) => self.advance(no, Event::Fenced, config, Answer::Comes),
            Some(Command::Migrate) => self.begin(no, &hand, Way::Up, config),
            Some(Command::RollBack) => self.begin(no, &hand, Way::Down, config),
            Some(Command::Verify(goal)) => {
                let wanted = version_of(&target, goal);
                let found = self.target.effects().last().cloned();
                let event = if found == wanted && self.target.ledger().last() == wanted.as_ref() {
                    Event::Verified
                } else {
                    Event::VerificationFailed(format!("found {found:?}"))
                };
                self.advance(no, event, config, Answer::Comes);
            }
            Some(Command::Preflight | Command::Open(_)) | None => {}
        }
    }

    fn begin(&mut self, no: CoordinatorNo, hand: &Hand, way: Way, config: &Config) {
        let begun = self
            .target
            .begin(hand.session, &hand.terms, &NEW, (way, config.statement));
        match begun {
            Ok(Begun::Already) => self.advance(no, done(way), config, Answer::Comes),
            Ok(Begun::Running) => {}
            Err(error) => self.went(no, Err(error), config, |_| {}),
        }
    }

    fn hear(&mut self, no: CoordinatorNo, config: &Config) {
        let Some((hand, target)) = self.hand(no) else {
            return;
        };
        let way = match target.state {
            State::RollingBack => Way::Down,
            _ => Way::Up,
        };
        match self.target.hear(hand.session, &hand.terms, &NEW) {
            Ok(Ok(())) => self.advance(no, done(way), config, Answer::Comes),
            Ok(Err(database::Failed)) => self.advance(no, failed(way), config, Answer::Comes),
            Err(error) => self.went(no, Err(error), config, |_| {}),
        }
    }

    fn close_store_gate(&mut self, no: CoordinatorNo, config: &Config, answer: Answer) {
        let Some((_, target)) = self.hand(no) else { return };
        let Some(view) = self.view_of(no) else { return };
        let (Some(gate), Some(driver)) = (gate_in(&view), self.driver(no)) else {
            return;
        };
        let epoch = GateEpoch::next(gate.epoch, self.target.row().gate_epoch);
        let closed = gate.close(epoch, ROLLOUT.clone(), driver.epoch, WallTime(0));
        let target = Target {
            gate_epoch: Some(epoch),
            ..target
        };
        let early = mutated(Mutation::SessionsListedBefore)
            .then(|| sessions_in(&view).iter().map(|s| s.id()).collect());
        if let Some(driver) = self.driver_mut(no) {
            driver.listed = early;
            driver.insists = false;
        }
        self.commit(no, (target, Some(closed)), After::Closed, config, answer);
    }

    /// Commits the state after `event`.
    fn advance(&mut self, no: CoordinatorNo, event: Event, config: &Config, answer: Answer) {
        let Some(driver) = self.driver(no) else { return };
        let before = driver.target.clone();
        let after = match step(&before, event.clone()) {
            Ok(after) => after,
            Err(rejected) => return self.observe_rejected(&rejected),
        };
        let view = self.view_of(no);
        let gate = view.as_ref().and_then(gate_in).filter(|gate| !gate.is_open());
        let ours = gate.filter(|gate| Some(gate.epoch) == before.gate_epoch);
        let version = match before.state {
            State::Opening(goal) if after.state.is_final() => Some(version_of(&before, goal)),
            // A person has opened the row: the store follows.
            _ if matches!(event, Event::GateFoundOpen(_)) => Some(self.target.effects().last().cloned()),
            _ => None,
        };
        let opened = ours
            .zip(version)
            .map(|(gate, version)| gate.open(VersionOrder::Numeric, driver.epoch, verified(version)));
        self.commit(no, (after, opened), After::Advanced, config, answer);
    }

    /// One guarded commit of the target's state, and of its gate.
    fn commit(
        &mut self,
        no: CoordinatorNo,
        (target, gate): (Target, Option<Gate>),
        then: After,
        config: &Config,
        answer: Answer,
    ) {
        let (Some(driver), Some(view)) = (self.driver(no), self.view_of(no)) else {
            return;
        };
        let mut changes = vec![(Key::Progress, driver.read)];
        let mut puts = vec![(Key::Progress, Value::Progress(Box::new(target)), None)];
        if let Some(gate) = gate {
            let read = view.get(&Key::Gate).map_or(0, |record| record.revisions.modified);
            changes.push((Key::Gate, read));
            puts.push((Key::Gate, Value::Gate(Box::new(gate)), None));
        }
        let guards = decision_guards(Key::Leader, driver.epoch.revision, changes);
        let txn = Txn { guards, puts };
        if answer == Answer::IsLost {
            self.left.lost_answers -= 1;
            self.store.delay(txn.clone());
            if let Some(driver) = self.driver_mut(no) {
                driver.doubt = Some((txn, then));
            }
            return;
        }
        match self.commit_observed(&txn) {
            Outcome::Committed(revision) => self.committed(no, &txn, then, revision, config),
            Outcome::Refused => self.step_down(no),
        }
    }

    fn commit_observed(&mut self, txn: &Txn<Key, Value>) -> Outcome {
        let before = self.store.records().clone();
        let outcome = self.store.commit(txn);
        self.observe_commit(&before);
        outcome
    }

    /// The same transaction again, with the same guards, until an answer comes.
    fn settle(&mut self, no: CoordinatorNo, config: &Config) {
        let Some((txn, then)) = self.driver_mut(no).and_then(|driver| driver.doubt.take()) else {
            return;
        };
        match self.commit_observed(&txn) {
            Outcome::Committed(revision) => self.committed(no, &txn, then, revision, config),
            Outcome::Refused => match self.store.was_applied(&txn) {
                Some(revision) => self.committed(no, &txn, then, revision, config),
                None => self.step_down(no),
            },
        }
    }

    fn committed(
        &mut self,
        no: CoordinatorNo,
        txn: &Txn<Key, Value>,
        then: After,
        revision: Revision,
        config: &Config,
    ) {
        let listed = View::new(self.store.records().clone());
        let sessions: Vec<SessionId> = sessions_in(&listed).iter().map(|s| s.id()).collect();
        // The view holds the leader's own commit before it decides again.
        self.look(no, config);
        let Some(driver) = self.driver_mut(no) else { return };
        driver.read = revision;
        for (_, value, _) in &txn.puts {
            if let Value::Progress(target) = value {
                driver.target = (**target).clone();
            }
        }
        match then {
            After::Closed => {
                driver.listed.get_or_insert(sessions);
            }
            After::Advanced => driver.ground.settled(),
        }
        if driver.target.command().is_none() && !driver.target.is_fenced() {
            // The target is left in good order.
            if let Some(hand) = driver.hand.take() {
                self.target.end(hand.session);
            }
        }
    }

    pub(super) fn insist(&mut self, no: CoordinatorNo) {
        if let Some(driver) = self.driver_mut(no) {
            driver.insists = true;
        }
    }

    /// An operator aborts: the hand is given up, and what it was doing ended and confirmed gone.
    pub(super) fn abort(&mut self, no: CoordinatorNo, config: &Config) {
        self.left.aborts -= 1;
        if let Some(hand) = self.driver_mut(no).and_then(|driver| driver.hand.take()) {
            self.target.end(hand.session);
        }
        self.advance(
            no,
            Event::AbortRequested {
                way: AbortWay::RollBack,
                reason: String::new(),
            },
            config,
            Answer::Comes,
        );
    }

    /// Another rollout, back to where the first began.
    pub(super) fn again(&mut self, no: CoordinatorNo, config: &Config) {
        self.left.rollouts -= 1;
        if let Some(driver) = self.driver_mut(no) {
            driver.listed = None;
            driver.watch = None;
        }
        let version = self.target.effects().last().cloned();
        let target = Target {
            from: version,
            ..Self::fresh_rollout()
        };
        self.commit(no, (target, None), After::Advanced, config, Answer::Comes);
    }

    /// The leadership is over for this coordinator; its session on the target goes, or lives on until the server gets
    /// to the end of its statement.
    pub(super) fn step_down(&mut self, no: CoordinatorNo) {
        let coordinator = &mut self.coordinators[no];
        coordinator.candidacy = Candidacy::Follows;
        let Some(driver) = coordinator.driver.take() else {
            return;
        };
        if let Some(hand) = driver.hand {
            self.target.abandon(hand.session);
        }
        if let Some(Taking::Connected(session) | Taking::Claimed(session)) = driver.taking {
            self.target.abandon(session);
        }
    }

    /// A hand's session is lost: the server notices, or is still at its statement.
    pub(super) fn lose_session(&mut self, no: CoordinatorNo) {
        self.left.lost_sessions -= 1;
        let lost = self.driver_mut(no).and_then(Driver::lose_hand_of);
        if let Some(session) = lost {
            self.target.abandon(session);
        }
    }

    pub(super) fn finish(&mut self, session: database::SessionNo, result: Result<(), database::Failed>) {
        let statement = match self.target.doing(session) {
            Some(Doing::Running(running)) => running.epoch,
            Some(Doing::Idle | Doing::Reading(_) | Doing::Writing | Doing::Ran(_)) | None => return,
        };
        self.target.finish(session, &NEW, result);
        if result.is_ok() {
            self.observe_effect(session, statement);
        }
    }
}

/// Whether a driver can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readiness {
    /// It can.
    Ready,
    /// Something else must happen first.
    Waits,
}

impl Driver {
    fn lose_hand(&mut self) {
        self.hand = None;
    }

    fn lose_hand_of(&mut self) -> Option<database::SessionNo> {
        self.hand.take().map(|hand| hand.session)
    }

    /// What the rollout is to reach or keep.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }
}

fn version_of(target: &Target, goal: Goal) -> Option<SchemaVersion> {
    match goal {
        Goal::New => target.to.clone(),
        Goal::Unchanged | Goal::Restored => target.from.clone(),
    }
}

fn done(way: Way) -> Event {
    match way {
        Way::Up => Event::Migrated,
        Way::Down => Event::Reverted,
    }
}

fn failed(way: Way) -> Event {
    let reason = "the statement failed".to_owned();
    match way {
        Way::Up => Event::MigrationFailed {
            damage: Damage::Clean,
            reason,
        },
        Way::Down => Event::RevertFailed(reason),
    }
}
