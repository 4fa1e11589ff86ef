//! Running one direction of one migration.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::doubt;
use super::failure::Failure;
use super::hand::MySqlHand;
use super::journal::Journal;
use super::ledger::{self, Standing};
use super::others;
use super::target::seconds;
use super::text::first_line;
use super::variables::Variables;
use super::watch::{Unseen, Wanted, jitter, update_row};
use crate::db::{Applied, ApplyError, Blocker, DbError, Event, LedgerWrite, Notice, Observer};
use crate::source::{Direction, Script};
use crate::sql::Statement;

/// Tries of a statement, or of a whole transaction, that did not get a lock.
pub(super) const LOCK_TRIES: u32 = 6;
/// Mean pause between two tries: whoever queued up behind the first one goes on meanwhile.
pub(super) const LOCK_PAUSE: Duration = Duration::from_millis(400);
/// How long a refused writer may take to roll back once a migration waits for it.
const REFUSED_PATIENCE: Duration = Duration::from_millis(500);
/// Longest text of a statement in an event.
const EVENT_CHARS: usize = 120;

/// One call of `apply`.
pub(super) struct Run<'a> {
    pub(super) hand: &'a mut MySqlHand,
    pub(super) script: &'a Script,
    pub(super) write: &'a LedgerWrite,
    pub(super) observer: &'a dyn Observer,
    pub(super) journal: Journal,
    pub(super) notices: Vec<Notice>,
    /// Those that the last statement waited for.
    seen: Vec<Blocker>,
    started: Instant,
}

pub(super) async fn apply(
    hand: &mut MySqlHand,
    script: &Script,
    write: &LedgerWrite,
    observer: &dyn Observer,
) -> Result<Applied, ApplyError> {
    let variables = Variables::before(&mut hand.session, &script.statements)
        .await
        .map_err(DbError::from)?;
    hand.limit_statements(true).await?;
    let journal = Journal::new(&hand.target, &write.version, write.direction);
    let mut run = Run {
        hand,
        script,
        write,
        observer,
        journal,
        notices: Vec::new(),
        seen: Vec::new(),
        started: Instant::now(),
    };
    let result = if script.transaction.is_transactional() {
        run.in_one().await
    } else {
        run.step_by_step().await
    };
    let hand = run.hand;
    if !matches!(&result, Err(ApplyError::Db(DbError::ConnectionLost(_)))) {
        hand.limit_statements(false).await?;
        variables
            .restore(&mut hand.session, &hand.target)
            .await
            .map_err(DbError::from)?;
    }
    result
}

impl MySqlHand {
    /// Ends writers that were refused and have left their transaction open: until it ends it keeps its locks, also
    /// on tables that a migration is to change. They hold the gate row, which readers do not.
    async fn end_refused_writers(&mut self, observer: &dyn Observer) -> Result<(), DbError> {
        if self.barred.is_none() {
            return Ok(());
        }
        let row_wait = |seconds: u64| format!("SET SESSION innodb_lock_wait_timeout = {seconds}");
        self.session.run(&row_wait(super::target::ROW_WAIT_S)).await?;
        let nothing = format!(
            "UPDATE {} SET changed_at = changed_at WHERE one = 1",
            self.target.own("lockkeeper_gate")
        );
        let (session, watch) = (&mut self.session, &mut self.watch);
        let ended = update_row(session, watch, &nothing, REFUSED_PATIENCE, Unseen::End, observer).await;
        let during_migrations = seconds(self.target.limits.lock_timeout);
        self.session.run(&row_wait(during_migrations)).await?;
        ended.map(drop)
    }

    /// Bounds (or no longer bounds) what a migration's statements may wait for and how long they may run.
    async fn limit_statements(&mut self, on: bool) -> Result<(), DbError> {
        let limits = &self.target.limits;
        let row_wait = if on {
            seconds(limits.lock_timeout)
        } else {
            super::target::ROW_WAIT_S
        };
        let mut sql = format!("SET SESSION innodb_lock_wait_timeout = {row_wait}");
        if let (true, Some(limit)) = (self.facts.mariadb, limits.statement_timeout) {
            let limit = if on { limit.as_secs_f64() } else { 0.0 };
            sql.push_str(&format!(", max_statement_time = {limit:.3}"));
        }
        self.session.run(&sql).await?;
        Ok(())
    }
}

/// What one statement came to.
#[derive(Debug)]
pub(super) enum Refused {
    /// The server refused it, or the session is gone.
    Failure(Failure),
    /// A lock was not had in all tries.
    Locked(String),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl Run<'_> {
    /// Whether the ledger already says what this call would make it say.
    pub(super) async fn already(&mut self) -> Result<bool, DbError> {
        let hand = &mut self.hand;
        let standing =
            ledger::standing(&mut hand.session, &hand.target, hand.meta, &self.write.version).await?;
        Ok(match self.write.direction {
            Direction::Up => standing == Standing::Applied,
            Direction::Down => standing == Standing::Absent,
        })
    }

    /// An interrupted run of the other direction leaves a schema that is neither version.
    pub(super) async fn refuse_opposite(&mut self) -> Result<(), DbError> {
        if self.journal.opposite_is_open(&mut self.hand.session).await? {
            return Err(DbError::Unsupported(format!(
                "version {} was interrupted on its way in the other direction; finish that first (see lockkeeper_journal)",
                self.write.version
            )));
        }
        Ok(())
    }

    pub(super) fn ledger_run(&self) -> ledger::Run {
        ledger::Run {
            epoch: self.hand.row.leader_epoch,
            duration: self.started.elapsed(),
            warnings: self.notices.len(),
        }
    }

    pub(super) fn ledger_sql(&self) -> Result<Vec<String>, DbError> {
        ledger::record(&self.hand.target, self.write, self.ledger_run())
    }

