//! Taking a target: the takeover protocol.
//!
//! A leader's claim goes in four steps, so that at every moment either the older hand still holds the row or the
//! newer claim is already written in it:
//!
//! 1. Lock the row with a short time-out. When it is not had, whoever is registered as executor may be holding it
//!    in the middle of a migration: read the registration without a lock, end that session, try again.
//! 2. Write the claim, but leave the executor as it is: from here on the older hand's own checks fail.
//! 3. End the registered session and confirm, by both its identifiers, that the server no longer knows it.
//! 4. Register the new session.

use std::time::Duration;

use lockkeeper_core::epoch::LeaderEpoch;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::blockers;
use super::gate::{self, Found, Lock, Terms};
use super::guest;
use super::identity::identity;
use super::ledger;
use super::schema::{self, Names};
use super::session::{Connector, Session, db_error, is_lock_failure, set_lock_timeout};
use crate::db::{Claim, DbError, Event, ExecutorId, GateRow, Observer, TakeError};
use crate::failpoint::{self, reach};

/// One try for the row's lock. Short, because a holder that must be ended is only looked for afterwards.
const ROW_TRY: Duration = Duration::from_millis(200);

/// How often a wait is told.
const TELL_EVERY: Duration = Duration::from_millis(800);

/// A registered session, and what it may rely on.
pub(super) struct Taken {
    pub(super) session: Session,
    pub(super) names: Names,
    pub(super) row: GateRow,
    pub(super) terms: Terms,
    /// Whether a fleet's leader took it.
    pub(super) fleet: bool,
}

pub(super) async fn take(
    connector: &Connector,
    claim: &Claim,
    patience: Duration,
    observer: &dyn Observer,
) -> Result<Taken, TakeError> {
    let deadline = Instant::now() + patience;
    let mut session = connector.connect().await?;
    refuse_standby(&mut session.conn).await?;
    let names = schema::ensure(&mut session.conn, connector.settings.ledger, deadline).await?;
    let mut taking = Taking {
        session,
        names,
        deadline,
        observer,
        told: None,
    };
    let row = match claim {
        Claim::Leader { epoch, id } => taking.lead(*epoch, *id).await?,
        Claim::Standalone { who } => taking.queue(who).await?,
    };
    reach(failpoint::TAKE_REGISTERED);
    let terms = Terms(lockkeeper_core::row::Terms {
        executor: taking.session.id.clone(),
        epoch: row.leader_epoch,
        leader_id: row.leader_id,
    });
    let fleet = matches!(claim, Claim::Leader { .. });
    ledger::open(&mut taking.session.conn, &mut taking.names).await?;
    Ok(Taken {
        session: taking.session,
        names: taking.names,
        row,
        terms,
        fleet,
    })
}

async fn refuse_standby(conn: &mut PgConnection) -> Result<(), DbError> {
    use sqlx::Row;
    let row = sqlx::query("SELECT pg_is_in_recovery()")
        .fetch_one(conn)
        .await
        .map_err(db_error)?;
    if row.get(0) {
        return Err(DbError::Unsupported(
            "this server is a standby; give the primary's DSN".to_owned(),
        ));
    }
    Ok(())
}

struct Taking<'a> {
    session: Session,
    names: Names,
    deadline: Instant,
    observer: &'a dyn Observer,
    told: Option<Instant>,
}

/// What one try for the row came to.
enum Try<T> {
    Done(T),
    /// Somebody else holds the row's lock.
    Busy,
}

