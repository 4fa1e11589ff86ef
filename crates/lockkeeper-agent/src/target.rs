//! One target of a running agent: the state machine, and those who wait for it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_core::id::TargetName;
use lockkeeper_core::permits::{OnLoss, Permits, TargetView};
use lockkeeper_core::time::Instant;
use lockkeeper_core::version::VersionRange;
use tokio::sync::{Notify, watch};
use tracing::Span;

/// A target as the agent was built with it.
#[derive(Debug, Clone)]
pub(crate) struct TargetConfig {
    pub(crate) name: TargetName,
    pub(crate) versions: VersionRange,
    pub(crate) on_loss: OnLoss,
}

#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) name: TargetName,
    permits: Mutex<Permits>,
    view: watch::Sender<TargetView>,
    /// Rung whenever waiting writers should try again. The view alone would not do: it does not change when a lease
    /// that nobody saw expire is renewed.
    pub(crate) retry: Notify,
    /// Rung when the last permit comes back.
    pub(crate) idle: Notify,
    /// What write transactions of one gate epoch carry, once it was read.
    #[cfg(feature = "sqlx")]
    carried: Mutex<Option<(GateEpoch, crate::gate_row::Carried)>>,
    /// The fence as a part of the rollout's trace: ends when writes may go on.
    fence_span: Mutex<Option<(GateEpoch, Span)>>,
}

impl Target {
    pub(crate) fn new(config: &TargetConfig) -> Self {
        let permits = Permits::new(config.on_loss);
        let (view, _) = watch::channel(permits.view(Instant::default()));
        Self {
            name: config.name.clone(),
            permits: Mutex::new(permits),
            view,
            retry: Notify::new(),
            idle: Notify::new(),
            #[cfg(feature = "sqlx")]
            carried: Mutex::new(None),
            fence_span: Mutex::new(None),
        }
    }

    #[cfg(feature = "sqlx")]
    pub(crate) fn carried(&self, gate_epoch: GateEpoch) -> Option<crate::gate_row::Carried> {
        let known = self.carried.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .as_ref()
            .filter(|(epoch, _)| *epoch == gate_epoch)
            .map(|(_, carried)| carried.clone())
    }

    #[cfg(feature = "sqlx")]
    pub(crate) fn learned(&self, gate_epoch: GateEpoch, carried: crate::gate_row::Carried) {
        let mut known = self.carried.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some((gate_epoch, carried));
    }

    /// The state machine. Held for a few instructions, never across an await; a panic elsewhere leaves it usable,
    /// because each of its methods ends in a whole state.
    pub(crate) fn permits(&self) -> MutexGuard<'_, Permits> {
        self.permits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state machine, then tells everyone who waits.
    pub(crate) fn update<T>(&self, now: Instant, change: impl FnOnce(&mut Permits) -> T) -> T {
        let result = change(&mut self.permits());
        self.publish(now);
        self.retry.notify_waiters();
        result
    }

    /// Shows the watchers what the target looks like at `now`.
    pub(crate) fn publish(&self, now: Instant) {
        // The lock is held while the view is replaced, so that an older view cannot overwrite a newer one.
        let permits = self.permits();
        let view = permits.view(now);
        self.view.send_if_modified(|shown| {
            let changed = *shown != view;
            if changed {
                *shown = view;
            }
            changed
        });
    }

    /// The fence at this epoch is traced by what `span` makes, unless it is traced already.
    pub(crate) fn begin_fence_span(&self, gate_epoch: GateEpoch, span: impl FnOnce() -> Span) {
        let mut current = self.fence_span.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_none_or(|(epoch, _)| *epoch < gate_epoch) {
            *current = Some((gate_epoch, span()));
        }
    }

    /// Writes may go on, or it is no rollout any more that they wait for.
    pub(crate) fn end_fence_span(&self) {
        self.fence_span
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    pub(crate) fn watch(&self) -> watch::Receiver<TargetView> {
        self.view.subscribe()
    }
}
