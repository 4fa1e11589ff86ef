//! One simulated process: it runs, is paused as by SIGSTOP, or is dead.
//!
//! A process acts on the world through ports alone: the network, the store, a database. So a pause holds its calls at
//! those: what it decided before the pause takes effect after it, and what it hears reaches it late. That is what makes
//! a paused process dangerous.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lockkeeper_core::time::{Instant, WallTime};
use tokio::sync::watch;

use crate::trace::Trace;

/// Virtual milliseconds on the wall clock when a simulation begins.
const BEGIN: i64 = 1_900_000_000_000;

/// Whether a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It does.
    Running,
    /// Stopped, and to be continued.
    Paused,
    /// Gone for good.
    Dead,
}

/// A handle on one process. Its clones are the same process.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    name: String,
    life: watch::Sender<Life>,
    /// What its clock counts in a true second, in millionths of a second.
    rate: u64,
    begun: tokio::time::Instant,
    trace: Trace,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name)
    }
}

impl Node {
    /// A process that starts now, with a clock that counts `rate` millionths of a second in a true second.
    #[must_use]
    pub fn start(name: &str, rate: u64, trace: &Trace) -> Self {
        Self(Arc::new(Inner {
            name: name.to_owned(),
            life: watch::Sender::new(Life::Running),
            rate,
            begun: trace.begun(),
            trace: trace.clone(),
        }))
    }

    /// Its name; a restarted process has the name of the one before.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether both are the same process: the same start of it.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The trace it writes to.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.0.trace
    }

    /// Whether it runs.
    #[must_use]
    pub fn life(&self) -> Life {
        *self.0.life.borrow()
    }

    /// Changes of its life.
    #[must_use]
    pub fn lives(&self) -> watch::Receiver<Life> {
        self.0.life.subscribe()
    }

    /// Pauses or continues it. The dead stay dead.
    pub fn set(&self, life: Life) {
        self.0.life.send_if_modified(|current| {
            let changes = *current != Life::Dead && *current != life;
            if changes {
                *current = life;
            }
            changes
        });
    }

    /// Returns while the process runs: not while it is paused, and never once it is dead.
    pub async fn running(&self) {
        let mut life = self.lives();
        loop {
            let now = *life.borrow_and_update();
            match now {
                Life::Running => return,
                Life::Paused => {}
                Life::Dead => std::future::pending().await,
            }
            // The sender lives in `self`.
            let _ = life.changed().await;
        }
    }

    /// Lets time pass in the process, and more of it when it is paused meanwhile.
    pub async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
        self.running().await;
    }

    fn counted(&self) -> u64 {
        let micros = u128::from(self.0.rate) * self.0.begun.elapsed().as_micros() / 1_000_000;
        u64::try_from(micros / 1000).unwrap_or(u64::MAX)
    }
}

impl lockkeeper_coordinator::clock::Clock for Node {
    fn now(&self) -> Instant {
        // Not from 0: whatever is zero shall be in the past.
        Instant(1_000_000 + self.counted())
    }

    fn wall(&self) -> WallTime {
        WallTime(BEGIN + i64::try_from(self.0.begun.elapsed().as_millis()).unwrap_or(i64::MAX))
    }
}

impl lockkeeper_agent::Clock for Node {
    fn now(&self) -> Instant {
        lockkeeper_coordinator::clock::Clock::now(self)
    }
}
