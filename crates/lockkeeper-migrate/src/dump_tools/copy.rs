//! SQLite's online copy.
//!
//! The source is read in one read transaction, so the copy is what the source was at one moment, whoever writes
//! meanwhile: with a write-ahead log writers go on, without one they wait until the copy is made. The destination
//! is written in one transaction too: it is as it was, or a whole copy, and whoever has it open sees the change.
//! Page by page, not row by row: row ids, free pages and all settings in the file stay what they are.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use tokio::time::Instant;

use super::error::ToolError;

/// Pages between two looks at whether to go on: 4 MB of the usual size.
const PAGES_PER_STEP: i32 = 1024;

/// SQLite's own wait for a lock, each time.
const BUSY_TIMEOUT: Duration = Duration::from_millis(250);

/// How far a copy has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyStep {
    /// Pages that are copied.
    pub done: i32,
    /// Pages of the source.
    pub total: i32,
}

/// Copies the database in the file `from` into the file `to`, which is made when it is missing. Dropping the
/// future stops the copy and leaves `to` as it was.
///
/// # Errors
/// SQLite's, and when it takes longer than `limit`.
pub async fn copy_database(
    from: &Path,
    to: &Path,
    limit: Duration,
    progress: impl Fn(CopyStep) + Send + 'static,
) -> Result<(), ToolError> {
    let (from, to) = (from.to_path_buf(), to.to_path_buf());
    let failed = {
        let (from, to) = (from.clone(), to.clone());
        move |reason: String| ToolError::Copy { from, to, reason }
    };
    let stop = StopWhenDropped(Arc::new(AtomicBool::new(false)));
    let stopped = Arc::clone(&stop.0);
    let copying = tokio::task::spawn_blocking(move || {
        let work = Work {
            from,
            to,
            deadline: Instant::now() + limit,
            limit,
            stopped,
        };
        work.copy(&progress)
    });
    match copying.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(reason)) => Err(failed(reason)),
        Err(error) => Err(failed(error.to_string())),
    }
}

struct StopWhenDropped(Arc<AtomicBool>);

impl Drop for StopWhenDropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

struct Work {
    from: PathBuf,
    to: PathBuf,
    deadline: Instant,
    limit: Duration,
    stopped: Arc<AtomicBool>,
}

impl Work {
    fn copy(&self, progress: &dyn Fn(CopyStep)) -> Result<(), String> {
        let text = |error: rusqlite::Error| error.to_string();
        let source = open(&self.from, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(text)?;
        // Pins the snapshot: without it, a writer between two steps would make SQLite begin again.
        self.pin(&source)?;
        let mut destination = open(
            &self.to,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        )
        .map_err(text)?;
        let backup = Backup::new(&source, &mut destination).map_err(text)?;
        loop {
            let step = backup.step(PAGES_PER_STEP).map_err(text)?;
            let seen = backup.progress();
            progress(CopyStep {
                done: seen.pagecount - seen.remaining,
                total: seen.pagecount,
            });
            match step {
                StepResult::Done => return Ok(()),
                StepResult::More => self.go_on()?,
                // Somebody else has the destination.
                StepResult::Busy | StepResult::Locked => {
                    self.go_on()?;
                    std::thread::sleep(Duration::from_millis(fastrand::u64(2..10)));
                }
                other => return Err(format!("SQLite answered {other:?}")),
            }
        }
    }

    fn pin(&self, source: &Connection) -> Result<(), String> {
        loop {
            let pinned = source
                .execute_batch("BEGIN")
                .and_then(|()| source.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(())));
            match pinned {
                Ok(()) => return Ok(()),
                Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {
                    self.go_on()?;
                    // A transaction that was not begun is no error here.
                    let _ = source.execute_batch("ROLLBACK");
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    fn go_on(&self) -> Result<(), String> {
        if self.stopped.load(Ordering::Acquire) {
            return Err("it was stopped".to_owned());
        }
        if Instant::now() >= self.deadline {
            return Err(format!("it did not end within {} s", self.limit.as_secs()));
        }
        Ok(())
    }
}

fn open(path: &Path, flags: OpenFlags) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn execute(path: &Path, sql: &str) {
        let connection = Connection::open(path).unwrap();
        connection.busy_timeout(LIMIT).unwrap();
        connection.execute_batch(sql).unwrap();
    }

    fn number(connection: &Connection, sql: &str) -> i64 {
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// Each transaction takes from one table and gives to the other: a copy of one moment has the sum.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_copy_is_of_one_moment_while_writers_run() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from.db"), folder.path().join("to.db"));
        execute(
            &from,
            "PRAGMA journal_mode = WAL; CREATE TABLE a (n); CREATE TABLE filler (b); CREATE TABLE z (n);
             INSERT INTO a VALUES (1000000); INSERT INTO z VALUES (0);
             WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 20000)
             INSERT INTO filler SELECT randomblob(1000) FROM c;",
        );
        let stop = Arc::new(AtomicBool::new(false));
        let writer = {
            let (from, stop) = (from.clone(), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut moves = 0;
                while !stop.load(Ordering::Acquire) {
                    execute(
                        &from,
                        "BEGIN IMMEDIATE; UPDATE a SET n = n - 1; UPDATE z SET n = n + 1; COMMIT",
                    );
                    moves += 1;
                }
                moves
            })
        };
        copy_database(&from, &to, LIMIT, |_| {}).await.unwrap();
        stop.store(true, Ordering::Release);
        assert!(writer.join().unwrap() > 0);
        let copy = Connection::open(&to).unwrap();
        assert_eq!(
            number(&copy, "SELECT (SELECT n FROM a) + (SELECT n FROM z)"),
            1_000_000
        );
        assert_eq!(number(&copy, "SELECT count(*) FROM filler"), 20_000);
    }

    #[tokio::test]
    async fn row_ids_that_nobody_declared_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from.db"), folder.path().join("to.db"));
        execute(
            &from,
            "CREATE TABLE t (n); INSERT INTO t VALUES (1), (2), (3); DELETE FROM t WHERE n = 1",
        );
        copy_database(&from, &to, LIMIT, |_| {}).await.unwrap();
        assert_eq!(
            number(&Connection::open(&to).unwrap(), "SELECT min(rowid) FROM t"),
            2
        );
    }

    #[tokio::test]
    async fn a_busy_destination_is_waited_for_and_then_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from.db"), folder.path().join("to.db"));
        execute(&from, "CREATE TABLE new (n)");
        execute(&to, "CREATE TABLE old (n)");
        let holder = Connection::open(&to).unwrap();
        holder
            .execute_batch("BEGIN IMMEDIATE; INSERT INTO old VALUES (1)")
            .unwrap();
        let error = copy_database(&from, &to, Duration::from_millis(600), |_| {})
            .await
            .unwrap_err();
        assert!(error.to_string().contains("it did not end within"), "{error}");
        holder.execute_batch("COMMIT").unwrap();
        assert_eq!(number(&holder, "SELECT count(*) FROM old"), 1);
        copy_database(&from, &to, LIMIT, |_| {}).await.unwrap();
        assert_eq!(number(&holder, "SELECT count(*) FROM new"), 0);
    }
}
