//! One SQLite connection that somebody else in this process may end.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteRow};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, SqlSafeStr, Sqlite, SqliteConnection, Statement,
};
use tokio::time::Instant;
use uuid::Uuid;

use super::witness::Witness;
use crate::db::{DbError, ExecutorId};

/// How long SQLite itself waits for a lock before it says busy. Short, because the connection's thread sleeps
/// meanwhile and cannot be ended; the loops in `lock.rs` do the longer waiting.
const BUSY_TIMEOUT: Duration = Duration::from_millis(20);

/// Virtual-machine steps between two looks at whether the session was ended: some tens of microseconds.
const STEPS_BETWEEN_LOOKS: i32 = 4_000;

/// How a session is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Refuses every change of its own.
    Look,
    /// An executor, registered for [`end`]; with a file that must exist.
    Change,
    /// An executor that makes the file when it is missing.
    Create,
}

/// One connection. Dropping it interrupts what it runs, rolls back and closes.
#[derive(Debug)]
pub(super) struct Session {
    line: Arc<Line>,
}

/// What the session shares with whoever may end it.
#[derive(Debug)]
struct Line {
    id: ExecutorId,
    orders: Arc<Orders>,
    /// `None` once it was ended.
    connection: tokio::sync::Mutex<Option<SqliteConnection>>,
}

/// What the connection's thread looks at while a statement runs.
#[derive(Debug, Default)]
struct Orders {
    ended: AtomicBool,
    /// The running statement is to stop; the session goes on.
    cancelled: AtomicBool,
    /// Who took the target, when that is why it was ended.
    taken_by: OnceLock<String>,
    /// Milliseconds after the session's start at which the running statement is interrupted; 0 is never.
    deadline_ms: AtomicU64,
}

/// The executors of this process, so that a successor in the same process can end the one it supersedes.
static EXECUTORS: LazyLock<Mutex<HashMap<String, Weak<Line>>>> = LazyLock::new(Mutex::default);

