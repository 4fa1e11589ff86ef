//! The leader's tasks, from election to loss.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lockkeeper_core::drain::Departures;
use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_core::gate::Gate;
use lockkeeper_core::id::{CoordinatorName, RolloutId, SessionId, TargetName};
use lockkeeper_core::lease::LeaseSettings;
use lockkeeper_core::rollout::Event;
use lockkeeper_core::spec::TargetSpec;
use lockkeeper_core::time::{Instant, WallTime};
use lockkeeper_migrate::db::GateRow;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::leader::fence;
use crate::leader::recall::Recall;
use crate::leader::unfinished::{self, Creation};
use crate::leader::waits::Waits;
use crate::leader::writer::{LeaderWriter, RecordChange, WriteError};
use crate::leader::{adopt, rollout};
use crate::records::{Abort, Decision, ProgressRecord, RolloutRecord, Stored, key};
use crate::store::{Listing, StoreError};
use crate::view::FleetView;
use crate::world::World;

/// How long the view may lag behind this leader's own commit before it goes on without it.
const VIEW_PATIENCE: Duration = Duration::from_secs(5);

/// An operator's abort, as the state machine hears of it.
#[must_use]
pub fn abort_event(abort: &Abort) -> Event {
    let Decision { reason, by, .. } = &abort.decision;
    Event::AbortRequested {
        way: abort.way,
        reason: format!("aborted: {reason} ({by})"),
    }
}

/// One coordinator's time as the leader. Everything here ends with it.
#[derive(Debug)]
pub struct Leader {
    /// Guarded commits.
    pub writer: LeaderWriter,
    /// Random id of this leader process; the targets' rows keep it beside the epoch.
    pub id: Uuid,
    /// Who leads, for ledgers.
    pub coordinator: CoordinatorName,
    /// The store's picture.
    pub view: watch::Receiver<FleetView>,
    /// The world around it.
    pub world: World,
    /// The fleet's leases.
    pub settings: LeaseSettings,
    /// What targets wait for.
    pub waits: Waits,
    /// Held while a rollout is being created, or what is left of one removed.
    pub creation: tokio::sync::Mutex<Creation>,
    departures: Mutex<Departures>,
}

impl Leader {
    /// A leader that has just been elected.
    #[must_use]
    pub fn new(
        writer: LeaderWriter,
        id: Uuid,
        coordinator: CoordinatorName,
        view: watch::Receiver<FleetView>,
        world: World,
        settings: LeaseSettings,
        waits: Waits,
    ) -> Arc<Self> {
        let departures = Mutex::new(Departures::new(view.borrow().present(), world.clock.now()));
        Arc::new(Self {
            writer,
            id,
            coordinator,
            view,
            world,
            settings,
            waits,
            creation: tokio::sync::Mutex::new(Creation),
            departures,
        })
    }

    /// The wall clock.
    #[must_use]
    pub fn wall(&self) -> WallTime {
        self.world.clock.wall()
    }

    /// A target's gate.
    #[must_use]
    pub fn gate(&self, target: &TargetName) -> Option<Stored<Gate>> {
        self.view.borrow().gates.get(target).cloned()
    }

    /// Whether the gate is closed by this rollout under this epoch.
    #[must_use]
    pub fn is_closed(&self, target: &TargetName, rollout: &RolloutId, epoch: GateEpoch) -> bool {
        self.gate(target)
            .is_some_and(|gate| fence::is_closed_by(&gate.record, rollout, Some(epoch)))
    }

    /// A declared target.
    #[must_use]
    pub fn spec(&self, target: &TargetName) -> Option<TargetSpec> {
        self.view.borrow().targets.get(target).map(|t| t.record.clone())
    }

    /// Whether a rollout works on a target.
    #[must_use]
    pub fn is_active(&self, target: &TargetName) -> bool {
        self.view.borrow().active.contains_key(target)
    }