impl Taking<'_> {
    async fn lead(&mut self, epoch: LeaderEpoch, id: Uuid) -> Result<GateRow, TakeError> {
        loop {
            let old = match self.write_claim(epoch, id).await? {
                Try::Done(old) => old,
                Try::Busy => {
                    self.end_the_holder(epoch, id).await?;
                    continue;
                }
            };
            if let Some(old) = old.to_end(&self.session.id) {
                self.end(old).await?;
            }
            self.end_guests().await?;
            match self.register(epoch, id, old.executor.as_ref()).await? {
                Some(row) => return Ok(row),
                // Another hand of the same leader registered meanwhile: it is the older one now.
                None => self.pause("the gate row").await?,
            }
        }
    }

    /// Steps 1 and 2. Gives the row as it was found.
    async fn write_claim(&mut self, epoch: LeaderEpoch, id: Uuid) -> Result<Try<GateRow>, TakeError> {
        let seen = identity(&mut self.session.conn).await?;
        let mut tx = self.session.conn.begin().await.map_err(db_error)?;
        let Try::Done(Found { row, .. }) = lock_row(&mut tx, &self.names).await? else {
            return Ok(Try::Busy);
        };
        judge(&row, epoch, id)?;
        // While the gate is open nothing hangs on the old server's state. While it is closed, a barrier that was
        // raised there may be missing here.
        if row.identity != seen && row.is_closed() {
            return Err(DbError::IdentityChanged {
                recorded: row.identity,
                seen,
            }
            .into());
        }
        let update = format!(
            "UPDATE {} SET generation = $1, revision = $2, leader_id = $3, identity = $4, changed_at = now()",
            self.names.gate
        );
        sqlx::query(AssertSqlSafe(update))
            .bind(signed(epoch.generation))
            .bind(signed(epoch.revision))
            .bind(id.to_string())
            .bind(seen.0)
            .execute(&mut *tx)
            .await
            .map_err(db_error)?;
        tx.commit().await.map_err(db_error)?;
        Ok(Try::Done(row))
    }

    /// The row's lock was not had. If the claim is good, the registered executor must go.
    async fn end_the_holder(&mut self, epoch: LeaderEpoch, id: Uuid) -> Result<(), TakeError> {
        let found = gate::read(&mut self.session.conn, &self.names, Lock::None).await?;
        judge(&found.row, epoch, id)?;
        if let Some(old) = found.row.to_end(&self.session.id) {
            self.end(old).await?;
        }
        // A migrator's transaction that has passed the barrier holds the row as well.
        self.end_guests().await?;
        Ok(self.pause("the lock on the gate row").await?)
    }

    /// Step 3.
    async fn end(&mut self, old: &ExecutorId) -> Result<(), DbError> {
        let named = blockers::describe(&mut self.session.conn, old).await?;
        if blockers::end_and_confirm(&mut self.session.conn, old, self.deadline).await?
            && let Some(blocker) = named
        {
            self.observer.event(Event::Ended(blocker));
        }
        Ok(())
    }

    /// Step 3, for an older leader's external migrator: whatever became of its processes, its sessions are gone.
    async fn end_guests(&mut self) -> Result<(), DbError> {
        let ended = guest::end_all(&mut self.session.conn, &self.names, self.deadline).await?;
        for session in ended {
            tracing::warn!(session, "ended an external migrator's session");
        }
        Ok(())
    }

    /// Step 4. `None` when the registration is not the one that was confirmed gone.
    async fn register(
        &mut self,
        epoch: LeaderEpoch,
        id: Uuid,
        gone: Option<&ExecutorId>,
    ) -> Result<Option<GateRow>, TakeError> {
        loop {
            let mut tx = self.session.conn.begin().await.map_err(db_error)?;
            match lock_row(&mut tx, &self.names).await? {
                Try::Done(Found { row, .. }) => {
                    judge(&row, epoch, id)?;
                    if row.executor.as_ref() != gone {
                        return Ok(None);
                    }
                    let who = format!("leader {epoch}");
                    let row = write_executor(&mut tx, &self.names, row, &self.session.id, &who).await?;
                    tx.commit().await.map_err(db_error)?;
                    return Ok(Some(row));
                }
                Try::Busy => drop(tx),
            }
            self.pause("the lock on the gate row").await?;
        }
    }

    /// A standalone runner's turn comes when no other executor lives.
    async fn queue(&mut self, who: &str) -> Result<GateRow, TakeError> {
        loop {
            let found = gate::read(&mut self.session.conn, &self.names, Lock::None).await?;
            refuse_closed(&found.row)?;
            match &found.row.executor {
                Some(other) if blockers::is_alive(&mut self.session.conn, other).await? => {
                    let what = match &found.who {
                        Some(who) => format!("another migrator ({who})"),
                        None => "another migrator".to_owned(),
                    };
                    self.pause(&what).await?;
                }
                Some(_) | None => {
                    let gone = found.row.executor.clone();
                    if let Some(row) = self.step_in(who, gone.as_ref()).await? {
                        return Ok(row);
                    }
                    self.pause("another migrator").await?;
                }
            }
        }
    }

    /// Registers this session in the place of an executor that is gone.
    async fn step_in(&mut self, who: &str, gone: Option<&ExecutorId>) -> Result<Option<GateRow>, TakeError> {
        let seen = identity(&mut self.session.conn).await?;
        let mut tx = self.session.conn.begin().await.map_err(db_error)?;
        let Try::Done(Found { mut row, .. }) = lock_row(&mut tx, &self.names).await? else {
            return Ok(None);
        };
        refuse_closed(&row)?;
        if row.executor.as_ref() != gone {
            return Ok(None);
        }
        if row.identity != seen {
            let update = format!("UPDATE {} SET identity = $1", self.names.gate);
            sqlx::query(AssertSqlSafe(update))
                .bind(&seen.0)
                .execute(&mut *tx)
                .await
                .map_err(db_error)?;
            row.identity = seen;
        }
        let row = write_executor(&mut tx, &self.names, row, &self.session.id, who).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(Some(row))
    }

    /// A short pause, told now and then; fails when the patience has run out.
    async fn pause(&mut self, what: &str) -> Result<(), DbError> {
        let now = Instant::now();
        let late = now >= self.deadline;
        if late || self.told.is_none_or(|told| now - told >= TELL_EVERY) {
            self.told = Some(now);
            let found = gate::read(&mut self.session.conn, &self.names, Lock::None).await?;
            let mut blockers = Vec::new();
            if let Some(executor) = &found.row.executor {
                blockers.extend(blockers::describe(&mut self.session.conn, executor).await?);
            }
            if blockers.is_empty() {
                let holders = blockers::of_row(&mut self.session.conn, &self.names.gate).await?;
                blockers = blockers::plain(&holders);
            }
            if late {
                return Err(DbError::TimedOut {
                    what: what.to_owned(),
                    blockers,
                });
            }
            self.observer.event(Event::Waiting {
                what: what.to_owned(),
                blockers,
            });
        }
        sleep(Duration::from_millis(fastrand::u64(20..80))).await;
        Ok(())
    }
}

