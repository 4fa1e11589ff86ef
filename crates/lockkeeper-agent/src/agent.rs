//! The handle that a service holds.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use lockkeeper_core::permits::{Cause, Fence, TargetView};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::builder::{AgentBuilder, Config};
use crate::clock::Clock;
use crate::error::AgentError;
use crate::gate_row::{self, Watched};
use crate::link;
use crate::permit::Permit;
use crate::shared::{LinkState, Shared};
use crate::target::Target;

/// How long [`Agent::shutdown`] waits for permits to come back: longer than writes take, shorter than the grace that
/// orchestrators give a process.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// The background task may take this long to say farewell to its coordinator.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// One replica's agent. Cheap to clone; all clones are the same agent, and dropping the last one ends it.
#[derive(Clone)]
pub struct Agent {
    shared: Arc<Shared>,
    leaving: CancellationToken,
    write_timeout: Option<Duration>,
    /// Cancelled with the last clone. Permits do not hold it: they only give themselves back.
    _task: Arc<AbortOnDropHandle<()>>,
}

impl Agent {
    /// Starts configuring an agent.
    pub fn builder() -> AgentBuilder {
        AgentBuilder::default()
    }

    pub(crate) fn start(
        runtime: &Handle,
        config: Config,
        clock: Arc<dyn Clock>,
        write_timeout: Option<Duration>,
    ) -> Self {
        let shared = Arc::new(Shared::new(clock, &config.targets, config.continue_trace.clone()));
        let leaving = CancellationToken::new();
        let watched = Watched::all(&shared, &config);
        let run = link::run(Arc::new(config), Arc::clone(&shared), leaving.clone());
        let rows = Arc::clone(&shared);
        let task = runtime.spawn(async move {
            tokio::select! {
                () = run => {}
                () = gate_row::watch(&rows, &watched) => {}
            }
        });
        Self {
            shared,
            leaving,
            write_timeout,
            _task: Arc::new(AbortOnDropHandle::new(task)),
        }
    }

    /// Returns when every target is open at a version that fits. Waits as long as it takes; wrap it in a time-out
    /// to bound it, and see [`Agent::link`] for what it waits for.
    ///
    /// # Errors
    ///
    /// That waiting is pointless: superseded, rejected, or shut down.
    pub async fn register_and_wait(&self) -> Result<(), AgentError> {
        for target in &self.shared.targets {
            let mut views = target.watch();
            self.unless_ended(async {
                // The sending half lives in `self`, so this cannot fail.
                let _ = views.wait_for(TargetView::is_open).await;
            })
            .await?;
        }
        Ok(())
    }

    /// Takes a permit for one write transaction, waiting while the target is fenced.
    ///
    /// # Errors
    ///
    /// [`AgentError::TimedOut`] if a time-out was set when building the agent, or that waiting is pointless. A fence
    /// alone is no error.
    pub async fn write(&self, target: &str) -> Result<Permit, AgentError> {
        self.write_labelled(target, "").await
    }

    /// As [`Agent::write`]. The label names the writer in `lockkeeper rollout` and `explain` when it keeps a fence
    /// from draining.
    ///
    /// # Errors
    ///
    /// As [`Agent::write`].
    pub async fn write_labelled(&self, target: &str, label: &str) -> Result<Permit, AgentError> {
        let known = self.known(target)?;
        let wait = self.wait_for_permit(known, label);
        let Some(timeout) = self.write_timeout else {
            return wait.await;
        };
        match tokio::time::timeout(timeout, wait).await {
            Ok(result) => result,
            Err(_) => Err(self.timed_out(known, timeout)),
        }
    }

