//! Stopping a run: by a signal, or when its time is up. What runs is cancelled in the database, and the run itself
//! rolls back or journals as after any other error.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lockkeeper_migrate::db::{Database, ExecutorId};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, sleep_until};

use crate::exit::{Exit, Failure};

/// How often what runs is cancelled until the run has ended: the first time can come between two statements.
const CANCEL_EVERY: Duration = Duration::from_millis(250);

/// Why a run is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Interrupt,
    Terminate,
    TimeIsUp,
}

impl Cause {
    /// How the program ends then.
    pub(super) fn exit(self) -> Exit {
        match self {
            Self::Interrupt | Self::Terminate => Exit::EndedOtherwise,
            Self::TimeIsUp => Exit::TimedOut,
        }
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Interrupt => "stopped by SIGINT",
            Self::Terminate => "stopped by SIGTERM",
            Self::TimeIsUp => "stopped because the time of --run-timeout is up",
        }
    }
}

/// Whether a run is to stop; shared with whoever observes it.
#[derive(Debug, Clone, Default)]
pub(super) struct Stopping(Arc<AtomicBool>);

impl Stopping {
    pub(super) fn is_asked_for(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Listens for what stops a run.
#[derive(Debug)]
pub(super) struct Stop {
    stopping: Stopping,
    interrupt: Signal,
    terminate: Signal,
    deadline: Option<Instant>,
}

impl Stop {
    /// From now on the signals no longer end the process by themselves.
    pub(super) fn listen(limit: Option<Duration>) -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::new(Exit::Error, format!("listen for signals: {error}")))
        };
        Ok(Self {
            stopping: Stopping::default(),
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            deadline: limit.map(|limit| Instant::now() + limit),
        })
    }

    pub(super) fn stopping(&self) -> Stopping {
        self.stopping.clone()
    }

    /// Waits for `work` that changes nothing yet: it is dropped when the run is stopped.
    pub(super) async fn before<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Cause> {
        tokio::select! {
            biased;
            cause = self.cause() => Err(cause),
            output = work => Ok(output),
        }
    }

    /// Waits for `work` of the session `executor`. When the run is stopped, what that session runs is cancelled until
    /// the work has ended. Another signal ends the process at once.
    pub(super) async fn during<T>(
        &mut self,
        database: &dyn Database,
        executor: &ExecutorId,
        work: impl Future<Output = T>,
    ) -> (T, Option<Cause>) {
        tokio::pin!(work);
        let cause = tokio::select! {
            biased;
            output = &mut work => return (output, None),
            cause = self.cause() => cause,
        };
        self.stopping.0.store(true, Ordering::Release);
        eprintln!(
            "{}: cancelling what runs; another signal ends this process at once",
            cause.text()
        );
        let cancelling = async {
            loop {
                // When it fails, what runs goes on to its end.
                let _ = database.cancel(executor).await;
                sleep(CANCEL_EVERY).await;
            }
        };
        tokio::select! {
            biased;
            output = work => (output, Some(cause)),
            never = cancelling => never,
            second = self.signal() => end_at_once(second),
        }
    }

    async fn cause(&mut self) -> Cause {
        let deadline = self.deadline;
        let time_is_up = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            cause = self.signal() => cause,
            () = time_is_up => Cause::TimeIsUp,
        }
    }

    async fn signal(&mut self) -> Cause {
        tokio::select! {
            _ = self.interrupt.recv() => Cause::Interrupt,
            _ = self.terminate.recv() => Cause::Terminate,
        }
    }
}

/// The database settles what is left, as after a crash.
fn end_at_once(second: Cause) -> ! {
    eprintln!(
        "{} again: ended at once; see with status what took effect",
        second.text()
    );
    std::process::exit(i32::from(second.exit() as u8))
}
