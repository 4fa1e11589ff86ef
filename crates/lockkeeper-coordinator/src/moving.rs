//! Moves a fleet's state from one store to another: from the embedded store of one machine to etcd, say.
//!
//! Both stores carry a mark while and after it happens, and no coordinator starts on a marked store: the old one
//! must not decide anything any more, and the new one must not decide on half of the records. The new store's
//! revisions are not the old one's, so its generation is raised: no target takes the new leaders for old ones.
//! Interrupted, the same move can be made again, and goes on.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::election::FIRST_GENERATION;
use crate::records::{RecordError, Stored, decode, encode, key};
use crate::store::{Entry, Guard, Listing, Outcome, Revision, Store, StoreError, Txn, Write, guarded};

/// Records that follow a fleet to another store. Sessions, their reports and the election belong to processes.
const FOLLOWING: [&str; 7] = [
    key::TARGETS,
    key::GATES,
    key::RETIRED,
    key::ACTIVE,
    key::ROLLOUTS,
    key::PROGRESS,
    key::ADOPTIONS,
];

/// Records of one commit: half of what etcd takes, since a put and a guard are needed for each.
const BATCH: usize = 50;

/// Bytes of one commit, below what etcd takes.
const BATCH_BYTES: usize = 1_000_000;

/// How long one commit may take to be settled.
const SETTLE: Duration = Duration::from_secs(10);

/// The mark on both stores of a move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovingRecord {
    /// The store that is left.
    pub from: String,
    /// The store that is filled.
    pub to: String,
}

/// Why a store is not to be started on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this store takes part in a move from {} to {}: {}", .0.from, .0.to, advice())]
pub struct Marked(pub MovingRecord);

fn advice() -> &'static str {
    "start coordinators on the new store, once `lockkeeper store migrate` has ended; run it again if it was interrupted"
}

/// Why a move was not made, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// Coordinators run on one of the stores.
    #[error("coordinator {0} still runs: stop every coordinator first")]
    Running(String),
    /// There is something in the new store already.
    #[error("the new store is not empty: it holds {0:?} and {1} more keys")]
    NotEmpty(String, usize),
    /// Another move has marked the store.
    #[error(transparent)]
    Marked(#[from] Marked),
    /// A mark or generation that does not parse.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// One of the stores did not answer, or refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something else writes to the new store.
    #[error("{0} was changed meanwhile by somebody else")]
    Conflict(String),
}

/// What was moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// How many records stand in the new store.
    pub records: usize,
    /// The generation that its leaders have.
    pub generation: u64,
}

/// Refuses a store that takes part in a move.
///
/// # Errors
/// The mark, or the store.
pub async fn refuse_marked(store: &dyn Store) -> Result<(), MoveError> {
    match mark(store).await? {
        Some(mark) => Err(Marked(mark.record).into()),
        None => Ok(()),
    }
}

/// Moves all records. No coordinator may run on either store.
///
/// # Errors
/// See [`MoveError`]; what is marked stays marked, so that nobody starts on half of it.
pub async fn relocate(from: &dyn Store, to: &dyn Store, names: MovingRecord) -> Result<Moved, MoveError> {
    refuse_others(to, &names).await?;
    refuse_running(from).await?;
    let left = put_mark(from, &names).await?;
    // Whoever has started in between saw no mark; whoever starts from now on does.
    if let Err(error) = refuse_running(from).await {
        delete_mark(from, left).await?;
        return Err(error);
    }
    let mark = put_mark(to, &names).await?;
    let all = from.list("").await?;
    let records = all
        .entries
        .iter()
        .filter(|entry| follows(&entry.key))
        .collect::<Vec<_>>();
    for batch in batches(&records) {
        copy(to, batch).await?;
    }
    let generation = generation(&all)?.max(generation(&to.list(key::GENERATION).await?)?) + 1;
    finish(to, mark, generation).await?;
    Ok(Moved {
        records: records.len(),
        generation,
    })
}

fn follows(key: &str) -> bool {
    FOLLOWING.iter().any(|prefix| key.starts_with(prefix))
}

