//! Leave to run one write transaction.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_core::permits::{Fence, Taken, TargetView};
use lockkeeper_core::time::Instant;
use lockkeeper_core::version::SchemaVersion;

use crate::shared::Shared;
use crate::target::Target;

/// Leave to run one write transaction on a target. Keep it until the transaction has ended, then drop it: a fence is
/// not drained before.
///
/// The write must have ended by [`Permit::deadline`]. A permit does not make a late commit impossible, it only asks
/// for none; what makes it impossible is the database's own barrier.
#[must_use = "a permit that is dropped at once permits nothing"]
pub struct Permit {
    shared: Arc<Shared>,
    target: Arc<Target>,
    taken: Taken,
}

impl Permit {
    pub(crate) fn new(shared: Arc<Shared>, target: Arc<Target>, taken: Taken) -> Self {
        Self {
            shared,
            target,
            taken,
        }
    }

    /// Name of the target.
    #[must_use]
    pub fn target(&self) -> &str {
        self.target.name.as_str()
    }

    /// The gate epoch that the permit is bound to.
    #[must_use]
    pub fn gate_epoch(&self) -> GateEpoch {
        self.taken.gate_epoch
    }

    /// The schema version that the gate was open at when the permit was taken.
    #[must_use]
    pub fn version(&self) -> &SchemaVersion {
        &self.taken.version
    }

    /// When the write must have ended, on the agent's own clock: the end of the write lease. Renewals move it on as
    /// long as the gate stays open. `None`: the database itself refuses late writes.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.target.permits().deadline(self.taken.id)
    }

    /// The time until [`Permit::deadline`]; zero when it has passed.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline().map(|deadline| deadline.since(self.shared.now()))
    }

    /// Whether the deadline has passed: the write must not go on.
    #[must_use]
    pub fn expired(&self) -> bool {
        self.deadline()
            .is_some_and(|deadline| deadline <= self.shared.now())
    }

    /// What write transactions of this gate epoch carry, if it is known.
    #[cfg(feature = "sqlx")]
    pub(crate) fn carried(&self) -> Option<crate::gate_row::Carried> {
        self.target.carried(self.taken.gate_epoch)
    }

    /// Keeps what write transactions of this gate epoch carry.
    #[cfg(feature = "sqlx")]
    pub(crate) fn learned(&self, carried: &crate::gate_row::Carried) {
        self.target.learned(self.taken.gate_epoch, carried.clone());
    }

    /// Waits until the target is fenced or the lease has run out, and says why. Long work should end then, since a
    /// rollout waits for it.
    pub async fn revoked(&self) -> Fence {
        let mut views = self.target.watch();
        loop {
            match &*views.borrow_and_update() {
                TargetView::Fenced(fence) => return fence.clone(),
                TargetView::Open { gate_epoch, .. } if *gate_epoch != self.taken.gate_epoch => {
                    return missed_fence(*gate_epoch);
                }
                TargetView::Open { .. } => {}
            }
            // The permit itself keeps the sending half alive, so this cannot fail.
            let _ = views.changed().await;
        }
    }
}

/// The gate has closed and opened again in between, unnoticed.
fn missed_fence(gate_epoch: GateEpoch) -> Fence {
    Fence {
        gate_epoch,
        cause: lockkeeper_core::permits::Cause::GateClosed,
        reason: "the gate was closed and is open again".to_owned(),
        rollout: None,
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("target", &self.target.name)
            .field("gate_epoch", &self.taken.gate_epoch)
            .field("version", &self.taken.version)
            .field("deadline", &self.deadline())
            .finish()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let (ack_due, idle) = {
            let mut permits = self.target.permits();
            permits.release(self.taken.id);
            (permits.ack_due().is_some(), permits.is_empty())
        };
        if ack_due {
            self.shared.work.notify_one();
        }
        if idle {
            self.target.idle.notify_waiters();
        }
    }
}
