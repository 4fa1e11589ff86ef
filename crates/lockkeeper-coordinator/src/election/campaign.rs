//! The task that stands for election: follow, campaign, confirm, lead, over and over.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use lockkeeper_core::epoch::LeaderEpoch;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Candidate, Claim, FIRST_GENERATION, GENERATION_KEY, LEADER_KEY, LeaderInfo};
use crate::keeper::{LeaseKeeper, jittered};
use crate::store::{Change, Entry, Guard, Listing, Outcome, Revision, Store, StoreError, Txn, Watch, Write};
use crate::world::World;

/// Pause after a lost race. Some releases of etcd answer stale reads for a while: no busy loop then.
const CONFLICT_PAUSE: Duration = Duration::from_millis(50);

/// One try at leading: a lease, kept alive from before the key exists, and the value that the key gets.
#[derive(Debug)]
struct Term {
    keeper: LeaseKeeper,
    info: LeaderInfo,
    value: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Campaign {
    store: Arc<dyn Store>,
    world: World,
    candidate: Candidate,
    ttl: Duration,
    claims: watch::Sender<Claim>,
    term: Option<Term>,
}

impl Campaign {
    pub(super) fn new(
        store: Arc<dyn Store>,
        world: World,
        candidate: Candidate,
        ttl: Duration,
        claims: watch::Sender<Claim>,
    ) -> Self {
        Self {
            store,
            world,
            candidate,
            ttl,
            claims,
            term: None,
        }
    }

    pub(super) async fn run(mut self, resigning: CancellationToken) {
        loop {
            let round = tokio::select! {
                biased;
                () = resigning.cancelled() => break,
                round = self.round() => round,
            };
            if let Err(error) = round {
                tracing::warn!(%error, "the election is delayed");
                tokio::select! {
                    () = resigning.cancelled() => break,
                    () = sleep(jittered(self.ttl / 10)) => {}
                }
            }
        }
        self.step_down("resigned").await;
    }

    /// Looks who leads and does what follows from it until that may have changed.
    async fn round(&mut self) -> Result<(), StoreError> {
        let listing = self.store.list(LEADER_KEY).await?;
        let revision = listing.revision;
        match find(listing, LEADER_KEY) {
            Some(entry) if self.is_ours(&entry) => self.confirm(&entry).await,
            Some(entry) => self.follow(&entry, revision).await,
            None => self.campaign().await,
        }
    }

    /// Waits until the leader key changes.
    async fn follow(&mut self, entry: &Entry, revision: Revision) -> Result<(), StoreError> {
        let leader = serde_json::from_slice(&entry.value)
            .inspect_err(|error| tracing::warn!(%error, "the leader key cannot be read"))
            .ok();
        self.publish(Claim::Follower { leader });
        let mut watch = self.store.watch(LEADER_KEY, revision + 1).await?;
        // Looks again now and then, in case that the watch brings nothing although something happened.
        let patience = jittered(self.ttl * 2);
        let changed = async {
            while let Some(item) = watch.next().await {
                if item?.iter().any(|change| change.key() == LEADER_KEY) {
                    break;
                }
            }
            Ok(())
        };
        timeout(patience, changed).await.unwrap_or(Ok(()))
    }

    async fn campaign(&mut self) -> Result<(), StoreError> {
        self.publish(Claim::Follower { leader: None });
        let (lease, value) = self.term().await?;
        let txn = Txn {
            guards: vec![Guard::ModRevision(LEADER_KEY.to_owned(), 0)],
            writes: vec![Write::Put {
                key: LEADER_KEY.to_owned(),
                value: value.clone(),
                lease: Some(lease),
            }],
            lists: Vec::new(),
        };
        match self.commit(txn).await? {
            Outcome::Committed { revision, .. } => {
                let key = LEADER_KEY.to_owned();
                self.confirm(&Entry {
                    key,
                    value,
                    create_revision: revision,
                    mod_revision: revision,
                })
                .await
            }
            // Somebody was faster, or an earlier attempt of ours came late: the next round sees which.
            Outcome::Conflict { .. } => {
                sleep(jittered(CONFLICT_PAUSE)).await;
                Ok(())
            }
        }
    }

