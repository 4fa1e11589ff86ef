//! Sessions.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use lockkeeper_coordinator::clock::{BootClock, Clock};
use lockkeeper_coordinator::keeper::LeaseEnd;
use lockkeeper_coordinator::session::{GATES, Opened, SESSIONS, Session, SessionEnd, SessionError};
use lockkeeper_coordinator::store::{Guard, Outcome, Revision, Store, Txn, Write};
use lockkeeper_coordinator::world::World;
use tokio::time::{sleep, timeout};

use crate::faulty::{Fault, Faulty};
use crate::fixture::Fixture;

/// The shortest that etcd grants.
const TTL: Duration = Duration::from_secs(2);

/// What etcd and a loaded machine may add.
const SLACK: Duration = Duration::from_secs(4);

async fn open(store: &Arc<dyn Store>) -> Opened {
    let name = "c1".parse().unwrap();
    let info = br#"{"region":"eu"}"#.to_vec();
    Session::open(Arc::clone(store), &World::default(), &name, info, TTL)
        .await
        .unwrap()
}

/// Reads the watch for the session, as a coordinator does.
fn feed(store: Arc<dyn Store>, session: Arc<Session>, from: Revision) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let mut watch = store.watch("", from).await.unwrap();
        while let Some(Ok(changes)) = watch.next().await {
            changes.iter().for_each(|change| session.observe(change));
        }
    })
}

fn may_grant(session: &Session) -> bool {
    session.grantable(TTL).is_some()
}

async fn sessions(store: &Arc<dyn Store>) -> usize {
    store.list(SESSIONS).await.unwrap().entries.len()
}

