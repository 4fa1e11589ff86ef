//! A coordinator's picture of the store, kept current by one watch.
//!
//! The first picture is listed *inside a transaction that writes* (the session's own key is touched): such a listing
//! goes through the store's log, so it cannot be older than the session, and a gate that was closed before the
//! session was made is seen closed. The watch continues from the next revision.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use lockkeeper_core::drain::DrainReport;
use lockkeeper_core::epoch::{GateEpoch, LeaderEpoch};
use lockkeeper_core::gate::Gate;
use lockkeeper_core::id::{RolloutId, SessionId, TargetName};
use lockkeeper_core::mutation::{Mutation, mutated};
use lockkeeper_core::spec::TargetSpec;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::election::{FIRST_GENERATION, GENERATION_KEY, LEADER_KEY, LeaderInfo};
use crate::records::{ProgressRecord, RolloutRecord, SessionRecord, Stored, decode, key};
use crate::session::Session;
use crate::store::{Change, Entry, Guard, Listing, Outcome, Store, StoreError, Txn, Write};

/// Pause before a broken watch is listed and opened again.
const REWATCH_PAUSE: Duration = Duration::from_millis(200);

/// Everything that the store says, parsed. Records that do not parse are left out and logged: whoever needs one
/// finds it missing, and fails closed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FleetView {
    /// Revision that this picture is complete up to.
    pub revision: u64,
    /// Who leads, with the create revision that makes the epoch.
    pub leader: Option<Stored<LeaderInfo>>,
    /// The fleet's generation, when a person has raised it.
    pub generation: Option<Stored<u64>>,
    /// Coordinators that are present.
    pub sessions: BTreeMap<SessionId, Stored<SessionRecord>>,
    /// Coordinators that left cleanly.
    pub left: BTreeMap<SessionId, ()>,
    /// Drain reports, by target and session.
    pub drains: BTreeMap<(TargetName, SessionId), DrainReport>,
    /// Declared targets.
    pub targets: BTreeMap<TargetName, Stored<TargetSpec>>,
    /// Gates.
    pub gates: BTreeMap<TargetName, Stored<Gate>>,
    /// The last gate epochs of targets that were removed.
    pub retired: BTreeMap<TargetName, Stored<GateEpoch>>,
    /// Rollouts that work on targets.
    pub active: BTreeMap<TargetName, Stored<RolloutId>>,
    /// Rollouts.
    pub rollouts: BTreeMap<RolloutId, Stored<RolloutRecord>>,
    /// Rollouts' targets.
    pub progress: BTreeMap<(RolloutId, TargetName), Stored<ProgressRecord>>,
}

/// Which collection a key belongs to, with the key's parsed rest.
enum Place {
    Leader,
    Generation,
    Session(SessionId),
    Left(SessionId),
    Drain(SessionId, TargetName),
    Target(TargetName),
    Gate(TargetName),
    Retired(TargetName),
    Active(TargetName),
    Rollout(RolloutId),
    Progress(RolloutId, TargetName),
    Elsewhere,
}

fn place(full: &str) -> Option<Place> {
    let rest = |prefix: &str| full.strip_prefix(prefix);
    Some(if full == LEADER_KEY {
        Place::Leader
    } else if full == GENERATION_KEY {
        Place::Generation
    } else if let Some(id) = rest(key::SESSIONS) {
        Place::Session(id.parse().ok()?)
    } else if let Some(id) = rest(key::LEFT) {
        Place::Left(id.parse().ok()?)
    } else if let Some(rest) = rest(key::DRAINS) {
        let mut parts = rest.splitn(3, '/');
        let (name, start, target) = (parts.next()?, parts.next()?, parts.next()?);
        Place::Drain(format!("{name}/{start}").parse().ok()?, target.parse().ok()?)
    } else if let Some(name) = rest(key::TARGETS) {
        Place::Target(name.parse().ok()?)
    } else if let Some(name) = rest(key::GATES) {
        Place::Gate(name.parse().ok()?)
    } else if let Some(name) = rest(key::RETIRED) {
        Place::Retired(name.parse().ok()?)
    } else if let Some(name) = rest(key::ACTIVE) {
        Place::Active(name.parse().ok()?)
    } else if let Some(id) = rest(key::ROLLOUTS) {
        Place::Rollout(id.parse().ok()?)
    } else if let Some(rest) = rest(key::PROGRESS) {
        let (id, target) = rest.split_once('/')?;
        Place::Progress(id.parse().ok()?, target.parse().ok()?)
    } else {
        Place::Elsewhere
    })
}

