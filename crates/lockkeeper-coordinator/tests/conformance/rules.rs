//! The rules of the port, one function each.

use std::time::Duration;

use futures::StreamExt;
use lockkeeper_coordinator::store::{
    Change, Entry, Guard, LeaseId, Listing, Outcome, Revision, StoreError, Txn, Watch, Write,
};
use tokio::time::{Instant, sleep, timeout};

use crate::fixture::{Fixture, HISTORY, committed};

/// How long a store may take for something that it does by itself, such as noticing that a lease ended: etcd looks
/// twice a second, and a new leader of etcd extends leases.
const SLACK: Duration = Duration::from_secs(5);

fn put(key: &str, value: &str) -> Write {
    Write::Put {
        key: key.to_owned(),
        value: value.into(),
        lease: None,
    }
}

fn leased(key: &str, lease: LeaseId) -> Write {
    Write::Put {
        key: key.to_owned(),
        value: b"leased".to_vec(),
        lease: Some(lease),
    }
}

fn absent(key: &str) -> Guard {
    Guard::ModRevision(key.to_owned(), 0)
}

fn at(key: &str, revision: Revision) -> Guard {
    Guard::ModRevision(key.to_owned(), revision)
}

fn txn(guards: Vec<Guard>, writes: Vec<Write>) -> Txn {
    Txn {
        guards,
        writes,
        lists: Vec::new(),
    }
}

fn keys(listing: &Listing) -> Vec<&str> {
    listing.entries.iter().map(|entry| entry.key.as_str()).collect()
}

fn conflict(outcome: Outcome) -> Vec<Option<Entry>> {
    match outcome {
        Outcome::Conflict { current } => current,
        committed => panic!("expected a conflict, got {committed:?}"),
    }
}

async fn next(watch: &mut Watch) -> Vec<Change> {
    timeout(SLACK, watch.next())
        .await
        .expect("a change")
        .expect("an item")
        .expect("no error")
}

pub(crate) async fn a_transaction_is_applied_whole_or_not_at_all(on: Fixture) {
    let first = on.put("a", "1").await;
    let both = txn(
        vec![at("a", first), absent("b")],
        vec![put("a", "2"), put("b", "2")],
    );
    committed(&on.store.commit(both.clone()).await.unwrap());
    // Now `a` moved on and `b` exists: neither write may happen again, nor half of it.
    let half = txn(vec![at("a", first), absent("c")], vec![put("c", "3")]);
    conflict(on.store.commit(both).await.unwrap());
    conflict(on.store.commit(half).await.unwrap());
    assert_eq!(on.store.get("a").await.unwrap().unwrap().value, b"2");
    assert_eq!(on.store.get("c").await.unwrap(), None);
    let delete = txn(Vec::new(), vec![Write::Delete("a".to_owned()), put("d", "4")]);
    committed(&on.store.commit(delete).await.unwrap());
    assert_eq!(keys(&on.store.list("").await.unwrap()), ["b", "d"]);
}

pub(crate) async fn a_conflict_shows_every_guarded_key(on: Fixture) {
    let revision = on.put("a", "1").await;
    let guards = vec![
        absent("missing"),
        at("a", revision),
        Guard::CreateRevision("a".to_owned(), revision + 1),
    ];
    let current = conflict(on.store.commit(txn(guards, vec![put("a", "2")])).await.unwrap());
    let entry = Entry {
        key: "a".to_owned(),
        value: b"1".to_vec(),
        create_revision: revision,
        mod_revision: revision,
    };
    assert_eq!(current, [None, Some(entry.clone()), Some(entry)]);
}

pub(crate) async fn a_failed_guard_is_a_conflict_even_if_the_lease_is_gone(on: Fixture) {
    on.put("a", "1").await;
    let write = leased("b", LeaseId(4711));
    conflict(
        on.store
            .commit(txn(vec![absent("a")], vec![write]))
            .await
            .unwrap(),
    );
}

