//! Migrations whose statements commit one by one: each is journalled, and after a crash each is judged.
//!
//! A statement that changes rows commits together with its mark in the journal. DDL commits by itself, so it is
//! marked before and after; what is marked before and not after is judged by what it would have left. The mark after
//! it goes into the next commit, of the next statement's mark or of the ledger's row, so that each statement costs one
//! commit more than by itself, and not two.

use std::collections::BTreeMap;

use super::apply::{Refused, Run, refusal};
use super::barrier::Barrier;
use super::doubt::{self, Verdict};
use super::journal::{self, Entry, Step};
use super::ledger;
use crate::db::retry::Tries;
use crate::db::{Applied, ApplyError, DbError, Notice};
use crate::failpoint::{self, reach};
use crate::sql::{Statement, StatementKind, TransactionVerb};

/// How a statement is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It changes the session or nothing: run again after a crash, because the session is a new one.
    Session,
    /// It changes rows: in one transaction with its mark.
    Rows,
    /// It commits by itself.
    Commits,
    /// It would begin or end a transaction or lock tables, which the hand does itself: left out.
    LeftOut,
}

fn way(statement: &Statement) -> Way {
    let first = statement
        .text
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_ascii_uppercase();
    match statement.kind {
        StatementKind::Session | StatementKind::Query => Way::Session,
        StatementKind::RowChange => Way::Rows,
        StatementKind::TransactionControl(_) | StatementKind::Savepoint => Way::LeftOut,
        // Under LOCK TABLES no other table can be written, the journal included.
        StatementKind::Other if matches!(first.as_str(), "LOCK" | "UNLOCK") => Way::LeftOut,
        StatementKind::Other if matches!(first.as_str(), "PREPARE" | "DEALLOCATE") => Way::Session,
        StatementKind::Other if first == "DO" => Way::Session,
        StatementKind::Ddl
        | StatementKind::Other
        | StatementKind::NonTransactional { .. }
        | StatementKind::Pragma { .. } => Way::Commits,
    }
}

