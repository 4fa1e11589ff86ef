//! The leader's watch over one closing.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Straggler;
use crate::commit::Revision;
use crate::epoch::GateEpoch;
use crate::id::SessionId;
use crate::lease::with_margin;
use crate::mutation::{Mutation, mutated};
use crate::strength::Strength;
use crate::time::Instant;

/// A coordinator's word on one closing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DrainReport {
    /// The closing.
    pub gate_epoch: GateEpoch,
    /// Who is still out, under this coordinator. Empty: drained.
    pub stragglers: Vec<Straggler>,
}

/// Why a session still holds a fence up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pending {
    /// It has not reported on this closing.
    Silent(SessionId),
    /// It reported agents that are still out.
    Stragglers(SessionId, Vec<Straggler>),
    /// Its key vanished: leases that it granted may live on until then, on the leader's clock.
    Vanished(SessionId, Instant),
    /// Sessions may have vanished before this leader could see it: leases may live on until then.
    NewLeader(Instant),
}

/// The leader's watch over one closing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DrainWatch {
    gate_epoch: GateEpoch,
    longest_lease: Duration,
    sessions: BTreeMap<SessionId, Standing>,
    not_before: Instant,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Standing {
    Silent,
    Reported(Vec<Straggler>),
    Vanished(Instant),
    Left,
}

impl DrainWatch {
    /// Begins the watch.
    ///
    /// `listed`: the sessions listed in the transaction that closed the gate. `departed`: sessions that this leader
    /// saw vanish before, and when. `leader_since`: when this leader began to see sessions vanish.
    #[must_use]
    pub fn new(
        gate_epoch: GateEpoch,
        longest_lease: Duration,
        listed: impl IntoIterator<Item = SessionId>,
        departed: impl IntoIterator<Item = (SessionId, Instant)>,
        leader_since: Instant,
    ) -> Self {
        let mut sessions: BTreeMap<_, _> = listed.into_iter().map(|s| (s, Standing::Silent)).collect();
        for (session, at) in departed {
            sessions.insert(session, Standing::Vanished(at));
        }
        Self {
            gate_epoch,
            longest_lease,
            sessions,
            not_before: if mutated(Mutation::NewLeaderWaitsNot) {
                leader_since
            } else {
                leader_since + with_margin(longest_lease)
            },
        }
    }

    /// The closing that is watched.
    #[must_use]
    pub fn gate_epoch(&self) -> GateEpoch {
        self.gate_epoch
    }

    /// The sessions that are waited for, or were.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionId> {
        self.sessions.keys().cloned().collect()
    }

    /// A coordinator's report arrived. Reports on other closings are ignored.
    pub fn report(&mut self, session: &SessionId, report: &DrainReport) {
        if report.gate_epoch != self.gate_epoch {
            return;
        }
        if let Some(standing) = self.sessions.get_mut(session)
            && *standing != Standing::Left
        {
            *standing = Standing::Reported(report.stragglers.clone());
        }
    }

    /// A session's key vanished at `now`. What it reported as drained before stays true: it granted nothing since,
    /// for it had seen the closed gate.
    pub fn vanish(&mut self, session: &SessionId, now: Instant) {
        if let Some(standing) = self.sessions.get_mut(session) {
            match standing {
                Standing::Silent => *standing = Standing::Vanished(now),
                Standing::Reported(stragglers) if !stragglers.is_empty() => {
                    *standing = Standing::Vanished(now)
                }
                Standing::Reported(_) | Standing::Vanished(_) | Standing::Left => {}
            }
        }
    }

    /// A session left a clean record: it held no lease when it went.
    pub fn left(&mut self, session: &SessionId) {
        if let Some(standing) = self.sessions.get_mut(session) {
            *standing = Standing::Left;
        }
    }

    /// What is still being waited for at `now`. Empty: drained.
    #[must_use]
    pub fn pending(&self, now: Instant) -> Vec<Pending> {
        let wait = with_margin(self.longest_lease);
        let mut pending: Vec<Pending> = Vec::new();
        if now < self.not_before {
            pending.push(Pending::NewLeader(self.not_before));
        }
        for (session, standing) in &self.sessions {
            match standing {
                Standing::Silent => pending.push(Pending::Silent(session.clone())),
                Standing::Reported(stragglers) if stragglers.is_empty() => {}
                Standing::Reported(stragglers) => {
                    pending.push(Pending::Stragglers(session.clone(), stragglers.clone()));
                }
                Standing::Vanished(at) if now < *at + wait && !mutated(Mutation::VanishedCountsAtOnce) => {
                    pending.push(Pending::Vanished(session.clone(), *at + wait));
                }
                Standing::Vanished(_) | Standing::Left => {}
            }
        }
        pending
    }

    /// Those of [`Self::pending`] that are worth waiting for at this strength. With a barrier the database proves the
    /// rest by itself: only who can still answer is waited for. Agents whose coordinator has vanished are connected to
    /// another one by now, and answer there.
    #[must_use]
    pub fn awaited(&self, strength: Strength, now: Instant) -> Vec<Pending> {
        let mut pending = self.pending(now);
        if strength.has_barrier() {
            pending.retain(|p| matches!(p, Pending::Silent(_) | Pending::Stragglers(..)));
        }
        pending
    }
}

