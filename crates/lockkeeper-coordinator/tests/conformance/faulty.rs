//! A store whose network fails on command.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lockkeeper_coordinator::store::{
    Entry, Lease, LeaseId, Listing, Outcome, Revision, Store, StoreError, Txn, Watch,
};
use tokio::sync::Notify;
use tokio::time::sleep;

/// What happens to one commit.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    None,
    /// Never arrives.
    LostBefore,
    /// Is applied; the answer is lost.
    LostAfter,
    /// Is reported as unknown now, and applied later.
    Late(Duration),
    /// Is applied; its answer comes only when the other side says so.
    AnswerHeld(Arc<Notify>),
}

type Plan = Box<dyn FnMut(&Txn) -> Fault + Send>;

pub(crate) struct Faulty {
    inner: Arc<dyn Store>,
    plan: Mutex<Plan>,
    cut: AtomicBool,
    blind: AtomicBool,
    renewals: Mutex<Option<Arc<Notify>>>,
    renewed: Notify,
}

impl Faulty {
    pub(crate) fn new(inner: Arc<dyn Store>, plan: impl FnMut(&Txn) -> Fault + Send + 'static) -> Arc<Self> {
        Arc::new(Self {
            inner,
            plan: Mutex::new(Box::new(plan)),
            cut: AtomicBool::new(false),
            blind: AtomicBool::new(false),
            renewals: Mutex::new(None),
            renewed: Notify::new(),
        })
    }

    /// From now on nothing gets through in either direction.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    /// From now on watches begin and bring nothing.
    pub(crate) fn blind(&self) {
        self.blind.store(true, Ordering::SeqCst);
    }

    /// Answers to renewals wait, each for one notification.
    pub(crate) fn hold_renewals(&self, until: Arc<Notify>) {
        *self.renewals.lock().unwrap() = Some(until);
    }

    /// Waits for a renewal that was done and is not answered yet.
    pub(crate) async fn renewal_reached_the_store(&self) {
        self.renewed.notified().await;
    }

    async fn pass<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        if self.cut.load(Ordering::SeqCst) {
            return Err(lost());
        }
        let result = call.await;
        if self.cut.load(Ordering::SeqCst) {
            Err(lost())
        } else {
            result
        }
    }
}

fn lost() -> StoreError {
    StoreError::Unknown("lost on purpose".to_owned())
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty").finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for Faulty {
    async fn grant(&self, ttl: Duration) -> Result<Lease, StoreError> {
        self.pass(self.inner.grant(ttl)).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        let answer = self.pass(self.inner.keep_alive(lease)).await;
        let held = self.renewals.lock().unwrap().clone();
        if let Some(until) = held {
            self.renewed.notify_one();
            until.notified().await;
        }
        answer
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.pass(self.inner.revoke(lease)).await
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.pass(self.inner.get(key)).await
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        self.pass(self.inner.list(prefix)).await
    }

    async fn commit(&self, txn: Txn) -> Result<Outcome, StoreError> {
        let fault = (self.plan.lock().unwrap())(&txn);
        match fault {
            Fault::None => self.pass(self.inner.commit(txn)).await,
            Fault::LostBefore => Err(lost()),
            Fault::LostAfter => {
                self.inner.commit(txn).await?;
                Err(lost())
            }
            Fault::Late(delay) => {
                let inner = Arc::clone(&self.inner);
                tokio::spawn(async move {
                    sleep(delay).await;
                    let _ = inner.commit(txn).await;
                });
                Err(lost())
            }
            Fault::AnswerHeld(release) => {
                let answer = self.inner.commit(txn).await;
                release.notified().await;
                answer
            }
        }
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, StoreError> {
        if self.blind.load(Ordering::SeqCst) {
            return Ok(Box::pin(futures::stream::pending()));
        }
        self.pass(self.inner.watch(prefix, from)).await
    }

    async fn describe(&self) -> Result<String, StoreError> {
        self.inner.describe().await
    }
}
