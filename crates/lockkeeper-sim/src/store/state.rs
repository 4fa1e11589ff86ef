//! Keys, leases, revisions and watches. Time comes in as data.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use lockkeeper_coordinator::store::{
    Change, Entry, Guard, LeaseId, Listing, Outcome, Revision, StoreError, Txn, Write,
};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Older pictures that a stale read may show.
const PICTURES: usize = 32;

type Keys = BTreeMap<String, Entry>;

/// What a commit did, for whoever checks it.
#[derive(Debug)]
pub struct Committed<'a> {
    /// The keys that it changed: before and after.
    pub changes: Vec<(Option<&'a Entry>, Option<&'a Entry>)>,
    /// Every key after it.
    pub after: &'a Keys,
    /// Its guards.
    pub guards: &'a [Guard],
}

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    expires: Instant,
}

#[derive(Debug)]
struct Watcher {
    prefix: String,
    to: mpsc::UnboundedSender<Result<Vec<Change>, StoreError>>,
}

/// The state of the store.
#[derive(Debug, Default)]
pub(super) struct State {
    revision: Revision,
    keys: Arc<Keys>,
    bound: BTreeMap<String, LeaseId>,
    leases: BTreeMap<i64, Lease>,
    last_lease: i64,
    history: Vec<Change>,
    watchers: Vec<Watcher>,
    pictures: VecDeque<(Revision, Arc<Keys>)>,
}

impl State {
    pub(super) fn grant(&mut self, ttl: Duration, now: Instant) -> LeaseId {
        self.last_lease += 1;
        let expires = now + ttl;
        self.leases.insert(self.last_lease, Lease { ttl, expires });
        LeaseId(self.last_lease)
    }

    pub(super) fn keep_alive(&mut self, lease: LeaseId, now: Instant) -> Result<Duration, StoreError> {
        let lease = self.leases.get_mut(&lease.0).ok_or(StoreError::LeaseGone)?;
        lease.expires = lease.expires.max(now + lease.ttl);
        Ok(lease.ttl)
    }

    pub(super) fn renew_all(&mut self, now: Instant) {
        for lease in self.leases.values_mut() {
            lease.expires = lease.expires.max(now + lease.ttl);
        }
    }

