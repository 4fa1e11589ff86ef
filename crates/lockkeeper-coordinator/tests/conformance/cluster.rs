//! Three members of etcd, of which some die, freeze or lose each other.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use lockkeeper_coordinator::store::etcd::{EtcdOptions, EtcdStore};
use lockkeeper_coordinator::store::{
    Guard, Outcome, Revision, Store, StoreError, Txn, Watch, Write, guarded,
};
use lockkeeper_core::id::FleetName;
use lockkeeper_tests::etcd::{EtcdCluster, EtcdRelease};
use tokio::time::{Instant, sleep, timeout};

use crate::fixture::{committed, fresh_fleet};

/// Longer than an election of etcd on a loaded machine.
const ELECTION: Duration = Duration::from_secs(15);

async fn start(release: EtcdRelease) -> EtcdCluster {
    tokio::task::spawn_blocking(move || EtcdCluster::start(3, release).unwrap())
        .await
        .unwrap()
}

async fn connect(endpoints: &[String], fleet: &FleetName) -> EtcdStore {
    EtcdStore::connect(endpoints, fleet, EtcdOptions::default())
        .await
        .unwrap()
}

fn put(key: &str, value: &str, guards: Vec<Guard>) -> Txn {
    let write = Write::Put {
        key: key.to_owned(),
        value: value.into(),
        lease: None,
    };
    Txn {
        guards,
        writes: vec![write],
        lists: Vec::new(),
    }
}

fn over(key: &str, revision: Revision) -> Vec<Guard> {
    vec![Guard::ModRevision(key.to_owned(), revision)]
}

async fn value(store: &EtcdStore, key: &str) -> String {
    String::from_utf8(store.get(key).await.unwrap().unwrap().value).unwrap()
}

