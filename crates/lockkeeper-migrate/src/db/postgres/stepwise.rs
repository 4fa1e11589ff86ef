//! Running a migration that no single transaction can hold: unit by unit, each recorded in the journal.
//!
//! Whatever a transaction can hold runs in one together with its journal row, so that it cannot be in doubt. Only
//! what the server refuses in a transaction runs bare, between a row that says `started` and one that says
//! `done`; if the second is missing, [`classify`](super::classify) looks what became of it.

use sqlx::{AssertSqlSafe, Connection};

use super::apply::{
    BEGIN, Failure, Refused, Run, at_line, check_identity, limits, run_statement, set_limits, tell,
    unanswered, words,
};
use super::classify::{Fate, classify};
use super::hand::PgHand;
use super::identity::Question;
use super::journal::{self, Mark, State};
use super::ledger;
use super::measure;
use super::session::{db_error, run};
use super::units::{Unit, UnitKind, units};
use super::watch::{Manner, Watch};
use crate::db::retry::Tries;
use crate::db::{ApplyError, DbError, Detail};
use crate::failpoint::{self, reach};
use crate::sql::Statement;

impl PgHand {
    /// False when the ledger already said so.
    pub(super) async fn run_stepwise(
        &mut self,
        migration: &Run<'_>,
        watch: &mut Watch<'_>,
    ) -> Result<bool, ApplyError> {
        let statements = &migration.script.statements;
        let question = self.identity_question().await?;
        let units = units(statements).map_err(|what| {
            let path = migration.script.path.display();
            DbError::Unsupported(format!("{path}: {what}"))
        })?;
        let mut marks = {
            let mut tx = self.session.conn.begin().await.map_err(db_error)?;
            let wait = self.connector.settings.lock_timeout;
            let standing = ledger::standing(&self.names, migration.write);
            let more = format!("{}; {standing}", question.sql());
            let (row, answers) = self.terms.hold_and_ask(&mut tx, &self.names, wait, &more).await?;
            let [seen, standing] = answers.as_slice() else {
                return Err(unanswered().into());
            };
            check_identity(&row, Question::answer(seen))?;
            if ledger::says_so(&mut tx, &self.names, migration.write, standing).await? {
                return Ok(false);
            }
            journal::read(&mut tx, &self.names, migration.write).await?
        };
        let mut done = 0;
        for unit in &units {
            if migration.observer.is_stopping() {
                return Err(stopped(unit, done, statements.len()));
            }
            let mark = journal::take(&mut marks, unit)?;
            if !self.skip(migration, unit, mark).await? {
                tell(migration.observer, statements, unit.first);
                self.run_unit(migration, unit, watch)
                    .await
                    .map_err(|failure| partial(failure, done, statements.len()))?;
            }
            done += unit.statements.len();
        }
        reach(failpoint::LEDGER_PENDING);
        self.record(migration).await?;
        reach(failpoint::LEDGER_WRITTEN);
        Ok(true)
    }

    /// Whether the journal, or a look at the database, says that this unit has taken effect.
    async fn skip(
        &mut self,
        migration: &Run<'_>,
        unit: &Unit<'_>,
        mark: Option<Mark>,
    ) -> Result<bool, ApplyError> {
        let Some(mark) = mark else {
            return Ok(false);
        };
        match mark.state {
            State::Done => return Ok(true),
            State::Started | State::InDoubt => {}
        }
        match classify(&mut self.session.conn, unit.last()).await? {
            Fate::Done => {
                self.mark_in_transaction(migration, unit, State::Done).await?;
                Ok(true)
            }
            Fate::NeverRan => Ok(false),
            Fate::InDoubt(seen) => {
                self.mark_in_transaction(migration, unit, State::InDoubt).await?;
                let place = &self.names.journal;
                Err(ApplyError::InDoubt {
                    line: unit.line(),
                    index: unit.first + 1,
                    seen: format!(
                        "{seen}; look, then set the state of its row in {place} to 'done', or delete the row to \
                         have it run again"
                    ),
                })
            }
        }
    }

    async fn run_unit(
        &mut self,
        migration: &Run<'_>,
        unit: &Unit<'_>,
        watch: &mut Watch<'_>,
    ) -> Result<(), Failure> {
        let mut tries = Tries::default();
        loop {
            let attempt = self.attempt_unit(migration, unit);
            let failure = match watch.during(attempt, "a lock", Manner::Tell).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            if !failure.is_lock() || !tries.again(migration.observer).await {
                return Err(failure);
            }
            // What a bare statement left behind when its lock was not had is cleared away before the next try.
            if let UnitKind::Bare = unit.kind
                && let Fate::InDoubt(seen) = classify(&mut self.session.conn, unit.last()).await?
            {
                return Err(at_line(
                    DbError::Server {
                        code: "LK000".to_owned(),
                        message: seen,
                    },
                    unit.line(),
                ));
            }
        }
    }

    async fn attempt_unit(&mut self, migration: &Run<'_>, unit: &Unit<'_>) -> Result<(), Failure> {
        match unit.kind {
            UnitKind::Session => run_statement(&mut self.session.conn, unit.last()).await,
            UnitKind::Bare => self.run_bare(migration, unit).await,
            UnitKind::Transaction(begin) => match self.run_in_transaction(migration, unit, begin).await {
                // The server knows better than the words: this one brings its own transactions.
                Err(Failure::Statement(Refused { code, .. }))
                    if matches!(code.as_str(), "25001" | "2D000") && unit.statements.len() == 1 =>
                {
                    self.run_bare(migration, unit).await
                }
                other => other,
            },
        }
    }

