//! Migrations whose statements commit one by one: each is journalled, and after a crash each is judged.
//!
//! A statement that changes rows commits together with its mark in the journal. DDL commits by itself, so it is
//! marked before and after; what is marked before and not after is judged by what it would have left.

use std::collections::BTreeMap;

use super::apply::{Refused, Run, refusal};
use super::barrier::Barrier;
use super::doubt::{self, Verdict};
use super::journal::{self, Entry, Step};
use super::ledger;
use crate::db::{Applied, ApplyError, DbError, Notice};
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
        self.hand.session.run("START TRANSACTION").await?;
        let looked = self.look_inside().await;
        self.hand.session.run("ROLLBACK").await?;
        looked
    }

    async fn look_inside(&mut self) -> Result<Option<BTreeMap<usize, Entry>>, DbError> {
        self.hand.guard().await?;
        if self.already().await? {
            return Ok(None);
        }
        self.refuse_opposite().await?;
        Ok(Some(self.journal.read(&mut self.hand.session).await?))
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
                self.commit(&[self.journal.done(position, &journal::hash(statement))])
                    .await?;
                Ok(true)
            }
            Verdict::InDoubt(seen) => {
                let doubt = ledger::record_doubt(&self.hand.target, self.write, self.ledger_run(), position);
                self.commit(&[doubt]).await?;
                Err(ApplyError::InDoubt {
                    line: statement.line as usize,
                    index: position,
                    seen,
                })
            }
        }
    }

    /// A guarded transaction of own statements.
    async fn commit(&mut self, statements: &[String]) -> Result<(), DbError> {
        self.hand.session.run("START TRANSACTION").await?;
        let written = self.write_guarded(statements).await;
        let end = if written.is_ok() { "COMMIT" } else { "ROLLBACK" };
        self.hand.session.run(end).await?;
        written
    }

    async fn write_guarded(&mut self, statements: &[String]) -> Result<(), DbError> {
        self.hand.guard().await?;
        for statement in statements {
            self.hand.session.run(statement).await?;
        }
        Ok(())
    }

    async fn in_session(
        &mut self,
        at: usize,
        statement: &Statement,
        done: &[bool],
    ) -> Result<(), ApplyError> {
        match self.patiently(at, statement).await {
            Ok(()) => Ok(()),
            Err(refused) => Err(self.failed(statement, refused, done).await),
        }
    }

    async fn rows(&mut self, at: usize, statement: &Statement, done: &[bool]) -> Result<(), ApplyError> {
        let mark = self.journal.done(at + 1, &journal::hash(statement));
        let mut tries = 1;
        loop {
            self.hand
                .session
                .run("START TRANSACTION")
                .await
                .map_err(DbError::from)?;
            let written = self.rows_inside(at, statement, &mark).await;
            let end = if written.is_ok() { "COMMIT" } else { "ROLLBACK" };
            let ended = self.hand.session.run(end).await;
            match written {
                Ok(()) => return Ok(ended.map(|_| ()).map_err(DbError::from)?),
                Err(RowsError::Db(error)) => return Err(error.into()),
                Err(RowsError::Refused(failure))
                    if failure.is_retryable() && tries < super::apply::LOCK_TRIES =>
                {
                    tries += 1;
                    self.make_way().await;
                }
                Err(RowsError::Refused(failure)) => {
                    return Err(self.failed(statement, failure.into(), done).await);
                }
            }
        }
    }

    async fn rows_inside(&mut self, at: usize, statement: &Statement, mark: &str) -> Result<(), RowsError> {
        self.hand.guard().await.map_err(RowsError::Db)?;
        self.statement(at, statement).await.map_err(RowsError::Refused)?;
        self.hand
            .session
            .run(mark)
            .await
            .map_err(|failure| RowsError::Db(failure.into()))?;
        Ok(())
    }

    async fn commits(&mut self, at: usize, statement: &Statement, done: &[bool]) -> Result<(), ApplyError> {
        let hash = journal::hash(statement);
        self.commit(&[self.journal.start(at + 1, &hash)]).await?;
        if let Err(refused) = self.patiently(at, statement).await {
            let lost = matches!(&refused, Refused::Failure(failure) if failure.is_lost());
            if !lost && !doubt::may_be_partial(&statement.text) {
                self.commit(&[self.journal.forget(at + 1)]).await?;
            }
            return Err(self.failed(statement, refused, done).await);
        }
        self.complete_barrier().await?;
        self.commit(&[self.journal.done(at + 1, &hash)]).await?;
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
        let text = super::text::first_line(&statement.text, 40);
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

    async fn failed(&mut self, statement: &Statement, refused: Refused, done: &[bool]) -> ApplyError {
        let message = match refused {
            Refused::Failure(failure) => match refusal(&failure) {
                Some(error) => return error,
                None => failure.to_string(),
            },
            Refused::Locked(message) => message,
        };
        let line = statement.line as usize;
        let took_effect = |(at, statement): (usize, &Statement)| done[at] && way(statement) != Way::Session;
        let count = self
            .script
            .statements
            .iter()
            .enumerate()
            .filter(|pair| took_effect(*pair))
            .count();
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
        let mut statements = self.ledger_sql()?;
        statements.push(self.journal.clear());
        self.commit(&statements).await
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