pub(crate) async fn a_session_begins_with_its_key_and_the_gates(on: Fixture) {
    on.put("gates/kratos/eu", "closed").await;
    let first = open(&on.store).await;
    assert_eq!(first.gates.entries.len(), 1);
    assert_eq!(first.gates.revision, first.revision);
    let entry = on.store.get(&first.session.key()).await.unwrap().unwrap();
    assert_eq!(entry.value, br#"{"region":"eu"}"#);
    assert_eq!(entry.create_revision, first.revision);
    assert!(may_grant(&first.session));
    assert!(first.session.deadline() <= BootClock.now() + TTL);
    // The same name again is another session, and the old one stays in the list.
    let second = open(&on.store).await;
    assert_ne!(first.session.id(), second.session.id());
    assert_eq!(sessions(&on.store).await, 2);
}

pub(crate) async fn a_joiner_is_in_the_closers_list_or_has_seen_the_closed_gate(on: Fixture) {
    for round in 0..25 {
        let gate = format!("{GATES}t{round}");
        let close = Txn {
            guards: vec![Guard::ModRevision(gate.clone(), 0)],
            writes: vec![Write::Put {
                key: gate.clone(),
                value: b"closed".to_vec(),
                lease: None,
            }],
            lists: vec![SESSIONS.to_owned()],
        };
        let (joined, closed) = tokio::join!(open(&on.store), on.store.commit(close));
        let Outcome::Committed { lists, .. } = closed.unwrap() else {
            panic!("nobody else closes {gate}")
        };
        let listed = lists[0]
            .entries
            .iter()
            .any(|entry| entry.key == joined.session.key());
        let seen = joined.gates.entries.iter().any(|entry| entry.key == gate);
        assert!(listed != seen, "listed: {listed}, seen: {seen}");
        joined.session.close(Txn::default()).await.unwrap();
    }
}

pub(crate) async fn a_session_lives_while_its_heartbeats_come_back(on: Fixture) {
    let opened = open(&on.store).await;
    let session = Arc::new(opened.session);
    let feeder = feed(Arc::clone(&on.store), Arc::clone(&session), opened.revision + 1);
    for _ in 0..20 {
        sleep(TTL / 8).await;
        assert!(may_grant(&session));
    }
    // The watch stalls while renewals go on: first no more grants, then the end.
    feeder.abort();
    let stalled = BootClock.now();
    while may_grant(&session) {
        assert!(BootClock.now().since(stalled) < TTL, "grants went on");
        sleep(Duration::from_millis(10)).await;
    }
    assert!(!session.ended().is_cancelled());
    timeout(TTL + SLACK, session.ended().cancelled())
        .await
        .expect("the end");
    assert_eq!(session.end_reason(), Some(SessionEnd::WatchStalled));
    // Nobody renews it any more.
    let gone = async {
        while sessions(&on.store).await > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(TTL + SLACK, gone).await.expect("the key to go");
}

pub(crate) async fn a_clean_leave_tells_and_vanishes_in_one_step(on: Fixture) {
    let opened = open(&on.store).await;
    let key = opened.session.key();
    let left = Txn {
        guards: vec![Guard::ModRevision("left/c1".to_owned(), 0)],
        writes: vec![Write::Put {
            key: "left/c1".to_owned(),
            value: b"drained".to_vec(),
            lease: None,
        }],
        lists: Vec::new(),
    };
    let mut watch = on.store.watch("", opened.revision + 1).await.unwrap();
    opened.session.close(left).await.unwrap();
    assert_eq!(sessions(&on.store).await, 0);
    let mut changes = Vec::new();
    while !changes
        .iter()
        .any(|change: &lockkeeper_coordinator::store::Change| change.key() == key)
    {
        changes.extend(timeout(SLACK, watch.next()).await.unwrap().unwrap().unwrap());
    }
    let at = |key: &str| {
        changes
            .iter()
            .find(|change| change.key() == key)
            .map(|change| change.revision())
    };
    assert_eq!(at(&key), at("left/c1"));
    let heartbeats = on.store.list("heartbeats/").await.unwrap();
    assert!(heartbeats.entries.is_empty(), "{heartbeats:?}");
}

pub(crate) async fn a_farewell_that_conflicts_is_told(on: Fixture) {
    let opened = open(&on.store).await;
    on.put("left/c1", "by somebody else").await;
    let left = Txn {
        guards: vec![Guard::ModRevision("left/c1".to_owned(), 0)],
        ..Txn::default()
    };
    assert_eq!(opened.session.close(left).await, Err(SessionError::Conflict));
}

pub(crate) async fn a_crash_leaves_the_key_until_the_lease_ends(on: Fixture) {
    let opened = open(&on.store).await;
    drop(opened);
    assert_eq!(sessions(&on.store).await, 1);
    let gone = async {
        while sessions(&on.store).await > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(TTL + SLACK, gone).await.expect("the key to go");
}

pub(crate) async fn a_session_that_is_cut_off_ends_before_its_key_does(on: Fixture) {
    let network = Faulty::new(Arc::clone(&on.store), |_| Fault::None);
    let store: Arc<dyn Store> = Arc::clone(&network) as _;
    let opened = open(&store).await;
    let session = Arc::new(opened.session);
    let _feeder = feed(Arc::clone(&on.store), Arc::clone(&session), opened.revision + 1);
    sleep(TTL).await;
    network.cut();
    // The own deadline comes first; the key is still there when it has passed.
    timeout(TTL + SLACK, session.ended().cancelled())
        .await
        .expect("the end");
    assert!(!may_grant(&session));
    assert_eq!(session.end_reason(), Some(SessionEnd::Lease(LeaseEnd::Passed)));
    assert!(session.deadline() <= BootClock.now());
}

pub(crate) async fn a_session_whose_lease_is_revoked_ends(on: Fixture) {
    let opened = open(&on.store).await;
    on.store.revoke(opened.session.lease()).await.unwrap();
    timeout(TTL, opened.session.ended().cancelled())
        .await
        .expect("the end");
    assert_eq!(
        opened.session.end_reason(),
        Some(SessionEnd::Lease(LeaseEnd::Gone))
    );
    assert!(!may_grant(&opened.session));
}

pub(crate) async fn a_session_opens_over_a_bad_network(on: Fixture) {
    let mut commits = 0;
    let network = Faulty::new(Arc::clone(&on.store), move |_| {
        commits += 1;
        match commits {
            1 => Fault::LostAfter,
            2 => Fault::LostBefore,
            3 => Fault::Late(Duration::from_millis(300)),
            _ => Fault::None,
        }
    });
    on.put("gates/t", "closed").await;
    let opened = open(&(network as Arc<dyn Store>)).await;
    assert_eq!(opened.gates.entries.len(), 1);
    sleep(Duration::from_millis(600)).await;
    // The keys of the failed attempts are gone with their leases, the late one included.
    assert_eq!(sessions(&on.store).await, 1);
}
