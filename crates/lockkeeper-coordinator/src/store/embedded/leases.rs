//! Leases of the embedded store: in memory, because they end with the process anyway.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use lockkeeper_core::time::Instant;

use super::tables::LeaseBook;
use crate::store::{Lease, LeaseId};

#[derive(Debug, Default)]
pub(super) struct Leases(HashMap<LeaseId, Held>);

#[derive(Debug)]
struct Held {
    ttl: Duration,
    deadline: Instant,
    keys: BTreeSet<String>,
}

impl Leases {
    pub(super) fn grant(&mut self, ttl: Duration, now: Instant) -> Lease {
        // Random, so that an id from before a restart is never mistaken for one of now.
        let mut id = LeaseId(fastrand::i64(1..));
        while self.0.contains_key(&id) {
            id = LeaseId(fastrand::i64(1..));
        }
        self.0.insert(
            id,
            Held {
                ttl,
                deadline: now + ttl,
                keys: BTreeSet::new(),
            },
        );
        Lease { id, ttl }
    }

    pub(super) fn renew(&mut self, lease: LeaseId, now: Instant) -> Option<Duration> {
        let held = self.0.get_mut(&lease)?;
        held.deadline = now + held.ttl;
        Some(held.ttl)
    }

    /// Forgets a lease and gives its keys.
    pub(super) fn end(&mut self, lease: LeaseId) -> Option<BTreeSet<String>> {
        self.0.remove(&lease).map(|held| held.keys)
    }

    /// Ends the leases whose time has passed and gives their keys, lease by lease.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<BTreeSet<String>> {
        let due: Vec<LeaseId> = self
            .0
            .iter()
            .filter(|(_, held)| held.deadline < now)
            .map(|(id, _)| *id)
            .collect();
        due.into_iter()
            .filter_map(|id| self.end(id))
            .filter(|keys| !keys.is_empty())
            .collect()
    }

    /// How long until the next one runs out.
    pub(super) fn next(&self, now: Instant) -> Option<Duration> {
        self.0.values().map(|held| held.deadline.since(now)).min()
    }
}

impl LeaseBook for Leases {
    fn exists(&self, lease: LeaseId) -> bool {
        self.0.contains_key(&lease)
    }

    fn bind(&mut self, key: &str, before: Option<LeaseId>, lease: Option<LeaseId>) {
        if before == lease {
            return;
        }
        if let Some(held) = before.and_then(|id| self.0.get_mut(&id)) {
            held.keys.remove(key);
        }
        if let Some(held) = lease.and_then(|id| self.0.get_mut(&id)) {
            held.keys.insert(key.to_owned());
        }
    }
}
