//! Writes that the database itself refused.

use std::future::Future;
use std::time::Duration;

use lockkeeper_core::epoch::GateEpoch;

use crate::agent::Agent;
use crate::error::AgentError;
use crate::permit::Permit;

/// First and longest pause after a refusal that the agent did not see coming: the coordinator's word is on its way.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_LONGEST: Duration = Duration::from_secs(1);

/// Refusals taken for a passing fence while the gate is open for the agent: about 30 s. More mean a barrier that
/// was left behind, which is for a person to see.
const REFUSALS_PER_EPOCH_MAX: u32 = 35;

/// The database's own refusal of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The gate is closed: retry when it is open. SQLSTATE `LK001`; `SQLITE_BUSY` on SQLite.
    Fenced,
    /// The writer's epoch is over: do not retry. SQLSTATE `LK002`.
    Superseded,
}

/// An error that may be the database's own refusal.
pub trait Refused {
    /// Which refusal, if it is one.
    fn refusal(&self) -> Option<Refusal>;
}

/// Why [`Agent::write_with`] gave up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError<E> {
    /// No permit can be had.
    #[error(transparent)]
    Agent(AgentError),
    /// The write lease ended while the write ran; the write was dropped. Whether it was committed is not known.
    #[error("the write lease ended during the write, whose outcome is unknown")]
    DeadlinePassed,
    /// The write itself failed; or the database went on refusing it while the gate was open for the agent.
    #[error(transparent)]
    Write(E),
}

impl Agent {
    /// Runs one write transaction under a permit; if the database refuses it as fenced, waits for the gate and runs
    /// it again. `write` must therefore be a whole transaction, which it has rolled back when it returns a refusal: one
    /// that is left open keeps its locks during the wait, and is ended by the migration that needs them. (sqlx rolls
    /// a dropped transaction of a bare connection back at the connection's next use, which is too late.)
    ///
    /// The write is dropped at the permit's deadline, so give it a connection that is closed or rolled back then.
    ///
    /// # Errors
    ///
    /// See [`WriteError`].
    pub async fn write_with<T, E, F, W>(&self, target: &str, mut write: W) -> Result<T, WriteError<E>>
    where
        E: Refused,
        F: Future<Output = Result<T, E>>,
        W: FnMut() -> F,
    {
        let mut patience = Patience::default();
        loop {
            let permit = self.write(target).await.map_err(WriteError::Agent)?;
            let gate_epoch = permit.gate_epoch();
            let outcome = tokio::select! {
                outcome = write() => outcome,
                () = deadline(&permit) => return Err(WriteError::DeadlinePassed),
            };
            let error = match outcome {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if error.refusal() != Some(Refusal::Fenced) {
                return Err(WriteError::Write(error));
            }
            drop(permit);
            let Some(pause) = patience.refused(gate_epoch) else {
                return Err(WriteError::Write(error));
            };
            tokio::time::sleep(pause).await;
        }
    }
}

/// Ends when the permit's deadline has passed; looks again after each wait, since renewals move it on.
pub(crate) async fn deadline(permit: &Permit) {
    while let Some(left) = permit.remaining() {
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left).await;
    }
    std::future::pending().await
}

/// Counts refusals under one gate epoch.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    gate_epoch: GateEpoch,
    refusals: u32,
}

impl Patience {
    /// How long to pause after a refusal under `gate_epoch`; `None`: it is enough.
    pub(crate) fn refused(&mut self, gate_epoch: GateEpoch) -> Option<Duration> {
        if gate_epoch != self.gate_epoch {
            *self = Self {
                gate_epoch,
                refusals: 0,
            };
        }
        self.refusals += 1;
        if self.refusals > REFUSALS_PER_EPOCH_MAX {
            return None;
        }
        let longest = (PAUSE_FIRST * 2_u32.saturating_pow(self.refusals.min(16) - 1)).min(PAUSE_LONGEST);
        Some(longest.mul_f64(0.5 + fastrand::f64() / 2.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_bounded_per_epoch() {
        let mut patience = Patience::default();
        for _ in 0..REFUSALS_PER_EPOCH_MAX {
            assert!(
                patience
                    .refused(GateEpoch(7))
                    .is_some_and(|pause| pause <= PAUSE_LONGEST)
            );
        }
        assert_eq!(patience.refused(GateEpoch(7)), None);
        assert!(
            patience
                .refused(GateEpoch(8))
                .is_some_and(|pause| pause <= PAUSE_FIRST)
        );
    }
}
