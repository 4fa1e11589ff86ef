//! Trying again what did not get a lock. A short wait and another try let live traffic through in between; one long
//! wait would hold up everybody who queues behind it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Observer;

/// How often a statement, or a whole transaction, is tried in all.
pub(super) const LOCK_TRIES: u32 = 12;

/// Mean pause after the first try; doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(100);

const PAUSE_MAX: Duration = Duration::from_secs(3);

/// How often a pause looks whether the run is being stopped.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The tries of one thing.
#[derive(Debug, Default)]
pub(super) struct Tries {
    failed: u32,
}

impl Tries {
    /// How many have failed.
    pub(super) fn failed(&self) -> u32 {
        self.failed
    }

    /// Counts a failed try and pauses before the next one; false when there is to be none.
    pub(super) async fn again(&mut self, observer: &dyn Observer) -> bool {
        self.failed += 1;
        if self.failed >= LOCK_TRIES {
            return false;
        }
        let until = Instant::now() + pause(self.failed);
        while !observer.is_stopping() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            sleep(left.min(LOOK_EVERY)).await;
        }
        false
    }
}

/// The pause after so many failed tries, between a half and one and a half of its mean.
fn pause(failed: u32) -> Duration {
    let mean = (PAUSE * 2u32.saturating_pow(failed.saturating_sub(1))).min(PAUSE_MAX);
    mean.mul_f64(0.5 + fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::{Event, Silent};

    struct Stopping;

    impl Observer for Stopping {
        fn event(&self, _: Event) {}

        fn is_stopping(&self) -> bool {
            true
        }
    }

    #[tokio::test]
    async fn tries_end_by_number_or_when_the_run_stops() {
        assert!(!Tries::default().again(&Stopping).await);
        let mut last = Tries {
            failed: LOCK_TRIES - 1,
        };
        assert!(!last.again(&Silent).await);
        assert_eq!(last.failed(), LOCK_TRIES);
    }

    #[test]
    fn pauses_grow_to_a_limit() {
        assert!(pause(1) <= PAUSE.mul_f64(1.5));
        assert!((PAUSE_MAX.mul_f64(0.5)..=PAUSE_MAX.mul_f64(1.5)).contains(&pause(LOCK_TRIES)));
    }
}
