//! Taking a target: the claim is compared with the gate row, the older executor is ended and confirmed gone, and
//! only then is this session registered.

use std::time::Duration;

use lockkeeper_core::epoch::LeaderEpoch;
use tokio::time::{Instant, sleep};

use super::failure::Failure;
use super::gate::{self, Lock, Record};
use super::hand::MySqlHand;
use super::others::{self, Life};
use super::session::Session;
use super::target::{Facts, Target};
use super::text::{literal, literal_or_null, name};
use super::watch::{Unseen, Wanted, Watch, jitter};
use crate::db::{Blocker, Claim, DbError, Event, ExecutorId, Observer, TakeError};
use crate::failpoint::{self, reach};

/// Mean pause between two tries; ten runners that start at once must not keep one from being had.
const RETRY_PAUSE: Duration = Duration::from_millis(80);
/// How often waiting is told.
const TELL_EVERY: Duration = Duration::from_millis(900);

/// What one try found.
#[derive(Debug)]
enum Try {
    /// This session is registered.
    Taken(Box<Record>),
    /// Another session that lives is registered.
    Occupied(ExecutorId, Option<String>),
    /// The row's lock was not had.
    Locked,
}

/// One call of `take`.
#[derive(Debug)]
struct Taking<'a> {
    target: &'a Target,
    facts: Facts,
    claim: &'a Claim,
    executor: ExecutorId,
    started: Instant,
    patience: Duration,
}

pub(super) async fn take(
    target: &Target,
    claim: &Claim,
    patience: Duration,
    observer: &dyn Observer,
) -> Result<MySqlHand, TakeError> {
    let started = Instant::now();
    let mut session = target.connect().await?;
    target.prepare(&mut session).await.map_err(DbError::from)?;
    let facts = Facts::read(&mut session, &target.database)
        .await
        .map_err(DbError::from)?;
    let meta = gate::ensure(&mut session, target, &facts).await?;
    let executor = ExecutorId {
        session: facts.connection.to_string(),
        started: others::new_start_mark(&facts),
    };
    if !others::hold_witness(&mut session, target, &executor.started)
        .await
        .map_err(DbError::from)?
    {
        return Err(DbError::Server {
            code: "GET_LOCK".to_owned(),
            message: "the witness was not had".to_owned(),
        }
        .into());
    }
    let mut watch = Watch::new(target.clone(), facts.clone());
    let taking = Taking {
        target,
        facts,
        claim,
        executor,
        started,
        patience,
    };
    let record = taking.run(&mut session, &mut watch, observer).await?;
    reach(failpoint::TAKE_REGISTERED);
    let mut hand = MySqlHand::new(
        target.clone(),
        taking.facts,
        session,
        watch,
        record,
        taking.executor,
        meta,
    );
    hand.find_barrier().await?;
    hand.open_book().await?;
    if let Claim::Leader { .. } = claim {
        hand.arm().await?;
    }
    Ok(hand)
}