async fn mark(store: &dyn Store) -> Result<Option<Stored<MovingRecord>>, MoveError> {
    let Some(entry) = store.get(key::MOVING).await? else {
        return Ok(None);
    };
    Ok(Some(Stored {
        record: decode(&entry)?,
        create_revision: entry.create_revision,
        mod_revision: entry.mod_revision,
    }))
}

/// Refuses a new store that holds anything but the records of an earlier try at this move.
async fn refuse_others(to: &dyn Store, names: &MovingRecord) -> Result<(), MoveError> {
    match mark(to).await? {
        Some(mark) if mark.record == *names => Ok(()),
        Some(mark) => Err(Marked(mark.record).into()),
        None => match to.list("").await?.entries.as_slice() {
            [] => Ok(()),
            [first, rest @ ..] => Err(MoveError::NotEmpty(first.key.clone(), rest.len())),
        },
    }
}

async fn refuse_running(from: &dyn Store) -> Result<(), MoveError> {
    let sessions = from.list(key::SESSIONS).await?;
    match sessions.entries.first() {
        None => Ok(()),
        Some(entry) => Err(MoveError::Running(entry.key[key::SESSIONS.len()..].to_owned())),
    }
}

/// Writes the mark, unless this move's mark is there. Gives its mod revision.
async fn put_mark(store: &dyn Store, names: &MovingRecord) -> Result<Revision, MoveError> {
    match mark(store).await? {
        Some(mark) if mark.record == *names => Ok(mark.mod_revision),
        Some(mark) => Err(Marked(mark.record).into()),
        None => {
            let write = Write::Put {
                key: key::MOVING.to_owned(),
                value: encode(names),
                lease: None,
            };
            let guards = vec![Guard::ModRevision(key::MOVING.to_owned(), 0)];
            commit(
                store,
                Txn {
                    guards,
                    writes: vec![write],
                    lists: Vec::new(),
                },
            )
            .await
        }
    }
}

async fn delete_mark(store: &dyn Store, mark: Revision) -> Result<(), MoveError> {
    let txn = Txn {
        guards: vec![Guard::ModRevision(key::MOVING.to_owned(), mark)],
        writes: vec![Write::Delete(key::MOVING.to_owned())],
        lists: Vec::new(),
    };
    commit(store, txn).await.map(drop)
}

