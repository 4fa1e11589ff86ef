//! Elections.

use std::sync::Arc;
use std::time::Duration;

use lockkeeper_coordinator::clock::{BootClock, Clock, ManualClock};
use lockkeeper_coordinator::election::{Candidate, Claim, Election, GENERATION_KEY, LEADER_KEY};
use lockkeeper_coordinator::store::{Guard, Outcome, Store, Txn, Write};
use lockkeeper_coordinator::world::World;
use lockkeeper_core::epoch::LeaderEpoch;
use lockkeeper_core::id::SessionId;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::faulty::{Fault, Faulty};
use crate::fixture::{self, Fixture};

const TTL: Duration = Duration::from_secs(3);

/// etcd looks for expired leases twice a second; the rest is for a loaded machine.
const SLACK: Duration = Duration::from_secs(3);

fn candidate(name: &str) -> Candidate {
    let coordinator: lockkeeper_core::id::CoordinatorName = name.parse().unwrap();
    let session = SessionId {
        coordinator: coordinator.clone(),
        start: Uuid::new_v4(),
    };
    Candidate {
        coordinator,
        session,
        address: format!("{name}:7000"),
    }
}

fn stand(store: &Arc<dyn Store>, name: &str) -> Election {
    Election::start(Arc::clone(store), World::default(), candidate(name), TTL)
}

fn leads(election: &Election) -> Option<LeaderEpoch> {
    election.claims().borrow().leads_at(BootClock.now())
}

async fn until(
    mut claims: watch::Receiver<Claim>,
    limit: Duration,
    want: impl FnMut(&Claim) -> bool,
) -> Claim {
    let claim = timeout(limit, claims.wait_for(want))
        .await
        .expect("another claim in time");
    claim.expect("the election goes on").clone()
}