pub(crate) async fn revisions_grow_and_tell_creation_from_change(on: Fixture) {
    let created = on.put("a", "1").await;
    assert!(created > 0);
    let changed = on.put("a", "2").await;
    assert!(changed > created);
    let entry = on.store.get("a").await.unwrap().unwrap();
    assert_eq!((entry.create_revision, entry.mod_revision), (created, changed));
    let guard = Guard::CreateRevision("a".to_owned(), created);
    let again = committed(
        &on.store
            .commit(txn(vec![guard], vec![put("a", "3")]))
            .await
            .unwrap(),
    );
    committed(
        &on.store
            .commit(txn(Vec::new(), vec![Write::Delete("a".to_owned())]))
            .await
            .unwrap(),
    );
    let reborn = on.put("a", "4").await;
    assert!(reborn > again + 1, "the deletion has a revision of its own");
    let entry = on.store.get("a").await.unwrap().unwrap();
    assert_eq!((entry.create_revision, entry.mod_revision), (reborn, reborn));
    // The same value again is a change all the same: that is what makes a guard on it fail.
    assert!(on.put("a", "4").await > reborn);
}

pub(crate) async fn a_commit_that_changes_nothing_has_no_revision(on: Fixture) {
    let revision = on.put("a", "1").await;
    let nothing = txn(vec![at("a", revision)], vec![Write::Delete("missing".to_owned())]);
    // Other fleets of the same etcd may move the revision on, but not this one's keys.
    assert!(committed(&on.store.commit(nothing).await.unwrap()) >= revision);
    assert_eq!(on.store.get("a").await.unwrap().unwrap().mod_revision, revision);
}

pub(crate) async fn lists_include_own_writes_and_only_the_prefix(on: Fixture) {
    for key in ["gates/b", "gates/a", "gates", "gatesx", "other"] {
        on.put(key, "1").await;
    }
    let lists = vec!["gates/".to_owned(), String::new()];
    let writes = vec![put("gates/c", "2"), Write::Delete("gates/b".to_owned())];
    let outcome = on
        .store
        .commit(Txn {
            guards: Vec::new(),
            writes,
            lists,
        })
        .await
        .unwrap();
    let Outcome::Committed { revision, lists } = outcome else {
        panic!("a conflict without guards")
    };
    assert_eq!(keys(&lists[0]), ["gates/a", "gates/c"]);
    assert_eq!(lists[0].entries[1].mod_revision, revision);
    assert_eq!(
        keys(&lists[1]),
        ["gates", "gates/a", "gates/c", "gatesx", "other"]
    );
    assert!(lists.iter().all(|list| list.revision == revision));
    let read = on.store.list("gates/").await.unwrap();
    assert_eq!(read.entries, lists[0].entries);
    assert!(read.revision >= revision);
}

pub(crate) async fn what_no_store_accepts_is_refused_before_it_is_sent(on: Fixture) {
    let large = Write::Put {
        key: "a".to_owned(),
        value: vec![0; 1_500_000],
        lease: None,
    };
    let many = (0..129).map(|number| put(&format!("k{number}"), "1")).collect();
    for writes in [
        vec![put("a", "1"), put("a", "2")],
        vec![put("", "1")],
        vec![large],
        many,
    ] {
        let refused = on.store.commit(txn(Vec::new(), writes)).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    }
    assert!(on.store.list("").await.unwrap().entries.is_empty());
    let most = (0..128).map(|number| put(&format!("k{number}"), "1")).collect();
    committed(&on.store.commit(txn(Vec::new(), most)).await.unwrap());
}

