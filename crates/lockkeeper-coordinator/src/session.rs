//! A coordinator's presence in the store.
//!
//! A session is a create-only key below `sessions/`, bound to the presence lease. Whoever closes a gate lists the
//! sessions in the same transaction; whoever opens a session lists the gates in the same transaction. So each
//! coordinator is either in the closer's list or has seen the closed gate.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use lockkeeper_core::id::{CoordinatorName, SessionId};
use lockkeeper_core::presence::Heartbeats;
use lockkeeper_core::time::Instant;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::keeper::{LeaseEnd, LeaseKeeper, jittered};
use crate::store::{
    Change, Guard, LeaseId, Listing, Outcome, Revision, Store, StoreError, Txn, Write, guarded,
};
use crate::world::World;

/// Where sessions are: `sessions/<coordinator>/<uuid>`.
pub const SESSIONS: &str = "sessions/";

/// Where heartbeats are: `heartbeats/<coordinator>/<uuid>`, a counter.
pub const HEARTBEATS: &str = "heartbeats/";

/// Where gates are; a session lists them as it begins.
pub const GATES: &str = "gates/";

/// Default of the presence lease. It bounds the write leases (10 s) that a coordinator may hand out.
pub const PRESENCE_TTL: Duration = Duration::from_secs(15);

/// Attempts to open a session, each with a key and a lease of its own.
const OPEN_ATTEMPTS: u32 = 5;

/// Pause between two of them.
const OPEN_PAUSE: Duration = Duration::from_millis(200);

/// Longest wait for the farewell to be settled.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Heartbeats in one presence time. The owner of the watch may miss two before it must stop granting.
const HEARTBEATS_PER_TTL: u32 = 5;

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionEnd {
    /// Its presence lease is not held any more.
    #[error(transparent)]
    Lease(#[from] LeaseEnd),
    /// Its own heartbeats did not come back through the watch for a whole presence time: this coordinator does not
    /// see what is decided, though it can still talk to the store.
    #[error("own heartbeats did not come back through the watch")]
    WatchStalled,
}

/// Why a session could not be opened or closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The farewell's guards did not hold, or the session key is gone.
    #[error("session key or a record of the farewell was changed by somebody else")]
    Conflict,
}

/// A session that has just begun.
#[derive(Debug)]
pub struct Opened {
    /// The session.
    pub session: Session,
    /// The gates as they stood when it began.
    pub gates: Listing,
    /// Revision of its beginning: watch from the next one on to miss nothing.
    pub revision: Revision,
}

/// A coordinator's session. Dropping it stops the renewals and revokes nothing, as a crash would.
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    create_revision: Revision,
    shared: Arc<Shared>,
    heart: JoinHandle<()>,
    guard: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    keeper: LeaseKeeper,
    ttl: Duration,
    heartbeat_key: String,
    beats: Mutex<Heartbeats>,
    end: OnceLock<SessionEnd>,
    ended: CancellationToken,
}