/// Whether a leader who did not close the gate itself has to hear from a session that was created at `session`, about
/// a gate that was closed at `closing`. Later sessions have seen the closed gate when they were made.
#[must_use]
pub fn must_report(session: Revision, closing: Revision) -> bool {
    session < closing
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const LEASE: Duration = Duration::from_secs(10);

    fn session(name: &str) -> SessionId {
        SessionId {
            coordinator: name.parse().unwrap(),
            start: Uuid::nil(),
        }
    }

    fn watch(listed: &[&str]) -> DrainWatch {
        DrainWatch::new(
            GateEpoch(8),
            LEASE,
            listed.iter().map(|n| session(n)),
            [],
            Instant(0),
        )
    }

    fn drained() -> DrainReport {
        DrainReport {
            gate_epoch: GateEpoch(8),
            stragglers: vec![],
        }
    }

    #[test]
    fn every_listed_session_must_report() {
        let mut watch = watch(&["c1", "c2"]);
        watch.report(&session("c1"), &drained());
        assert_eq!(
            watch.pending(Instant(20_000)),
            vec![Pending::Silent(session("c2"))]
        );
        watch.report(&session("c2"), &drained());
        assert!(watch.pending(Instant(20_000)).is_empty());
    }

    #[test]
    fn a_report_on_another_closing_counts_for_nothing() {
        let mut watch = watch(&["c1"]);
        watch.report(
            &session("c1"),
            &DrainReport {
                gate_epoch: GateEpoch(7),
                stragglers: vec![],
            },
        );
        assert_eq!(watch.pending(Instant(20_000)).len(), 1);
    }

    #[test]
    fn a_vanished_session_counts_only_after_the_longest_lease_and_margin() {
        let mut watch = watch(&["c1"]);
        watch.vanish(&session("c1"), Instant(20_000));
        assert_eq!(watch.pending(Instant(30_999)).len(), 1);
        assert!(watch.pending(Instant(31_000)).is_empty());
    }

    #[test]
    fn a_session_that_vanished_before_the_closing_counts_likewise() {
        let watch = DrainWatch::new(
            GateEpoch(8),
            LEASE,
            [],
            [(session("c1"), Instant(20_000))],
            Instant(0),
        );
        assert_eq!(
            watch.pending(Instant(25_000)),
            vec![Pending::Vanished(session("c1"), Instant(31_000))]
        );
    }

    #[test]
    fn a_new_leader_waits_once() {
        let watch = DrainWatch::new(GateEpoch(8), LEASE, [], [], Instant(5_000));
        assert_eq!(
            watch.pending(Instant(15_999)),
            vec![Pending::NewLeader(Instant(16_000))]
        );
        assert!(watch.pending(Instant(16_000)).is_empty());
    }

    #[test]
    fn a_clean_leave_needs_no_wait_and_a_late_report_does_not_undo_it() {
        let mut watch = watch(&["c1"]);
        watch.left(&session("c1"));
        watch.vanish(&session("c1"), Instant(20_000));
        assert!(watch.pending(Instant(20_000)).is_empty());
    }
}