fn put<K: Ord, T: DeserializeOwned>(into: &mut BTreeMap<K, Stored<T>>, at: K, entry: &Entry) {
    match decode(entry) {
        Ok(record) => {
            let (create_revision, mod_revision) = (entry.create_revision, entry.mod_revision);
            into.insert(
                at,
                Stored {
                    record,
                    create_revision,
                    mod_revision,
                },
            );
        }
        Err(error) => {
            warn!(%error, "leaving out a record");
            into.remove(&at);
        }
    }
}

impl FleetView {
    /// A picture from a listing of everything.
    #[must_use]
    pub fn from_listing(listing: &Listing) -> Self {
        let mut view = Self {
            revision: listing.revision,
            ..Self::default()
        };
        for entry in &listing.entries {
            view.put(entry);
        }
        view
    }

    fn put(&mut self, entry: &Entry) {
        self.revision = self.revision.max(entry.mod_revision);
        match place(&entry.key) {
            Some(Place::Leader) => match decode(entry) {
                Ok(record) => {
                    self.leader = Some(Stored {
                        record,
                        create_revision: entry.create_revision,
                        mod_revision: entry.mod_revision,
                    });
                }
                Err(error) => {
                    warn!(%error, "leaving out the leader");
                    self.leader = None;
                }
            },
            Some(Place::Generation) => match decode(entry) {
                Ok(record) => {
                    self.generation = Some(Stored {
                        record,
                        create_revision: entry.create_revision,
                        mod_revision: entry.mod_revision,
                    });
                }
                Err(error) => {
                    warn!(%error, "leaving out the generation");
                    self.generation = None;
                }
            },
            Some(Place::Session(id)) => put(&mut self.sessions, id, entry),
            Some(Place::Left(id)) => drop(self.left.insert(id, ())),
            Some(Place::Drain(session, target)) => match decode(entry) {
                Ok(report) => drop(self.drains.insert((target, session), report)),
                Err(error) => warn!(%error, "leaving out a drain report"),
            },
            Some(Place::Target(name)) => put(&mut self.targets, name, entry),
            Some(Place::Gate(name)) => put(&mut self.gates, name, entry),
            Some(Place::Retired(name)) => put(&mut self.retired, name, entry),
            Some(Place::Active(name)) => put(&mut self.active, name, entry),
            Some(Place::Rollout(id)) => put(&mut self.rollouts, id, entry),
            Some(Place::Progress(id, target)) => put(&mut self.progress, (id, target), entry),
            Some(Place::Elsewhere) => {}
            None => warn!(key = entry.key, "unknown key"),
        }
    }

    fn delete(&mut self, full: &str, revision: u64) {
        self.revision = self.revision.max(revision);
        match place(full) {
            Some(Place::Leader) => self.leader = None,
            Some(Place::Generation) => self.generation = None,
            Some(Place::Session(id)) => drop(self.sessions.remove(&id)),
            Some(Place::Left(id)) => drop(self.left.remove(&id)),
            Some(Place::Drain(session, target)) => drop(self.drains.remove(&(target, session))),
            Some(Place::Target(name)) => drop(self.targets.remove(&name)),
            Some(Place::Gate(name)) => drop(self.gates.remove(&name)),
            Some(Place::Retired(name)) => drop(self.retired.remove(&name)),
            Some(Place::Active(name)) => drop(self.active.remove(&name)),
            Some(Place::Rollout(id)) => drop(self.rollouts.remove(&id)),
            Some(Place::Progress(id, target)) => drop(self.progress.remove(&(id, target))),
            Some(Place::Elsewhere) | None => {}
        }
    }

