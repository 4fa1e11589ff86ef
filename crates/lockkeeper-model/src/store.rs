//! The model store: what a store promises, without one.
//!
//! * A transaction is applied whole or not at all, and only if every guard holds.
//! * A transaction whose answer did not come is *late*: it may be applied at any later time, or never.
//! * A key that is bound to a lease vanishes with the lease, and not before its time has passed on the store's own
//!   clock, unless it is taken away: by hand, by a revocation, by a bug.
//! * Revisions grow with every commit. A store that goes back gives them again.

use std::collections::BTreeMap;
use std::time::Duration;

use lockkeeper_core::commit::{Guard, Revision, Revisions};
use lockkeeper_core::time::Instant;

/// A lease in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u8);

/// One key's value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Record<V> {
    /// The value.
    pub value: V,
    /// When it was made and changed last.
    pub revisions: Revisions,
    /// The lease it vanishes with.
    pub lease: Option<LeaseId>,
}

/// All keys.
pub type Records<K, V> = BTreeMap<K, Record<V>>;

/// A transaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Txn<K: Ord, V> {
    /// All must hold.
    pub guards: Vec<Guard<K>>,
    /// What is set.
    pub puts: Vec<(K, V, Option<LeaseId>)>,
}

/// What became of a transaction that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Applied, at this revision.
    Committed(Revision),
    /// A guard did not hold, or a lease is gone; nothing was applied.
    Refused,
}

/// The store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Store<K: Ord, V> {
    revision: Revision,
    records: Records<K, V>,
    leases: BTreeMap<LeaseId, Instant>,
    next_lease: u8,
    late: Vec<Txn<K, V>>,
}

impl<K: Ord + Clone, V: Clone + PartialEq> Store<K, V> {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self {
            revision: 0,
            records: BTreeMap::new(),
            leases: BTreeMap::new(),
            next_lease: 0,
            late: Vec::new(),
        }
    }

    /// All keys as they stand.
    #[must_use]
    pub fn records(&self) -> &Records<K, V> {
        &self.records
    }

    /// One value.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.records.get(key).map(|record| &record.value)
    }

    /// Grants a lease at `now`, on the store's clock.
    pub fn grant(&mut self, now: Instant, ttl: Duration) -> LeaseId {
        let lease = LeaseId(self.next_lease);
        self.next_lease += 1;
        self.leases.insert(lease, now + ttl);
        lease
    }

    /// Renews a lease. Gives whether it still exists.
    pub fn keep_alive(&mut self, lease: LeaseId, now: Instant, ttl: Duration) -> bool {
        match self.leases.get_mut(&lease) {
            Some(until) => {
                *until = now + ttl;
                true
            }
            None => false,
        }
    }

    /// When a lease runs out, if it is not renewed.
    #[must_use]
    pub fn lease_end(&self, lease: LeaseId) -> Option<Instant> {
        self.leases.get(&lease).copied()
    }

    /// Ends a lease and its keys.
    pub fn end(&mut self, lease: LeaseId) {
        self.leases.remove(&lease);
        let before = self.records.len();
        self.records.retain(|_, record| record.lease != Some(lease));
        if self.records.len() != before {
            self.revision += 1;
        }
    }

    /// Applies a transaction.
    pub fn commit(&mut self, txn: &Txn<K, V>) -> Outcome {
        let stands = |guard: &Guard<K>| guard.holds(self.records.get(guard.key()).map(|r| r.revisions));
        let leased = |lease: &Option<LeaseId>| lease.is_none_or(|lease| self.leases.contains_key(&lease));
        if !txn.guards.iter().all(stands) || !txn.puts.iter().all(|(_, _, lease)| leased(lease)) {
            return Outcome::Refused;
        }
        if txn.puts.is_empty() {
            return Outcome::Committed(self.revision);
        }
        self.revision += 1;
        let modified = self.revision;
        for (key, value, lease) in &txn.puts {
            let created = self.records.get(key).map_or(modified, |r| r.revisions.created);
            let record = Record {
                value: value.clone(),
                revisions: Revisions { created, modified },
                lease: *lease,
            };
            self.records.insert(key.clone(), record);
        }
        Outcome::Committed(modified)
    }

    /// Takes a transaction whose answer will not come.
    pub fn delay(&mut self, txn: Txn<K, V>) {
        self.late.push(txn);
    }

    /// How many transactions are late.
    #[must_use]
    pub fn late(&self) -> usize {
        self.late.len()
    }

    /// Applies a late transaction, if its guards still hold.
    pub fn apply_late(&mut self, index: usize) -> (Txn<K, V>, Outcome) {
        let txn = self.late.remove(index);
        let outcome = self.commit(&txn);
        (txn, outcome)
    }

    /// Whether an earlier attempt of `txn`, which is refused now, was applied: each record that it sets has exactly its
    /// value, all changed in one commit.
    #[must_use]
    pub fn was_applied(&self, txn: &Txn<K, V>) -> Option<Revision> {
        let mut at = None;
        for (key, value, _) in &txn.puts {
            let record = self.records.get(key).filter(|record| record.value == *value)?;
            let modified = record.revisions.modified;
            if at.is_some_and(|at| at != modified) {
                return None;
            }
            at = Some(modified);
        }
        at
    }

    /// Goes back to what it was in `snapshot`: restored, or rebuilt. Nothing of later survives.
    pub fn restore(&mut self, snapshot: &Self) {
        let next_lease = self.next_lease;
        *self = snapshot.clone();
        self.next_lease = next_lease;
    }
}

impl<K: Ord + Clone, V: Clone + PartialEq> Default for Store<K, V> {
    fn default() -> Self {
        Self::new()
    }
}
