//! What goes wrong.

use lockkeeper_core::commit::Revision;
use lockkeeper_core::strength::Strength;

use super::coordinator::{Candidacy, Coordinator};
use super::{Action, Fleet, Key};
use crate::config::{Config, Time};
use crate::words::{CoordinatorNo, SessionNo};

impl Fleet {
    pub(super) fn fault_actions(&self, config: &Config, actions: &mut Vec<Action>) {
        for message in &self.network {
            actions.push(Action::Deliver(*message));
            if self.left.duplicates > 0 {
                actions.push(Action::Duplicate(*message));
            }
            if self.left.losses > 0 {
                actions.push(Action::Lose(*message));
            }
        }
        for (session, _) in self.target.running() {
            actions.push(Action::Finish(session));
            if self.left.failures > 0 {
                actions.push(Action::Fail(session));
            }
        }
        for index in 0..self.store.late() {
            actions.push(Action::ApplyLate(index));
        }
        for (no, coordinator) in self.coordinators.iter().enumerate() {
            self.process_faults(no, coordinator, config, actions);
        }
        self.key_faults(config, actions);
        let dead = self
            .coordinators
            .iter()
            .all(|coordinator| coordinator.session.is_none());
        if self.left.releases > 0 && dead && self.target.row().is_closed() {
            actions.push(Action::Release);
        }
        if self.left.restores > 0 {
            actions.push(Action::Restore);
        }
    }

    fn process_faults(
        &self,
        no: CoordinatorNo,
        coordinator: &Coordinator,
        config: &Config,
        actions: &mut Vec<Action>,
    ) {
        let Some(session) = &coordinator.session else {
            return;
        };
        // Where leases alone are looked at, what a leader's end does to them is asked by its key's.
        if self.left.crashes > 0 && (config.strength >= Strength::Barrier || coordinator.driver.is_none()) {
            actions.push(Action::Crash(no));
        }
        if self.left.stalls > 0 && !session.stalled {
            actions.push(Action::Stall(no));
        }
    }

    /// A session's key vanishes when its lease has run out on the store's clock; before that, or where time does not
    /// count, as often as the budget says. A dead process's vanishes in any case.
    fn key_faults(&self, config: &Config, actions: &mut Vec<Action>) {
        for (key, record) in self.store.records() {
            let Key::Session(session) = key else { continue };
            let owner = self.coordinators[session.coordinator].session.as_ref();
            let dead = owner.is_none_or(|owner| owner.no != *session);
            let end = record.lease.and_then(|lease| self.store.lease_end(lease));
            let over = match config.time {
                Time::Free => dead,
                Time::Ticks { .. } => end.is_some_and(|end| self.store_clock() >= end),
            };
            let serves = owner.is_some_and(|_| !self.coordinators[session.coordinator].streams.is_empty());
            if (over && !self.agents.is_empty()) || (self.left.vanishings > 0 && serves) {
                actions.push(Action::Vanish(*session));
            }
        }
        if self.leader_is_dead() || (self.left.depositions > 0 && self.store.get(&Key::Leader).is_some()) {
            actions.push(Action::Depose);
        }
    }

    /// Whether the leader's key belongs to a process that is dead or has stepped down.
    fn leader_is_dead(&self) -> bool {
        let Some(record) = self.store.records().get(&Key::Leader) else {
            return false;
        };
        let created: Revision = record.revisions.created;
        let holds = |candidacy: Candidacy| match candidacy {
            Candidacy::Created(revision, _) | Candidacy::Leads(revision) => revision == created,
            Candidacy::Follows => false,
        };
        !self
            .coordinators
            .iter()
            .any(|coordinator| holds(coordinator.candidacy))
    }

    /// The process dies; its keys and its sessions on the target live on for a while.
    pub(super) fn crash(&mut self, no: CoordinatorNo) {
        self.left.crashes -= 1;
        self.step_down(no);
        let coordinator = &mut self.coordinators[no];
        *coordinator = Coordinator {
            starts: coordinator.starts,
            ..Coordinator::default()
        };
    }

    pub(super) fn vanish(&mut self, session: SessionNo) {
        let Some(record) = self.store.records().get(&Key::Session(session)) else {
            return;
        };
        let Some(lease) = record.lease else { return };
        let owner = self.coordinators[session.coordinator].session.as_ref();
        let dead = owner.is_none_or(|owner| owner.no != session);
        let over = self
            .store
            .lease_end(lease)
            .is_some_and(|end| self.store_clock() >= end);
        if !dead && !over {
            self.left.vanishings = self.left.vanishings.saturating_sub(1);
        }
        self.store.end(lease);
    }

    pub(super) fn depose(&mut self) {
        if !self.leader_is_dead() {
            self.left.depositions -= 1;
        }
        let lease = self
            .store
            .records()
            .get(&Key::Leader)
            .and_then(|record| record.lease);
        if let Some(lease) = lease {
            self.store.end(lease);
        }
    }

    pub(super) fn apply_late(&mut self, index: usize) {
        let before = self.store.records().clone();
        self.store.apply_late(index);
        self.observe_commit(&before);
    }

    pub(super) fn stall(&mut self, no: CoordinatorNo) {
        self.left.stalls -= 1;
        if let Some(session) = self.coordinators[no].session.as_mut() {
            session.stalled = true;
        }
    }

    /// A person with nothing but the database.
    pub(super) fn release(&mut self) {
        self.left.releases -= 1;
        self.released = Some(self.target.row().gate_epoch);
        self.quiet = None;
        self.target.release();
    }

    /// The store goes back to before the leader was elected. Its leases are gone, so it notices; what it left running
    /// on the target it leaves running.
    pub(super) fn restore(&mut self) {
        self.left.restores -= 1;
        let Some(backup) = self.backup.clone() else { return };
        self.store.restore(&backup);
        for no in 0..self.coordinators.len() {
            self.step_down(no);
        }
    }
}