impl Run<'_> {
    pub(super) async fn step_by_step(&mut self) -> Result<Applied, ApplyError> {
        self.refuse_rollback()?;
        let Some(entries) = self.look().await? else {
            return Ok(Applied::Already);
        };
        self.compare(&entries)?;
        let mut done = self.settle(entries).await?;
        let script = self.script;
        for (at, statement) in script.statements.iter().enumerate() {
            if self.observer.is_stopping() {
                self.settle_debt().await?;
                return Err(self.stopped(statement, &done));
            }
            let way = way(statement);
            if done[at] && way != Way::Session {
                continue;
            }
            match way {
                Way::Session => self.in_session(at, statement, &done).await?,
                Way::Rows => self.rows(at, statement, &done).await?,
                Way::Commits => self.commits(at, statement, &done).await?,
                Way::LeftOut => self.tell_left_out(statement),
            }
            done[at] = true;
        }
        self.finish().await?;
        Ok(self.ran())
    }

    /// A ROLLBACK in the middle would have to undo what is committed already.
    fn refuse_rollback(&self) -> Result<(), DbError> {
        let refused =
            |kind: &StatementKind| *kind == StatementKind::TransactionControl(TransactionVerb::Rollback);
        match self
            .script
            .statements
            .iter()
            .find(|statement| refused(&statement.kind))
        {
            None => Ok(()),
            Some(statement) => Err(DbError::Unsupported(format!(
                "line {}: ROLLBACK in a migration that runs statement by statement; remove it",
                statement.line
            ))),
        }
    }

    /// Ledger and journal under the row's lock; `None` when there is nothing to do.
    async fn look(&mut self) -> Result<Option<BTreeMap<usize, Entry>>, DbError> {
        let looked = self.look_inside().await;
        self.hand.session.run("ROLLBACK").await?;
        looked
    }

    async fn look_inside(&mut self) -> Result<Option<BTreeMap<usize, Entry>>, DbError> {
        self.hand.begin_guarded().await?;
        if self.already().await? {
            return Ok(None);
        }
        Ok(Some(self.recorded().await?))
    }

    /// What is journalled must be what the file still says; what comes after it may have been corrected.
    fn compare(&self, entries: &BTreeMap<usize, Entry>) -> Result<(), DbError> {
        for (position, entry) in entries {
            let statement = self.script.statements.get(position - 1);
            if statement.map(journal::hash).as_ref() != Some(&entry.hash) {
                let line = statement.map_or(0, |statement| statement.line);
                return Err(DbError::Unsupported(format!(
                    "line {line}: statement {position} of version {} is not the one that ran before the interruption; \
                     restore the file, only statements that have not run may change",
                    self.write.version
                )));
            }
        }
        Ok(())
    }

    /// Judges what was started and not marked as done.
    async fn settle(&mut self, entries: BTreeMap<usize, Entry>) -> Result<Vec<bool>, ApplyError> {
        let mut done = vec![false; self.script.statements.len()];
        for (position, entry) in entries {
            let at = position - 1;
            let statement = &self.script.statements[at];
            done[at] = entry.step == Step::Done || self.judge(position, statement).await?;
        }
        Ok(done)
    }

    async fn judge(&mut self, position: usize, statement: &Statement) -> Result<bool, ApplyError> {
        let database = self.hand.target.database.clone();
        let verdict = doubt::judge(&mut self.hand.session, &database, &statement.text)
            .await
            .map_err(DbError::from)?;
        match verdict {
            Verdict::NeverRan => Ok(false),
            Verdict::Done => {
                // Its new tables may still lack the barrier.
                self.complete_barrier().await?;
                let mark = self.journal.done(position, &journal::hash(statement));
                self.hand.commit_guarded(&[mark]).await?;
                Ok(true)
            }
            Verdict::InDoubt(seen) => {
                let doubt = ledger::record_doubt(&self.hand.target, self.write, self.ledger_run(), position);
                self.hand
                    .commit_guarded(&[self.journal.doubt(position), doubt])
                    .await?;
                Err(ApplyError::InDoubt {
                    line: statement.line as usize,
                    index: position,
                    seen,
                })
            }
        }
    }

    /// Commits the mark of the last statement that is still owed.
    async fn settle_debt(&mut self) -> Result<(), DbError> {
        if let Some(mark) = self.owed.take() {
            self.hand.commit_guarded(&[mark]).await?;
            reach(failpoint::JOURNAL_DONE);
        }
        Ok(())
    }

    async fn in_session(
        &mut self,
        at: usize,
        statement: &Statement,
        done: &[bool],
    ) -> Result<(), ApplyError> {
        self.settle_debt().await?;
        match self.patiently(at, statement).await {
            Ok(()) => Ok(()),
            Err(refused) => Err(self.failed(statement, refused, done).await),
        }
    }

    async fn rows(&mut self, at: usize, statement: &Statement, done: &[bool]) -> Result<(), ApplyError> {
        self.settle_debt().await?;
        let mark = self.journal.done(at + 1, &journal::hash(statement));
        let mut tries = Tries::default();
        loop {
            let written = self.rows_inside(at, statement, &mark).await;
            if written.is_err() {
                // On a dead session there is nothing to roll back.
                let _ = self.hand.session.run("ROLLBACK").await;
            }
            match written {
                Ok(()) => {
                    reach(failpoint::JOURNAL_DONE);
                    return Ok(());
                }
                Err(RowsError::Db(error)) => return Err(error.into()),
                Err(RowsError::Refused(failure)) => {
                    if !failure.is_retryable() || !self.make_way(&mut tries).await {
                        return Err(self.failed(statement, failure.into(), done).await);
                    }
                }
            }
        }
    }

    async fn rows_inside(&mut self, at: usize, statement: &Statement, mark: &str) -> Result<(), RowsError> {
        self.hand.begin_guarded().await.map_err(RowsError::Db)?;
        self.statement(at, statement).await.map_err(RowsError::Refused)?;
        reach(failpoint::JOURNAL_RAN);
        let commit = format!("{mark}; COMMIT");
        let committed = self.hand.session.run(&commit).await;
        committed
            .map(drop)
            .map_err(|failure| RowsError::Db(failure.into()))
    }

    /// Marks the statement, in one commit with what is owed to the one before it, runs it, and owes its own mark to
    /// whatever is committed next.
    async fn commits(&mut self, at: usize, statement: &Statement, done: &[bool]) -> Result<(), ApplyError> {
        let hash = journal::hash(statement);
        reach(failpoint::JOURNAL_STARTING);
        let marks: Vec<String> = self
            .owed
            .take()
            .into_iter()
            .chain([self.journal.start(at + 1, &hash)])
            .collect();
        self.hand.commit_guarded(&marks).await?;
        reach(failpoint::JOURNAL_STARTED);
        if let Err(refused) = self.patiently(at, statement).await {
            let lost = matches!(&refused, Refused::Failure(failure) if failure.is_lost());
            if !lost && !doubt::may_be_partial(&statement.text) {
                self.hand.commit_guarded(&[self.journal.forget(at + 1)]).await?;
            }
            return Err(self.failed(statement, refused, done).await);
        }
        reach(failpoint::JOURNAL_RAN);
        self.complete_barrier().await?;
        self.owed = Some(self.journal.done(at + 1, &hash));
        Ok(())
    }

    /// Bars what the statement has just made, before its mark says that it is done.
    async fn complete_barrier(&mut self) -> Result<(), DbError> {
        let hand = &mut *self.hand;
        if let Some(fence) = hand.barred {
            let barrier = Barrier {
                target: &hand.target,
                fence,
            };
            barrier
                .complete(&mut hand.session, &mut hand.watch, self.observer)
                .await?;
        }
        Ok(())
    }

    fn tell_left_out(&mut self, statement: &Statement) {
        let text = super::text::first_line(statement.shown(), 40);
        let message = format!(
            "line {}: left out {text}: each statement commits by itself here",
            statement.line
        );
        let notice = Notice {
            severity: "Note".to_owned(),
            message,
        };
        self.observer.event(crate::db::Event::Notice(notice.clone()));
        self.notices.push(notice);
    }

    fn stopped(&self, next: &Statement, done: &[bool]) -> ApplyError {
        ApplyError::Partial {
            line: next.line as usize,
            message: "stopped before this statement".to_owned(),
            done: self.count(done),
            total: self.script.statements.len(),
        }
    }

    /// How many statements took effect.
    fn count(&self, done: &[bool]) -> usize {
        let pairs = self.script.statements.iter().zip(done);
        pairs
            .filter(|(statement, done)| **done && way(statement) != Way::Session)
            .count()
    }

    async fn failed(&mut self, statement: &Statement, refused: Refused, done: &[bool]) -> ApplyError {
        let message = match refused {
            Refused::Failure(failure) => match refusal(&failure) {
                Some(error) => return error,
                None => failure.to_string(),
            },
            Refused::Locked(message) => message,
        };
        let line = statement.line as usize;
        let count = self.count(done);
        if count == 0 && !doubt::may_be_partial(&statement.text) {
            return ApplyError::RolledBack { line, message };
        }
        ApplyError::Partial {
            line,
            message,
            done: count,
            total: self.script.statements.len(),
        }
    }

    /// The ledger's row takes the journal's place.
    async fn finish(&mut self) -> Result<(), DbError> {
        reach(failpoint::LEDGER_PENDING);
        // The journal goes, and the mark that is owed to it.
        self.owed = None;
        let mut statements = self.ledger_sql()?;
        statements.push(self.journal.clear());
        self.hand.commit_guarded(&statements).await?;
        reach(failpoint::LEDGER_WRITTEN);
        Ok(())
    }
}

#[derive(Debug)]
enum RowsError {
    Refused(super::failure::Failure),
    Db(DbError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Dialect;
    use crate::sql::split;

    #[test]
    fn each_statement_has_its_way() {
        for (text, expected) in [
            ("SET FOREIGN_KEY_CHECKS = 0", Way::Session),
            ("SELECT @a := 1", Way::Session),
            ("PREPARE s FROM 'ALTER TABLE t ADD a int'", Way::Session),
            ("EXECUTE s", Way::Commits),
            ("INSERT INTO t VALUES (1)", Way::Rows),
            ("ALTER TABLE t ADD a int", Way::Commits),
            ("CALL p()", Way::Commits),
            ("LOCK TABLES t WRITE", Way::LeftOut),
            ("UNLOCK TABLES", Way::LeftOut),
            ("START TRANSACTION", Way::LeftOut),
            ("COMMIT", Way::LeftOut),
        ] {
            let statements = split(Dialect::MySql, text).unwrap();
            assert_eq!(way(&statements[0]), expected, "{text}");
        }
    }
}