fn batches<'a>(records: &'a [&'a Entry]) -> Vec<&'a [&'a Entry]> {
    let mut batches = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, entry) in records.iter().enumerate() {
        let size = entry.key.len() + entry.value.len();
        if at > start && (at - start == BATCH || bytes + size > BATCH_BYTES) {
            batches.push(&records[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += size;
    }
    if start < records.len() {
        batches.push(&records[start..]);
    }
    batches
}

/// Writes the records that an earlier try has not written.
async fn copy(to: &dyn Store, batch: &[&Entry]) -> Result<(), MoveError> {
    let mut txn = Txn::default();
    for entry in batch {
        match to.get(&entry.key).await? {
            Some(there) if there.value == entry.value => {}
            Some(there) => return Err(MoveError::Conflict(there.key)),
            None => {
                txn.guards.push(Guard::ModRevision(entry.key.clone(), 0));
                txn.writes.push(Write::Put {
                    key: entry.key.clone(),
                    value: entry.value.clone(),
                    lease: None,
                });
            }
        }
    }
    if txn.writes.is_empty() {
        return Ok(());
    }
    commit(to, txn).await.map(drop)
}

fn generation(listing: &Listing) -> Result<u64, MoveError> {
    let entry = listing.entries.iter().find(|entry| entry.key == key::GENERATION);
    Ok(entry.map(decode).transpose()?.unwrap_or(FIRST_GENERATION))
}

/// Takes the mark off the new store, in the commit that makes its generation larger.
async fn finish(to: &dyn Store, mark: Revision, generation: u64) -> Result<(), MoveError> {
    let before = to
        .get(key::GENERATION)
        .await?
        .map_or(0, |entry| entry.mod_revision);
    let txn = Txn {
        guards: vec![
            Guard::ModRevision(key::MOVING.to_owned(), mark),
            Guard::ModRevision(key::GENERATION.to_owned(), before),
        ],
        writes: vec![
            Write::Delete(key::MOVING.to_owned()),
            Write::Put {
                key: key::GENERATION.to_owned(),
                value: encode(&generation),
                lease: None,
            },
        ],
        lists: Vec::new(),
    };
    commit(to, txn).await.map(drop)
}

async fn commit(store: &dyn Store, txn: Txn) -> Result<Revision, MoveError> {
    let guards = txn.guards.clone();
    match guarded::commit(store, txn, Instant::now() + SETTLE).await? {
        Outcome::Committed { revision, .. } => Ok(revision),
        Outcome::Conflict { current } => {
            let changed = guards
                .iter()
                .zip(&current)
                .find_map(|(guard, entry)| entry.as_ref().map(|_| guard.key().to_owned()));
            Err(MoveError::Conflict(
                changed.unwrap_or_else(|| "a record".to_owned()),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::EmbeddedStore;

    fn memory() -> EmbeddedStore {
        EmbeddedStore::in_memory().expect("a store in memory")
    }

    fn names() -> MovingRecord {
        MovingRecord {
            from: "embedded:old".to_owned(),
            to: "etcd://new:1".to_owned(),
        }
    }

    async fn put(store: &dyn Store, key: &str, value: &str) {
        let write = Write::Put {
            key: key.to_owned(),
            value: value.as_bytes().to_vec(),
            lease: None,
        };
        let txn = Txn {
            writes: vec![write],
            ..Txn::default()
        };
        assert!(matches!(store.commit(txn).await, Ok(Outcome::Committed { .. })));
    }

    async fn keys(store: &dyn Store) -> Vec<String> {
        let listing = store.list("").await.expect("a listing");
        listing.entries.into_iter().map(|entry| entry.key).collect()
    }

    #[tokio::test]
    async fn records_follow_and_the_generation_is_raised() {
        let (from, to) = (memory(), memory());
        for at in 0..120 {
            put(&from, &format!("targets/t{at:03}"), "{}").await;
        }
        put(&from, "left/c/1", "{}").await;
        put(&from, "generation", "4").await;
        let moved = relocate(&from, &to, names()).await.expect("a move");
        assert_eq!(
            moved,
            Moved {
                records: 120,
                generation: 5
            }
        );
        let there = keys(&to).await;
        assert_eq!(there.len(), 121, "{there:?}");
        assert!(
            refuse_marked(&to).await.is_ok(),
            "coordinators start on the new store"
        );
        let refused = refuse_marked(&from).await;
        assert!(
            matches!(refused, Err(MoveError::Marked(_))),
            "and never on the old one: {refused:?}"
        );
    }

    #[tokio::test]
    async fn a_move_that_was_interrupted_goes_on() {
        let (from, to) = (memory(), memory());
        put(&from, "targets/a", "1").await;
        put(&from, "targets/b", "2").await;
        put_mark(&from, &names()).await.expect("a mark");
        put_mark(&to, &names()).await.expect("a mark");
        put(&to, "targets/a", "1").await;
        assert!(refuse_marked(&to).await.is_err(), "half a store");
        assert_eq!(relocate(&from, &to, names()).await.expect("a move").records, 2);
    }

    #[tokio::test]
    async fn nothing_is_moved_onto_something_or_from_under_a_coordinator() {
        let (from, to) = (memory(), memory());
        put(&to, "targets/a", "1").await;
        let refused = relocate(&from, &to, names()).await;
        assert!(matches!(refused, Err(MoveError::NotEmpty(..))), "{refused:?}");
        assert_eq!(keys(&from).await, Vec::<String>::new(), "nothing was changed");
        let empty = memory();
        put(&from, "sessions/c1/x", "{}").await;
        let refused = relocate(&from, &empty, names()).await;
        assert!(
            matches!(&refused, Err(MoveError::Running(who)) if who == "c1/x"),
            "{refused:?}"
        );
        assert_eq!(keys(&empty).await, Vec::<String>::new(), "nothing was changed");
    }
}
