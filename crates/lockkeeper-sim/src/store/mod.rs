//! A simulated store: etcd as the port describes it, with everything that it may do to its clients.
//!
//! | module | what it holds |
//! |---|---|
//! | `state` | keys, leases, revisions and watches, without time |
//! | `client` | the port, as one process uses it: late answers, lost ones, stale reads |

mod client;
mod state;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

pub use client::Client;
use state::State;

use crate::chance::Chance;
use crate::net::Net;
use crate::trace::Trace;

/// Its name on the network.
pub const STORE: &str = "store";

/// How it misbehaves, each in percent of the calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Manners {
    /// A commit is applied and the answer lost.
    pub answers_lost: u32,
    /// A commit is applied later than its client waits.
    pub applied_late: u32,
    /// A plain read shows an older revision.
    pub stale_reads: u32,
    /// A lease that has run out goes on for a while.
    pub long_leases: u32,
}

/// Looks at every commit, with the keys before and after.
pub type Auditor = Box<dyn FnMut(&state::Committed<'_>) + Send>;
pub use state::Committed;

/// The store. Its clones are the same one.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    manners: Mutex<Manners>,
    auditor: Mutex<Auditor>,
    /// Rung when a lease may end earlier than thought.
    leases: Notify,
    chance: Chance,
    net: Net,
    trace: Trace,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

impl Store {
    /// An empty one, whose leases are looked after from now on.
    #[must_use]
    pub fn start(chance: Chance, net: &Net, trace: &Trace, auditor: Auditor) -> Self {
        let store = Self(Arc::new(Inner {
            state: Mutex::default(),
            manners: Mutex::default(),
            auditor: Mutex::new(auditor),
            leases: Notify::new(),
            chance,
            net: net.clone(),
            trace: trace.clone(),
        }));
        tokio::spawn(store.clone().end_leases());
        store
    }

    /// How it behaves from now on.
    pub fn set_manners(&self, manners: Manners) {
        *self.0.manners.lock().unwrap_or_else(PoisonError::into_inner) = manners;
    }

    fn manners(&self) -> Manners {
        *self.0.manners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new leader of the store gives every lease its whole time again.
    pub fn renew_all_leases(&self) {
        self.state().renew_all(Instant::now());
    }

    /// Every watch breaks.
    pub fn break_watches(&self) {
        self.state().break_watches();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn audit(&self, committed: &Committed<'_>) {
        let mut auditor = self.0.auditor.lock().unwrap_or_else(PoisonError::into_inner);
        auditor(committed);
    }

    async fn end_leases(self) {
        loop {
            let mut changed = std::pin::pin!(self.0.leases.notified());
            changed.as_mut().enable();
            let next = self.state().next_expiry();
            let next = next.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(next) => {}
                () = changed => continue,
            }
            let now = Instant::now();
            let over: Vec<_> = self.state().expired(now);
            for lease in over {
                if self.0.chance.percent(self.manners().long_leases) {
                    let longer = self.0.chance.millis(200, 3000);
                    self.state().prolong(lease, now + longer);
                } else {
                    let committed = self.state().revoke(lease);
                    if let Some(changes) = committed {
                        self.audit_deletions(&changes);
                    }
                }
            }
        }
    }

    fn audit_deletions(&self, keys: &[String]) {
        for key in keys {
            crate::tell!(self.0.trace, STORE, "{key} is gone with its lease");
        }
    }
}