    /// A declared target, as soon as no rollout works on it; `None`: it is not declared.
    pub async fn idle_spec(&self, target: &TargetName) -> Option<TargetSpec> {
        let mut view = self.view.clone();
        let settled =
            |view: &FleetView| !view.targets.contains_key(target) || !view.active.contains_key(target);
        let view = view.wait_for(settled).await.ok()?;
        view.targets.get(target).map(|t| t.record.clone())
    }

    /// What this leader's store recalls of what a target's row has seen.
    #[must_use]
    pub fn recall(&self, target: &TargetName, row: Option<&GateRow>) -> Recall {
        let known = {
            let view = self.view.borrow();
            let gate = view.gates.get(target).map(|gate| gate.record.epoch);
            // A target of this name that was removed, and declared again.
            let retired = view.retired.get(target).map(|retired| retired.record);
            gate.max(retired).unwrap_or(GateEpoch::ZERO)
        };
        Recall::of(row, known, self.writer.epoch(), self.id)
    }

    /// Declared targets that have no gate yet.
    #[must_use]
    pub fn targets_without_gate(&self) -> Vec<TargetName> {
        let view = self.view.borrow();
        let without = view.targets.keys().filter(|name| !view.gates.contains_key(*name));
        without.cloned().collect()
    }

    /// A rollout.
    #[must_use]
    pub fn rollout(&self, id: &RolloutId) -> Option<Stored<RolloutRecord>> {
        self.view.borrow().rollouts.get(id).cloned()
    }

    /// A rollout's targets.
    #[must_use]
    pub fn progress(&self, id: &RolloutId) -> BTreeMap<TargetName, Stored<ProgressRecord>> {
        let view = self.view.borrow();
        let of_rollout = view.progress.iter().filter(|((rollout, _), _)| rollout == id);
        of_rollout
            .map(|((_, target), progress)| (target.clone(), progress.clone()))
            .collect()
    }

    /// The change that ends a rollout's work on a target, if the mark is its own.
    #[must_use]
    pub fn active_end(&self, target: &TargetName, rollout: &RolloutId) -> Option<RecordChange> {
        let view = self.view.borrow();
        let active = view
            .active
            .get(target)
            .filter(|active| active.record == *rollout)?;
        Some(RecordChange::delete(key::active(target), active))
    }

    /// Who applies migrations, for ledgers.
    #[must_use]
    pub fn applied_by(&self) -> String {
        format!(
            "coordinator {} as leader {}",
            self.coordinator,
            self.writer.epoch()
        )
    }

    /// Sessions that were seen vanishing, and since when this leader sees.
    #[must_use]
    pub fn departures(&self) -> (Vec<(SessionId, Instant)>, Instant) {
        let mut departures = self.departures.lock().unwrap_or_else(PoisonError::into_inner);
        // The task that watches may not have run yet since the view changed.
        let view = self.view.borrow();
        let left = |session: &SessionId| view.left.contains_key(session);
        departures.observe(
            view.present(),
            left,
            self.world.clock.now(),
            self.settings.after_vanishing(),
        );
        (departures.gone(), departures.since())
    }

    /// Lists a prefix in a guarded commit, so that it is no older than this leadership.
    ///
    /// # Errors
    /// Leadership is lost, or the store did not answer.
    pub async fn store_list(&self, prefix: &str) -> Result<Listing, WriteError> {
        let mut written = self.writer.commit(Vec::new(), &[prefix]).await?;
        written
            .lists
            .pop()
            .ok_or_else(|| WriteError::Store(StoreError::Unavailable("no listing came back".to_owned())))
    }

    /// Waits until the view holds `revision`, or for a bounded time.
    pub async fn view_at(&self, revision: u64) {
        let mut view = self.view.clone();
        let caught_up = view.wait_for(|view| view.revision >= revision);
        // A view that lags only makes the next guarded commit conflict.
        let _ = tokio::time::timeout(VIEW_PATIENCE, caught_up).await;
    }