impl Session {
    /// Opens a session with `info` (JSON for people and other coordinators) as the value of its key.
    ///
    /// # Errors
    ///
    /// [`SessionError::Store`] when the store did not answer a few times in a row.
    pub async fn open(
        store: Arc<dyn Store>,
        world: &World,
        name: &CoordinatorName,
        info: Vec<u8>,
        presence_ttl: Duration,
    ) -> Result<Opened, SessionError> {
        let mut attempt = 1;
        loop {
            match Self::try_open(&store, world, name, &info, presence_ttl).await {
                Ok(opened) => return Ok(opened),
                Err(SessionError::Store(StoreError::Unknown(_) | StoreError::Unavailable(_)))
                    if attempt < OPEN_ATTEMPTS =>
                {
                    attempt += 1;
                    sleep(jittered(OPEN_PAUSE)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn try_open(
        store: &Arc<dyn Store>,
        world: &World,
        name: &CoordinatorName,
        info: &[u8],
        presence_ttl: Duration,
    ) -> Result<Opened, SessionError> {
        let id = SessionId {
            coordinator: name.clone(),
            start: world.ids.unique(),
        };
        let (key, clock) = (session_key(&id), &world.clock);
        let sent = clock.now();
        let lease = store.grant(presence_ttl).await?;
        let txn = Txn {
            guards: vec![Guard::ModRevision(key.clone(), 0)],
            writes: vec![Write::Put {
                key,
                value: info.to_vec(),
                lease: Some(lease.id),
            }],
            lists: vec![GATES.to_owned()],
        };
        // With an unknown outcome another key is tried, because the gates must be listed in the very step that
        // makes the session. The one that may exist goes with its lease and has granted nothing.
        let (revision, gates) = match store.commit(txn).await {
            Ok(Outcome::Committed { revision, mut lists }) => (revision, lists.pop().unwrap_or_default()),
            Ok(Outcome::Conflict { .. }) => return Err(SessionError::Conflict),
            Err(error) => {
                forget(store, lease.id).await;
                return Err(error.into());
            }
        };
        let keeper = LeaseKeeper::start(Arc::clone(store), Arc::clone(clock), lease, sent);
        let shared = Arc::new(Shared {
            store: Arc::clone(store),
            clock: Arc::clone(clock),
            keeper,
            ttl: lease.ttl,
            heartbeat_key: heartbeat_key(&id),
            beats: Mutex::new(Heartbeats::new(lease.ttl, sent)),
            end: OnceLock::new(),
            ended: CancellationToken::new(),
        });
        let heart = tokio::spawn(Arc::clone(&shared).beat());
        let guard = tokio::spawn(Arc::clone(&shared).end_with_the_lease());
        let session = Self {
            id,
            create_revision: revision,
            shared,
            heart,
            guard,
        };
        Ok(Opened {
            session,
            gates,
            revision,
        })
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// Its key in the store.
    #[must_use]
    pub fn key(&self) -> String {
        session_key(&self.id)
    }

    /// Create revision of its key.
    #[must_use]
    pub fn create_revision(&self) -> Revision {
        self.create_revision
    }

    /// The presence lease, for other keys that shall vanish with the session.
    #[must_use]
    pub fn lease(&self) -> LeaseId {
        self.shared.keeper.lease()
    }

    /// Until when the session surely exists, on this process's clock. No write lease may go beyond it.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.shared.keeper.deadline()
    }

    /// Cancelled when the session is over. Compare [`Session::deadline`] with the clock all the same.
    #[must_use]
    pub fn ended(&self) -> CancellationToken {
        self.shared.ended.clone()
    }

    /// Why it is over.
    #[must_use]
    pub fn end_reason(&self) -> Option<SessionEnd> {
        self.shared.end.get().copied()
    }

    /// How long a write lease may be granted now; `None`: not at all. The session must live, and its own heartbeats must
    /// come back through the watch, so that what the leader decides comes through it as well.
    #[must_use]
    pub fn grantable(&self, wanted: Duration) -> Option<Duration> {
        if self.shared.end.get().is_some() {
            return None;
        }
        let now = self.shared.clock.now();
        self.shared.beats().lease(now, self.deadline(), wanted)
    }

    /// Key of the heartbeats, which the owner of the watch must watch, with everything else, in one stream.
    #[must_use]
    pub fn heartbeat_key(&self) -> &str {
        &self.shared.heartbeat_key
    }

    /// Tells that heartbeat number `counter` came back through the watch.
    pub fn saw_heartbeat(&self, counter: u64) {
        self.shared.beats().saw(counter);
    }

    /// The same for any change that the watch brings; others than own heartbeats are ignored.
    pub fn observe(&self, change: &Change) {
        let Change::Put(entry) = change else { return };
        if entry.key != self.shared.heartbeat_key {
            return;
        }
        if let Some(counter) = std::str::from_utf8(&entry.value)
            .ok()
            .and_then(|text| text.parse().ok())
        {
            self.saw_heartbeat(counter);
        }
    }

    /// Leaves cleanly: the session key goes in one transaction with `farewell`, for example the record that says
    /// that nothing granted under this session is outstanding; then the lease is revoked. Each key that the farewell
    /// writes needs a guard. Call it only when no write lease of this session is outstanding.
    ///
    /// # Errors
    ///
    /// When the farewell is not known to be committed; the session then ends with its lease, as after a crash.
    pub async fn close(self, farewell: Txn) -> Result<(), SessionError> {
        self.heart.abort();
        let mut txn = farewell;
        txn.guards
            .push(Guard::ModRevision(self.key(), self.create_revision));
        txn.writes.push(Write::Delete(self.key()));
        let deadline = tokio::time::Instant::now() + CLOSE_TIMEOUT;
        let outcome = guarded::commit(&*self.shared.store, txn, deadline).await?;
        let result = match outcome {
            Outcome::Committed { .. } => Ok(()),
            Outcome::Conflict { .. } => Err(SessionError::Conflict),
        };
        if result.is_ok() {
            self.guard.abort();
            self.shared.keeper.stop();
            forget(&self.shared.store, self.lease()).await;
        }
        result
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.heart.abort();
        self.guard.abort();
        self.shared.keeper.stop();
    }
}

impl Shared {
    fn beats(&self) -> MutexGuard<'_, Heartbeats> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self, end: SessionEnd) {
        if self.end.set(end).is_ok() {
            tracing::warn!(reason = %end, "this coordinator's session is over");
        }
        self.keeper.stop();
        self.ended.cancel();
    }

    async fn end_with_the_lease(self: Arc<Self>) {
        self.keeper.ended().cancelled().await;
        self.finish(self.keeper.end_reason().unwrap_or(LeaseEnd::Gone).into());
    }

    async fn beat(self: Arc<Self>) {
        while !self.ended.is_cancelled() {
            let now = self.clock.now();
            let beat = self.beats().beat(now);
            let Ok(counter) = beat else {
                return self.finish(SessionEnd::WatchStalled);
            };
            let write = Write::Put {
                key: self.heartbeat_key.clone(),
                value: counter.to_string().into_bytes(),
                lease: Some(self.keeper.lease()),
            };
            match self
                .store
                .commit(Txn {
                    writes: vec![write],
                    ..Txn::default()
                })
                .await
            {
                Ok(_) => {}
                Err(StoreError::LeaseGone) => return self.finish(LeaseEnd::Gone.into()),
                Err(error) => tracing::debug!(%error, counter, "a heartbeat was not written"),
            }
            sleep(jittered(self.ttl / HEARTBEATS_PER_TTL)).await;
        }
    }
}

/// Revokes a lease that nobody counts on; it would run out by itself.
async fn forget(store: &Arc<dyn Store>, lease: LeaseId) {
    if let Err(error) = store.revoke(lease).await {
        tracing::debug!(%error, lease = lease.0, "a lease was left to run out");
    }
}

/// The key of a session.
#[must_use]
pub fn session_key(id: &SessionId) -> String {
    format!("{SESSIONS}{id}")
}

fn heartbeat_key(id: &SessionId) -> String {
    format!("{HEARTBEATS}{id}")
}