    /// The generation that epochs have now.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.as_ref().map_or(FIRST_GENERATION, |g| g.record)
    }

    /// The coordinators that are present.
    #[must_use]
    pub fn present(&self) -> BTreeSet<SessionId> {
        self.sessions.keys().cloned().collect()
    }

    /// Who leads, and under which epoch; both from one record, so that they belong together.
    #[must_use]
    pub fn leader(&self) -> Option<(LeaderEpoch, &LeaderInfo)> {
        let generation = self.generation();
        let leader = self.leader.as_ref()?;
        let revision = leader.create_revision;
        Some((LeaderEpoch { generation, revision }, &leader.record))
    }

    /// Applies what a watch saw.
    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Put(entry) => self.put(entry),
                Change::Delete { key, revision } => self.delete(key, *revision),
            }
        }
    }
}

/// Where a session writes when it lists everything: `pictures/<coordinator>/<uuid>`.
const PICTURES: &str = "pictures/";

/// Attempts to list everything before the session is given up.
const PICTURE_ATTEMPTS: u32 = 5;

/// Lists everything, in a transaction that writes.
async fn picture(store: &dyn Store, session: &Session) -> Result<Listing, StoreError> {
    let txn = Txn {
        guards: vec![Guard::CreateRevision(session.key(), session.create_revision())],
        writes: vec![Write::Put {
            key: format!("{PICTURES}{}", session.id()),
            value: Vec::new(),
            lease: Some(session.lease()),
        }],
        lists: vec![String::new()],
    };
    let mut attempt = 1;
    loop {
        match store.commit(txn.clone()).await {
            Ok(Outcome::Committed { mut lists, .. }) => return Ok(lists.pop().unwrap_or_default()),
            Ok(Outcome::Conflict { .. }) => return Err(StoreError::LeaseGone),
            // Writing the mark twice is harmless.
            Err(_) if attempt < PICTURE_ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
        tokio::time::sleep(REWATCH_PAUSE.mul_f64(0.5 + fastrand::f64())).await;
    }
}

/// Keeps a [`FleetView`] current until cancelled.
#[derive(Debug)]
pub struct Watcher {
    store: Arc<dyn Store>,
    session: Arc<Session>,
    sender: watch::Sender<FleetView>,
}

impl Watcher {
    /// Takes the first picture. From here on [`Self::run`] keeps it.
    ///
    /// # Errors
    /// The store did not answer, or the session is gone.
    pub async fn start(
        store: Arc<dyn Store>,
        session: Arc<Session>,
    ) -> Result<(Self, watch::Receiver<FleetView>), StoreError> {
        let view = FleetView::from_listing(&picture(store.as_ref(), &session).await?);
        let (sender, receiver) = watch::channel(view);
        Ok((
            Self {
                store,
                session,
                sender,
            },
            receiver,
        ))
    }

    /// Watches until cancelled. A watch that breaks is opened again from the next revision, or, when that was
    /// compacted, from a new picture.
    pub async fn run(self, cancel: CancellationToken) {
        while !cancel.is_cancelled() {
            let ended = tokio::select! {
                () = cancel.cancelled() => return,
                ended = self.follow() => ended,
            };
            debug!(reason = %ended, "store watch ended, opening it again");
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(REWATCH_PAUSE.mul_f64(0.5 + fastrand::f64())) => {}
            }
            if matches!(ended, StoreError::Compacted(_)) {
                match picture(self.store.as_ref(), &self.session).await {
                    Ok(listing) => drop(self.sender.send_replace(FleetView::from_listing(&listing))),
                    Err(error) => warn!(%error, "cannot list the store"),
                }
            }
        }
    }

    /// Follows one watch until it breaks; gives why.
    async fn follow(&self) -> StoreError {
        let skipped = u64::from(mutated(Mutation::RevisionSkipped));
        let from = self.sender.borrow().revision + 1 + skipped;
        let mut changes = match self.store.watch("", from).await {
            Ok(changes) => changes,
            Err(error) => return error,
        };
        loop {
            match changes.next().await {
                Some(Ok(batch)) => {
                    batch.iter().for_each(|change| self.session.observe(change));
                    self.sender.send_modify(|view| view.apply(&batch));
                }
                Some(Err(error)) => return error,
                None => return StoreError::Unavailable("watch ended".to_owned()),
            }
        }
    }
}