pub(crate) async fn concurrent_commits_lose_nothing(on: Fixture) {
    const TASKS: u64 = 16;
    const EACH: u64 = 10;
    on.put("counter", "0").await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..TASKS {
        let store = std::sync::Arc::clone(&on.store);
        tasks.spawn(async move {
            for _ in 0..EACH {
                let mut entry = store.get("counter").await.unwrap().unwrap();
                loop {
                    let number: u64 = std::str::from_utf8(&entry.value).unwrap().parse().unwrap();
                    let guards = vec![at("counter", entry.mod_revision)];
                    let write = put("counter", &(number + 1).to_string());
                    match store.commit(txn(guards, vec![write])).await.unwrap() {
                        Outcome::Committed { .. } => break,
                        Outcome::Conflict { mut current } => entry = current.remove(0).unwrap(),
                    }
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let total = on.store.get("counter").await.unwrap().unwrap();
    assert_eq!(total.value, (TASKS * EACH).to_string().into_bytes());
}

pub(crate) async fn a_leased_key_lives_as_long_as_granted_and_no_longer_than_a_bit_more(on: Fixture) {
    let lease = on.store.grant(Duration::from_secs(2)).await.unwrap();
    let granted = Instant::now();
    assert!(lease.ttl >= Duration::from_secs(2), "{lease:?}");
    committed(
        &on.store
            .commit(txn(Vec::new(), vec![leased("a", lease.id), put("b", "stays")]))
            .await
            .unwrap(),
    );
    while on.store.get("a").await.unwrap().is_some() {
        assert!(
            granted.elapsed() < lease.ttl + SLACK,
            "the key outlived its lease"
        );
        sleep(Duration::from_millis(20)).await;
    }
    // The lease began before its grant was answered: 50 ms for the way back.
    assert!(
        granted.elapsed() + Duration::from_millis(50) >= lease.ttl,
        "gone after {:?}",
        granted.elapsed()
    );
    assert_eq!(on.store.keep_alive(lease.id).await, Err(StoreError::LeaseGone));
    assert!(on.store.get("b").await.unwrap().is_some());
}

pub(crate) async fn renewal_keeps_a_lease_and_its_end_is_told(on: Fixture) {
    let lease = on.store.grant(Duration::from_secs(2)).await.unwrap();
    committed(
        &on.store
            .commit(txn(Vec::new(), vec![leased("a", lease.id)]))
            .await
            .unwrap(),
    );
    for _ in 0..5 {
        sleep(lease.ttl / 3).await;
        assert_eq!(on.store.keep_alive(lease.id).await, Ok(lease.ttl));
    }
    assert!(on.store.get("a").await.unwrap().is_some());
    assert_eq!(
        on.store.keep_alive(LeaseId(4711)).await,
        Err(StoreError::LeaseGone)
    );
}

pub(crate) async fn revoking_ends_a_lease_now(on: Fixture) {
    let lease = on.store.grant(Duration::from_secs(60)).await.unwrap();
    let writes = vec![leased("a", lease.id), leased("b", lease.id), put("c", "1")];
    committed(&on.store.commit(txn(Vec::new(), writes)).await.unwrap());
    on.store.revoke(lease.id).await.unwrap();
    assert_eq!(keys(&on.store.list("").await.unwrap()), ["c"]);
    assert_eq!(on.store.revoke(lease.id).await, Err(StoreError::LeaseGone));
    assert_eq!(on.store.keep_alive(lease.id).await, Err(StoreError::LeaseGone));
}

pub(crate) async fn a_key_put_again_without_the_lease_stays(on: Fixture) {
    let lease = on.store.grant(Duration::from_secs(60)).await.unwrap();
    let other = on.store.grant(Duration::from_secs(60)).await.unwrap();
    let writes = vec![
        leased("free", lease.id),
        leased("moved", lease.id),
        leased("deleted", lease.id),
    ];
    committed(&on.store.commit(txn(Vec::new(), writes)).await.unwrap());
    let writes = vec![
        put("free", "1"),
        leased("moved", other.id),
        Write::Delete("deleted".to_owned()),
    ];
    committed(&on.store.commit(txn(Vec::new(), writes)).await.unwrap());
    on.put("deleted", "again").await;
    on.store.revoke(lease.id).await.unwrap();
    assert_eq!(
        keys(&on.store.list("").await.unwrap()),
        ["deleted", "free", "moved"]
    );
    on.store.revoke(other.id).await.unwrap();
    assert_eq!(keys(&on.store.list("").await.unwrap()), ["deleted", "free"]);
}

pub(crate) async fn a_lease_that_is_gone_takes_no_keys(on: Fixture) {
    let lease = on.store.grant(Duration::from_secs(60)).await.unwrap();
    on.store.revoke(lease.id).await.unwrap();
    let refused = on
        .store
        .commit(txn(Vec::new(), vec![put("a", "1"), leased("b", lease.id)]))
        .await;
    assert_eq!(refused, Err(StoreError::LeaseGone));
    assert!(on.store.list("").await.unwrap().entries.is_empty());
}

pub(crate) async fn a_watch_gives_every_change_in_order_from_its_revision(on: Fixture) {
    let _history = HISTORY.read().await;
    on.put("w/a", "before").await;
    let start = on.store.list("w/").await.unwrap().revision;
    let mut expected = Vec::new();
    for number in 0..10 {
        expected.push(on.put("w/a", &number.to_string()).await);
        on.put("elsewhere", "1").await;
    }
    // In the past, from a listing on.
    let mut watch = on.store.watch("w/", start + 1).await.unwrap();
    expected.push(on.put("w/b", "live").await);
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        seen.extend(next(&mut watch).await);
    }
    assert_eq!(seen.iter().map(Change::revision).collect::<Vec<_>>(), expected);
    assert!(
        seen.iter()
            .all(|change| matches!(change, Change::Put(entry) if entry.key.starts_with("w/")))
    );
    // Taken up again after the fifth change, as after a broken connection.
    let mut resumed = on.store.watch("w/", seen[4].revision() + 1).await.unwrap();
    let mut rest = Vec::new();
    while rest.len() < seen.len() - 5 {
        rest.extend(next(&mut resumed).await);
    }
    assert_eq!(rest, seen[5..]);
    // Nothing else is pending, and the future comes.
    assert!(timeout(Duration::from_millis(200), watch.next()).await.is_err());
    let deleted = committed(
        &on.store
            .commit(txn(Vec::new(), vec![Write::Delete("w/b".to_owned())]))
            .await
            .unwrap(),
    );
    let change = Change::Delete {
        key: "w/b".to_owned(),
        revision: deleted,
    };
    assert_eq!(next(&mut watch).await, std::slice::from_ref(&change));
    assert_eq!(next(&mut resumed).await, [change]);
}

pub(crate) async fn a_watch_sees_expiry_as_deletion(on: Fixture) {
    let _history = HISTORY.read().await;
    let lease = on.store.grant(Duration::from_secs(1)).await.unwrap();
    let writes = vec![leased("a", lease.id), leased("b", lease.id)];
    let revision = committed(&on.store.commit(txn(Vec::new(), writes)).await.unwrap());
    let mut watch = on.store.watch("", revision + 1).await.unwrap();
    let mut gone = Vec::new();
    while gone.len() < 2 {
        let wait = timeout(lease.ttl + SLACK, watch.next())
            .await
            .expect("the expiry");
        gone.extend(wait.expect("an item").expect("no error"));
    }
    assert!(
        gone.iter().all(|change| matches!(change, Change::Delete { .. })),
        "{gone:?}"
    );
    assert_eq!(gone[0].revision(), gone[1].revision(), "a lease ends whole");
}

pub(crate) async fn a_watch_from_a_compacted_revision_is_told_so(on: Fixture) {
    let first = on.put("a", "1").await;
    let second = on.put("a", "2").await;
    on.compact(second).await;
    let answer = match on.store.watch("a", first).await {
        Err(error) => error,
        Ok(mut watch) => {
            let item = timeout(SLACK, watch.next())
                .await
                .expect("an answer")
                .expect("an item");
            assert!(watch.next().await.is_none(), "a watch ends with its error");
            item.expect_err("the change is forgotten")
        }
    };
    assert_eq!(answer, StoreError::Compacted(first));
    assert!(matches!(
        on.store.watch("a", 0).await,
        Err(StoreError::Compacted(0))
    ));
    // List again, and go on from there.
    let start = on.store.list("a").await.unwrap().revision;
    let mut watch = on.store.watch("a", start + 1).await.unwrap();
    on.put("a", "3").await;
    assert_eq!(next(&mut watch).await.len(), 1);
}

pub(crate) async fn a_watch_keeps_whole_revisions_together(on: Fixture) {
    let _history = HISTORY.read().await;
    let start = on.store.list("").await.unwrap().revision;
    let start = start.max(on.put("z", "1").await);
    let mut watch = on.store.watch("k", start + 1).await.unwrap();
    for _ in 0..3 {
        let writes = (0..20).map(|number| put(&format!("k{number}"), "1")).collect();
        committed(&on.store.commit(txn(Vec::new(), writes)).await.unwrap());
    }
    let mut seen = 0;
    while seen < 60 {
        let changes = next(&mut watch).await;
        assert_eq!(changes.len() % 20, 0, "a revision was split");
        seen += changes.len();
    }
}

pub(crate) async fn the_store_says_what_it_is(on: Fixture) {
    let text = on.store.describe().await.unwrap();
    assert!(
        text.starts_with("etcd 3.") || text.starts_with("embedded store in "),
        "{text}"
    );
    if text.starts_with("etcd 3.4.23") {
        assert!(text.contains("can be stale"), "{text}");
    }
}
