//! Watching a session that waits: a second session names who is in the way, and at the end of the patience ends
//! them.

use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};

use super::blockers::{self, Found};
use super::session::{Connector, Session};
use crate::db::{Blocker, DbError, Event, ExecutorId, Observer};

/// How often the waiting session is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How often a wait is told: at least once a second.
const TELL_EVERY: Duration = Duration::from_millis(800);

/// A look that takes longer than this is given up; the next one comes soon.
const LOOK_LIMIT: Duration = Duration::from_secs(2);

/// What is done about blockers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// They are named.
    Tell,
    /// They are ended.
    End,
}

/// Watches one session on behalf of one call of the port.
pub(super) struct Watch<'a> {
    connector: Connector,
    watched: ExecutorId,
    observer: &'a dyn Observer,
    session: Option<Session>,
    ticks: Interval,
    told: Option<Instant>,
    /// Who was in the way at the last look.
    last: Vec<Blocker>,
    /// Who was ended.
    pub(super) ended: Vec<Blocker>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(connector: &Connector, watched: &ExecutorId, observer: &'a dyn Observer) -> Self {
        let mut ticks = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            connector: connector.clone(),
            watched: watched.clone(),
            observer,
            session: None,
            ticks,
            told: None,
            last: Vec::new(),
            ended: Vec::new(),
        }
    }

    /// Runs `work`, which uses the watched session, and looks at it meanwhile.
    pub(super) async fn during<F: Future>(&mut self, work: F, what: &str, manner: Manner) -> F::Output {
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                output = &mut work => return output,
                _ = self.ticks.tick() => {}
            }
            // A look that fails changes nothing about the work, and drops its session; the next one opens another.
            // One that is under way is finished: the session that it has just ended is what the work waited for.
            let look = timeout(LOOK_LIMIT, self.look(what, manner));
            tokio::pin!(look);
            tokio::select! {
                biased;
                output = &mut work => {
                    let _ = look.await;
                    return output;
                }
                _ = &mut look => {}
            }
        }
    }

    /// Who was in the way last.
    pub(super) fn last_seen(&self) -> Vec<Blocker> {
        self.last.clone()
    }

    /// Tells a wait that is not one for a lock.
    pub(super) fn tell(&mut self, what: &str, blockers: Vec<Blocker>) {
        let now = Instant::now();
        self.last.clone_from(&blockers);
        if self.told.is_none_or(|told| now - told >= TELL_EVERY) {
            self.told = Some(now);
            self.observer.event(Event::Waiting {
                what: what.to_owned(),
                blockers,
            });
        }
    }

    /// Ends a session and remembers it. One that may not be ended stays in the way and is named at the end.
    pub(super) async fn end(&mut self, conn: &mut PgConnection, found: &Found) -> Result<(), DbError> {
        let Some(id) = &found.session else {
            return Ok(());
        };
        match blockers::terminate(conn, id).await {
            Ok(true) => self.note_ended(&found.blocker),
            Ok(false) | Err(DbError::Permission { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn note_ended(&mut self, blocker: &Blocker) {
        if self
            .ended
            .iter()
            .any(|ended| ended.id == blocker.id && ended.kind == blocker.kind)
        {
            return;
        }
        self.observer.event(Event::Ended(blocker.clone()));
        self.ended.push(blocker.clone());
    }

    async fn look(&mut self, what: &str, manner: Manner) -> Result<(), DbError> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.connector.connect().await?,
        };
        let found = blockers::of_lock(&mut session.conn, &self.watched.session).await?;
        if manner == Manner::End {
            for blocker in &found {
                self.end(&mut session.conn, blocker).await?;
            }
        }
        self.session = Some(session);
        if !found.is_empty() {
            self.tell(what, blockers::plain(&found));
        }
        Ok(())
    }
}
