//! When is a fence drained, as far as agents can tell?
//!
//! Two halves. A coordinator keeps a [`LeaseBook`]: what it granted, to whom, until when. The leader keeps a
//! [`DrainWatch`] per closing: which coordinators' sessions were listed in the closing's own transaction, and what
//! each has reported since. (The database's barrier is the other half of *drained*, for targets that have one.)

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::epoch::GateEpoch;
use crate::id::{AgentId, Incarnation, SessionId, TargetName};
use crate::lease::{granter_deadline, with_margin};
use crate::time::Instant;

/// One stream of one process start of one replica. A new incarnation is another holder: it does not make the
/// coordinator forget what the old one was granted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Holder {
    /// The replica.
    pub agent: AgentId,
    /// Its process start.
    pub incarnation: Incarnation,
    /// Number of the stream at this coordinator.
    pub stream: u64,
}

/// A write lease that was granted and has neither been acked nor run out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Granted {
    epoch: GateEpoch,
    until: Instant,
}

/// Someone that a fence still waits for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Straggler {
    /// Who.
    pub holder: Holder,
    /// Longest time until its lease has surely run out, in milliseconds from the report.
    pub lease_left_ms: u64,
    /// Permits that it told of last.
    pub permits: u32,
    /// Label of its oldest permit.
    pub label: Option<String>,
    /// Where it runs, for people.
    pub region: String,
}

/// What one coordinator has granted, per target and holder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseBook {
    granted: BTreeMap<TargetName, BTreeMap<Holder, Granted>>,
}

impl LeaseBook {
    /// Records a grant that is being answered at `now`.
    pub fn grant(
        &mut self,
        target: &TargetName,
        holder: &Holder,
        epoch: GateEpoch,
        now: Instant,
        lease: Duration,
    ) {
        let until = granter_deadline(now, lease);
        let holders = self.granted.entry(target.clone()).or_default();
        let entry = holders.entry(holder.clone()).or_insert(Granted { epoch, until });
        // A shorter grant does not take back what a longer one before it allowed.
        entry.until = entry.until.max(until);
        entry.epoch = entry.epoch.max(epoch);
    }

    /// Records that `holder` has no permit of an epoch up to `epoch` left.
    pub fn ack(&mut self, target: &TargetName, holder: &Holder, epoch: GateEpoch) {
        if let Some(holders) = self.granted.get_mut(target) {
            holders.retain(|h, granted| h != holder || granted.epoch > epoch);
        }
    }

    /// Forgets leases that have run out. Only for memory: [`Self::outstanding`] compares by itself.
    pub fn expire(&mut self, now: Instant) {
        for holders in self.granted.values_mut() {
            holders.retain(|_, granted| granted.until > now);
        }
        self.granted.retain(|_, holders| !holders.is_empty());
    }

    /// Leases granted before the closing `epoch` that are neither acked nor run out, with the time each has left.
    #[must_use]
    pub fn outstanding(
        &self,
        target: &TargetName,
        epoch: GateEpoch,
        now: Instant,
    ) -> Vec<(Holder, Duration)> {
        let holders = self.granted.get(target).into_iter().flatten();
        holders
            .filter(|(_, granted)| granted.epoch < epoch && granted.until > now)
            .map(|(holder, granted)| (holder.clone(), granted.until.since(now)))
            .collect()
    }

    /// What is left of a holder's lease; `None`: nothing.
    #[must_use]
    pub fn lease_left(&self, target: &TargetName, holder: &Holder, now: Instant) -> Option<Duration> {
        let granted = self.granted.get(target)?.get(holder)?;
        (granted.until > now).then(|| granted.until.since(now))
    }

    /// Whether any lease of any target is outstanding at `now`: a coordinator leaves cleanly only when not.
    #[must_use]
    pub fn is_clear(&self, now: Instant) -> bool {
        self.granted
            .values()
            .flatten()
            .all(|(_, granted)| granted.until <= now)
    }

    /// Latest deadline of all leases; `None` when there is none.
    #[must_use]
    pub fn latest_deadline(&self) -> Option<Instant> {
        self.granted
            .values()
            .flatten()
            .map(|(_, granted)| granted.until)
            .max()
    }
}

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainWatch {
    gate_epoch: GateEpoch,
    longest_lease: Duration,
    sessions: BTreeMap<SessionId, Standing>,
    not_before: Instant,
}

#[derive(Debug, Clone, PartialEq, Eq)]
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
            not_before: leader_since + with_margin(longest_lease),
        }
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
                Standing::Vanished(at) if now < *at + wait => {
                    pending.push(Pending::Vanished(session.clone(), *at + wait));
                }
                Standing::Vanished(_) | Standing::Left => {}
            }
        }
        pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const LEASE: Duration = Duration::from_secs(10);

    fn holder(incarnation: u128, stream: u64) -> Holder {
        Holder {
            agent: "a1".parse().unwrap(),
            incarnation: Incarnation(Uuid::from_u128(incarnation)),
            stream,
        }
    }

    fn session(name: &str) -> SessionId {
        SessionId {
            coordinator: name.parse().unwrap(),
            start: Uuid::nil(),
        }
    }

    fn target() -> TargetName {
        "t".parse().unwrap()
    }

    #[test]
    fn a_new_incarnation_does_not_forget_the_old_ones_lease() {
        let mut book = LeaseBook::default();
        book.grant(&target(), &holder(1, 1), GateEpoch(7), Instant(0), LEASE);
        book.grant(&target(), &holder(2, 2), GateEpoch(7), Instant(0), LEASE);
        book.ack(&target(), &holder(2, 2), GateEpoch(8));
        let out = book.outstanding(&target(), GateEpoch(8), Instant(1_000));
        assert_eq!(
            out,
            vec![(holder(1, 1), Duration::from_secs(10))],
            "11 s from the grant, margin included"
        );
        assert!(
            book.outstanding(&target(), GateEpoch(8), Instant(11_000))
                .is_empty()
        );
    }

    #[test]
    fn an_ack_of_an_older_closing_frees_nothing_newer() {
        let mut book = LeaseBook::default();
        book.grant(&target(), &holder(1, 1), GateEpoch(9), Instant(0), LEASE);
        book.ack(&target(), &holder(1, 1), GateEpoch(8));
        assert_eq!(book.outstanding(&target(), GateEpoch(10), Instant(1)).len(), 1);
    }

    #[test]
    fn a_shorter_grant_takes_nothing_back() {
        let mut book = LeaseBook::default();
        book.grant(&target(), &holder(1, 1), GateEpoch(7), Instant(0), LEASE);
        book.grant(
            &target(),
            &holder(1, 1),
            GateEpoch(7),
            Instant(10),
            Duration::from_millis(1),
        );
        assert_eq!(
            book.outstanding(&target(), GateEpoch(8), Instant(10_999)).len(),
            1
        );
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