    pub(super) fn prolong(&mut self, lease: LeaseId, until: Instant) {
        if let Some(lease) = self.leases.get_mut(&lease.0) {
            lease.expires = until;
        }
    }

    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.leases.values().map(|lease| lease.expires).min()
    }

    pub(super) fn expired(&self, now: Instant) -> Vec<LeaseId> {
        let over = self.leases.iter().filter(|(_, lease)| lease.expires <= now);
        over.map(|(id, _)| LeaseId(*id)).collect()
    }

    /// Ends a lease and its keys. `None`: there is none.
    pub(super) fn revoke(&mut self, lease: LeaseId) -> Option<Vec<String>> {
        self.leases.remove(&lease.0)?;
        let keys: Vec<String> = {
            let bound = self.bound.iter().filter(|(_, of)| **of == lease);
            bound.map(|(key, _)| key.clone()).collect()
        };
        if !keys.is_empty() {
            self.write(keys.iter().cloned().map(Write::Delete).collect());
        }
        Some(keys)
    }

    /// Applies a transaction, and hands what it did to `audit`.
    pub(super) fn commit(
        &mut self,
        txn: &Txn,
        audit: impl FnOnce(&Committed<'_>),
    ) -> Result<Outcome, StoreError> {
        let holds = |guard: &Guard| guard.holds(self.keys.get(guard.key()).map(Entry::revisions));
        if !txn.guards.iter().all(holds) {
            let current = txn.guards.iter().map(|guard| self.keys.get(guard.key()).cloned());
            return Ok(Outcome::Conflict {
                current: current.collect(),
            });
        }
        let leases = txn.writes.iter().filter_map(|write| match write {
            Write::Put { lease, .. } => *lease,
            Write::Delete(_) => None,
        });
        if leases
            .into_iter()
            .any(|lease| !self.leases.contains_key(&lease.0))
        {
            return Err(StoreError::LeaseGone);
        }
        let before = Arc::clone(&self.keys);
        if !txn.writes.is_empty() {
            self.write(txn.writes.clone());
        }
        let changes = txn.writes.iter().map(|write| {
            let key = write.key();
            (before.get(key), self.keys.get(key))
        });
        audit(&Committed {
            changes: changes.collect(),
            after: &self.keys,
            guards: &txn.guards,
        });
        Ok(Outcome::Committed {
            revision: self.revision,
            lists: txn.lists.iter().map(|prefix| self.list(prefix)).collect(),
        })
    }

    fn write(&mut self, writes: Vec<Write>) {
        self.pictures.push_back((self.revision, Arc::clone(&self.keys)));
        if self.pictures.len() > PICTURES {
            self.pictures.pop_front();
        }
        self.revision += 1;
        let revision = self.revision;
        let keys = Arc::make_mut(&mut self.keys);
        let mut changes = Vec::new();
        for write in writes {
            match write {
                Write::Put { key, value, lease } => {
                    match lease {
                        Some(lease) => drop(self.bound.insert(key.clone(), lease)),
                        None => drop(self.bound.remove(&key)),
                    }
                    let created = keys.get(&key).map_or(revision, |entry| entry.create_revision);
                    let entry = Entry {
                        key: key.clone(),
                        value,
                        create_revision: created,
                        mod_revision: revision,
                    };
                    keys.insert(key, entry.clone());
                    changes.push(Change::Put(entry));
                }
                Write::Delete(key) => {
                    self.bound.remove(&key);
                    if keys.remove(&key).is_some() {
                        changes.push(Change::Delete { key, revision });
                    }
                }
            }
        }
        self.watchers.retain(|watcher| {
            let seen = seen_by(&watcher.prefix, &changes);
            seen.is_empty() || watcher.to.send(Ok(seen)).is_ok()
        });
        self.history.extend(changes);
    }

    pub(super) fn get(&self, key: &str, age: usize) -> Option<Entry> {
        self.picture(age).1.get(key).cloned()
    }

    pub(super) fn list(&self, prefix: &str) -> Listing {
        self.list_aged(prefix, 0)
    }

    /// The listing of `age` commits ago.
    pub(super) fn list_aged(&self, prefix: &str, age: usize) -> Listing {
        let (revision, keys) = self.picture(age);
        let below = keys.range(prefix.to_owned()..);
        let below = below.take_while(|(key, _)| key.starts_with(prefix));
        Listing {
            entries: below.map(|(_, entry)| entry.clone()).collect(),
            revision,
        }
    }

    fn picture(&self, age: usize) -> (Revision, &Keys) {
        let older = age
            .checked_sub(1)
            .and_then(|back| self.pictures.iter().rev().nth(back));
        older.map_or((self.revision, &*self.keys), |(revision, keys)| (*revision, keys))
    }

    pub(super) fn watch(
        &mut self,
        prefix: &str,
        from: Revision,
    ) -> mpsc::UnboundedReceiver<Result<Vec<Change>, StoreError>> {
        let (to, changes) = mpsc::unbounded_channel();
        let past = self.history.iter().filter(|change| change.revision() >= from);
        let seen = seen_by(prefix, &past.cloned().collect::<Vec<_>>());
        if !seen.is_empty() {
            // The receiver is in this very function.
            let _ = to.send(Ok(seen));
        }
        let prefix = prefix.to_owned();
        self.watchers.push(Watcher { prefix, to });
        changes
    }

    pub(super) fn break_watches(&mut self) {
        for watcher in self.watchers.drain(..) {
            let _ = watcher
                .to
                .send(Err(StoreError::Unavailable("the watch broke".to_owned())));
        }
    }
}

fn seen_by(prefix: &str, changes: &[Change]) -> Vec<Change> {
    let seen = changes.iter().filter(|change| change.key().starts_with(prefix));
    seen.cloned().collect()
}
