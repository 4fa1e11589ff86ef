//! A coordinator's presence: when it may grant write leases, and when it must give its session up.
//!
//! A lease in the store that is renewed all the time does not tell that decisions still arrive. So a coordinator writes
//! a counter, its heartbeat, and must see it come back through the same watch that brings the gates.

use std::collections::VecDeque;
use std::time::Duration;

use crate::lease::grantable;
use crate::mutation::{Mutation, mutated};
use crate::time::Instant;

/// Own heartbeats: which are under way, and when the newest one that came back was sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Heartbeats {
    ttl: Duration,
    counter: u64,
    pending: VecDeque<(u64, Instant)>,
    seen: Instant,
}

/// Own heartbeats have not come back for a whole presence time: the session is to be given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stalled;

impl Heartbeats {
    /// A session of length `ttl` that was asked for at `sent`.
    #[must_use]
    pub fn new(ttl: Duration, sent: Instant) -> Self {
        Self {
            ttl,
            counter: 0,
            pending: VecDeque::new(),
            seen: sent,
        }
    }

    /// The next heartbeat to write.
    ///
    /// # Errors
    /// None: the session is over.
    pub fn beat(&mut self, now: Instant) -> Result<u64, Stalled> {
        if self.is_stalled(now) {
            return Err(Stalled);
        }
        self.counter += 1;
        self.pending.push_back((self.counter, now));
        Ok(self.counter)
    }

    /// Whether no heartbeat has come back for a whole presence time.
    #[must_use]
    pub fn is_stalled(&self, now: Instant) -> bool {
        now.since(self.seen) >= self.ttl && !mutated(Mutation::StalledWatchKept)
    }

    /// Heartbeat number `counter` came back through the watch.
    pub fn saw(&mut self, counter: u64) {
        while let Some(&(number, sent)) = self.pending.front() {
            if number > counter {
                break;
            }
            self.pending.pop_front();
            if number == counter {
                self.seen = sent;
            }
        }
    }

    /// How long a write lease may be granted at `now` by a session that surely lives until `deadline`: not at all if
    /// the session or the watch may be lost, and never beyond the session.
    #[must_use]
    pub fn lease(&self, now: Instant, deadline: Instant, wanted: Duration) -> Option<Duration> {
        if mutated(Mutation::GrantWithoutSession) {
            return Some(wanted);
        }
        let sees = now.since(self.seen) < self.ttl / 2 || mutated(Mutation::StalledWatchKept);
        if !sees {
            return None;
        }
        grantable(now, wanted, deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);
    const WANTED: Duration = Duration::from_secs(1);
    const FAR: Instant = Instant(1_000_000);

    #[test]
    fn a_session_grants_only_while_its_heartbeats_come_back() {
        let mut beats = Heartbeats::new(TTL, Instant(0));
        assert_eq!(beats.beat(Instant(1_000)), Ok(1));
        assert_eq!(beats.lease(Instant(4_999), FAR, WANTED), Some(WANTED));
        assert_eq!(
            beats.lease(Instant(5_000), FAR, WANTED),
            None,
            "half of the presence time"
        );
        beats.saw(1);
        assert_eq!(
            beats.lease(Instant(5_999), FAR, WANTED),
            Some(WANTED),
            "counted from when it was sent"
        );
        assert_eq!(beats.beat(Instant(11_000)), Err(Stalled));
    }

    #[test]
    fn a_session_grants_nothing_beyond_its_end() {
        let beats = Heartbeats::new(TTL, Instant(0));
        assert_eq!(beats.lease(Instant(1_000), Instant(1_000), WANTED), None);
        let lease = beats.lease(Instant(1_000), Instant(1_550), WANTED);
        assert_eq!(
            lease,
            Some(Duration::from_millis(500)),
            "with the margin it ends with the session"
        );
    }

    #[test]
    fn an_older_heartbeat_that_comes_late_takes_nothing_back() {
        let mut beats = Heartbeats::new(TTL, Instant(0));
        let _ = (beats.beat(Instant(1_000)), beats.beat(Instant(2_000)));
        beats.saw(2);
        beats.saw(1);
        assert!(beats.lease(Instant(6_999), FAR, WANTED).is_some());
    }
}
