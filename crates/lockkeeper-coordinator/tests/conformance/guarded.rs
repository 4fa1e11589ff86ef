//! Guarded commits over a network that loses answers and delivers late.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use lockkeeper_coordinator::store::{
    Change, Guard, Outcome, Revision, Store, StoreError, Txn, Write, guarded,
};
use tokio::time::{Instant, sleep, timeout};

use crate::faulty::{Fault, Faulty};
use crate::fixture::{self, committed};

const KEY: &str = "record";

/// Longer than any late delivery below.
const SETTLED: Duration = Duration::from_millis(200);

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn write(value: &str, over: Revision) -> Txn {
    Txn {
        guards: vec![Guard::ModRevision(KEY.to_owned(), over)],
        writes: vec![Write::Put {
            key: KEY.to_owned(),
            value: value.into(),
            lease: None,
        }],
        lists: Vec::new(),
    }
}

/// Half of all commits go wrong in one way or another.
fn any_fault(seed: u64) -> impl FnMut(&Txn) -> Fault + Send {
    let mut random = fastrand::Rng::with_seed(seed);
    move |_| match random.u8(..8) {
        0 => Fault::LostBefore,
        1 => Fault::LostAfter,
        2 | 3 => Fault::Late(Duration::from_millis(random.u64(..80))),
        _ => Fault::None,
    }
}

/// Every value that the record ever had, with its revision.
async fn history(store: &dyn Store, last: Revision) -> HashMap<String, Vec<Revision>> {
    let mut watch = store.watch(KEY, 1).await.unwrap();
    let mut values: HashMap<String, Vec<Revision>> = HashMap::new();
    let mut seen = 0;
    while seen < last {
        let item = timeout(Duration::from_secs(5), watch.next())
            .await
            .expect("all of the history");
        for change in item.unwrap().unwrap() {
            seen = change.revision();
            let Change::Put(entry) = change else { continue };
            values
                .entry(String::from_utf8(entry.value).unwrap())
                .or_default()
                .push(entry.mod_revision);
        }
    }
    values
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_writer_learns_what_became_of_each_commit() {
    for seed in 0..4 {
        let inner = fixture::memory_with_history(100_000);
        let store = Faulty::new(Arc::clone(&inner), any_fault(seed));
        let mut at = 0;
        let mut told = Vec::new();
        for number in 0..30 {
            let value = format!("{number}");
            let outcome = guarded::commit(&*store, write(&value, at), deadline())
                .await
                .unwrap();
            at = committed(&outcome);
            told.push((value, at));
        }
        sleep(SETTLED).await;
        // Nothing that came late overwrote the last decision, and each was applied once, when it was said to be.
        let entry = inner.get(KEY).await.unwrap().unwrap();
        assert_eq!(
            (entry.value.as_slice(), entry.mod_revision),
            (b"29".as_slice(), at),
            "seed {seed}"
        );
        let values = history(&*inner, at).await;
        for (value, revision) in told {
            assert_eq!(values[&value], [revision], "seed {seed}, value {value}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_told_as_committed_was_committed_once_among_rivals() {
    let inner = fixture::memory_with_history(100_000);
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..6_u64 {
        let store = Faulty::new(Arc::clone(&inner), any_fault(writer));
        writers.spawn(async move {
            let mut told = Vec::new();
            let mut at = 0;
            for number in 0..30 {
                let value = format!("{writer}:{number}");
                match guarded::commit(&*store, write(&value, at), deadline())
                    .await
                    .unwrap()
                {
                    Outcome::Committed { revision, .. } => {
                        told.push((value, revision));
                        at = revision;
                    }
                    Outcome::Conflict { current } => {
                        at = current[0].as_ref().map_or(0, |entry| entry.mod_revision);
                    }
                }
            }
            told
        });
    }
    let told = writers.join_all().await.concat();
    sleep(SETTLED).await;
    let last = inner.get(KEY).await.unwrap().unwrap().mod_revision;
    let values = history(&*inner, last).await;
    assert!(told.len() > 30, "the rivals made progress: {}", told.len());
    for (value, revision) in told {
        assert_eq!(values[&value], [revision], "{value}");
    }
    assert!(
        values.values().all(|revisions| revisions.len() == 1),
        "something was applied twice"
    );
}

#[tokio::test]
async fn an_answer_that_never_comes_stays_unknown_and_can_be_settled_later() {
    let inner = fixture::memory_with_history(100);
    let mut lost = 0;
    let store = Faulty::new(Arc::clone(&inner), move |_| {
        lost += 1;
        if lost == 1 {
            Fault::LostAfter
        } else {
            Fault::LostBefore
        }
    });
    let soon = Instant::now() + Duration::from_millis(150);
    let outcome = guarded::commit(&*store, write("ours", 0), soon).await;
    assert!(matches!(outcome, Err(StoreError::Unknown(_))), "{outcome:?}");
    // A plain commit would take its own success for somebody else's.
    let revision = inner.get(KEY).await.unwrap().unwrap().mod_revision;
    let outcome = guarded::resume(&*inner, write("ours", 0), deadline())
        .await
        .unwrap();
    assert_eq!(committed(&outcome), revision);
    let outcome = guarded::resume(&*inner, write("other", 0), deadline())
        .await
        .unwrap();
    assert!(matches!(outcome, Outcome::Conflict { .. }));
}

#[tokio::test]
async fn lists_come_even_when_the_answer_was_lost() {
    let inner = fixture::memory_with_history(100);
    let mut first = true;
    let store = Faulty::new(Arc::clone(&inner), move |_| {
        if std::mem::take(&mut first) {
            Fault::LostAfter
        } else {
            Fault::None
        }
    });
    let txn = Txn {
        lists: vec![KEY.to_owned(), "none".to_owned()],
        ..write("ours", 0)
    };
    let outcome = guarded::commit(&*store, txn, deadline()).await.unwrap();
    let Outcome::Committed { revision, lists } = outcome else {
        panic!("ours was applied")
    };
    assert_eq!(lists[0].entries[0].value, b"ours");
    assert!(lists[0].revision >= revision && lists[1].entries.is_empty());
}

#[tokio::test]
async fn a_write_without_a_guard_on_its_mod_revision_is_refused() {
    let store = fixture::memory_with_history(100);
    for guards in [Vec::new(), vec![Guard::CreateRevision(KEY.to_owned(), 3)]] {
        let txn = Txn {
            guards,
            ..write("x", 0)
        };
        let refused = guarded::commit(&*store, txn, deadline()).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    }
    let created = Txn {
        guards: vec![Guard::CreateRevision(KEY.to_owned(), 0)],
        ..write("x", 0)
    };
    committed(&guarded::commit(&*store, created, deadline()).await.unwrap());
}
