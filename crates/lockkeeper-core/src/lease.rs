//! Write leases. The holder counts from when it *sent* the renewal, the granter from when it answered, and the
//! granter adds the margin: so the holder's deadline is always the earlier one as long as the two clocks' rates
//! differ by no more than [`CLOCK_RATE_MARGIN_PERCENT`]. Only the rate must be bounded, never the offset.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::mutation::{Mutation, mutated};
use crate::time::Instant;

/// By how much two clocks' rates may differ.
pub const CLOCK_RATE_MARGIN_PERCENT: u32 = 10;

/// A write lease is renewed when this part of it has passed: two renewals may be lost before it runs out.
pub const RENEW_AT_FRACTION: u32 = 3;

/// `duration` and the margin: how long a granter waits to be sure that the holder has stopped.
#[must_use]
pub fn with_margin(duration: Duration) -> Duration {
    duration + duration * CLOCK_RATE_MARGIN_PERCENT / 100
}

/// When a lease of length `lease` ends for the one who holds it, be it an agent's write lease or a coordinator's lease
/// in the store: counted from before the request was sent, so that no delay of the answer makes it longer.
#[must_use]
pub fn holder_deadline(sent: Instant, lease: Duration) -> Instant {
    sent + lease
}

/// When a lease of length `lease` has surely ended for whoever holds it, on the granter's clock.
#[must_use]
pub fn granter_deadline(answered: Instant, lease: Duration) -> Instant {
    answered + with_margin(lease)
}

/// How long a lease may be granted at `now`: never so long that, margin included, it outlives the granter's own
/// session. `None`: not at all.
#[must_use]
pub fn grantable(now: Instant, wanted: Duration, session_deadline: Instant) -> Option<Duration> {
    let left = session_deadline.since(now);
    let without_margin = left * 100 / (100 + CLOCK_RATE_MARGIN_PERCENT);
    let granted = wanted.min(without_margin);
    (!granted.is_zero()).then_some(granted)
}

/// Lengths of the leases of a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LeaseSettings {
    /// How long agents may write without hearing from their coordinator.
    pub write: Duration,
    /// How long a coordinator's session lives without a renewal; bounds the write leases.
    pub presence: Duration,
    /// How long leadership lives without a renewal: decides how fast a successor comes.
    pub leadership: Duration,
}

impl LeaseSettings {
    /// How long write leases may live on, margin not included, after the key of the session that granted them has
    /// vanished. A key can vanish before its time, deleted by hand or by a bug of the store, and its owner, cut off,
    /// grants on until its own deadline: so this is not one write lease but the whole presence.
    #[must_use]
    pub fn after_vanishing(&self) -> Duration {
        if mutated(Mutation::VanishedWaitsForWriteLease) {
            return self.write;
        }
        self.write.max(self.presence)
    }
}

impl Default for LeaseSettings {
    fn default() -> Self {
        Self {
            write: Duration::from_secs(10),
            presence: Duration::from_secs(15),
            leadership: Duration::from_secs(3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A session whose key is deleted just after a renewal, and whose owner grants as long as it can.
        #[test]
        fn after_the_wait_for_a_vanished_session_no_lease_of_it_lives(vanished in 0_u64..10_000, granted in 0_u64..15_000) {
            let settings = LeaseSettings::default();
            let session = holder_deadline(Instant(vanished), settings.presence);
            let at = Instant(vanished + granted);
            if let Some(lease) = grantable(at, settings.write, session) {
                let waited = Instant(vanished) + with_margin(settings.after_vanishing());
                prop_assert!(granter_deadline(at, lease) <= waited);
            }
        }

        /// The holder stops before the granter believes that it has, for every delay of the messages and every
        /// clock rate inside the margin.
        #[test]
        fn the_holder_stops_first(sent in 0_u64..1_000_000, flight in 0_u64..10_000, lease in 1_u64..60_000, slow in 0_u64..=9) {
            let lease = Duration::from_millis(lease);
            let answered = Instant(sent) + Duration::from_millis(flight);
            let holder = holder_deadline(Instant(sent), lease);
            // The holder's clock runs `slow` per cent slow: its lease takes longer in real time.
            let held_really = Duration::from_millis(holder.since(Instant(sent)).as_millis() as u64 * 100 / (100 - slow));
            prop_assert!(Instant(sent) + held_really <= granter_deadline(answered, lease) + Duration::from_millis(1));
        }

        #[test]
        fn no_grant_outlives_the_session(now in 0_u64..1_000, wanted in 0_u64..60_000, left in 0_u64..60_000) {
            let session = Instant(now + left);
            if let Some(lease) = grantable(Instant(now), Duration::from_millis(wanted), session) {
                prop_assert!(granter_deadline(Instant(now), lease) <= session);
            }
        }
    }
}