    pub(super) fn ran(&mut self) -> Applied {
        Applied::Ran {
            duration: self.started.elapsed(),
            notices: std::mem::take(&mut self.notices),
        }
    }

    /// All statements and the ledger's row in one transaction.
    async fn in_one(&mut self) -> Result<Applied, ApplyError> {
        let mut tries = 1;
        loop {
            self.notices.clear();
            let tried = self.transaction().await;
            if tried.is_err() {
                // On a dead session there is nothing to roll back.
                let _ = self.hand.session.run("ROLLBACK").await;
            }
            match tried {
                Ok(applied) => return Ok(applied),
                Err(InOne::Error(error)) => return Err(error),
                Err(InOne::Locked { line, message }) if tries == LOCK_TRIES => {
                    return Err(ApplyError::RolledBack { line, message });
                }
                Err(InOne::Locked { .. }) => {
                    tries += 1;
                    self.make_way().await;
                }
            }
        }
    }

    async fn transaction(&mut self) -> Result<Applied, InOne> {
        self.hand
            .session
            .run("START TRANSACTION")
            .await
            .map_err(DbError::from)?;
        self.hand.guard().await?;
        if self.already().await? {
            self.hand.session.run("ROLLBACK").await.map_err(DbError::from)?;
            return Ok(Applied::Already);
        }
        self.refuse_opposite().await?;
        for begin in ledger::begin(&self.hand.target, self.write)? {
            self.hand.session.run(&begin).await.map_err(DbError::from)?;
        }
        let script = self.script;
        for (index, statement) in script.statements.iter().enumerate() {
            if let Err(refused) = self.statement(index, statement).await {
                return Err(in_one_error(statement, refused));
            }
        }
        for record in self.ledger_sql()? {
            self.hand.session.run(&record).await.map_err(DbError::from)?;
        }
        self.hand.session.run("COMMIT").await.map_err(DbError::from)?;
        Ok(self.ran())
    }

    /// What is done between two tries of a statement that did not get a lock.
    pub(super) async fn make_way(&mut self) {
        // When it fails, the next try says what is wrong.
        let _ = self.hand.end_refused_writers(self.observer).await;
        sleep(jitter(LOCK_PAUSE)).await;
    }

    /// Runs one statement once, names whoever it waits for, and keeps the server's warnings.
    pub(super) async fn statement(&mut self, index: usize, statement: &Statement) -> Result<(), Failure> {
        let event = Event::Statement {
            index: index + 1,
            total: self.script.statements.len(),
            text: first_line(&statement.text, EVENT_CHARS),
        };
        self.observer.event(event);
        let hand = &mut *self.hand;
        let table = doubt::table_of(&statement.text);
        let wanted = table.as_deref().map_or(Wanted::Row, Wanted::Table);
        let limit = hand
            .target
            .limits
            .statement_timeout
            .filter(|_| !hand.facts.mariadb);
        let (result, seen) = hand
            .watch
            .over(wanted, limit, self.observer, hand.session.run(&statement.text))
            .await;
        self.seen = seen;
        result?;
        // The witness may have gone with them, and the barrier's triggers look for it at the next row.
        if statement.text.to_ascii_uppercase().contains("RELEASE_ALL_LOCKS") {
            let hand = &mut *self.hand;
            others::hold_witness(&mut hand.session, &hand.target, &hand.executor.started).await?;
        }
        self.keep_warnings().await
    }

    async fn keep_warnings(&mut self) -> Result<(), Failure> {
        for row in self.hand.session.rows("SHOW WARNINGS").await? {
            let [severity, code, message] = <[_; 3]>::try_from(row).unwrap_or_default();
            let notice = Notice {
                severity: severity.unwrap_or_default(),
                message: format!("{} ({})", message.unwrap_or_default(), code.unwrap_or_default()),
            };
            self.observer.event(Event::Notice(notice.clone()));
            self.notices.push(notice);
        }
        Ok(())
    }

    /// As [`statement`](Self::statement), again and again while a lock is not had.
    pub(super) async fn patiently(&mut self, index: usize, statement: &Statement) -> Result<(), Refused> {
        let mut tries = 1;
        loop {
            match self.statement(index, statement).await {
                Ok(()) => return Ok(()),
                Err(failure) if failure.is_retryable() && tries == LOCK_TRIES => {
                    let names: Vec<String> = self.seen.iter().map(ToString::to_string).collect();
                    return Err(Refused::Locked(format!(
                        "{failure}; seen in the way: {}",
                        names.join("; ")
                    )));
                }
                Err(failure) if failure.is_retryable() => {
                    tries += 1;
                    self.make_way().await;
                }
                Err(failure) => return Err(failure.into()),
            }
        }
    }
}

/// Why a transaction was not committed.
#[derive(Debug)]
enum InOne {
    /// A lock was not had: the whole transaction may run again.
    Locked {
        line: usize,
        message: String,
    },
    Error(ApplyError),
}

impl From<DbError> for InOne {
    fn from(error: DbError) -> Self {
        Self::Error(error.into())
    }
}

fn in_one_error(statement: &Statement, failure: Failure) -> InOne {
    let line = statement.line as usize;
    if failure.is_retryable() {
        return InOne::Locked {
            line,
            message: failure.to_string(),
        };
    }
    InOne::Error(refusal(&failure).unwrap_or_else(|| ApplyError::RolledBack {
        line,
        message: failure.to_string(),
    }))
}

/// What is no fault of the statement: a lost session, a newer leader.
pub(super) fn refusal(failure: &Failure) -> Option<ApplyError> {
    match DbError::from(failure.clone()) {
        error @ (DbError::ConnectionLost(_) | DbError::Superseded { .. }) => Some(error.into()),
        _ => None,
    }
}