/// One short try for the row's lock.
async fn lock_row(tx: &mut PgConnection, names: &Names) -> Result<Try<Found>, DbError> {
    set_lock_timeout(tx, ROW_TRY).await?;
    match gate::read(tx, names, Lock::ForUpdate).await {
        Ok(found) => Ok(Try::Done(found)),
        Err(error) if is_lock_failure(&error) => Ok(Try::Busy),
        Err(error) => Err(error),
    }
}

async fn write_executor(
    tx: &mut PgConnection,
    names: &Names,
    row: GateRow,
    executor: &ExecutorId,
    who: &str,
) -> Result<GateRow, DbError> {
    let update = format!(
        "UPDATE {} SET executor_session = $1, executor_started = $2, executor_who = $3, changed_at = now()",
        names.gate
    );
    sqlx::query(AssertSqlSafe(update))
        .bind(&executor.session)
        .bind(&executor.started)
        .bind(who)
        .execute(tx)
        .await
        .map_err(db_error)?;
    Ok(GateRow {
        executor: Some(executor.clone()),
        ..row
    })
}

/// Whether a leader's claim is good.
fn judge(row: &GateRow, epoch: LeaderEpoch, id: Uuid) -> Result<(), TakeError> {
    row.admit(epoch, id)
        .map_err(|refused| TakeError::refused(refused, epoch))
}

fn refuse_closed(row: &GateRow) -> Result<(), TakeError> {
    if !row.is_closed() {
        return Ok(());
    }
    let rollout = row.rollout.clone().unwrap_or_else(|| "(not named)".to_owned());
    Err(TakeError::GateClosed {
        rollout,
        epoch: row.gate_epoch,
    })
}

/// Epochs are counted up from 1 by one store: they do not reach the sign bit.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
