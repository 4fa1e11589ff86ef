//! The leader's commits. Each compares the leader key's create revision *and* the mod revision of every record that
//! it changes: with the leader key alone, a commit whose answer was lost could be applied later, over a newer
//! decision of the same leader.

use std::sync::Arc;
use std::time::Duration;

use lockkeeper_core::commit::decision_guards;
use lockkeeper_core::epoch::LeaderEpoch;
use lockkeeper_core::gate::Gate;
use lockkeeper_core::invariant;
use lockkeeper_core::mutation::{Mutation, mutated};
use serde::Serialize;

use crate::records::{Stored, encode, key};
use crate::store::{Guard, Listing, Outcome, Store, StoreError, Txn, Write, guarded};

/// How long an unknown outcome is settled before the leader gives the attempt up. Longer than a leadership lease:
/// by then either the store answers, or another leader has taken over.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);

/// A change of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordChange {
    key: String,
    expected: u64,
    action: Action,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    Put(Vec<u8>),
    Delete,
    /// Only compared.
    Nothing,
}

impl RecordChange {
    /// Makes a record that must not exist.
    #[must_use]
    pub fn create<T: Serialize>(key: String, record: &T) -> Self {
        Self {
            key,
            expected: 0,
            action: Action::Put(encode(record)),
        }
    }

    /// Changes a record that must still be as it was read.
    #[must_use]
    pub fn update<T, U: Serialize>(key: String, read: &Stored<T>, record: &U) -> Self {
        Self {
            key,
            expected: read.mod_revision,
            action: Action::Put(encode(record)),
        }
    }

    /// Removes a record that must still be as it was read.
    #[must_use]
    pub fn delete<T>(key: String, read: &Stored<T>) -> Self {
        Self {
            key,
            expected: read.mod_revision,
            action: Action::Delete,
        }
    }

    /// Changes nothing, and lets the commit through only while there is no such record.
    #[must_use]
    pub fn absent(key: String) -> Self {
        Self {
            key,
            expected: 0,
            action: Action::Nothing,
        }
    }

    /// Changes a gate, and checks the promise about it.
    #[must_use]
    pub fn gate(key: String, read: &Stored<Gate>, gate: &Gate) -> Self {
        debug_assert_eq!(invariant::gate_change(&read.record, gate), Ok(()));
        Self::update(key, read, gate)
    }
}

/// Why a commit was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Another leader was elected, or this one's key is gone: stop everything.
    #[error("leadership is lost")]
    NotLeader,
    /// A record was changed by somebody else since it was read.
    #[error("{0} was changed meanwhile")]
    Conflict(String),
    /// The store gave no answer within the settling time.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A commit that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The new mod revision of every record that was changed.
    pub revision: u64,
    /// One listing per prefix that was asked for.
    pub lists: Vec<Listing>,
}

/// Commits as one leader.
#[derive(Debug, Clone)]
pub struct LeaderWriter {
    store: Arc<dyn Store>,
    epoch: LeaderEpoch,
}

impl LeaderWriter {
    /// A writer under `epoch`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, epoch: LeaderEpoch) -> Self {
        Self { store, epoch }
    }

    /// The epoch that it writes under.
    #[must_use]
    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Makes all changes in one transaction, and lists prefixes in the same step.
    ///
    /// # Errors
    /// Leadership is lost, a record was changed meanwhile, or the store did not answer.
    pub async fn commit(&self, changes: Vec<RecordChange>, lists: &[&str]) -> Result<Written, WriteError> {
        let mut txn = Txn {
            lists: lists.iter().map(ToString::to_string).collect(),
            ..Txn::default()
        };
        let read = changes.iter().map(|change| (change.key.clone(), change.expected));
        txn.guards = decision_guards(key::LEADER.to_owned(), self.epoch.revision, read);
        for change in changes {
            match change.action {
                Action::Put(value) => txn.writes.push(Write::Put {
                    key: change.key,
                    value,
                    lease: None,
                }),
                Action::Delete => txn.writes.push(Write::Delete(change.key)),
                Action::Nothing => {}
            }
        }
        let guards = txn.guards.clone();
        let deadline = tokio::time::Instant::now() + SETTLE_TIMEOUT;
        match guarded::commit(self.store.as_ref(), txn, deadline).await? {
            Outcome::Committed { revision, lists } => Ok(Written { revision, lists }),
            Outcome::Conflict { current } if mutated(Mutation::ConflictTakenForSuccess) => Ok(Written {
                revision: current
                    .iter()
                    .flatten()
                    .map(|e| e.mod_revision)
                    .max()
                    .unwrap_or(0),
                lists: Vec::new(),
            }),
            Outcome::Conflict { current } => Err(self.conflict(&guards, &current)),
        }
    }

    fn conflict(&self, guards: &[Guard], current: &[Option<crate::store::Entry>]) -> WriteError {
        let leads = current
            .first()
            .and_then(Option::as_ref)
            .is_some_and(|e| e.create_revision == self.epoch.revision);
        if !leads {
            return WriteError::NotLeader;
        }
        let changed = guards
            .iter()
            .zip(current)
            .skip(1)
            .find_map(|(guard, entry)| match guard {
                Guard::ModRevision(key, expected) | Guard::CreateRevision(key, expected) => {
                    let seen = entry.as_ref().map_or(0, |e| e.mod_revision);
                    (seen != *expected).then(|| key.clone())
                }
            });
        WriteError::Conflict(changed.unwrap_or_else(|| "a record".to_owned()))
    }
}