fn executors() -> MutexGuard<'static, HashMap<String, Weak<Line>>> {
    // Nothing panics while it holds the lock; a poisoned map is still a map.
    EXECUTORS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    pub(super) async fn open(path: &Path, mode: Mode, timeout: Duration) -> Result<Self, DbError> {
        let unreachable = |reason: String| DbError::Unreachable {
            place: place(path),
            reason,
        };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(mode == Mode::Create)
            .busy_timeout(BUSY_TIMEOUT)
            // SQLite's own default, which migration files are written for: rebuilding a table by DROP and RENAME
            // would otherwise delete the rows that refer to it.
            .foreign_keys(false)
            .pragma("query_only", if mode == Mode::Look { "ON" } else { "OFF" })
            .disable_statement_logging();
        let mut connection = tokio::time::timeout(timeout, options.connect())
            .await
            .map_err(|_| unreachable(format!("no answer within {timeout:?}")))?
            .map_err(|error| unreachable(reason(&error)))?;

        let session = Uuid::new_v4();
        let orders = Arc::new(Orders::default());
        let witness = match mode {
            Mode::Look => None,
            Mode::Change | Mode::Create => Some(Witness::create(&canonical(path)?, session).map_err(
                |error| DbError::Permission {
                    what: format!("make a lock file beside {}: {error}", path.display()),
                    remedy: "let this user write to the database's directory".to_owned(),
                },
            )?),
        };
        watch(&mut connection, Arc::clone(&orders), witness)
            .await
            .map_err(|e| database_error(&e))?;

        let id = ExecutorId {
            session: session.to_string(),
            started: std::process::id().to_string(),
        };
        let line = Arc::new(Line {
            id,
            orders,
            connection: tokio::sync::Mutex::new(Some(connection)),
        });
        if mode != Mode::Look {
            let mut executors = executors();
            executors.retain(|_, line| line.strong_count() > 0);
            executors.insert(line.id.session.clone(), Arc::downgrade(&line));
        }
        Ok(Self { line })
    }

    pub(super) fn id(&self) -> &ExecutorId {
        &self.line.id
    }

    /// Runs statements of ours or of a script, with all their rows thrown away.
    pub(super) async fn execute(&self, sql: &str) -> Result<(), DbError> {
        self.with(async |connection| {
            connection
                .execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())))
                .await
                .map(|_| ())
        })
        .await
    }

    /// Runs one statement of a script that must end within `limit`.
    pub(super) async fn execute_within(&self, sql: &str, limit: Option<Duration>) -> Result<(), DbError> {
        self.within(limit, self.execute(sql)).await
    }

    async fn within<T>(
        &self,
        limit: Option<Duration>,
        work: impl Future<Output = Result<T, DbError>>,
    ) -> Result<T, DbError> {
        let orders = &self.line.orders;
        orders.cancelled.store(false, Ordering::Release);
        orders.interrupt_at(limit);
        let result = work.await;
        orders.interrupt_at(None);
        let cancelled = orders.cancelled.swap(false, Ordering::AcqRel);
        match (result, limit) {
            (Err(DbError::Server { code, .. }), _) if code == "SQLITE_INTERRUPT" && cancelled => {
                Err(DbError::Server {
                    code,
                    message: "the statement was cancelled".to_owned(),
                })
            }
            (Err(DbError::Server { code, .. }), Some(limit)) if code == "SQLITE_INTERRUPT" => {
                Err(DbError::Server {
                    code,
                    message: format!("the statement ran longer than the statement timeout of {limit:?}"),
                })
            }
            (result, _) => result,
        }
    }

    /// Runs a query of ours with its arguments.
    pub(super) async fn rows(
        &self,
        query: Query<'static, Sqlite, SqliteArguments>,
    ) -> Result<Vec<SqliteRow>, DbError> {
        self.with(async |connection| connection.fetch_all(query).await)
            .await
    }

    /// Runs a query of the user's that must end within `limit`: its rows, or `None` when the statement answers no
    /// columns at all.
    pub(super) async fn answer(
        &self,
        sql: &str,
        limit: Option<Duration>,
    ) -> Result<Option<Vec<SqliteRow>>, DbError> {
        let answer = self.with(async |connection| {
            let sql = AssertSqlSafe(sql.to_owned()).into_sql_str();
            let statement = connection.prepare(sql.clone()).await?;
            let columns = statement.columns().len();
            let rows = connection.fetch_all(sqlx::raw_sql(sql)).await?;
            Ok((columns > 0).then_some(rows))
        });
        self.within(limit, answer).await
    }

    /// Closes the connection and waits until it is closed.
    pub(super) async fn close(self) -> Result<(), DbError> {
        match self.line.connection.lock().await.take() {
            Some(connection) => connection.close().await.map_err(|error| database_error(&error)),
            None => Ok(()),
        }
    }

    async fn with<T>(
        &self,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, DbError> {
        let mut guard = self.line.connection.lock().await;
        // Looked at under the lock: `end` raises the flag before it waits for the lock, so nothing starts after it.
        self.check_not_ended()?;
        let connection = guard.as_mut().ok_or_else(|| self.ended())?;
        work(connection).await.map_err(|error| {
            self.check_not_ended()
                .err()
                .unwrap_or_else(|| database_error(&error))
        })
    }

    /// Fails when somebody has ended this session.
    pub(super) fn check_not_ended(&self) -> Result<(), DbError> {
        if self.line.orders.ended.load(Ordering::Acquire) {
            return Err(self.ended());
        }
        Ok(())
    }

    fn ended(&self) -> DbError {
        match self.line.orders.taken_by.get() {
            Some(by) => DbError::Superseded { by: by.clone() },
            None => DbError::ConnectionLost(format!("{} was ended", self.line.id)),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A dropped future leaves its statement running on the connection's thread: without this, a killed
        // leader's rebuild of a big table would hold the write lock until it is done.
        self.line.orders.ended.store(true, Ordering::Release);
        executors().remove(&self.line.id.session);
    }
}

impl Orders {
    fn interrupt_at(&self, limit: Option<Duration>) {
        let at = limit.map_or(0, |limit| since_start().saturating_add(millis(limit)).max(1));
        self.deadline_ms.store(at, Ordering::Release);
    }

    fn go_on(&self) -> bool {
        let deadline = self.deadline_ms.load(Ordering::Acquire);
        !self.cancelled.load(Ordering::Acquire)
            && !self.ended.load(Ordering::Acquire)
            && (deadline == 0 || since_start() < deadline)
    }
}

fn since_start() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    millis(START.elapsed())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Stops the statement of the user's that a session of this process runs at this moment, if it runs one.
pub(super) fn cancel(session: &str) {
    if let Some(line) = executors().get(session).and_then(Weak::upgrade) {
        line.orders.cancelled.store(true, Ordering::Release);
    }
}

/// Ends a session of this process, because `taken_by` supersedes it or for another reason, and waits until its
/// connection is closed. `false` when it is not one of ours.
pub(super) async fn end(session: &str, taken_by: Option<&str>, patience: Duration) -> Result<bool, DbError> {
    let Some(line) = executors().get(session).and_then(Weak::upgrade) else {
        return Ok(false);
    };
    if let Some(by) = taken_by {
        // The first reason stays.
        let _ = line.orders.taken_by.set(by.to_owned());
    }
    line.orders.ended.store(true, Ordering::Release);
    let timed_out = || DbError::TimedOut {
        what: format!("the end of {}", line.id),
        blockers: Vec::new(),
    };
    let mut guard = tokio::time::timeout(patience, line.connection.lock())
        .await
        .map_err(|_| timed_out())?;
    if let Some(connection) = guard.take() {
        // Closing rolls back. The thread answers once the file is closed.
        match tokio::time::timeout(patience, connection.close()).await {
            Ok(closed) => closed.map_err(|error| database_error(&error))?,
            Err(_) => return Err(timed_out()),
        }
    }
    Ok(true)
}

/// Lets the connection's own thread look at the orders while it runs, and gives it the witness to keep: SQLite
/// drops the handler, and the witness with it, when the connection is closed and not a moment earlier.
async fn watch(
    connection: &mut SqliteConnection,
    orders: Arc<Orders>,
    witness: Option<Witness>,
) -> Result<(), sqlx::Error> {
    connection
        .lock_handle()
        .await?
        .set_progress_handler(STEPS_BETWEEN_LOOKS, move || {
            let _kept = &witness;
            orders.go_on()
        });
    Ok(())
}

/// Whether the error says that another connection is in the way.
pub(super) fn is_busy(error: &DbError) -> bool {
    matches!(error, DbError::Server { code, .. } if code == "SQLITE_BUSY" || code == "SQLITE_LOCKED")
}

/// The file's one name, whatever links led to it: what lies beside the database must be found by everybody.
pub(super) fn canonical(path: &Path) -> Result<PathBuf, DbError> {
    path.canonicalize().map_err(|error| DbError::Unreachable {
        place: place(path),
        reason: error.to_string(),
    })
}

pub(super) fn place(path: &Path) -> String {
    format!("sqlite://{}", path.display())
}

fn reason(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        Some(error) => error.message().to_owned(),
        None => error.to_string(),
    }
}