/// The index of the one that leads, and its epoch.
async fn leader(of: &[Election], limit: Duration) -> (usize, LeaderEpoch) {
    let started = Instant::now();
    loop {
        let leading: Vec<(usize, LeaderEpoch)> = of
            .iter()
            .enumerate()
            .filter_map(|(index, election)| Some((index, leads(election)?)))
            .collect();
        assert!(leading.len() <= 1, "two lead: {leading:?}");
        if let [leader] = leading[..] {
            return leader;
        }
        assert!(started.elapsed() < limit, "nobody leads after {limit:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

fn put(key: &str, value: &str) -> Txn {
    let write = Write::Put {
        key: key.to_owned(),
        value: value.into(),
        lease: None,
    };
    Txn {
        writes: vec![write],
        ..Txn::default()
    }
}

pub(crate) async fn exactly_one_of_three_leads_and_the_others_know_it(on: Fixture) {
    let elections = ["c1", "c2", "c3"].map(|name| stand(&on.store, name));
    let (index, epoch) = leader(&elections, SLACK).await;
    let entry = on.store.get(LEADER_KEY).await.unwrap().unwrap();
    assert_eq!(
        epoch,
        LeaderEpoch {
            generation: 1,
            revision: entry.create_revision
        }
    );
    assert!(
        entry.mod_revision > entry.create_revision,
        "the claim was confirmed"
    );
    for (other, election) in elections.iter().enumerate().filter(|(other, _)| *other != index) {
        let known = |claim: &Claim| matches!(claim, Claim::Follower { leader: Some(_) });
        let claim = until(election.claims(), SLACK, known).await;
        let Claim::Follower { leader: Some(leader) } = claim else {
            panic!("{other} follows")
        };
        assert_eq!(leader.address, format!("c{}:7000", index + 1));
    }
    // It goes on leading, past its lease, under the same epoch.
    let started = Instant::now();
    while started.elapsed() < TTL + Duration::from_secs(1) {
        assert_eq!(leader(&elections, Duration::ZERO).await, (index, epoch));
        sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn a_killed_leader_is_succeeded_when_its_lease_has_ended(on: Fixture) {
    let mut elections: Vec<Election> = ["c1", "c2", "c3"].map(|name| stand(&on.store, name)).into();
    let (index, old) = leader(&elections, SLACK).await;
    let killed = elections.remove(index);
    let Claim::Leader { deadline, .. } = *killed.claims().borrow() else {
        panic!("it leads")
    };
    drop(killed);
    let (_, new) = leader(&elections, TTL + SLACK).await;
    assert!(new > old);
    assert!(
        BootClock.now() >= deadline,
        "the successor led before the old claim had ended"
    );
}

pub(crate) async fn a_leader_that_resigns_is_succeeded_at_once(on: Fixture) {
    let mut elections: Vec<Election> = ["c1", "c2", "c3"].map(|name| stand(&on.store, name)).into();
    let (index, old) = leader(&elections, SLACK).await;
    let resigned = elections.remove(index);
    let started = Instant::now();
    let claims = resigned.claims();
    resigned.resign().await;
    assert_eq!(claims.borrow().leads_at(BootClock.now()), None);
    let (_, new) = leader(&elections, Duration::from_secs(1)).await;
    assert!(new > old);
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
}

pub(crate) async fn a_leader_whose_key_is_deleted_stops_though_its_lease_lives(on: Fixture) {
    let elections = [stand(&on.store, "c1")];
    let (_, old) = leader(&elections, SLACK).await;
    let delete = Txn {
        writes: vec![Write::Delete(LEADER_KEY.to_owned())],
        ..Txn::default()
    };
    on.store.commit(delete).await.unwrap();
    let moved = |claim: &Claim| claim.leads_at(BootClock.now()) != Some(old);
    until(elections[0].claims(), TTL / 2, moved).await;
    let (_, new) = leader(&elections, TTL + SLACK).await;
    assert!(new > old);
}

pub(crate) async fn a_raised_generation_makes_a_new_epoch(on: Fixture) {
    on.store.commit(put(GENERATION_KEY, "4")).await.unwrap();
    let elections = [stand(&on.store, "c1"), stand(&on.store, "c2")];
    let (_, old) = leader(&elections, SLACK).await;
    assert_eq!(old.generation, 4);
    on.store.commit(put(GENERATION_KEY, "5")).await.unwrap();
    let started = Instant::now();
    loop {
        let (_, epoch) = leader(&elections, TTL + SLACK).await;
        if epoch != old {
            assert_eq!(epoch.generation, 5);
            break;
        }
        assert!(started.elapsed() < TTL, "the old generation goes on");
        sleep(Duration::from_millis(5)).await;
    }
}

/// The success of the creation is heard when the key is gone and somebody else leads.
pub(crate) async fn a_leader_without_a_key_is_never_believed(on: Fixture) {
    let release = Arc::new(Notify::new());
    let held = Arc::clone(&release);
    let mut creations = 0;
    let network = Faulty::new(Arc::clone(&on.store), move |txn| {
        if txn.guards != [Guard::ModRevision(LEADER_KEY.to_owned(), 0)] {
            return Fault::None;
        }
        creations += 1;
        if creations == 1 {
            Fault::AnswerHeld(Arc::clone(&held))
        } else {
            Fault::None
        }
    });
    // It does not see the deletion either.
    network.blind();
    let phantom = stand(&(network as Arc<dyn Store>), "phantom");
    let revision = loop {
        if let Some(entry) = on.store.get(LEADER_KEY).await.unwrap() {
            break entry.create_revision;
        }
        sleep(Duration::from_millis(5)).await;
    };
    let delete = Txn {
        writes: vec![Write::Delete(LEADER_KEY.to_owned())],
        ..Txn::default()
    };
    on.store.commit(delete).await.unwrap();
    let other = stand(&on.store, "other");
    until(other.claims(), SLACK, |claim| {
        claim.leads_at(BootClock.now()).is_some()
    })
    .await;
    let mut claims = phantom.claims();
    release.notify_one();
    let claim = until(claims.clone(), SLACK, |claim| {
        assert!(
            claim.guard().is_none(),
            "it leads with the epoch of a key that is gone ({revision}): {claim:?}"
        );
        matches!(claim, Claim::Follower { leader: Some(_) })
    })
    .await;
    assert!(matches!(claim, Claim::Follower { leader: Some(leader) } if leader.address == "other:7000"));
    assert!(!claims.has_changed().unwrap() || claims.borrow_and_update().guard().is_none());
}

pub(crate) async fn a_leader_that_is_cut_off_stops_before_its_successor_leads(on: Fixture) {
    let network = Faulty::new(Arc::clone(&on.store), |_| Fault::None);
    let cut_off = stand(&(Arc::clone(&network) as Arc<dyn Store>), "c1");
    until(cut_off.claims(), SLACK, |claim| claim.guard().is_some()).await;
    let other = stand(&on.store, "c2");
    network.cut();
    let elections = [cut_off, other];
    // `leader` fails if two lead at any time.
    let started = Instant::now();
    while leads(&elections[1]).is_none() {
        assert!(leads(&elections[0]).is_none() || leads(&elections[1]).is_none());
        assert!(started.elapsed() < TTL + SLACK, "no successor");
        sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(leads(&elections[0]), None);
}

pub(crate) async fn a_creation_whose_answer_is_lost_is_found_again(on: Fixture) {
    let mut commits = 0;
    let network = Faulty::new(Arc::clone(&on.store), move |_| {
        commits += 1;
        match commits {
            1 | 2 => Fault::LostAfter,
            _ => Fault::None,
        }
    });
    let elections = [stand(&(network as Arc<dyn Store>), "c1")];
    let (_, epoch) = leader(&elections, TTL).await;
    assert_eq!(
        on.store.get(LEADER_KEY).await.unwrap().unwrap().create_revision,
        epoch.revision
    );
}

/// A process that was frozen wakes up with an old claim: the clock says so before anything else does.
#[tokio::test]
async fn a_frozen_leader_wakes_up_without_the_leadership() {
    let store = fixture::memory_with_history(1000);
    let clock = Arc::new(ManualClock::default());
    let election = Election::start(
        Arc::clone(&store),
        World {
            clock: Arc::clone(&clock) as _,
            ..World::default()
        },
        candidate("c1"),
        TTL,
    );
    let claim = until(election.claims(), SLACK, |claim| claim.guard().is_some()).await;
    assert!(claim.leads_at(clock.now()).is_some());
    clock.advance(TTL * 2);
    assert_eq!(claim.leads_at(clock.now()), None);
    let lost = until(election.claims(), TTL, |claim| claim.guard().is_none()).await;
    assert_eq!(lost.guard(), None);
}

/// What a leader guards with its claim is refused once another leads.
pub(crate) async fn decisions_of_a_superseded_leader_are_refused(on: Fixture) {
    let mut elections: Vec<Election> = ["c1", "c2"].map(|name| stand(&on.store, name)).into();
    let (index, _) = leader(&elections, SLACK).await;
    let old = elections.remove(index);
    let claim = old.claims().borrow().clone();
    let mut decision = put("rollouts/r1", "open");
    decision.guards = vec![claim.guard().unwrap()];
    assert!(matches!(
        on.store.commit(decision.clone()).await.unwrap(),
        Outcome::Committed { .. }
    ));
    old.resign().await;
    leader(&elections, Duration::from_secs(1)).await;
    assert!(matches!(
        on.store.commit(decision).await.unwrap(),
        Outcome::Conflict { .. }
    ));
}
