//! What the handles, the permits and the background task of one agent have in common.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lockkeeper_core::permits::{Cause, Fence};
use lockkeeper_core::time::Instant;
use tokio::sync::{Notify, watch};
use tracing::Span;

use crate::clock::Clock;
use crate::target::{Target, TargetConfig};

/// How long the views are left alone when no lease runs: there is nothing to expire.
const NOTHING_EXPIRES: Duration = Duration::from_secs(3600);

/// How the agent stands with its coordinators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// Looking for a coordinator.
    Connecting {
        /// Why the last attempt failed, or the last stream ended; `None`: first attempt.
        last_error: Option<String>,
    },
    /// Registered with a coordinator.
    Connected {
        /// Its address.
        coordinator: String,
    },
    /// A newer start of the same replica has registered. Final.
    Superseded {
        /// What the coordinator said.
        reason: String,
    },
    /// The first coordinator that was reached rejected the registration. Final.
    Rejected {
        /// What the coordinator said.
        reason: String,
    },
    /// The agent was shut down. Final.
    Closed,
}

/// Lets a span continue the trace of a W3C trace context. The agent itself knows no tracing backend.
pub(crate) type ContinueTrace = Arc<dyn Fn(&Span, &str) + Send + Sync>;

pub(crate) struct Shared {
    continue_trace: Option<ContinueTrace>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) targets: Vec<Arc<Target>>,
    by_name: HashMap<String, usize>,
    pub(crate) link: watch::Sender<LinkState>,
    /// Rung when the background task may have something to send.
    pub(crate) work: Notify,
    /// Rung when a lease has changed, so that its end is waited for anew.
    leases: Notify,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("targets", &self.targets)
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        configs: &[TargetConfig],
        continue_trace: Option<ContinueTrace>,
    ) -> Self {
        let targets: Vec<_> = configs
            .iter()
            .map(|config| Arc::new(Target::new(config)))
            .collect();
        let names = targets.iter().enumerate();
        let by_name = names
            .map(|(index, target)| (target.name.as_str().to_owned(), index))
            .collect();
        let (link, _) = watch::channel(LinkState::Connecting { last_error: None });
        Self {
            continue_trace,
            clock,
            targets,
            by_name,
            link,
            work: Notify::new(),
            leases: Notify::new(),
        }
    }

    /// Traces a fence as a part of the rollout that raised it, from when it is first heard of.
    pub(crate) fn trace_fence(&self, target: &Target, fence: &Fence, traceparent: Option<&str>) {
        let Some(continue_trace) = &self.continue_trace else {
            return;
        };
        let Some(traceparent) = traceparent else {
            return target.end_fence_span();
        };
        target.begin_fence_span(fence.gate_epoch, || {
            let rollout = fence.rollout.as_ref().map(ToString::to_string);
            let (target_name, gate_epoch) = (&target.name, fence.gate_epoch);
            let span = tracing::info_span!(parent: None, "fenced", %target_name, %gate_epoch, rollout);
            continue_trace(&span, traceparent);
            span
        });
    }

    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    pub(crate) fn target(&self, name: &str) -> Option<&Arc<Target>> {
        self.by_name.get(name).and_then(|index| self.targets.get(*index))
    }

    /// Hands out no permit of any target any more.
    pub(crate) fn leave(&self, cause: Cause, reason: &str) {
        let now = self.now();
        for target in &self.targets {
            target.update(now, |permits| permits.leave(cause, reason));
        }
        self.work.notify_one();
    }

    /// Ends the link for good, and wakes whoever waits for a permit that will never come.
    pub(crate) fn end(&self, state: LinkState) {
        self.link.send_replace(state);
        for target in &self.targets {
            target.retry.notify_waiters();
        }
    }

    /// A lease was granted or lost.
    pub(crate) fn leases_changed(&self) {
        self.leases.notify_one();
    }

    /// Shows expired leases to watchers, for ever. For show only: a permit compares the clock when it is taken.
    pub(crate) async fn show_expired_leases(&self) {
        loop {
            let now = self.now();
            let ends = self
                .targets
                .iter()
                .filter_map(|target| target.permits().lease_end());
            let next = ends.filter(|end| *end > now).min();
            let wait = next.map_or(NOTHING_EXPIRES, |end| end.since(now));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.leases.notified() => {}
            }
            let now = self.now();
            for target in &self.targets {
                target.publish(now);
            }
        }
    }
}
