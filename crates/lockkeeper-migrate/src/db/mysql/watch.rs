//! A second session that looks at whoever a hand waits for, and ends them when told to.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::gate::{self, Lock, Record};
use super::others::{self, Holders};
use super::session::Session;
use super::target::{Facts, Target};
use crate::db::{Blocker, DbError, Event, Observer};

/// How often a wait is looked at, on average: three looks fit into the shortest lock wait. Not more often, and never
/// in step with others: InnoDB renews what it shows of its locks only when nobody has looked for 100 ms.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// How often a wait is told to the observer.
const TELL_EVERY: Duration = Duration::from_millis(900);

/// Watches one hand's session from another one, which is opened when it is first needed.
#[derive(Debug)]
pub(super) struct Watch {
    target: Target,
    facts: Facts,
    session: Option<Session>,
}

/// What a hand waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted<'a> {
    /// A lock on the gate row.
    Row,
    /// A lock on the definition of a table; empty when it is not known which.
    Table(&'a str),
}

impl Wanted<'_> {
    fn text(self) -> String {
        match self {
            Self::Row => "lock on the gate row".to_owned(),
            Self::Table("") => "lock on a table".to_owned(),
            Self::Table(table) => format!("lock on {table}"),
        }
    }
}

impl Watch {
    /// `facts` are those of the hand's session.
    pub(super) fn new(target: Target, facts: Facts) -> Self {
        Self {
            target,
            facts,
            session: None,
        }
    }

    async fn session(&mut self) -> Result<&mut Session, DbError> {
        if self.session.is_none() {
            self.session = Some(self.target.connect().await?);
        }
        self.session
            .as_mut()
            .ok_or_else(|| DbError::ConnectionLost("the watching session is gone".to_owned()))
    }

    /// Runs `work` of the hand and names, while it runs, whoever holds the lock that it waits for. Work that takes
    /// longer than `limit` is stopped through the server. Gives the result and those that were seen last.
    pub(super) async fn over<T>(
        &mut self,
        wanted: Wanted<'_>,
        limit: Option<Duration>,
        observer: &dyn Observer,
        work: impl Future<Output = T> + Send,
    ) -> (T, Vec<Blocker>) {
        let mut work = std::pin::pin!(work);
        let mut cancel_at = limit.map(|limit| Instant::now() + limit);
        let mut seen = Vec::new();
        let mut told: Option<Instant> = None;
        loop {
            tokio::select! {
                biased;
                result = &mut work => return (result, seen),
                () = sleep(jitter(LOOK_EVERY)) => {}
            }
            if cancel_at.is_some_and(|at| Instant::now() >= at) {
                // The work then answers an error; when the cancelling fails, it goes on as without a limit.
                cancel_at = None;
                let _ = self.cancel().await;
            }
            // Looking is a help: when it fails, the wait goes on without names.
            let looked = tokio::select! {
                biased;
                result = &mut work => return (result, seen),
                looked = self.blockers(wanted) => looked.ok().flatten(),
            };
            let Some(blockers) = looked else {
                continue;
            };
            seen = blockers;
            if told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
                told = Some(Instant::now());
                observer.event(Event::Waiting {
                    what: wanted.text(),
                    blockers: seen.clone(),
                });
            }
        }
    }

    /// Whoever stands in the hand's way, described; `None` when it does not wait.
    async fn blockers(&mut self, wanted: Wanted<'_>) -> Result<Option<Vec<Blocker>>, DbError> {
        let me = self.facts.connection;
        let facts = self.facts.clone();
        let session = self.session().await?;
        let mut ids = others::row_holders(session, &facts, me).await?;
        if ids.is_empty() {
            match wanted {
                Wanted::Table(table) if others::waits_for_definition(session, me).await? => {
                    ids = self.holders(table).await?.named().to_vec();
                }
                Wanted::Row | Wanted::Table(_) => return Ok(None),
            }
        }
        Ok(Some(self.describe(&ids).await?))
    }

    /// Who holds a lock on a table's definition.
    pub(super) async fn holders(&mut self, table: &str) -> Result<Holders, DbError> {
        let (target, me) = (self.target.clone(), self.facts.connection);
        let session = self.session().await?;
        Ok(others::table_holders(session, &target, table, me).await?)
    }

    async fn describe(&mut self, ids: &[u64]) -> Result<Vec<Blocker>, DbError> {
        let facts = self.facts.clone();
        let session = self.session().await?;
        Ok(others::describe(session, &facts, ids).await?)
    }

    /// Ends the connections, and gives those that were there.
    pub(super) async fn end(
        &mut self,
        ids: &[u64],
        observer: &dyn Observer,
    ) -> Result<Vec<Blocker>, DbError> {
        let blockers = self.describe(ids).await?;
        let session = self.session().await?;
        for blocker in &blockers {
            others::kill(session, super::target::number(&blocker.id)).await?;
            observer.event(Event::Ended(blocker.clone()));
        }
        Ok(blockers)
    }

    /// Ends those that were seen to hold the gate row, or, when nobody could be seen, as `unseen` says.
    pub(super) async fn end_holders(
        &mut self,
        seen: &[Blocker],
        unseen: Unseen,
        observer: &dyn Observer,
    ) -> Result<(), DbError> {
        let ids = match unseen {
            Unseen::End if seen.is_empty() => {
                self.holders("lockkeeper_gate").await?.round(usize::MAX).to_vec()
            }
            Unseen::End | Unseen::Spare => numbers(seen),
        };
        self.end(&ids, observer).await?;
        Ok(())
    }

    /// The gate row as this second session sees it.
    pub(super) async fn record(&mut self) -> Result<Record, DbError> {
        let target = self.target.clone();
        gate::read_present(self.session().await?, &target, Lock::None).await
    }

    /// Stops the statement that the hand runs now.
    pub(super) async fn cancel(&mut self) -> Result<(), DbError> {
        let me = self.facts.connection;
        let session = self.session().await?;
        session
            .run(&format!("KILL QUERY {me}"))
            .await
            .map_err(DbError::from)?;
        Ok(())
    }

    /// Closes the second session, if there is one.
    pub(super) async fn close(&mut self) {
        if let Some(session) = self.session.take() {
            session.close().await;
        }
    }
}

