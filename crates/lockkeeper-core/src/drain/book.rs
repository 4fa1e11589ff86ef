//! What one coordinator has granted.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::epoch::GateEpoch;
use crate::id::{AgentId, Incarnation, TargetName};
use crate::lease::granter_deadline;
use crate::mutation::{Mutation, mutated};
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
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

    /// Records that `holder` has no permit of an epoch below `epoch` left: it has seen the closing `epoch`. What was
    /// granted under `epoch` itself stays, for that was after the opening: the ack may have been under way meanwhile.
    pub fn ack(&mut self, target: &TargetName, holder: &Holder, epoch: GateEpoch) {
        if let Some(holders) = self.granted.get_mut(target) {
            let freed = |granted: &Granted| {
                granted.epoch < epoch || (granted.epoch == epoch && mutated(Mutation::AckFreesOwnEpoch))
            };
            holders.retain(|h, granted| !is_acked_by(h, holder) || !freed(granted));
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

/// An ack is one process start's word: what an older one was granted stays counted.
fn is_acked_by(granted: &Holder, acking: &Holder) -> bool {
    granted == acking || (mutated(Mutation::IncarnationForgotten) && granted.agent == acking.agent)
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

    /// The gate opens while the agent's ack of its closing is still under way, and the coordinator answers the last
    /// renewal again: that ack must not free the new lease.
    #[test]
    fn an_ack_that_crosses_the_opening_does_not_free_what_was_granted_after_it() {
        let mut book = LeaseBook::default();
        book.grant(&target(), &holder(1, 1), GateEpoch(7), Instant(0), LEASE);
        book.grant(&target(), &holder(1, 1), GateEpoch(8), Instant(0), LEASE);
        book.ack(&target(), &holder(1, 1), GateEpoch(8));
        assert_eq!(book.outstanding(&target(), GateEpoch(9), Instant(1)).len(), 1);
        book.ack(&target(), &holder(1, 1), GateEpoch(9));
        assert!(book.outstanding(&target(), GateEpoch(9), Instant(1)).is_empty());
    }
}