    /// Waits until the view shows the target's gate, or the target gone.
    pub async fn wait_for_view(&self, target: &TargetName) {
        let mut view = self.view.clone();
        let shown =
            view.wait_for(|view| view.gates.contains_key(target) || !view.targets.contains_key(target));
        let _ = tokio::time::timeout(VIEW_PATIENCE, shown).await;
    }

    /// Resolves when a target's record is newer than `revision`; `None` when it is gone.
    pub async fn decided(
        &self,
        rollout: &RolloutId,
        target: &TargetName,
        revision: u64,
    ) -> Option<Stored<ProgressRecord>> {
        let at = (rollout.clone(), target.clone());
        let mut view = self.view.clone();
        let newer = |view: &FleetView| view.progress.get(&at).is_none_or(|p| p.mod_revision > revision);
        let view = view.wait_for(newer).await.ok()?;
        view.progress.get(&at).cloned()
    }

    /// Resolves when an operator wants the rollout to stop.
    pub async fn abort_requested(&self, id: &RolloutId) -> Event {
        let abort = self.ruled(id, |rollout| rollout.abort.clone()).await;
        abort_event(&abort)
    }

    /// Resolves when an operator wants the rollout to rest.
    pub async fn pause_requested(&self, id: &RolloutId) -> Event {
        self.ruled(id, |rollout| rollout.steering.paused.then_some(()))
            .await;
        Event::PauseRequested
    }

    /// Waits until something is ruled about a rollout.
    async fn ruled<T>(&self, id: &RolloutId, ruling: impl Fn(&RolloutRecord) -> Option<T>) -> T {
        let mut view = self.view.clone();
        loop {
            let ruled = view
                .borrow_and_update()
                .rollouts
                .get(id)
                .and_then(|r| ruling(&r.record));
            if let Some(ruled) = ruled {
                return ruled;
            }
            if view.changed().await.is_err() {
                // The view has ended: so will this leader.
                return std::future::pending().await;
            }
        }
    }

    async fn remove_unfinished(self: Arc<Self>) {
        let creation = self.creation.lock().await;
        if let Err(error) = unfinished::remove(&self, &creation).await {
            // The next creation tries again.
            warn!(%error, "cannot remove what is left of rollouts that were not created");
        }
    }

    async fn watch_departures(self: Arc<Self>) {
        let mut view = self.view.clone();
        loop {
            {
                let now = self.world.clock.now();
                let mut departures = self.departures.lock().unwrap_or_else(PoisonError::into_inner);
                let view = view.borrow_and_update();
                let left = |session: &SessionId| view.left.contains_key(session);
                departures.observe(view.present(), left, now, self.settings.after_vanishing());
            }
            if view.changed().await.is_err() {
                return;
            }
        }
    }

    /// Leads until cancelled: adopts targets, and runs every rollout that has not ended.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        info!(epoch = %self.writer.epoch(), "leading");
        let mut tasks = JoinSet::new();
        tasks.spawn(adopt::run(Arc::clone(&self)));
        tasks.spawn(Arc::clone(&self).watch_departures());
        tasks.spawn(Arc::clone(&self).remove_unfinished());
        let mut known: BTreeSet<RolloutId> = BTreeSet::new();
        let mut view = self.view.clone();
        loop {
            let running: Vec<RolloutId> = {
                let view = view.borrow_and_update();
                let not_ended = view.rollouts.iter().filter(|(_, r)| r.record.ended_at.is_none());
                not_ended.map(|(id, _)| id.clone()).collect()
            };
            for id in running {
                if known.insert(id.clone()) {
                    tasks.spawn(rollout::run(Arc::clone(&self), id));
                }
            }
            tokio::select! {
                () = cancel.cancelled() => break,
                changed = view.changed() => if changed.is_err() { break },
            }
        }
        // Dropping the tasks drops their database sessions; the next leader confirms that they are gone.
        tasks.shutdown().await;
        info!(epoch = %self.writer.epoch(), "no longer leading");
    }
}