/// What to do about sessions that keep the row locked and that this role may not see (it lacks PROCESS).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unseen {
    /// They may be writers in good order: give up in the end.
    Spare,
    /// The gate is closed, so nobody else can be about anything useful: end whoever is in this database.
    End,
}

/// Runs one update of the gate row until its lock is had, and gives the number of rows it matched. Whoever keeps the
/// row locked for longer than `patience` (a refused transaction that was left open) is ended.
pub(super) async fn update_row(
    session: &mut Session,
    watch: &mut Watch,
    sql: &str,
    patience: Duration,
    unseen: Unseen,
    observer: &dyn Observer,
) -> Result<u64, DbError> {
    let started = Instant::now();
    let mut rounds_after_patience = 0;
    let mut blockers = Vec::new();
    loop {
        let (result, seen) = watch.over(Wanted::Row, None, observer, session.run(sql)).await;
        match result {
            Ok(matched) => return Ok(matched),
            Err(failure) if failure.is_retryable() => {}
            Err(failure) => return Err(failure.into()),
        }
        // A try may end before anybody was seen; whoever was seen last is then still the best guess.
        if !seen.is_empty() {
            blockers = seen;
        }
        if started.elapsed() >= patience {
            if rounds_after_patience == ROUNDS_AFTER_PATIENCE {
                return Err(DbError::TimedOut {
                    what: Wanted::Row.text(),
                    blockers,
                });
            }
            rounds_after_patience += 1;
            watch.end_holders(&blockers, unseen, observer).await?;
        }
        sleep(jitter(RETRY_PAUSE)).await;
    }
}

/// Tries that follow the first ending of blockers: new ones may have queued up meanwhile.
const ROUNDS_AFTER_PATIENCE: u32 = 5;
/// Mean pause between two tries.
const RETRY_PAUSE: Duration = Duration::from_millis(30);

/// Between half of `mean` and one and a half of it.
pub(super) fn jitter(mean: Duration) -> Duration {
    mean.mul_f64(0.5 + fastrand::f64())
}

/// The connection ids of blockers.
pub(super) fn numbers(blockers: &[Blocker]) -> Vec<u64> {
    blockers
        .iter()
        .map(|blocker| super::target::number(&blocker.id))
        .collect()
}