/// The first change of a watch, or its end, whichever comes first.
async fn next(watch: &mut Watch, limit: Duration) -> Result<Revision, StoreError> {
    let item = timeout(limit, watch.next())
        .await
        .expect("a change or an error")
        .expect("an item");
    item.map(|changes| changes[0].revision())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_dead_member_of_three_costs_nothing_but_a_moment() {
    let mut cluster = start(EtcdRelease::V3_4).await;
    let fleet = fresh_fleet();
    let store = connect(&cluster.endpoints(), &fleet).await;
    let mut last = committed(&store.commit(put("a", "0", Vec::new())).await.unwrap());
    let lease = store.grant(Duration::from_secs(20)).await.unwrap();
    let mut watches = Vec::new();
    for endpoint in cluster.endpoints() {
        let alone = connect(&[endpoint], &fleet).await;
        watches.push(alone.watch("a", last + 1).await.unwrap());
    }
    let dead = cluster.leader().unwrap();
    cluster.member(dead).unwrap().kill().unwrap();
    // Each call is settled within its own time or by a retry; none hangs, whichever member was preferred.
    let deadline = Instant::now() + ELECTION;
    for number in 1..20 {
        let txn = put("a", &number.to_string(), over("a", last));
        last = committed(&guarded::commit(&store, txn, deadline).await.unwrap());
        store.keep_alive(lease.id).await.unwrap();
    }
    assert_eq!(value(&store, "a").await, "19");
    // The watch at the dead member ended; the others may have, since they lost their leader. All go on elsewhere.
    for (index, mut watch) in watches.into_iter().enumerate() {
        let first = next(&mut watch, ELECTION).await;
        assert!(
            first.is_ok() || index == dead || matches!(first, Err(StoreError::Unavailable(_))),
            "{first:?}"
        );
    }
    let mut resumed = store.watch("a", last).await.unwrap();
    assert_eq!(next(&mut resumed, ELECTION).await, Ok(last));
    // A fresh store whose only endpoints are one dead and one living member finds the living one at once.
    let endpoints = cluster.endpoints();
    let pair = [endpoints[dead].clone(), endpoints[(dead + 1) % 3].clone()];
    for _ in 0..5 {
        let store = connect(&pair, &fleet).await;
        let started = Instant::now();
        last = committed(&store.commit(put("a", "x", over("a", last))).await.unwrap());
        assert!(
            started.elapsed() < Duration::from_secs(1),
            "{:?}",
            started.elapsed()
        );
    }
    cluster.member(dead).unwrap().start_again().unwrap();
    cluster.wait_healthy(ELECTION).unwrap();
    let revived = connect(&cluster.endpoints()[dead..=dead], &fleet).await;
    committed(&revived.commit(put("a", "y", over("a", last))).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_member_it_is_sure_that_nothing_was_done() {
    let mut cluster = start(EtcdRelease::V3_5).await;
    let store = connect(&cluster.endpoints(), &fresh_fleet()).await;
    committed(&store.commit(put("a", "0", Vec::new())).await.unwrap());
    for member in cluster.members() {
        member.kill().unwrap();
    }
    // The first call may still use a connection that is about to break.
    let _ = store.get("a").await;
    let outcome = store.commit(put("a", "1", Vec::new())).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    let outcome = store.grant(Duration::from_secs(5)).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_member_does_not_cost_a_lease() {
    let mut cluster = start(EtcdRelease::V3_4).await;
    let follower = (cluster.leader().unwrap() + 1) % 3;
    let mut endpoints = cluster.endpoints();
    endpoints.rotate_left(follower);
    let fleet = fresh_fleet();
    // Whichever member each of them prefers.
    let mut stores = Vec::new();
    for _ in 0..6 {
        let store = connect(&endpoints, &fleet).await;
        let lease = store.grant(Duration::from_secs(20)).await.unwrap();
        stores.push((store, lease));
    }
    cluster.member(follower).unwrap().pause().unwrap();
    for (store, lease) in &stores {
        let started = Instant::now();
        store.keep_alive(lease.id).await.unwrap();
        store.list("").await.unwrap();
        assert!(
            started.elapsed() < Duration::from_millis(1500),
            "{:?}",
            started.elapsed()
        );
    }
    cluster.member(follower).unwrap().resume().unwrap();
}

/// A commit goes through a frozen follower and gets no answer; then something else is decided. When the follower
/// wakes up, the old commit arrives: without a guard on the record's mod revision it overwrites the decision.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_arrives_late_does_not_overwrite_a_decision() {
    let mut cluster = start(EtcdRelease::V3_4).await;
    let leader = cluster.leader().unwrap();
    let follower = (leader + 1) % 3;
    let fleet = fresh_fleet();
    let endpoints = cluster.endpoints();
    // Gives up so late that its requests are still there when the follower wakes up; one that gives up earlier
    // also cancels them, which helps often and not always.
    let patient = EtcdOptions {
        request_timeout: Duration::from_secs(60),
    };
    let slow = Arc::new(
        EtcdStore::connect(&endpoints[follower..=follower], &fleet, patient)
            .await
            .unwrap(),
    );
    let quick = connect(&endpoints[leader..=leader], &fleet).await;
    let key = committed(&quick.commit(put("leader", "c1", Vec::new())).await.unwrap());
    let guarded_at = committed(&quick.commit(put("guarded", "new", Vec::new())).await.unwrap());
    committed(&quick.commit(put("naked", "new", Vec::new())).await.unwrap());
    slow.get("leader").await.unwrap();

    cluster.member(follower).unwrap().pause().unwrap();
    let leads = Guard::CreateRevision("leader".to_owned(), key);
    let both = || [leads.clone(), over("guarded", guarded_at).remove(0)].to_vec();
    let late = |txn: Txn| {
        let slow = Arc::clone(&slow);
        tokio::spawn(async move { slow.commit(txn).await.unwrap() })
    };
    let with_guard = late(put("guarded", "OPEN", both()));
    let naked = late(put("naked", "OPEN", vec![leads.clone()]));
    sleep(Duration::from_secs(1)).await;
    assert!(!with_guard.is_finished() && !naked.is_finished());
    committed(&quick.commit(put("guarded", "HELD", both())).await.unwrap());
    committed(
        &quick
            .commit(put("naked", "HELD", vec![leads.clone()]))
            .await
            .unwrap(),
    );

    cluster.member(follower).unwrap().resume().unwrap();
    let with_guard = timeout(ELECTION, with_guard).await.expect("an answer").unwrap();
    assert!(matches!(with_guard, Outcome::Conflict { .. }), "{with_guard:?}");
    assert_eq!(value(&quick, "guarded").await, "HELD");
    // The control: where only the leader key is compared, the late request wins.
    committed(&timeout(ELECTION, naked).await.expect("an answer").unwrap());
    assert_eq!(
        value(&quick, "naked").await,
        "OPEN",
        "without a guard there is nothing to show"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_through_a_frozen_member_is_settled_through_another() {
    let mut cluster = start(EtcdRelease::V3_5).await;
    let leader = cluster.leader().unwrap();
    let follower = (leader + 1) % 3;
    let endpoints = cluster.endpoints();
    let fleet = fresh_fleet();
    let sure = connect(&endpoints[leader..=leader], &fleet).await;
    let mut at = committed(&sure.commit(put("a", "0", Vec::new())).await.unwrap());
    let first = at;
    let both = [endpoints[follower].clone(), endpoints[leader].clone()];
    for number in 1..=4 {
        let store = connect(&both, &fleet).await;
        store.get("a").await.unwrap();
        cluster.member(follower).unwrap().pause().unwrap();
        let deadline = Instant::now() + ELECTION;
        let outcome = guarded::commit(&store, put("a", &number.to_string(), over("a", at)), deadline).await;
        at = committed(&outcome.unwrap());
        cluster.member(follower).unwrap().resume().unwrap();
    }
    sleep(Duration::from_millis(500)).await;
    let entry = sure.get("a").await.unwrap().unwrap();
    assert_eq!((entry.value, entry.mod_revision), (b"4".to_vec(), at));
    let mut watch = sure.watch("a", first).await.unwrap();
    let mut changes = Vec::new();
    while let Ok(Some(item)) = timeout(Duration::from_millis(500), watch.next()).await {
        changes.extend(item.unwrap());
    }
    assert_eq!(changes.len(), 5, "each was applied once: {changes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_at_a_member_without_a_leader_ends_with_an_error() {
    let mut cluster = start(EtcdRelease::V3_4).await;
    let endpoints = cluster.endpoints();
    let alone = connect(&endpoints[..1], &fresh_fleet()).await;
    let at = committed(&alone.commit(put("a", "0", Vec::new())).await.unwrap());
    let mut watch = alone.watch("a", at + 1).await.unwrap();
    cluster.member(1).unwrap().pause().unwrap();
    cluster.member(2).unwrap().pause().unwrap();
    let end = next(&mut watch, ELECTION).await;
    assert!(matches!(end, Err(StoreError::Unavailable(_))), "{end:?}");
    assert!(watch.next().await.is_none());
    let refused = alone.watch("a", at + 1).await;
    assert!(refused.is_err());
    let outcome = alone.commit(put("a", "1", over("a", at))).await;
    assert!(
        matches!(outcome, Err(StoreError::Unavailable(_) | StoreError::Unknown(_))),
        "{outcome:?}"
    );
    cluster.member(1).unwrap().resume().unwrap();
    cluster.member(2).unwrap().resume().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_at_a_frozen_member_ends_with_an_error() {
    let mut cluster = start(EtcdRelease::V3_5).await;
    let follower = (cluster.leader().unwrap() + 1) % 3;
    let endpoints = cluster.endpoints();
    let store = connect(&endpoints[follower..=follower], &fresh_fleet()).await;
    let at = committed(&store.commit(put("a", "0", Vec::new())).await.unwrap());
    let mut watch = store.watch("a", at + 1).await.unwrap();
    // Silence alone is no fault.
    assert!(timeout(Duration::from_secs(7), watch.next()).await.is_err());
    cluster.member(follower).unwrap().pause().unwrap();
    let started = Instant::now();
    let end = next(&mut watch, ELECTION).await;
    assert!(matches!(end, Err(StoreError::Unavailable(_))), "{end:?}");
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    cluster.member(follower).unwrap().resume().unwrap();
}

/// A fleet whose name begins with another fleet's name is another fleet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fleets_of_one_cluster_do_not_see_each_other() {
    let cluster = tokio::task::spawn_blocking(|| EtcdCluster::start(1, EtcdRelease::V3_5).unwrap())
        .await
        .unwrap();
    let (one, two): (FleetName, FleetName) = ("f".parse().unwrap(), "f2".parse().unwrap());
    let one = connect(&cluster.endpoints(), &one).await;
    let two = connect(&cluster.endpoints(), &two).await;
    let at = committed(&one.commit(put("a", "1", Vec::new())).await.unwrap());
    let mut watch = two.watch("", at).await.unwrap();
    assert!(two.list("").await.unwrap().entries.is_empty());
    committed(&two.commit(put("a", "2", over("a", 0))).await.unwrap());
    let conflict = one.commit(put("a", "3", over("a", 0))).await.unwrap();
    let Outcome::Conflict { current } = conflict else {
        panic!("it exists")
    };
    assert_eq!(current[0].as_ref().unwrap().value, b"1");
    assert_eq!(next(&mut watch, ELECTION).await.unwrap(), at + 1);
}
