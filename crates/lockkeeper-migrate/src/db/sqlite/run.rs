//! One migration: in one transaction with its ledger row, or statement by statement with the journal.

use std::time::Duration;

use tokio::time::Instant;

use super::hand::SqliteHand;
use super::journal::{self, Journal};
use super::{gate, ledger, measure, session};
use crate::db::{Applied, ApplyError, DbError, Detail, Event, LedgerWrite, Observer};
use crate::failpoint::{self, reach};
use crate::source::{Direction, Script, TransactionMode};
use crate::sql::{Statement, StatementKind, TransactionVerb};

/// Longest part of a statement that progress shows, in characters.
const SHOWN_CHARS: usize = 80;

pub(super) async fn apply(
    hand: &mut SqliteHand,
    script: &Script,
    write: &LedgerWrite,
    observer: &dyn Observer,
) -> Result<Applied, ApplyError> {
    refuse_rollbacks(script)?;
    let job = Job {
        script,
        write,
        observer,
    };
    match &script.transaction {
        TransactionMode::Transactional => job.in_one_transaction(hand).await,
        // The fence's transaction holds whatever a transaction can hold, so that a crash still undoes it.
        TransactionMode::NonTransactional { .. } if hand.holds_barrier() => {
            refuse_in_fence(script)?;
            job.in_one_transaction(hand).await
        }
        TransactionMode::NonTransactional { .. } => job.journalled(hand).await,
    }
}

struct Job<'a> {
    script: &'a Script,
    write: &'a LedgerWrite,
    observer: &'a dyn Observer,
}

