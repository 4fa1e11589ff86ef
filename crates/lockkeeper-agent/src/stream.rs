//! One stream to one coordinator.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use lockkeeper_core::permits::{Grant, Heard};
use lockkeeper_core::time::Instant;
use lockkeeper_proto::v1;
use tokio::sync::mpsc;

use crate::shared::Shared;
use crate::target::Target;
use crate::wire::{self, Said};

/// Renewals that a grant may still answer. Older answers come too late to be of use.
const RENEWALS_REMEMBERED: usize = 64;

/// So many renewals go unanswered before another coordinator is tried: with a third of the lease left.
const RENEWALS_UNANSWERED_MAX: u32 = 2;

/// A renewal is sent up to this part of its interval earlier, so that a fleet does not renew in step.
const JITTER: f64 = 0.2;

/// The outgoing half of a stream, and what must be remembered while it lasts.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    shared: &'a Shared,
    requests: mpsc::Sender<v1::RegisterAndWaitRequest>,
    sequence: u64,
    /// When each recent renewal was sent. The registration counts as number 0.
    sent: VecDeque<(u64, Instant)>,
    last_grant: Instant,
    early: f64,
}

/// The coordinator does not read what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stuck;

impl<'a> Outgoing<'a> {
    pub(crate) fn new(
        shared: &'a Shared,
        requests: mpsc::Sender<v1::RegisterAndWaitRequest>,
        registered_at: Instant,
    ) -> Self {
        for target in &shared.targets {
            target.permits().connected();
        }
        Self {
            shared,
            requests,
            sequence: 0,
            sent: VecDeque::from([(0, registered_at)]),
            last_grant: registered_at,
            early: fastrand::f64() * JITTER,
        }
    }

    /// Sends what is due: acks first, since a rollout waits for them.
    pub(crate) fn flush(&mut self) -> Result<(), Stuck> {
        for target in &self.shared.targets {
            // In two steps, because the ack counts as sent only when the stream has taken it.
            let due = target.permits().ack_due();
            if let Some(gate_epoch) = due {
                self.send(wire::drained(&target.name, gate_epoch))?;
                target.permits().ack_sent(gate_epoch);
                tracing::debug!(target_name = %target.name, %gate_epoch, "acked drained");
            }
        }
        if self.renewal_due().is_some_and(|due| due <= self.shared.now()) {
            self.renew()
        } else {
            Ok(())
        }
    }

    fn renew(&mut self) -> Result<(), Stuck> {
        let now = self.shared.now();
        self.sequence += 1;
        let held = |target: &Arc<Target>| {
            let mut permits = target.permits();
            permits.renewal_sent(now);
            wire::held(&target.name, permits.held(now))
        };
        let held = self.shared.targets.iter().map(held).collect();
        self.sent.push_back((self.sequence, now));
        if self.sent.len() > RENEWALS_REMEMBERED {
            self.sent.pop_front();
        }
        self.early = fastrand::f64() * JITTER;
        self.send(wire::renew(self.sequence, held))
    }

    fn send(&self, request: v1::RegisterAndWaitRequest) -> Result<(), Stuck> {
        self.requests.try_send(request).map_err(|_| Stuck)
    }

    /// When the next renewal is to be sent, jitter included.
    fn renewal_due(&self) -> Option<Instant> {
        let due = |target: &Arc<Target>| {
            let permits = target.permits();
            let early = permits.renew_every().mul_f64(self.early);
            permits.renew_at().map(|at| at - early)
        };
        self.shared.targets.iter().filter_map(due).min()
    }

    /// How long until something is due, or the coordinator counts as dumb.
    pub(crate) fn next_in(&self) -> Duration {
        let now = self.shared.now();
        let due = self.renewal_due().map(|at| at.since(now));
        let dumb = self.dumb_at().map(|at| at.since(now));
        due.into_iter()
            .chain(dumb)
            .min()
            .unwrap_or(Duration::from_secs(1))
    }

    /// Whether the coordinator, though connected, has answered no renewal for so long that the leases are about to
    /// end: another one may do better.
    pub(crate) fn is_dumb(&self) -> bool {
        self.dumb_at().is_some_and(|at| at <= self.shared.now())
    }

    /// Only for open targets: a fenced one is not granted anything.
    fn dumb_at(&self) -> Option<Instant> {
        let open = self.shared.targets.iter().filter_map(|target| {
            let permits = target.permits();
            permits.lease_end().map(|_| permits.renew_every())
        });
        open.max()
            .map(|every| self.last_grant + every * RENEWALS_UNANSWERED_MAX)
    }

    /// Hears what the coordinator said.
    pub(crate) fn hear(&mut self, target_name: &str, said: Said) {
        let now = self.shared.now();
        let Some(target) = self.shared.target(target_name) else {
            tracing::warn!(
                target_name,
                "the coordinator spoke of a target that this agent did not register"
            );
            return;
        };
        let heard = match said {
            Said::Granted {
                gate_epoch,
                version,
                lease,
                sequence,
            } => {
                let Some(sent_at) = self.sent_at(sequence) else {
                    tracing::warn!(
                        target_name,
                        sequence,
                        "a grant answers a renewal that was not sent"
                    );
                    return;
                };
                let grant = Grant {
                    gate_epoch,
                    version,
                    lease,
                    sent_at,
                };
                let heard = target.update(now, |permits| permits.granted(&grant));
                // A coordinator that lags behind, and grants what is long closed, is as good as dumb.
                if heard == Heard::Accepted {
                    self.last_grant = now;
                    target.end_fence_span();
                }
                heard
            }
            Said::Fenced { fence, traceparent } => {
                // Every renewal of a fenced target is answered so: only the first is news.
                if target.permits().view(now).is_open() {
                    tracing::info!(target_name, %fence, "fenced");
                }
                self.shared.trace_fence(target, &fence, traceparent.as_deref());
                target.update(now, |permits| permits.fenced(fence))
            }
            Said::Opened { gate_epoch, version } => {
                target.update(now, |permits| permits.opened(gate_epoch, version))
            }
        };
        if heard == Heard::Ignored {
            tracing::debug!(target_name, highest = %target.permits().highest(), "ignored what is out of date");
        }
        self.shared.leases_changed();
    }

    fn sent_at(&self, sequence: u64) -> Option<Instant> {
        self.sent
            .iter()
            .find(|(number, _)| *number == sequence)
            .map(|(_, at)| *at)
    }
}
