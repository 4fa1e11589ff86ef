//! Keeps one lease of the store alive, and says until when it is surely held.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lockkeeper_core::lease::holder_deadline;
use lockkeeper_core::time::Instant;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::store::{Lease, LeaseId, Store, StoreError};

/// Why a lease is not held any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeaseEnd {
    /// The store says that it does not exist.
    #[error("the store ended the lease")]
    Gone,
    /// Its time passed on this process's clock before a renewal was answered.
    #[error("the lease ran out before a renewal was answered")]
    Passed,
}

/// Renews a lease at a third of its time from a task of its own. Dropping it stops the renewals and revokes nothing.
#[derive(Debug)]
pub struct LeaseKeeper {
    lease: LeaseId,
    deadline: watch::Receiver<Instant>,
    end: Arc<End>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct End {
    token: CancellationToken,
    reason: OnceLock<LeaseEnd>,
}

impl LeaseKeeper {
    /// Takes over a lease that was granted on a request sent at `sent`.
    #[must_use]
    pub fn start(store: Arc<dyn Store>, clock: Arc<dyn Clock>, lease: Lease, sent: Instant) -> Self {
        let (publish, deadline) = watch::channel(holder_deadline(sent, lease.ttl));
        let end = Arc::new(End::default());
        let renewals = Renewals {
            store,
            clock,
            lease: lease.id,
            ttl: lease.ttl,
            deadline: publish,
        };
        let ending = Arc::clone(&end);
        let task = tokio::spawn(async move {
            let reason = renewals.run().await;
            let _ = ending.reason.set(reason);
            ending.token.cancel();
        });
        Self {
            lease: lease.id,
            deadline,
            end,
            task,
        }
    }

    /// The lease.
    #[must_use]
    pub fn lease(&self) -> LeaseId {
        self.lease
    }

    /// Until when the lease is surely held: counted from before the last answered renewal was sent. Once it has
    /// passed it never moves again.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        *self.deadline.borrow()
    }

    /// The deadline as it moves.
    #[must_use]
    pub fn deadlines(&self) -> watch::Receiver<Instant> {
        self.deadline.clone()
    }

    /// Cancelled when the lease is not held any more. Compare [`LeaseKeeper::deadline`] with the clock all the same:
    /// a process that was frozen wakes up before this is noticed.
    #[must_use]
    pub fn ended(&self) -> CancellationToken {
        self.end.token.clone()
    }

    /// Why it ended.
    #[must_use]
    pub fn end_reason(&self) -> Option<LeaseEnd> {
        self.end.reason.get().copied()
    }

    /// Stops the renewals; the lease runs out by itself.
    pub fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Renewals {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    lease: LeaseId,
    ttl: Duration,
    deadline: watch::Sender<Instant>,
}

impl Renewals {
    async fn run(mut self) -> LeaseEnd {
        let mut pause = self.ttl / 3;
        loop {
            let deadline = *self.deadline.borrow();
            let left = deadline.since(self.clock.now());
            sleep(jittered(pause).min(left)).await;
            let sent = self.clock.now();
            if sent >= deadline {
                return LeaseEnd::Passed;
            }
            match timeout(deadline.since(sent), self.store.keep_alive(self.lease)).await {
                // An answer that comes after the deadline does not bring the lease back: others may have read
                // the clock in between and acted on its end.
                Ok(_) | Err(_) if self.clock.now() >= deadline => return LeaseEnd::Passed,
                Ok(Ok(granted)) => {
                    self.ttl = granted;
                    self.deadline.send_replace(holder_deadline(sent, granted));
                    pause = granted / 3;
                }
                Ok(Err(StoreError::LeaseGone)) => return LeaseEnd::Gone,
                Ok(Err(error)) => {
                    tracing::warn!(%error, lease = self.lease.0, "a lease was not renewed");
                    pause = self.ttl / 15;
                }
                Err(_) => return LeaseEnd::Passed,
            }
        }
    }
}

/// Up to a tenth less, so that the renewals of many do not fall together.
pub(crate) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(fastrand::f64().mul_add(0.1, 0.9))
}
