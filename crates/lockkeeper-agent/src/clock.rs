//! The clock that leases are compared with.

use std::fmt::Debug;

use lockkeeper_core::time::Instant;

/// A source of time; tests bring their own.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The time now. Never goes back, and goes on while the machine sleeps.
    fn now(&self) -> Instant;
}

/// The machine's boot-time clock.
///
/// Unlike the monotonic clock it goes on during suspend, so that a process that wakes up finds its lease expired.
/// Neither ticks while a hypervisor holds the whole machine: an assumption of cooperative fences.
#[derive(Debug, Clone, Copy, Default)]
pub struct BootClock;

impl Clock for BootClock {
    fn now(&self) -> Instant {
        let time = rustix::time::clock_gettime(CLOCK);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let millis = u64::try_from(time.tv_nsec).unwrap_or_default() / 1_000_000;
        Instant(seconds * 1_000 + millis)
    }
}

#[cfg(target_os = "linux")]
const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;

/// Elsewhere the monotonic clock has to do; on macOS it goes on during sleep.
#[cfg(not(target_os = "linux"))]
const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_clock_counts_milliseconds_since_boot() {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let seconds: f64 = uptime.split_whitespace().next().unwrap().parse().unwrap();
        let off = (BootClock.now().0 as f64 / 1_000.0 - seconds).abs();
        assert!(off < 1.0, "off by {off} s");
    }
}
