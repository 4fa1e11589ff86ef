//! The store port: where coordination state lives.
//!
//! Two implementations with one conformance suite: etcd, and the embedded store of a single process. Only this
//! module knows etcd.
//!
//! The rules that both keep:
//!
//! * A [`Txn`] is applied whole or not at all, and only if every guard holds.
//! * A commit whose answer did not come is [`StoreError::Unknown`]: it may still be applied *later*. It is settled
//!   by another commit that is guarded by the same mod revisions ([`guarded::commit`]), never by a plain read.
//! * A key that is bound to a lease vanishes with the lease, and never before the granted time has passed on the
//!   store's clock (unless the lease is revoked or the key deleted).
//! * Revisions grow with every commit and start above 0; a key's create revision is that of the commit that made
//!   it, and is never given to another commit of the same store.
//! * A watch from revision r gives every change with a revision >= r, in order, or ends with an error.

pub mod check;
pub mod embedded;
pub mod etcd;
pub mod guarded;

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use futures::Stream;
pub use lockkeeper_core::commit::{Revision, Revisions};

/// A condition of a transaction; keys are without the fleet's prefix.
pub type Guard = lockkeeper_core::commit::Guard<String>;

/// A lease in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseId(pub i64);

/// A lease as granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// The time that the store granted, which may be longer or shorter than the time that was asked for.
    pub ttl: Duration,
}

/// One key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key, without the fleet's prefix.
    pub key: String,
    /// The value: JSON in all of lockkeeper's records.
    pub value: Vec<u8>,
    /// Revision of the commit that made the key.
    pub create_revision: Revision,
    /// Revision of the commit that changed it last.
    pub mod_revision: Revision,
}

impl Entry {
    /// When the key was made and changed last.
    #[must_use]
    pub fn revisions(&self) -> Revisions {
        Revisions {
            created: self.create_revision,
            modified: self.mod_revision,
        }
    }
}

/// All keys below a prefix at one revision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// In order of key.
    pub entries: Vec<Entry>,
    /// The store's revision at which they were read: watch from `revision + 1` to miss nothing.
    pub revision: Revision,
}

/// A write of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Sets a key, bound to a lease or not.
    Put {
        /// The key, without the fleet's prefix.
        key: String,
        /// Its new value.
        value: Vec<u8>,
        /// The lease it vanishes with.
        lease: Option<LeaseId>,
    },
    /// Removes a key; nothing happens when it does not exist.
    Delete(String),
}

impl Write {
    /// The key that it changes.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete(key) => key,
        }
    }
}

/// A transaction: if every guard holds, all writes are applied, and then the prefixes are listed, in one step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Txn {
    /// All must hold.
    pub guards: Vec<Guard>,
    /// Applied in order; a key at most once.
    pub writes: Vec<Write>,
    /// Prefixes to list in the same step, after the writes.
    pub lists: Vec<String>,
}

/// What became of a transaction that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Applied at this revision; one listing per prefix of `lists`.
    Committed {
        /// The commit's revision. A commit that changed nothing has none of its own and gives the store's.
        revision: Revision,
        /// In the order of `Txn::lists`.
        lists: Vec<Listing>,
    },
    /// A guard did not hold, nothing was applied. For each guard, in order, the key as it stands.
    Conflict {
        /// The guarded keys' entries; `None` where the key does not exist.
        current: Vec<Option<Entry>>,
    },
}

/// A change seen by a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The key was made or changed.
    Put(Entry),
    /// The key is gone: deleted, or its lease ended. Which of the two cannot be told.
    Delete {
        /// The key, without the fleet's prefix.
        key: String,
        /// Revision of the deletion.
        revision: Revision,
    },
}

impl Change {
    /// The key that changed.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Put(entry) => &entry.key,
            Self::Delete { key, .. } => key,
        }
    }

    /// Revision of the commit that changed it.
    #[must_use]
    pub fn revision(&self) -> Revision {
        match self {
            Self::Put(entry) => entry.mod_revision,
            Self::Delete { revision, .. } => *revision,
        }
    }
}

/// Why a store operation gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nothing was sent, or the store said that it did nothing.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// The answer did not come. The operation may have been applied, or may be applied later.
    #[error("store outcome unknown: {0}")]
    Unknown(String),
    /// The lease does not exist any more.
    #[error("lease is gone")]
    LeaseGone,
    /// The watch's start revision was compacted away: list again.
    #[error("watch start {0} was compacted")]
    Compacted(Revision),
    /// A key or value that is too large, or a configuration that cannot work.
    #[error("{0}")]
    Invalid(String),
}

/// A stream of changes, in order of revision; each item is all changes of one or more whole revisions.
pub type Watch = Pin<Box<dyn Stream<Item = Result<Vec<Change>, StoreError>> + Send>>;

/// The store. Every call has a deadline of its own (the implementation's request timeout) and does not retry.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// Grants a lease of about `ttl`.
    async fn grant(&self, ttl: Duration) -> Result<Lease, StoreError>;

    /// Renews a lease and gives the time granted from the moment of the store's answer.
    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, StoreError>;

    /// Ends a lease and its keys now.
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// One key. Good for display and as the start of a guarded commit; never proof of anything by itself.
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError>;

    /// All keys below a prefix.
    async fn list(&self, prefix: &str) -> Result<Listing, StoreError>;

    /// Applies a transaction.
    async fn commit(&self, txn: Txn) -> Result<Outcome, StoreError>;

    /// Watches a prefix from a revision on.
    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, StoreError>;

    /// One line for people and logs: kind, release, and a warning when the server is known to answer stale reads.
    async fn describe(&self) -> Result<String, StoreError>;
}
