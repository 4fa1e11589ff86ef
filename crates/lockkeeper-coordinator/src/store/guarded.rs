//! Commits whose outcome is settled.
//!
//! A commit that got no answer may have been applied, may never be applied, or may be applied *later*: a request
//! that went through a frozen member is still in its queue. Reading the record does not settle it, because the late
//! request can arrive after the read. [`commit`] settles it by sending the same transaction again, with the same
//! guards, until an answer comes:
//!
//! * *Committed*: this attempt, or none, is in force. Every record that the transaction writes is guarded by its mod
//!   revision ([`commit`] refuses anything else), and writing moved those on. Mod revisions are never given twice,
//!   so no earlier attempt can be applied any more.
//! * *Conflict*: some guard does not hold. Either an earlier attempt of ours moved the record on, or somebody else
//!   did. Ours did if each record that was to be put now has exactly our value and all of them changed in one and
//!   the same commit. That is proof as long as no two writers write the same value over the same revision, so each
//!   record carries something unique: a token, or the leader epoch, whose holder is one process that settles one
//!   commit before it starts the next. If ours was applied and changed again by somebody else, that is told as a
//!   conflict: what stands there now is what the caller has to decide on.
//! * *The lease is gone*: then no attempt can bind a key to it any more.
//!
//! One thing is not covered: a guard "does not exist" holds again after the record was made and deleted, and then a
//! late attempt could make it a second time. Records that come and go need a second guard that moves on, such as
//! the leader key's create revision, or a lease that ends.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::{Entry, Guard, Listing, Outcome, Revision, Store, StoreError, Txn, Write};

/// Pause before the second attempt; doubled for each further one.
const BACKOFF_FIRST: Duration = Duration::from_millis(25);

/// Longest pause between two attempts: an election of etcd takes one to two seconds.
const BACKOFF_MAX: Duration = Duration::from_millis(400);

/// Applies a transaction and settles its outcome, or fails at the deadline.
///
/// Every key that is written must be guarded by its mod revision, or by "does not exist". Lists that had to be read
/// after the fact, because the answer to the attempt that was applied got lost, have a `revision` above the
/// commit's: who left in between is not in them.
///
/// # Errors
///
/// [`StoreError::Unknown`] when the deadline passed while an attempt was unanswered: go on with [`resume`], or give
/// up what the guards stand for. [`StoreError::Unavailable`] when surely nothing was and nothing will be applied.
pub async fn commit(store: &dyn Store, txn: Txn, deadline: Instant) -> Result<Outcome, StoreError> {
    settle(store, txn, deadline, Doubt::None).await
}

/// Settles a transaction for which [`commit`] could only say [`StoreError::Unknown`].
///
/// # Errors
///
/// As [`commit`]; never [`StoreError::Unavailable`].
pub async fn resume(store: &dyn Store, txn: Txn, deadline: Instant) -> Result<Outcome, StoreError> {
    settle(
        store,
        txn,
        deadline,
        Doubt::Unanswered("an earlier attempt".to_owned()),
    )
    .await
}

/// Whether an attempt is out there whose answer did not come.
enum Doubt {
    None,
    Unanswered(String),
}

async fn settle(
    store: &dyn Store,
    txn: Txn,
    deadline: Instant,
    mut doubt: Doubt,
) -> Result<Outcome, StoreError> {
    for write in &txn.writes {
        if guarded_revision(&txn, write.key()).is_none() {
            return Err(StoreError::Invalid(format!(
                "{:?} is written without a guard on its mod revision",
                write.key()
            )));
        }
    }
    let mut pause = BACKOFF_FIRST;
    loop {
        let answer = timeout_at(deadline, store.commit(txn.clone())).await;
        let error = match (answer, &doubt) {
            (Ok(Ok(Outcome::Conflict { current })), Doubt::Unanswered(_)) => {
                return match applied_at(&txn, &current) {
                    Some(revision) => lists_after(store, &txn, revision, deadline).await,
                    None => Ok(Outcome::Conflict { current }),
                };
            }
            (Ok(Ok(outcome)), _) => return Ok(outcome),
            (Ok(Err(error @ (StoreError::Unknown(_) | StoreError::Unavailable(_)))), _) => error,
            (Ok(Err(error)), _) => return Err(error),
            (Err(_), _) => StoreError::Unknown("the deadline passed during a commit".to_owned()),
        };
        if let StoreError::Unknown(reason) = &error {
            doubt = Doubt::Unanswered(reason.clone());
        }
        let jittered = pause.mul_f64(fastrand::f64().mul_add(0.5, 0.5));
        if Instant::now() + jittered >= deadline {
            return Err(match doubt {
                Doubt::Unanswered(reason) => StoreError::Unknown(reason),
                Doubt::None => error,
            });
        }
        sleep(jittered).await;
        pause = (pause * 2).min(BACKOFF_MAX);
    }
}

/// The mod revision at which `key` may be written, 0 for "does not exist".
fn guarded_revision(txn: &Txn, key: &str) -> Option<Revision> {
    txn.guards.iter().find_map(|guard| match guard {
        Guard::ModRevision(guarded, revision) if guarded == key => Some(*revision),
        Guard::CreateRevision(guarded, 0) if guarded == key => Some(0),
        Guard::ModRevision(..) | Guard::CreateRevision(..) => None,
    })
}

/// The revision at which an earlier attempt was applied, if the guarded records show it.
fn applied_at(txn: &Txn, current: &[Option<Entry>]) -> Option<Revision> {
    let mut applied = None;
    for write in &txn.writes {
        let guarded = txn.guards.iter().position(|guard| guard.key() == write.key())?;
        let entry = current.get(guarded)?.as_ref();
        match write {
            Write::Put { key, value, .. } => {
                let entry = entry.filter(|entry| entry.value == *value)?;
                let moved_on = Some(entry.mod_revision) != guarded_revision(txn, key);
                if !moved_on || applied.is_some_and(|revision| revision != entry.mod_revision) {
                    return None;
                }
                applied = Some(entry.mod_revision);
            }
            Write::Delete(_) if entry.is_some() => return None,
            Write::Delete(_) => {}
        }
    }
    applied
}

/// The lists of a commit whose own answer got lost.
async fn lists_after(
    store: &dyn Store,
    txn: &Txn,
    revision: Revision,
    deadline: Instant,
) -> Result<Outcome, StoreError> {
    let mut lists: Vec<Listing> = Vec::with_capacity(txn.lists.len());
    while let Some(prefix) = txn.lists.get(lists.len()) {
        match timeout_at(deadline, store.list(prefix)).await {
            // A stale read is possible on some releases of etcd, and shows by its revision.
            Ok(Ok(list)) if list.revision >= revision => lists.push(list),
            Ok(Ok(_) | Err(StoreError::Unknown(_) | StoreError::Unavailable(_))) => {
                sleep(BACKOFF_FIRST).await
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                return Err(StoreError::Unknown(
                    "the deadline passed before the lists came".to_owned(),
                ));
            }
        }
    }
    Ok(Outcome::Committed { revision, lists })
}
