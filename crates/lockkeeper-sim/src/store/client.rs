//! The store as one process uses it.

use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use lockkeeper_coordinator::store::{
    self as port, Entry, Lease, LeaseId, Listing, Outcome, Revision, StoreError, Txn, Watch,
};
use tokio::time::Instant;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::{STORE, Store};
use crate::node::Node;

/// How long a call waits for its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// One process's way to the store.
#[derive(Debug, Clone)]
pub struct Client {
    /// The store.
    pub store: Store,
    /// The process.
    pub node: Node,
}

/// How far a call came when its time was over.
enum Lost {
    /// It did not reach the store.
    Request,
    /// The store has carried it out.
    Answer,
}

impl Client {
    /// Carries a call out at the store, within the time that a call has.
    async fn call<T>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Lost>
    where
        T: Send,
    {
        let end = Instant::now() + REQUEST_TIMEOUT;
        let net = &self.store.0.net;
        self.node.running().await;
        let there = async {
            tokio::time::sleep(net.latency()).await;
            net.reached(self.node.name(), STORE).await;
        };
        if tokio::time::timeout_at(end, there).await.is_err() {
            self.node.running().await;
            return Err(Lost::Request);
        }
        let answer = work();
        let back = async {
            tokio::time::sleep(net.latency()).await;
            net.reached(STORE, self.node.name()).await;
        };
        let heard = tokio::time::timeout_at(end, back).await;
        // A paused process hears of it when it goes on, however late.
        self.node.running().await;
        heard.map_err(|_| Lost::Answer)?;
        Ok(answer)
    }

    fn age(&self) -> usize {
        let inner = &self.store.0;
        if inner.chance.percent(self.store.manners().stale_reads) {
            inner.chance.below(6)
        } else {
            0
        }
    }

    fn apply(&self, txn: &Txn) -> Result<Outcome, StoreError> {
        self.store
            .state()
            .commit(txn, |committed| self.store.audit(committed))
    }

    /// Applies it when nobody waits for the answer any more.
    fn apply_late(&self, txn: Txn) {
        let (client, after) = (self.clone(), self.store.0.chance.millis(10, 4000));
        tokio::spawn(async move {
            tokio::time::sleep(REQUEST_TIMEOUT + after).await;
            let applied = matches!(client.apply(&txn), Ok(Outcome::Committed { .. }));
            crate::tell!(client.store.0.trace, STORE, "applies late: {applied}");
        });
    }
}

fn unavailable(_: Lost) -> StoreError {
    StoreError::Unavailable("no answer".to_owned())
}

#[async_trait]
impl port::Store for Client {
    async fn grant(&self, ttl: Duration) -> Result<Lease, StoreError> {
        let granted = self.call(|| self.store.state().grant(ttl, Instant::now())).await;
        self.store.0.leases.notify_one();
        let id = granted.map_err(unavailable)?;
        Ok(Lease { id, ttl })
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        let kept = self
            .call(|| self.store.state().keep_alive(lease, Instant::now()))
            .await;
        kept.map_err(unavailable)?
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        let revoked = self.call(|| self.store.state().revoke(lease)).await;
        let keys = revoked.map_err(unavailable)?.ok_or(StoreError::LeaseGone)?;
        self.store.audit_deletions(&keys);
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let age = self.age();
        let got = self.call(|| self.store.state().get(key, age)).await;
        got.map_err(unavailable)
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        let age = self.age();
        let listed = self.call(|| self.store.state().list_aged(prefix, age)).await;
        listed.map_err(unavailable)
    }

    async fn commit(&self, txn: Txn) -> Result<Outcome, StoreError> {
        let unknown = || StoreError::Unknown("no answer".to_owned());
        let (manners, chance) = (self.store.manners(), &self.store.0.chance);
        if chance.percent(manners.applied_late) {
            self.node.running().await;
            self.apply_late(txn);
            self.node.sleep(REQUEST_TIMEOUT).await;
            return Err(unknown());
        }
        let loses = chance.percent(manners.answers_lost);
        let done = self.call(|| self.apply(&txn)).await;
        if loses {
            self.node.sleep(REQUEST_TIMEOUT).await;
            return Err(unknown());
        }
        // That nothing was sent is more than a client of etcd can know.
        done.map_err(|_: Lost| unknown())?
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, StoreError> {
        let opened = self.call(|| self.store.state().watch(prefix, from)).await;
        let changes = UnboundedReceiverStream::new(opened.map_err(unavailable)?);
        let client = self.clone();
        let late = changes.then(move |item| {
            let client = client.clone();
            async move {
                let net = &client.store.0.net;
                tokio::time::sleep(net.latency()).await;
                net.reached(STORE, client.node.name()).await;
                client.node.running().await;
                item
            }
        });
        Ok(Box::pin(late))
    }

    async fn describe(&self) -> Result<String, StoreError> {
        Ok("simulated".to_owned())
    }
}