/// Translates the driver's errors; codes become SQLite's names, which a person can look up.
pub(super) fn database_error(error: &sqlx::Error) -> DbError {
    let Some(database) = error.as_database_error() else {
        return match error {
            sqlx::Error::WorkerCrashed => {
                DbError::ConnectionLost("the connection's thread has ended".to_owned())
            }
            sqlx::Error::Io(error) => DbError::ConnectionLost(error.to_string()),
            other => DbError::Server {
                code: "driver".to_owned(),
                message: other.to_string(),
            },
        };
    };
    let message = database.message().to_owned();
    let extended: i32 = database.code().and_then(|code| code.parse().ok()).unwrap_or(1);
    match code_name(extended & 0xff) {
        name @ ("SQLITE_PERM" | "SQLITE_READONLY" | "SQLITE_AUTH") => DbError::Permission {
            what: format!("{message} ({name})"),
            remedy: "let this user write to the file and to its directory".to_owned(),
        },
        name => DbError::Server {
            code: name.to_owned(),
            message,
        },
    }
}

/// SQLite's name of a primary result code.
fn code_name(code: i32) -> &'static str {
    const NAMES: [&str; 27] = [
        "SQLITE_OK",
        "SQLITE_ERROR",
        "SQLITE_INTERNAL",
        "SQLITE_PERM",
        "SQLITE_ABORT",
        "SQLITE_BUSY",
        "SQLITE_LOCKED",
        "SQLITE_NOMEM",
        "SQLITE_READONLY",
        "SQLITE_INTERRUPT",
        "SQLITE_IOERR",
        "SQLITE_CORRUPT",
        "SQLITE_NOTFOUND",
        "SQLITE_FULL",
        "SQLITE_CANTOPEN",
        "SQLITE_PROTOCOL",
        "SQLITE_EMPTY",
        "SQLITE_SCHEMA",
        "SQLITE_TOOBIG",
        "SQLITE_CONSTRAINT",
        "SQLITE_MISMATCH",
        "SQLITE_MISUSE",
        "SQLITE_NOLFS",
        "SQLITE_AUTH",
        "SQLITE_FORMAT",
        "SQLITE_RANGE",
        "SQLITE_NOTADB",
    ];
    usize::try_from(code)
        .ok()
        .and_then(|code| NAMES.get(code))
        .copied()
        .unwrap_or("SQLITE_ERROR")
}