    async fn run_in_transaction(
        &mut self,
        migration: &Run<'_>,
        unit: &Unit<'_>,
        begin: Option<&str>,
    ) -> Result<(), Failure> {
        let settings = &self.connector.settings;
        let begin = AssertSqlSafe(begin.unwrap_or(BEGIN).to_owned());
        let mut tx = self.session.conn.begin_with(begin).await.map_err(db_error)?;
        self.terms
            .hold(&mut tx, &self.names, settings.lock_timeout)
            .await?;
        set_limits(&mut tx, settings).await?;
        match settings.detail {
            Detail::Plain => {
                for statement in unit.statements {
                    run_statement(&mut tx, statement).await?;
                }
            }
            Detail::Measured => {
                let place = measure::Place {
                    script: &migration.script.statements,
                    first: unit.first,
                };
                measure::run_statements(&mut tx, unit.statements, place, migration.observer).await?;
            }
        }
        let settled: Result<(), DbError> = async {
            if let Some(barrier) = &self.barrier {
                barrier.reassert(&mut tx, &self.names).await?;
            }
            journal::mark(&mut tx, &self.names, migration.write, unit, State::Done).await?;
            reach(failpoint::JOURNAL_RAN);
            tx.commit().await.map_err(db_error)
        }
        .await;
        settled.map_err(|error| at_line(error, unit.last().line as usize))?;
        reach(failpoint::JOURNAL_DONE);
        Ok(())
    }

    async fn run_bare(&mut self, migration: &Run<'_>, unit: &Unit<'_>) -> Result<(), Failure> {
        reach(failpoint::JOURNAL_STARTING);
        self.mark_in_transaction(migration, unit, State::Started).await?;
        reach(failpoint::JOURNAL_STARTED);
        let session_limits = limits("SET", &self.connector.settings);
        run(&mut self.session.conn, session_limits).await?;
        let outcome = self.bare_statement(migration, unit).await;
        if let Err(Failure::Statement(_)) = &outcome
            && !leaves_traces(unit.last())
        {
            // The server said no, and such a statement has no effect then: there is nothing to doubt.
            self.forget(migration, unit).await?;
        }
        outcome?;
        reach(failpoint::JOURNAL_RAN);
        run(
            &mut self.session.conn,
            "SET lock_timeout = 0; SET statement_timeout = 0",
        )
        .await?;
        self.mark_in_transaction(migration, unit, State::Done).await?;
        reach(failpoint::JOURNAL_DONE);
        Ok(())
    }

    async fn bare_statement(&mut self, migration: &Run<'_>, unit: &Unit<'_>) -> Result<(), Failure> {
        match self.connector.settings.detail {
            Detail::Plain => run_statement(&mut self.session.conn, unit.last()).await,
            Detail::Measured => {
                let watcher = measure::Watcher {
                    connector: &self.connector,
                    executor: &self.terms.executor,
                };
                let conn = &mut self.session.conn;
                measure::run_bare(conn, unit.last(), unit.first, watcher, migration.observer).await
            }
        }
    }

    /// Writes a journal row under the claim; and while a fence is on, bars what the statement left unbarred.
    async fn mark_in_transaction(
        &mut self,
        migration: &Run<'_>,
        unit: &Unit<'_>,
        state: State,
    ) -> Result<(), DbError> {
        let wait = self.connector.settings.lock_timeout;
        let mut tx = self.session.conn.begin_with(BEGIN).await.map_err(db_error)?;
        self.terms.hold(&mut tx, &self.names, wait).await?;
        if let Some(barrier) = &self.barrier
            && state == State::Done
        {
            barrier.reassert(&mut tx, &self.names).await?;
        }
        journal::mark(&mut tx, &self.names, migration.write, unit, state).await?;
        tx.commit().await.map_err(db_error)
    }

    async fn forget(&mut self, migration: &Run<'_>, unit: &Unit<'_>) -> Result<(), DbError> {
        let mut tx = self.session.conn.begin_with(BEGIN).await.map_err(db_error)?;
        self.terms
            .hold(&mut tx, &self.names, self.connector.settings.lock_timeout)
            .await?;
        journal::forget(&mut tx, &self.names, migration.write, unit).await?;
        tx.commit().await.map_err(db_error)
    }

    async fn record(&mut self, migration: &Run<'_>) -> Result<(), DbError> {
        let epoch = self.fleet_epoch();
        let mut tx = self.session.conn.begin_with(BEGIN).await.map_err(db_error)?;
        self.terms
            .hold(&mut tx, &self.names, self.connector.settings.lock_timeout)
            .await?;
        run(&mut tx, ledger::record(&self.names, migration, epoch)?).await?;
        tx.commit().await.map_err(db_error)
    }
}

/// Whether the statement can have had an effect although it failed: it works in several transactions.
fn leaves_traces(statement: &Statement) -> bool {
    let text = statement.text.to_ascii_uppercase();
    text.contains("CONCURRENTLY") || text.starts_with("CALL") || text.starts_with("DO")
}

fn stopped(next: &Unit<'_>, done: usize, total: usize) -> ApplyError {
    ApplyError::Partial {
        line: next.line(),
        message: "stopped before this statement".to_owned(),
        done,
        total,
    }
}

fn partial(failure: Failure, done: usize, total: usize) -> ApplyError {
    match failure {
        Failure::Statement(refused) => ApplyError::Partial {
            line: refused.line,
            message: words(&refused),
            done,
            total,
        },
        Failure::Db(error) => ApplyError::Db(error),
    }
}
