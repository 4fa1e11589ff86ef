//! Running a migration in one transaction with its ledger row.

use futures::TryStreamExt;
use sqlx::postgres::{PgDatabaseError, PgErrorPosition, PgRow};
use sqlx::{AssertSqlSafe, Connection, Either, PgConnection, Row};
use tokio::time::Instant;

use super::hand::PgHand;
use super::identity::Question;
use super::ledger;
use super::measure;
use super::notices::Heard;
use super::pieces::{Piece, pieces};
use super::session::{ask, db_error, full_message, run};
use super::watch::{Manner, Watch};
use crate::db::retry::Tries;
use crate::db::{
    Applied, ApplyError, DatabaseOptions, DbError, Detail, Event, GateRow, LedgerWrite, Observer,
    ServerIdentity,
};
use crate::failpoint::{self, reach};
use crate::source::Script;
use crate::sql::Statement;

/// Whatever the role's defaults are: under a stricter level the locked row would be an older snapshot's.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/// Longest excerpt of a statement in an event, in characters.
const EXCERPT: usize = 100;

/// A statement that the server refused.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) line: usize,
    pub(super) code: String,
    pub(super) message: String,
}

/// Why a try came to nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// A statement of the script.
    Statement(Refused),
    /// Something around it.
    Db(DbError),
}

impl From<DbError> for Failure {
    fn from(error: DbError) -> Self {
        Self::Db(error)
    }
}

impl Failure {
    /// Whether a lock was not had in time, or given up for a deadlock: worth another try.
    pub(super) fn is_lock(&self) -> bool {
        matches!(self, Self::Statement(refused) if matches!(refused.code.as_str(), "55P03" | "40P01"))
    }
}

/// One call of `apply`.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) script: &'a Script,
    pub(super) write: &'a LedgerWrite,
    pub(super) observer: &'a dyn Observer,
    pub(super) heard: &'a Heard,
    pub(super) began: Instant,
}

impl PgHand {
    pub(super) async fn run_script(
        &mut self,
        script: &Script,
        write: &LedgerWrite,
        observer: &dyn Observer,
    ) -> Result<Applied, ApplyError> {
        let began = Instant::now();
        let mut watch = Watch::new(&self.connector, &self.terms.executor, observer);
        let heard = Heard::default();
        let run = Run {
            script,
            write,
            observer,
            heard: &heard,
            began,
        };
        let work = async {
            if script.transaction.is_transactional() {
                self.run_whole(&run, &mut watch).await
            } else {
                self.run_stepwise(&run, &mut watch).await
            }
        };
        let outcome = heard.during(work).await;
        let notices = heard.take();
        for notice in &notices {
            observer.event(Event::Notice(notice.clone()));
        }
        let is_reset = script.transaction.is_transactional() && outcome.is_ok();
        if !is_reset {
            self.reset_quietly().await;
        }
        outcome.map(|ran| match ran {
            true => Applied::Ran {
                duration: began.elapsed(),
                notices,
            },
            false => Applied::Already,
        })
    }

    /// What was applied stays applied, and what failed has its reason: a session that cannot be reset is lost, and
    /// its next use says so.
    async fn reset_quietly(&mut self) {
        if let Err(error) = run(&mut self.session.conn, RESET).await {
            tracing::debug!(%error, "session not reset after a migration");
        }
    }

    /// All of it in one transaction. False when the ledger already said so.
    async fn run_whole(&mut self, migration: &Run<'_>, watch: &mut Watch<'_>) -> Result<bool, ApplyError> {
        let mut tries = Tries::default();
        loop {
            let attempt = self.attempt(migration);
            let failure = match watch.during(attempt, "a lock", Manner::Tell).await {
                Ok(ran) => return Ok(ran),
                Err(failure) => failure,
            };
            if !failure.is_lock() || !tries.again(migration.observer).await {
                return Err(whole_error(failure, tries.failed(), watch));
            }
        }
    }