    /// The current term, or a new one if its lease has less than half of its time left.
    async fn term(&mut self) -> Result<(crate::store::LeaseId, Vec<u8>), StoreError> {
        let now = self.world.clock.now();
        if self
            .term
            .as_ref()
            .is_some_and(|term| term.keeper.deadline().since(now) < self.ttl / 2)
        {
            self.term = None;
        }
        if let Some(term) = &self.term {
            return Ok((term.keeper.lease(), term.value.clone()));
        }
        let lease = self.store.grant(self.ttl).await?;
        let keeper = LeaseKeeper::start(Arc::clone(&self.store), Arc::clone(&self.world.clock), lease, now);
        let info = LeaderInfo {
            coordinator: self.candidate.coordinator.clone(),
            session: self.candidate.session.clone(),
            address: self.candidate.address.clone(),
            id: self.world.ids.unique(),
        };
        let value = serde_json::to_vec(&info).map_err(|error| StoreError::Invalid(error.to_string()))?;
        self.term = Some(Term {
            keeper,
            info,
            value: value.clone(),
        });
        Ok((lease.id, value))
    }

    fn is_ours(&self, entry: &Entry) -> bool {
        self.term.as_ref().is_some_and(|term| term.value == entry.value)
    }

    /// Rewrites the key as it stands. Only that proves that it exists: whoever hears late of its creation would
    /// otherwise lead without a key, beside somebody else.
    async fn confirm(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let Some(term) = &self.term else { return Ok(()) };
        let txn = Txn {
            guards: vec![
                Guard::CreateRevision(LEADER_KEY.to_owned(), entry.create_revision),
                Guard::ModRevision(LEADER_KEY.to_owned(), entry.mod_revision),
            ],
            writes: vec![Write::Put {
                key: LEADER_KEY.to_owned(),
                value: term.value.clone(),
                lease: Some(term.keeper.lease()),
            }],
            lists: vec![GENERATION_KEY.to_owned()],
        };
        match self.commit(txn).await? {
            Outcome::Committed { revision, lists } => {
                let generation = generation(lists.into_iter().next().unwrap_or_default())?;
                self.lead(
                    LeaderEpoch {
                        generation,
                        revision: entry.create_revision,
                    },
                    revision,
                )
                .await
            }
            Outcome::Conflict { .. } => {
                tracing::info!("the leader key vanished before it was confirmed");
                sleep(jittered(CONFLICT_PAUSE)).await;
                Ok(())
            }
        }
    }

    /// A lease that is gone takes its term with it.
    async fn commit(&mut self, txn: Txn) -> Result<Outcome, StoreError> {
        let outcome = self.store.commit(txn).await;
        if outcome == Err(StoreError::LeaseGone) {
            self.term = None;
        }
        outcome
    }

    /// Leads until the lease, the key or the generation is lost. `confirmed` is the revision of the confirmation.
    async fn lead(&mut self, epoch: LeaderEpoch, confirmed: Revision) -> Result<(), StoreError> {
        let Some(term) = &self.term else { return Ok(()) };
        let (id, mut deadlines, ended) = (term.info.id, term.keeper.deadlines(), term.keeper.ended());
        let mut sight = Sight {
            store: Arc::clone(&self.store),
            epoch,
            next: confirmed + 1,
            ttl: self.ttl,
        };
        let loss = sight.loss();
        tokio::pin!(loss);
        tracing::info!(%epoch, "leads");
        let reason = loop {
            let deadline = *deadlines.borrow_and_update();
            let left = deadline.since(self.world.clock.now());
            if left.is_zero() {
                break "its deadline passed";
            }
            self.publish(Claim::Leader { epoch, id, deadline });
            tokio::select! {
                () = ended.cancelled() => break "its lease ended",
                () = sleep(left) => {}
                changed = deadlines.changed() => if changed.is_err() { break "its lease ended" },
                reason = &mut loss => break reason,
            }
        };
        self.step_down(reason).await;
        Ok(())
    }