    /// Takes a permit if one may be had now.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn try_write(&self, target: &str) -> Result<Permit, Fence> {
        self.try_write_labelled(target, "")
    }

    /// As [`Agent::try_write`], with a label as in [`Agent::write_labelled`].
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn try_write_labelled(&self, target: &str, label: &str) -> Result<Permit, Fence> {
        let known = self.known(target).map_err(|error| Fence {
            gate_epoch: lockkeeper_core::epoch::GateEpoch::ZERO,
            cause: Cause::UnknownTarget,
            reason: error.to_string(),
            rollout: None,
        })?;
        self.try_take(known, label)
    }

    /// What a target looks like, now and whenever it changes. `None`: the agent was not built with it.
    #[must_use]
    pub fn watch(&self, target: &str) -> Option<watch::Receiver<TargetView>> {
        self.shared.target(target).map(|target| target.watch())
    }

    /// How the agent stands with its coordinators, now and whenever it changes.
    #[must_use]
    pub fn link(&self) -> watch::Receiver<LinkState> {
        self.shared.link.subscribe()
    }

    /// Names of the targets, in the order given to the builder.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        self.shared.targets.iter().map(|target| target.name.as_str())
    }

    /// Hands out no more permits, waits up to [`SHUTDOWN_GRACE`] for those that are out, acks, and says farewell, so
    /// that no rollout waits for this agent's leases.
    ///
    /// # Errors
    ///
    /// [`AgentError::StillWriting`] names the permit that did not come back.
    pub async fn shutdown(&self) -> Result<(), AgentError> {
        self.shutdown_within(SHUTDOWN_GRACE).await
    }

    /// As [`Agent::shutdown`], waiting up to `grace`.
    ///
    /// # Errors
    ///
    /// As [`Agent::shutdown`].
    pub async fn shutdown_within(&self, grace: Duration) -> Result<(), AgentError> {
        self.shared.leave(Cause::Leaving, "the agent is shutting down");
        let drained = tokio::time::timeout(grace, self.all_idle()).await;
        self.leaving.cancel();
        let mut link = self.link();
        let ended = link.wait_for(|state| is_final(state).is_some());
        let _ = tokio::time::timeout(FAREWELL_TIMEOUT, ended).await;
        drained.map_err(|_| self.straggler())
    }

    async fn wait_for_permit(&self, target: &Arc<Target>, label: &str) -> Result<Permit, AgentError> {
        loop {
            // Listening starts before the attempt, so that no grant in between is missed.
            let mut retry = std::pin::pin!(target.retry.notified());
            retry.as_mut().enable();
            if let Ok(permit) = self.try_take(target, label) {
                return Ok(permit);
            }
            self.ended()?;
            retry.await;
        }
    }

    fn try_take(&self, target: &Arc<Target>, label: &str) -> Result<Permit, Fence> {
        let now = self.shared.now();
        let taken = target.permits().take(now, label)?;
        Ok(Permit::new(Arc::clone(&self.shared), Arc::clone(target), taken))
    }

    fn known(&self, target: &str) -> Result<&Arc<Target>, AgentError> {
        self.shared
            .target(target)
            .ok_or_else(|| AgentError::UnknownTarget(target.to_owned()))
    }

    fn timed_out(&self, target: &Target, waited: Duration) -> AgentError {
        // The permit may have become available just now; the reason then is what it was.
        let fence = match target.permits().view(self.shared.now()) {
            TargetView::Fenced(fence) => fence,
            TargetView::Open { gate_epoch, .. } => Fence {
                gate_epoch,
                cause: Cause::Unspecified,
                reason: "it opened just now".to_owned(),
                rollout: None,
            },
        };
        AgentError::TimedOut {
            target: target.name.clone(),
            waited,
            fence,
        }
    }

    fn ended(&self) -> Result<(), AgentError> {
        is_final(&self.shared.link.borrow()).map_or(Ok(()), Err)
    }

    /// Runs `wait` unless the link ends for good before.
    async fn unless_ended(&self, wait: impl Future<Output = ()>) -> Result<(), AgentError> {
        let mut link = self.link();
        tokio::select! {
            biased;
            () = wait => Ok(()),
            _ = link.wait_for(|state| is_final(state).is_some()) => self.ended(),
        }
    }

    async fn all_idle(&self) {
        for target in &self.shared.targets {
            loop {
                let mut idle = std::pin::pin!(target.idle.notified());
                idle.as_mut().enable();
                if target.permits().is_empty() {
                    break;
                }
                idle.await;
            }
        }
    }

    /// Names who keeps the agent from shutting down.
    fn straggler(&self) -> AgentError {
        let now = self.shared.now();
        let held = self
            .shared
            .targets
            .iter()
            .map(|target| (target, target.permits().held(now)));
        match held.max_by_key(|(_, held)| held.oldest_age) {
            Some((target, held)) if held.permits > 0 => AgentError::StillWriting {
                target: target.name.clone(),
                permits: held.permits,
                label: held.oldest_label,
                age: held.oldest_age.unwrap_or_default(),
            },
            _ => AgentError::Closed,
        }
    }
}

/// The error that a final link state means for those who wait.
fn is_final(state: &LinkState) -> Option<AgentError> {
    match state {
        LinkState::Connecting { .. } | LinkState::Connected { .. } => None,
        LinkState::Superseded { reason } => Some(AgentError::Superseded(reason.clone())),
        LinkState::Rejected { reason } => Some(AgentError::Rejected(reason.clone())),
        LinkState::Closed => Some(AgentError::Closed),
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("link", &*self.shared.link.borrow())
            .finish_non_exhaustive()
    }
}
