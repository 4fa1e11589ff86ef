//! Who leads.
//!
//! The leader holds the key `leader`, bound to a lease of its own that is shorter than the presence lease. The key's
//! create revision is the epoch that every decision is guarded with, so a leader that does not know yet that it was
//! replaced can decide nothing. Claims are believed only after a guarded rewrite of the key: the success of its
//! creation may be heard when the key is already gone.

mod campaign;
mod claim;

use std::sync::Arc;
use std::time::Duration;

use lockkeeper_core::id::{CoordinatorName, SessionId};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::campaign::Campaign;
pub use self::claim::{Claim, LeaderInfo};
use crate::store::Store;
use crate::world::World;

/// The key that the leader holds.
pub const LEADER_KEY: &str = "leader";

/// The generation, a JSON number; missing means 1. A person raises it when the store went back in time.
pub const GENERATION_KEY: &str = "generation";

/// The generation of a store in which nobody has raised it.
pub const FIRST_GENERATION: u64 = 1;

/// Default of the leadership lease: how long a dead leader keeps its successor out.
pub const LEADERSHIP_TTL: Duration = Duration::from_secs(3);

/// Who stands for election.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub coordinator: CoordinatorName,
    /// Its session.
    pub session: SessionId,
    /// Where it is reached, `host:port`.
    pub address: String,
}

/// Takes part in the election from a task of its own. Dropping it stops that task and revokes nothing, as a crash
/// would; [`Election::resign`] hands over.
#[derive(Debug)]
pub struct Election {
    claims: watch::Receiver<Claim>,
    resigning: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
    abort: tokio::task::AbortHandle,
}

impl Election {
    /// Begins to take part.
    #[must_use]
    pub fn start(
        store: Arc<dyn Store>,
        world: World,
        candidate: Candidate,
        leadership_ttl: Duration,
    ) -> Self {
        let (publish, claims) = watch::channel(Claim::Follower { leader: None });
        let resigning = CancellationToken::new();
        let campaign = Campaign::new(store, world, candidate, leadership_ttl, publish);
        let task = tokio::spawn(campaign.run(resigning.clone()));
        let abort = task.abort_handle();
        Self {
            claims,
            resigning,
            task: Mutex::new(Some(task)),
            abort,
        }
    }

    /// The claims as they change; a leader's deadline moves about once a second. Before acting on one, compare its
    /// deadline with the clock ([`Claim::leads_at`]): a frozen process wakes up with an old claim.
    #[must_use]
    pub fn claims(&self) -> watch::Receiver<Claim> {
        self.claims.clone()
    }

    /// Stops leading and standing for election, at once for this process and within a request for the others.
    pub async fn resign(&self) {
        self.resigning.cancel();
        if let Some(task) = self.task.lock().await.take() {
            // Ended by panic or abort: nothing is left to hand over.
            let _ = task.await;
        }
    }
}

impl Drop for Election {
    fn drop(&mut self) {
        self.abort.abort();
    }
}
