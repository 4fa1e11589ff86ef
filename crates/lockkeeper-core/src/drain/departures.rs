//! Coordinators that a leader saw vanishing: the write leases that they granted may live on for a while, even though
//! nothing in the store tells of them any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::id::SessionId;
use crate::lease::with_margin;
use crate::time::Instant;

/// Sessions that vanished, and when.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Departures {
    since: Instant,
    present: BTreeSet<SessionId>,
    gone: BTreeMap<SessionId, Instant>,
}

impl Departures {
    /// Begins to watch, with the sessions that are present.
    #[must_use]
    pub fn new(present: BTreeSet<SessionId>, now: Instant) -> Self {
        Self {
            since: now,
            present,
            gone: BTreeMap::new(),
        }
    }

    /// Since when vanishing sessions are seen.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Compares with who is present now. Sessions that left cleanly are none; those whose leases have surely run out
    /// are forgotten.
    pub fn observe(
        &mut self,
        present: BTreeSet<SessionId>,
        has_left: impl Fn(&SessionId) -> bool,
        now: Instant,
        longest_lease: Duration,
    ) {
        for session in self
            .present
            .difference(&present)
            .filter(|session| !has_left(session))
        {
            self.gone.entry(session.clone()).or_insert(now);
        }
        self.present = present;
        self.gone.retain(|_, at| now < *at + with_margin(longest_lease));
    }

    /// Sessions whose leases may live on.
    #[must_use]
    pub fn gone(&self) -> Vec<(SessionId, Instant)> {
        self.gone
            .iter()
            .map(|(session, at)| (session.clone(), *at))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const LEASE: Duration = Duration::from_secs(10);

    fn sessions(names: &[&str]) -> BTreeSet<SessionId> {
        let session = |name: &&str| SessionId {
            coordinator: name.parse().unwrap(),
            start: Uuid::nil(),
        };
        names.iter().map(session).collect()
    }

    #[test]
    fn who_vanished_is_remembered_for_the_longest_lease_and_who_left_is_not() {
        let mut departures = Departures::new(sessions(&["c1", "c2", "c3"]), Instant(0));
        let left = |session: &SessionId| session.coordinator.as_str() == "c3";
        departures.observe(sessions(&["c1"]), left, Instant(1_000), LEASE);
        let gone = departures.gone();
        assert_eq!(gone.len(), 1);
        assert_eq!(
            (gone[0].0.coordinator.as_str(), gone[0].1),
            ("c2", Instant(1_000))
        );
        departures.observe(sessions(&["c1"]), left, Instant(11_999), LEASE);
        assert_eq!(departures.gone().len(), 1);
        departures.observe(sessions(&["c1"]), left, Instant(12_000), LEASE);
        assert!(departures.gone().is_empty());
    }
}
