//! Running one direction of one migration.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::doubt;
use super::failure::{Failure, QUERY_INTERRUPTED};
use super::hand::{Limits, MySqlHand};
use super::journal::{Entry, Journal};
use super::ledger::{self, Standing};
use super::measure;
use super::others;
use super::target::seconds;
use super::text::first_line;
use super::variables::Variables;
use super::watch::{Unseen, Wanted, update_row};
use crate::db::retry::Tries;
use crate::db::{Applied, ApplyError, Blocker, DbError, Event, LedgerWrite, Notice, Observer};
use crate::failpoint::{self, reach};
use crate::source::{Direction, Script};
use crate::sql::Statement;

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
    /// The mark of a statement that took effect, to go into the next commit.
    pub(super) owed: Option<String>,
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
    hand.limit(Limits::Script).await?;
    let variables = Variables::before(&mut hand.session, &script.statements)
        .await
        .map_err(DbError::from)?;
    let journal = Journal::new(&hand.target, &write.version, write.direction);
    let mut run = Run {
        hand,
        script,
        write,
        observer,
        journal,
        notices: Vec::new(),
        owed: None,
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

    /// Bounds the session's waits and run times for what comes next. Between two migrations they stay as they are.
    pub(super) async fn limit(&mut self, limits: Limits) -> Result<(), DbError> {
        if self.limits == limits {
            return Ok(());
        }
        let settings = &self.target.limits;
        let (row_wait, run_s) = match limits {
            Limits::Own => (super::target::ROW_WAIT_S, 0.0),
            Limits::Script => (
                seconds(settings.lock_timeout),
                settings
                    .statement_timeout
                    .map_or(0.0, |limit| limit.as_secs_f64()),
            ),
        };
        let mut sql = format!("SET SESSION innodb_lock_wait_timeout = {row_wait}");
        if self.facts.mariadb && settings.statement_timeout.is_some() {
            sql.push_str(&format!(", max_statement_time = {run_s:.3}"));
        }
        self.session.run(&sql).await?;
        self.limits = limits;
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
        let standing = ledger::standing(&mut hand.session, &hand.target, hand.meta, self.write).await?;
        Ok(match self.write.direction {
            Direction::Up => standing == Standing::Applied,
            Direction::Down => standing == Standing::Absent,
        })
    }

    /// What the journal says. An interrupted run of the other direction leaves a schema that is neither version.
    pub(super) async fn recorded(&mut self) -> Result<BTreeMap<usize, Entry>, DbError> {
        let recorded = self.journal.read(&mut self.hand.session).await?;
        if recorded.opposite_is_open {
            return Err(DbError::Unsupported(format!(
                "version {} was interrupted on its way in the other direction; finish that first (see lockkeeper_journal)",
                self.write.version
            )));
        }
        Ok(recorded.entries)
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
        let mut tries = Tries::default();
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
                Err(InOne::Locked { line, message }) => {
                    if !self.make_way(&mut tries).await {
                        return Err(ApplyError::RolledBack { line, message });
                    }
                }
            }
        }
    }

    async fn transaction(&mut self) -> Result<Applied, InOne> {
        self.hand.begin_guarded().await?;
        if self.already().await? {
            self.hand.session.run("ROLLBACK").await.map_err(DbError::from)?;
            return Ok(Applied::Already);
        }
        self.recorded().await?;
        for begin in ledger::begin(&self.hand.target, self.write)? {
            self.hand.session.run(&begin).await.map_err(DbError::from)?;
        }
        reach(failpoint::APPLY_BEGUN);
        let script = self.script;
        for (index, statement) in script.statements.iter().enumerate() {
            if let Err(refused) = self.statement(index, statement).await {
                return Err(in_one_error(statement, refused));
            }
        }
        reach(failpoint::APPLY_RAN);
        for record in self.ledger_sql()? {
            self.hand.session.run(&record).await.map_err(DbError::from)?;
        }
        reach(failpoint::APPLY_RECORDED);
        self.hand.session.run("COMMIT").await.map_err(DbError::from)?;
        reach(failpoint::APPLY_COMMITTED);
        Ok(self.ran())
    }

    /// What is done between two tries of a statement that did not get a lock; false when there is to be no other.
    pub(super) async fn make_way(&mut self, tries: &mut Tries) -> bool {
        // When it fails, the next try says what is wrong.
        let _ = self.hand.end_refused_writers(self.observer).await;
        tries.again(self.observer).await
    }

    /// Runs one statement once, names whoever it waits for, and keeps the server's warnings.
    pub(super) async fn statement(&mut self, index: usize, statement: &Statement) -> Result<(), Failure> {
        let event = Event::Statement {
            index: index + 1,
            total: self.script.statements.len(),
            text: first_line(statement.shown(), EVENT_CHARS),
        };
        self.observer.event(event);
        let hand = &mut *self.hand;
        let measuring = measure::before(hand, statement).await?;
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
        let rows = match result {
            Ok(rows) => rows,
            Err(failure) => return Err(self.tell_cancelled(failure).await),
        };
        if let Some(measuring) = measuring {
            measure::after(self, index, statement, measuring, rows).await;
        }
        // The witness may have gone with them, and the barrier's triggers look for it at the next row.
        if statement.text.to_ascii_uppercase().contains("RELEASE_ALL_LOCKS") {
            let hand = &mut *self.hand;
            others::hold_witness(&mut hand.session, &hand.target, &hand.executor.started).await?;
        }
        self.keep_warnings().await
    }

    /// The server answers the same to a cancelled statement as to one whose session is being ended.
    async fn tell_cancelled(&mut self, failure: Failure) -> Failure {
        if failure.is(QUERY_INTERRUPTED) && self.hand.session.run("DO 0").await.is_ok() {
            return Failure::Cancelled("the statement was cancelled".to_owned());
        }
        failure
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
        let mut tries = Tries::default();
        loop {
            match self.statement(index, statement).await {
                Ok(()) => return Ok(()),
                Err(failure) if failure.is_retryable() => {
                    if !self.make_way(&mut tries).await {
                        let names: Vec<String> = self.seen.iter().map(ToString::to_string).collect();
                        return Err(Refused::Locked(format!(
                            "{failure}; seen in the way: {}",
                            names.join("; ")
                        )));
                    }
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