    async fn attempt(&mut self, migration: &Run<'_>) -> Result<bool, Failure> {
        let script = migration.script;
        let epoch = self.fleet_epoch();
        let settings = self.connector.settings.clone();
        let question = self.identity_question().await?;
        let mut tx = self.session.conn.begin_with(BEGIN).await.map_err(db_error)?;
        let more = format!(
            "{}; {TRANSACTION}; {}; {}",
            question.sql(),
            ledger::standing(&self.names, migration.write),
            limits("SET LOCAL", &settings)
        );
        let (row, answers) = self
            .terms
            .hold_and_ask(&mut tx, &self.names, settings.lock_timeout, &more)
            .await?;
        let [seen, before, standing] = answers.as_slice() else {
            return Err(Failure::Db(unanswered()));
        };
        check_identity(&row, Question::answer(seen))?;
        if ledger::says_so(&mut tx, &self.names, migration.write, standing).await? {
            return Ok(false);
        }
        ledger::begin(&mut tx, &self.names, migration).await?;
        reach(failpoint::APPLY_BEGUN);
        run_all(&mut tx, migration, settings.detail).await?;
        reach(failpoint::APPLY_RAN);
        let last_line = script.statements.last().map_or(1, |s| s.line as usize);
        // Deferred constraints fail here rather than at the COMMIT, where the driver could not tell the reason.
        let settle = format!("RESET ROLE; SET CONSTRAINTS ALL IMMEDIATE; {TRANSACTION}");
        let after = ask(&mut tx, settle)
            .await
            .map_err(|error| at_line(error, last_line))?;
        if after.first().map(transaction_id) != Some(transaction_id(before)) {
            return Err(Failure::Db(DbError::Unsupported(format!(
                "{} ended lockkeeper's transaction; look which of its statements took effect",
                script.path.display()
            ))));
        }
        if let Some(barrier) = &self.barrier {
            let reasserted = barrier.reassert(&mut tx, &self.names).await;
            reasserted.map_err(|error| at_line(error, last_line))?;
        }
        // Reset with the commit: when it fails, what the script had set is rolled back as well.
        let record = ledger::record(&self.names, migration, epoch)?;
        run(&mut tx, format!("{record}; {RESET}")).await?;
        reach(failpoint::APPLY_RECORDED);
        tx.commit()
            .await
            .map_err(db_error)
            .map_err(|error| at_line(error, last_line))?;
        reach(failpoint::APPLY_COMMITTED);
        Ok(true)
    }

    /// How this session asks for the server's identity, found out once.
    pub(super) async fn identity_question(&mut self) -> Result<Question, DbError> {
        match &self.question {
            Some(question) => Ok(question.clone()),
            None => {
                let question = Question::find(&mut self.session.conn).await?;
                Ok(self.question.insert(question).clone())
            }
        }
    }
}

/// Runs the statements of a script in the open transaction.
async fn run_all(conn: &mut PgConnection, migration: &Run<'_>, detail: Detail) -> Result<(), Failure> {
    let Run { script, observer, .. } = *migration;
    match detail {
        Detail::Plain => {
            for piece in pieces(&script.text, &script.statements) {
                run_piece(conn, piece, &script.statements, observer).await?;
            }
            Ok(())
        }
        Detail::Measured => {
            let place = measure::Place {
                script: &script.statements,
                first: 0,
            };
            measure::run_statements(conn, &script.statements, place, observer).await
        }
    }
}

/// Undoes what scripts did to the session itself: a `SET search_path` must not reach the next migration.
const RESET: &str = "RESET SESSION AUTHORIZATION; RESET ALL; \
                     SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0";

/// A message of several questions got fewer answers.
pub(super) fn unanswered() -> DbError {
    DbError::ConnectionLost("an answer is missing".to_owned())
}

/// Answers the number of the transaction: it differs when a script has ended ours.
const TRANSACTION: &str = "SELECT txid_current()";

fn transaction_id(row: &PgRow) -> i64 {
    row.get(0)
}

pub(super) fn check_identity(row: &GateRow, seen: ServerIdentity) -> Result<(), DbError> {
    if seen == row.identity {
        return Ok(());
    }
    Err(DbError::IdentityChanged {
        recorded: row.identity.clone(),
        seen,
    })
}

/// A failure at the end of the script: its last line is the nearest place there is.
pub(super) fn at_line(error: DbError, line: usize) -> Failure {
    match error {
        DbError::Server { code, message } => Failure::Statement(Refused { line, code, message }),
        other => Failure::Db(other),
    }
}

fn whole_error(failure: Failure, tries: u32, watch: &Watch<'_>) -> ApplyError {
    match failure {
        Failure::Statement(refused) if refused.code == "55P03" => {
            let what = format!("a lock at line {} ({tries} tries)", refused.line);
            ApplyError::Db(DbError::TimedOut {
                what,
                blockers: watch.last_seen(),
            })
        }
        Failure::Statement(refused) => ApplyError::RolledBack {
            line: refused.line,
            message: words(&refused),
        },
        Failure::Db(error) => ApplyError::Db(error),
    }
}

/// The server's words with their code.
pub(super) fn words(refused: &Refused) -> String {
    format!("{} ({})", refused.message, refused.code)
}

/// Sets the limits of a migration's statements for this transaction.
pub(super) async fn set_limits(conn: &mut PgConnection, settings: &DatabaseOptions) -> Result<(), DbError> {
    run(conn, limits("SET LOCAL", settings)).await
}

