//! Coordinators that this leader saw vanishing: the write leases that they granted may live on for a while, even
//! though nothing in the store tells of them any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lockkeeper_core::id::SessionId;
use lockkeeper_core::lease::with_margin;
use lockkeeper_core::time::Instant;

use crate::view::FleetView;

/// Sessions that vanished, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departures {
    since: Instant,
    present: BTreeSet<SessionId>,
    gone: BTreeMap<SessionId, Instant>,
}

impl Departures {
    /// Begins to watch.
    #[must_use]
    pub fn new(view: &FleetView, now: Instant) -> Self {
        Self {
            since: now,
            present: view.sessions.keys().cloned().collect(),
            gone: BTreeMap::new(),
        }
    }

    /// Since when vanishing sessions are seen.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Compares with the view. Sessions that left cleanly are none; those whose leases have surely run out are
    /// forgotten.
    pub fn observe(&mut self, view: &FleetView, now: Instant, longest_lease: Duration) {
        for session in &self.present {
            if !view.sessions.contains_key(session) && !view.left.contains_key(session) {
                self.gone.entry(session.clone()).or_insert(now);
            }
        }
        self.present = view.sessions.keys().cloned().collect();
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
