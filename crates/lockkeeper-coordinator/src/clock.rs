//! The clock that leases are measured with.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lockkeeper_core::time::{Instant, WallTime};
use rustix::time::{ClockId, clock_gettime};

/// Says what time it is. A seam: everything in this crate that compares deadlines asks one of these.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Now, in this process's boot time. Never goes back.
    fn now(&self) -> Instant;

    /// The wall clock, for people and for what spans processes: when a fence began, when a window opens.
    fn wall(&self) -> WallTime {
        wall_now()
    }
}

/// CLOCK_BOOTTIME: it goes on while the machine sleeps, so a lease cannot outlive a suspended laptop. A hypervisor
/// that stops the whole machine stops this clock too.
#[derive(Debug, Clone, Copy, Default)]
pub struct BootClock;

impl Clock for BootClock {
    fn now(&self) -> Instant {
        let time = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let millis = u64::try_from(time.tv_nsec / 1_000_000).unwrap_or(0);
        Instant(seconds.saturating_mul(1000).saturating_add(millis))
    }
}

/// A clock that stands still until it is told otherwise, for tests.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn at(now: Instant) -> Self {
        Self(AtomicU64::new(now.0))
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        Instant(self.0.load(Ordering::SeqCst))
    }
}

/// The wall clock of this process, for what people see at this moment. What is decided or recorded asks
/// [`Clock::wall`].
#[must_use]
pub fn wall_now() -> WallTime {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    WallTime(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_time_goes_on() {
        let before = BootClock.now();
        std::thread::sleep(Duration::from_millis(20));
        assert!(BootClock.now().since(before) >= Duration::from_millis(19));
    }
}