impl Job<'_> {
    async fn in_one_transaction(&self, hand: &mut SqliteHand) -> Result<Applied, ApplyError> {
        let started = Instant::now();
        hand.begin_step(self.observer).await?;
        match self.statements_and_ledger(hand, started).await {
            Ok(Applied::Already) => {
                hand.undo().await?;
                Ok(Applied::Already)
            }
            Ok(ran) => {
                reach(failpoint::APPLY_RECORDED);
                hand.keep(self.observer).await?;
                reach(failpoint::APPLY_COMMITTED);
                Ok(ran)
            }
            Err(error) => match hand.undo().await {
                Ok(()) => Err(error),
                // More than this migration went: the whole fence did. Both messages count.
                Err(DbError::ConnectionLost(lost)) => {
                    Err(DbError::ConnectionLost(format!("{error}; {lost}")).into())
                }
                Err(other) => Err(other.into()),
            },
        }
    }

    async fn statements_and_ledger(
        &self,
        hand: &SqliteHand,
        started: Instant,
    ) -> Result<Applied, ApplyError> {
        if self.is_recorded(hand).await? {
            return Ok(Applied::Already);
        }
        ledger::begin(&hand.session, hand.book, self.write).await?;
        reach(failpoint::APPLY_BEGUN);
        let violations_before = self.violations(hand).await?;
        for (at, statement) in self.script.statements.iter().enumerate() {
            if !is_own_transaction(statement) {
                self.tell(at, statement);
                self.execute(hand, at, statement)
                    .await
                    .map_err(|e| rolled_back(statement, e))?;
            }
        }
        self.refuse_new_violations(hand, violations_before).await?;
        reach(failpoint::APPLY_RAN);
        let duration = started.elapsed();
        self.record(hand, duration).await?;
        Ok(Applied::Ran {
            duration,
            notices: Vec::new(),
        })
    }

    async fn journalled(&self, hand: &mut SqliteHand) -> Result<Applied, ApplyError> {
        let started = Instant::now();
        hand.begin_step(self.observer).await?;
        let found = self.look_back(hand).await;
        hand.undo().await?;
        let Some(journal) = found? else {
            return Ok(Applied::Already);
        };
        let ran = self.statements_one_by_one(hand, &journal).await;
        // A PRAGMA of the script must not outlive it.
        let reset = hand.session.execute("PRAGMA foreign_keys = OFF").await;
        ran?;
        reset?;
        let duration = started.elapsed();
        reach(failpoint::LEDGER_PENDING);
        hand.begin_step(self.observer).await?;
        match self.record(hand, duration).await {
            Ok(()) => {
                hand.keep(self.observer).await?;
                reach(failpoint::LEDGER_WRITTEN);
            }
            Err(error) => {
                hand.undo().await?;
                return Err(error.into());
            }
        }
        Ok(Applied::Ran {
            duration,
            notices: Vec::new(),
        })
    }

    /// What an earlier try left behind; `None` when the ledger already has the migration.
    async fn look_back(&self, hand: &SqliteHand) -> Result<Option<Journal>, ApplyError> {
        if self.is_recorded(hand).await? {
            return Ok(None);
        }
        let journal = journal::read(&hand.session, self.write).await?;
        journal.check(self.script)?;
        Ok(Some(journal))
    }

    async fn statements_one_by_one(
        &self,
        hand: &mut SqliteHand,
        journal: &Journal,
    ) -> Result<(), ApplyError> {
        let mut done = journal.len();
        for (at, statement) in self.script.statements.iter().enumerate() {
            if is_own_transaction(statement) || journal.has(at) {
                continue;
            }
            if self.observer.is_stopping() {
                return Err(self.stopped(statement, done));
            }
            self.tell(at, statement);
            let ran = if needs_no_transaction(statement) {
                self.outside(hand, statement).await
            } else {
                self.one(hand, at, statement).await
            };
            match ran {
                Ok(()) => done += 1,
                Err(error) => return Err(self.partial(statement, error, done)),
            }
        }
        Ok(())
    }

    /// A statement that SQLite refuses inside a transaction. Running it again does no harm, so a crash needs no
    /// record of it: VACUUM, ATTACH and such PRAGMAs change no row and no table.
    async fn outside(&self, hand: &mut SqliteHand, statement: &Statement) -> Result<(), DbError> {
        hand.begin_step(self.observer).await?;
        hand.undo().await?;
        let limit = hand.options.statement_timeout;
        let mut wait = hand.wait("the write lock", self.observer);
        loop {
            match hand.session.execute_within(&statement.text, limit).await {
                Err(error) if session::is_busy(&error) => wait.again().await?,
                Ok(()) => {
                    reach(failpoint::JOURNAL_RAN);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// One statement and its journal row, in one transaction: it is never in doubt.
    async fn one(&self, hand: &mut SqliteHand, at: usize, statement: &Statement) -> Result<(), DbError> {
        reach(failpoint::JOURNAL_STARTING);
        hand.begin_step(self.observer).await?;
        reach(failpoint::JOURNAL_STARTED);
        let ran = async {
            self.execute(hand, at, statement).await?;
            journal::record(&hand.session, self.write, at, statement).await
        }
        .await;
        match ran {
            Ok(()) => {
                reach(failpoint::JOURNAL_RAN);
                hand.keep(self.observer).await?;
                reach(failpoint::JOURNAL_DONE);
                Ok(())
            }
            Err(error) => {
                hand.undo().await?;
                Err(error)
            }
        }
    }

    fn stopped(&self, next: &Statement, done: usize) -> ApplyError {
        ApplyError::Partial {
            line: line(next),
            message: "stopped before this statement".to_owned(),
            done,
            total: self.script.statements.len(),
        }
    }

    async fn execute(&self, hand: &SqliteHand, at: usize, statement: &Statement) -> Result<(), DbError> {
        let limit = hand.options.statement_timeout;
        match hand.options.detail {
            Detail::Plain => hand.session.execute_within(&statement.text, limit).await,
            Detail::Measured => {
                let measurement = measure::run(&hand.session, at, statement, limit).await?;
                self.observer.event(Event::Measured(measurement));
                Ok(())
            }
        }
    }

    fn partial(&self, statement: &Statement, error: DbError, done: usize) -> ApplyError {
        match error {
            DbError::Server { .. } if done == 0 => rolled_back(statement, error),
            DbError::Server { code, message } => ApplyError::Partial {
                line: line(statement),
                message: format!("{message} ({code})"),
                done,
                total: self.script.statements.len(),
            },
            other => other.into(),
        }
    }

    async fn is_recorded(&self, hand: &SqliteHand) -> Result<bool, DbError> {
        let held = ledger::held(&hand.session, hand.book, &self.write.version).await?;
        let there = held.is_some_and(|recorded| self.write.is_current(&recorded));
        Ok(match self.write.direction {
            Direction::Up => there,
            Direction::Down => !there,
        })
    }

    async fn record(&self, hand: &SqliteHand, duration: Duration) -> Result<(), DbError> {
        journal::clear(&hand.session, self.write).await?;
        let epoch = crate::db::Hand::gate_row(hand).leader_epoch;
        ledger::put(&hand.session, hand.book, self.write, duration, epoch).await
    }

    fn tell(&self, at: usize, statement: &Statement) {
        let first_line = statement.shown().lines().next().unwrap_or_default();
        self.observer.event(Event::Statement {
            index: at + 1,
            total: self.script.statements.len(),
            text: first_line.chars().take(SHOWN_CHARS).collect(),
        });
    }

    /// Foreign keys are off while migrations run, as these files expect. One that says so itself gets the check
    /// that SQLite's own recipe for rebuilding a table ends with.
    async fn violations(&self, hand: &SqliteHand) -> Result<Option<i64>, DbError> {
        if !self.script.sets_foreign_keys() {
            return Ok(None);
        }
        let count = "SELECT count(*) AS n FROM pragma_foreign_key_check";
        let rows = hand.session.rows(sqlx::query(count)).await?;
        gate::count(&rows).map(Some)
    }

    async fn refuse_new_violations(&self, hand: &SqliteHand, before: Option<i64>) -> Result<(), ApplyError> {
        let (Some(before), Some(after)) = (before, self.violations(hand).await?) else {
            return Ok(());
        };
        if after <= before {
            return Ok(());
        }
        let first = "SELECT \"table\" || ' row ' || coalesce(rowid, '?') || ' refers to no row of ' || parent \
                     AS what FROM pragma_foreign_key_check LIMIT 1";
        let rows = hand.session.rows(sqlx::query(first)).await?;
        let example = rows
            .first()
            .map(|row| gate::text(row, "what"))
            .transpose()?
            .unwrap_or_default();
        Err(ApplyError::RolledBack {
            line: self.script.statements.last().map_or(1, line),
            message: format!(
                "foreign keys: {} new violations, for example {example}",
                after - before
            ),
        })
    }
}

/// A rollback of the file's own would undo what the journal, or the fence, believes to be there.
fn refuse_rollbacks(script: &Script) -> Result<(), ApplyError> {
    let refused = script.statements.iter().find(|statement| {
        matches!(
            statement.kind,
            StatementKind::TransactionControl(TransactionVerb::Rollback | TransactionVerb::Other)
        )
    });
    match refused {
        Some(statement) => Err(DbError::Unsupported(format!(
            "line {}: {} in a migration is not supported: write the file so that it always commits",
            statement.line,
            statement.shown()
        ))
        .into()),
        None => Ok(()),
    }
}

fn refuse_in_fence(script: &Script) -> Result<(), ApplyError> {
    let refused = script
        .statements
        .iter()
        .find_map(|statement| match statement.kind {
            StatementKind::NonTransactional { what } => Some((statement.line, what)),
            _ => None,
        });
    match refused {
        Some((line, what)) => Err(DbError::Unsupported(format!(
            "line {line}: SQLite runs {what} outside of a transaction only, and the fence is one: take it out of \
             the rollout and run it with `lockkeeper migrate sql up`"
        ))
        .into()),
        None => Ok(()),
    }
}

/// A BEGIN or COMMIT of the file's own: its statements run in transactions of ours.
fn is_own_transaction(statement: &Statement) -> bool {
    matches!(statement.kind, StatementKind::TransactionControl(_))
}

fn needs_no_transaction(statement: &Statement) -> bool {
    matches!(statement.kind, StatementKind::NonTransactional { .. })
        || statement.kind.is_foreign_keys_pragma()
}

fn rolled_back(statement: &Statement, error: DbError) -> ApplyError {
    match error {
        DbError::Server { code, message } => ApplyError::RolledBack {
            line: line(statement),
            message: format!("{message} ({code})"),
        },
        other => other.into(),
    }
}

pub(super) fn line(statement: &Statement) -> usize {
    usize::try_from(statement.line).unwrap_or(usize::MAX)
}
