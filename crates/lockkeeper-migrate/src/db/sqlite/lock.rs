//! Getting SQLite's one write lock, and committing, with patience.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::holders;
use super::session::{self, Session};
use crate::db::{Blocker, DbError, Event, Observer};

/// Sleep between two tries. SQLite has no queue for its lock: whoever asks while it is free gets it, so asking
/// often is what wins against a fleet of busy writers.
const RETRY_MIN_MS: u64 = 1;
/// See [`RETRY_MIN_MS`]; the range is the jitter.
const RETRY_MAX_MS: u64 = 6;

/// How often a wait is told to the observer.
const TELL_EVERY: Duration = Duration::from_millis(900);

/// A wait with an end that tells its observer for whom it waits.
pub(super) struct Wait<'a> {
    database: &'a Path,
    what: String,
    deadline: Instant,
    observer: &'a dyn Observer,
    told: Option<Instant>,
    named: Option<Blocker>,
}

impl<'a> Wait<'a> {
    pub(super) fn new(
        database: &'a Path,
        what: &str,
        patience: Duration,
        observer: &'a dyn Observer,
    ) -> Self {
        Self {
            database,
            what: what.to_owned(),
            deadline: Instant::now() + patience,
            observer,
            told: None,
            named: None,
        }
    }

    /// Says more precisely what is waited for.
    pub(super) fn what(&mut self, what: String) {
        self.what = what;
    }

    /// Somebody whom the kernel does not tell of.
    pub(super) fn name(&mut self, blocker: Option<Blocker>) {
        self.named = blocker;
    }

    /// What is left of the patience.
    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Sleeps before the next try, or fails when the patience is over.
    pub(super) async fn again(&mut self) -> Result<(), DbError> {
        let now = Instant::now();
        let over = now >= self.deadline || self.observer.is_stopping();
        if over || self.told.is_none_or(|told| now >= told + TELL_EVERY) {
            let blockers: Vec<_> = self
                .named
                .iter()
                .cloned()
                .chain(holders::of(self.database))
                .collect();
            if over {
                return Err(DbError::TimedOut {
                    what: self.what.clone(),
                    blockers,
                });
            }
            self.told = Some(now);
            self.observer.event(Event::Waiting {
                what: self.what.clone(),
                blockers,
            });
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(RETRY_MIN_MS..=RETRY_MAX_MS))).await;
        Ok(())
    }
}

/// Takes the write lock: BEGIN IMMEDIATE. Readers go on.
pub(super) async fn begin_immediate(session: &Session, wait: &mut Wait<'_>) -> Result<(), DbError> {
    retry_busy(session, "BEGIN IMMEDIATE", wait).await
}

/// Commits. Without a write-ahead log this waits for the readers that are in the middle of a statement; when the
/// patience ends, the transaction is still open and the commit can be tried again.
pub(super) async fn commit(session: &Session, wait: &mut Wait<'_>) -> Result<(), DbError> {
    retry_busy(session, "COMMIT", wait).await
}

async fn retry_busy(session: &Session, statement: &str, wait: &mut Wait<'_>) -> Result<(), DbError> {
    loop {
        match session.execute(statement).await {
            Err(error) if session::is_busy(&error) => wait.again().await?,
            result => return result,
        }
    }
}