    /// Stops claiming first, and then lets the others know by ending the lease.
    async fn step_down(&mut self, reason: &'static str) {
        if let Claim::Leader { epoch, .. } = &*self.claims.borrow() {
            tracing::info!(%epoch, reason, "leads no more");
        }
        self.publish(Claim::Follower { leader: None });
        let Some(term) = self.term.take() else { return };
        term.keeper.stop();
        match timeout(self.ttl, self.store.revoke(term.keeper.lease())).await {
            Ok(Ok(()) | Err(StoreError::LeaseGone)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the leadership lease is left to run out"),
            Err(_) => tracing::warn!("the leadership lease is left to run out"),
        }
    }

    fn publish(&self, claim: Claim) {
        self.claims.send_if_modified(|current| {
            let modified = *current != claim;
            *current = claim;
            modified
        });
    }
}

/// A leader's eye on its own key: a lease that is renewed all the time does not tell that the key was deleted.
struct Sight {
    store: Arc<dyn Store>,
    epoch: LeaderEpoch,
    next: Revision,
    ttl: Duration,
}

impl Sight {
    /// Returns when the leadership is lost. Being unable to look is no loss: decisions are guarded.
    async fn loss(&mut self) -> &'static str {
        loop {
            let keys = [LEADER_KEY, GENERATION_KEY];
            match futures::future::try_join_all(keys.map(|key| self.store.watch(key, self.next))).await {
                Ok(watches) => {
                    if let Some(reason) = self.follow(watches).await {
                        return reason;
                    }
                }
                Err(error) => tracing::debug!(%error, "the leader does not see its key"),
            }
            sleep(jittered(self.ttl / 10)).await;
            if let Some(reason) = self.look().await {
                return reason;
            }
        }
    }

    /// Reads changes until one ends the leadership; `None` when a watch broke.
    async fn follow(&mut self, watches: Vec<Watch>) -> Option<&'static str> {
        let mut changes = futures::stream::select_all(watches);
        while let Some(Ok(items)) = changes.next().await {
            if let Some(reason) = items.iter().find_map(|change| self.judge(change)) {
                return Some(reason);
            }
        }
        None
    }

    fn judge(&self, change: &Change) -> Option<&'static str> {
        match change {
            Change::Delete { key, .. } if key == LEADER_KEY => Some("its key was deleted"),
            Change::Put(entry) if entry.key == LEADER_KEY => self.judge_key(Some(entry)),
            change if change.key() == GENERATION_KEY => Some("the generation was changed"),
            Change::Put(_) | Change::Delete { .. } => None,
        }
    }

    fn judge_key(&self, entry: Option<&Entry>) -> Option<&'static str> {
        let ours = entry.is_some_and(|entry| entry.create_revision == self.epoch.revision);
        (!ours).then_some("its key is somebody else's")
    }

    /// Looks once, and takes up the watches from there.
    async fn look(&mut self) -> Option<&'static str> {
        let leader = self.store.list(LEADER_KEY).await.ok()?;
        let generations = self.store.list(GENERATION_KEY).await.ok()?;
        // A stale answer of the store shows an older revision than one seen before and proves nothing.
        if leader.revision.min(generations.revision) + 1 < self.next {
            return None;
        }
        self.next = leader.revision.min(generations.revision) + 1;
        if generation(generations) != Ok(self.epoch.generation) {
            return Some("the generation was changed");
        }
        self.judge_key(find(leader, LEADER_KEY).as_ref())
    }
}

/// The entry of exactly this key; a listing holds all that begin with it.
fn find(listing: Listing, key: &str) -> Option<Entry> {
    listing.entries.into_iter().find(|entry| entry.key == key)
}

fn generation(listing: Listing) -> Result<u64, StoreError> {
    let Some(entry) = find(listing, GENERATION_KEY) else {
        return Ok(FIRST_GENERATION);
    };
    serde_json::from_slice(&entry.value).map_err(|error| {
        StoreError::Invalid(format!(
            "key {GENERATION_KEY:?} holds no number ({error}): set it to the last generation"
        ))
    })
}