pub(super) fn limits(verb: &str, settings: &DatabaseOptions) -> String {
    let lock_ms = settings.lock_timeout.as_millis().clamp(1, 2_000_000_000);
    let statement_ms = settings
        .statement_timeout
        .map_or(0, |limit| limit.as_millis().clamp(1, 2_000_000_000));
    format!("{verb} lock_timeout = {lock_ms}; {verb} statement_timeout = {statement_ms}")
}

async fn run_piece(
    conn: &mut PgConnection,
    piece: Piece<'_>,
    all: &[Statement],
    observer: &dyn Observer,
) -> Result<(), Failure> {
    match piece {
        Piece::Text {
            body,
            first,
            statements,
        } => {
            let tell = |done| tell(observer, all, first + done);
            run_text(conn, body, statements, tell).await
        }
        Piece::Copy {
            index,
            statement,
            rows,
        } => {
            tell(observer, all, index);
            copy(conn, statement, rows).await.map(drop)
        }
    }
}

/// Sends the whole text as one query, as the file's author's own tool would, and follows its answers.
async fn run_text(
    conn: &mut PgConnection,
    body: &str,
    statements: &[Statement],
    tell: impl Fn(usize),
) -> Result<(), Failure> {
    tell(0);
    let mut answers = sqlx::raw_sql(AssertSqlSafe(body.to_owned())).fetch_many(conn);
    let mut done = 0;
    loop {
        match answers.try_next().await {
            Ok(None) => return Ok(()),
            Ok(Some(Either::Left(_))) => {
                done += 1;
                if done < statements.len() {
                    tell(done);
                }
            }
            Ok(Some(Either::Right(_))) => {}
            Err(error) => return Err(refused(error, body, statements, done)),
        }
    }
}

/// Runs a COPY with the rows that stand in the file.
async fn copy(conn: &mut PgConnection, statement: &Statement, rows: &str) -> Result<u64, Failure> {
    let copied = async {
        let mut copy = conn.copy_in_raw(&statement.text).await?;
        copy.send(rows.as_bytes()).await?;
        copy.finish().await
    };
    match copied.await {
        Ok(rows) => Ok(rows),
        Err(error) => Err(refused(
            error,
            &statement.text,
            std::slice::from_ref(statement),
            0,
        )),
    }
}

/// Tells that the statement at `index` (from 0) starts.
pub(super) fn tell(observer: &dyn Observer, statements: &[Statement], index: usize) {
    if let Some(statement) = statements.get(index) {
        let first_line = statement.shown().lines().next().unwrap_or_default();
        let text = first_line.chars().take(EXCERPT).collect();
        observer.event(Event::Statement {
            index: index + 1,
            total: statements.len(),
            text,
        });
    }
}

/// The place of an error: where the server points, or the statement that it had come to.
fn refused(error: sqlx::Error, body: &str, statements: &[Statement], done: usize) -> Failure {
    let line_of = |index: usize| {
        statements
            .get(index)
            .or(statements.last())
            .map_or(1, |s| s.line as usize)
    };
    let first_line = line_of(0);
    let (line, message) = match error
        .as_database_error()
        .and_then(|e| e.try_downcast_ref::<PgDatabaseError>())
    {
        Some(error) => {
            let line = match error.position() {
                Some(PgErrorPosition::Original(position)) => first_line + newlines_before(body, position),
                Some(PgErrorPosition::Internal { .. }) | None => line_of(done),
            };
            (line, full_message(error))
        }
        None => (line_of(done), error.to_string()),
    };
    match db_error(error) {
        DbError::Server { code, .. } => Failure::Statement(Refused { line, code, message }),
        // A right that a statement of the script lacks is the script's failure.
        DbError::Permission { .. } => Failure::Statement(Refused {
            line,
            code: "42501".to_owned(),
            message,
        }),
        other => Failure::Db(other),
    }
}

/// Lines before the character at `position`, which counts from 1.
fn newlines_before(text: &str, position: usize) -> usize {
    text.chars()
        .take(position.saturating_sub(1))
        .filter(|c| *c == '\n')
        .count()
}

/// Runs one statement by itself.
pub(super) async fn run_statement(conn: &mut PgConnection, statement: &Statement) -> Result<(), Failure> {
    run_counted(conn, statement).await.map(drop)
}

/// The same; gives how many rows the server counted.
pub(super) async fn run_counted(conn: &mut PgConnection, statement: &Statement) -> Result<u64, Failure> {
    if let Some(rows) = &statement.rows {
        return copy(conn, statement, &rows.text).await;
    }
    let query = sqlx::raw_sql(AssertSqlSafe(statement.text.clone()));
    match query.execute(conn).await {
        Ok(done) => Ok(done.rows_affected()),
        Err(error) => Err(refused(
            error,
            &statement.text,
            std::slice::from_ref(statement),
            0,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        assert_eq!(newlines_before("ä\nb", 1), 0);
        assert_eq!(newlines_before("ä\nb", 3), 1);
    }
}