impl Taking<'_> {
    async fn run(
        &self,
        session: &mut Session,
        watch: &mut Watch,
        observer: &dyn Observer,
    ) -> Result<Record, TakeError> {
        let mut told: Option<Instant> = None;
        loop {
            let (tried, holders) = watch
                .over(Wanted::Row, None, observer, self.try_once(session))
                .await;
            let (what, blockers) = match tried? {
                Try::Taken(record) => return Ok(*record),
                Try::Occupied(executor, _) if self.is_leader() => {
                    self.end(session, &executor, observer).await?;
                    continue;
                }
                Try::Occupied(executor, who) => {
                    let what = who.map_or_else(
                        || "another migrator".to_owned(),
                        |who| format!("another migrator ({who})"),
                    );
                    (what, self.occupant(session, &executor).await?)
                }
                Try::Locked => {
                    self.break_lock(session, watch, &holders, observer).await?;
                    ("lock on the gate row".to_owned(), holders)
                }
            };
            if self.started.elapsed() >= self.patience {
                return Err(DbError::TimedOut { what, blockers }.into());
            }
            if told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
                told = Some(Instant::now());
                observer.event(Event::Waiting { what, blockers });
            }
            sleep(jitter(RETRY_PAUSE)).await;
        }
    }

    fn is_leader(&self) -> bool {
        matches!(self.claim, Claim::Leader { .. })
    }

    fn deadline(&self) -> Instant {
        self.started + self.patience
    }

    async fn end(
        &self,
        session: &mut Session,
        executor: &ExecutorId,
        observer: &dyn Observer,
    ) -> Result<(), DbError> {
        let ended =
            others::end_executor(session, self.target, &self.facts, executor, self.deadline()).await?;
        if let Some(blocker) = ended {
            observer.event(Event::Ended(blocker));
        }
        Ok(())
    }

    /// The row is locked: by the executor of an older claim, which is ended at once, or by somebody who read it in
    /// a trigger and left his transaction open, who is ended when half of the patience is gone.
    async fn break_lock(
        &self,
        session: &mut Session,
        watch: &mut Watch,
        holders: &[Blocker],
        observer: &dyn Observer,
    ) -> Result<(), TakeError> {
        let record = gate::read_present(session, self.target, Lock::None).await?;
        self.admit(&record)?;
        if !self.is_leader() {
            return Ok(());
        }
        if let Some(executor) = record.row.to_end(&self.executor) {
            self.end(session, executor, observer).await?;
        }
        if self.started.elapsed() * 2 >= self.patience {
            let unseen = if record.row.is_closed() {
                Unseen::End
            } else {
                Unseen::Spare
            };
            watch.end_holders(holders, unseen, observer).await?;
        }
        Ok(())
    }

    async fn occupant(&self, session: &mut Session, executor: &ExecutorId) -> Result<Vec<Blocker>, DbError> {
        let id = super::target::number(&executor.session);
        Ok(others::describe(session, &self.facts, &[id]).await?)
    }

    async fn try_once(&self, session: &mut Session) -> Result<Try, TakeError> {
        let tried = self.attempt(session).await;
        if !matches!(tried, Ok(Ok(Try::Taken(_) | Try::Occupied(..)))) {
            // A failed try leaves no transaction open; on a dead session there is none.
            let _ = session.run("ROLLBACK").await;
        }
        match tried {
            Ok(decided) => decided,
            Err(failure) if failure.is_retryable() => Ok(Try::Locked),
            Err(failure) => Err(DbError::from(failure).into()),
        }
    }

    /// One transaction under the row's lock.
    async fn attempt(&self, session: &mut Session) -> Result<Result<Try, TakeError>, Failure> {
        session.run("START TRANSACTION").await?;
        let Some(record) = gate::read(session, self.target, Lock::Update).await? else {
            return Ok(Err(DbError::ForeignTable {
                table: "lockkeeper_gate".to_owned(),
                detail: "its row was deleted: nobody can tell which fence stood; look at the triggers named lockkeeper_g*".to_owned(),
            }
            .into()));
        };
        if let Err(refusal) = self.admit(&record) {
            return Ok(Err(refusal));
        }
        if let Some(executor) = record.row.to_end(&self.executor).cloned()
            && others::life(session, self.target, &self.facts, &executor).await? == Life::Alive
        {
            self.claim_only(session, &record).await?;
            session.run("COMMIT").await?;
            return Ok(Ok(Try::Occupied(executor, record.who)));
        }
        session.run(&self.registration()).await?;
        session.run("COMMIT").await?;
        let taken = gate::read(session, self.target, Lock::None).await?;
        Ok(taken.map(|record| Try::Taken(Box::new(record))).ok_or_else(|| {
            DbError::Superseded {
                by: "nobody: the gate row was deleted".to_owned(),
            }
            .into()
        }))
    }

    /// Compares the claim with the row.
    fn admit(&self, record: &Record) -> Result<(), TakeError> {
        let row = &record.row;
        // While the gate is open nothing hangs on the old server's state. While it is closed, a barrier that was
        // raised there may be missing here.
        if row.identity != self.facts.identity && row.is_closed() {
            let (recorded, seen) = (row.identity.clone(), self.facts.identity.clone());
            return Err(DbError::IdentityChanged { recorded, seen }.into());
        }
        match self.claim {
            Claim::Leader { epoch, id } => row
                .admit(*epoch, *id)
                .map_err(|refused| TakeError::refused(refused, *epoch)),
            Claim::Standalone { .. } if row.is_closed() => Err(TakeError::GateClosed {
                rollout: row.rollout.clone().unwrap_or_else(|| "unknown".to_owned()),
                epoch: row.gate_epoch,
            }),
            Claim::Standalone { .. } => Ok(()),
        }
    }

    /// Writes a leader's claim and takes the pass away from the older executor, which stays registered until it is
    /// confirmed gone. From here on a claim that is older than this one is refused.
    async fn claim_only(&self, session: &mut Session, record: &Record) -> Result<(), Failure> {
        let Claim::Leader { epoch, .. } = self.claim else {
            return Ok(());
        };
        if record.superseded && record.row.leader_epoch == *epoch {
            return Ok(());
        }
        let sql = format!(
            "UPDATE {} SET {}, superseded = 1, changed_at = UTC_TIMESTAMP(6) WHERE one = 1",
            self.target.own("lockkeeper_gate"),
            self.claim_columns()
        );
        session.run(&sql).await?;
        Ok(())
    }

    fn registration(&self) -> String {
        let who = match self.claim {
            Claim::Leader { epoch, id } => format!("leader {epoch} {id}"),
            Claim::Standalone { who } => who.chars().take(255).collect(),
        };
        format!(
            "UPDATE {} SET {}, superseded = 0, executor_session = {}, executor_started = {}, executor_who = {}, \
             changed_at = UTC_TIMESTAMP(6) WHERE one = 1",
            self.target.own("lockkeeper_gate"),
            self.claim_columns(),
            self.facts.connection,
            literal(&self.executor.started),
            literal(&who),
        )
    }

    /// A standalone claim leaves the epoch as it is.
    fn claim_columns(&self) -> String {
        let identity = literal(&self.facts.identity.0);
        match self.claim {
            Claim::Leader {
                epoch: LeaderEpoch { generation, revision },
                id,
            } => format!(
                "identity = {identity}, generation = {generation}, revision = {revision}, leader_id = {}",
                literal_or_null(Some(&id.to_string()))
            ),
            Claim::Standalone { .. } => format!("identity = {identity}"),
        }
    }
}

/// The statement that makes the executing database current again.
pub(super) fn use_database(target: &Target) -> String {
    format!("USE {}", name(&target.database))
}
