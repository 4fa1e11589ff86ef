//! Whether a dump can be read from beginning to end.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::dump::release;
use super::error::BackupError;
use super::file::failed;
use crate::db::Observer;
use crate::dialect::Dialect;
use crate::dump_tools::{Call, Program, find};

/// What mariadb-dump and mysqldump write when they have come to their end, and nothing else does.
pub(super) const COMPLETED: &str = "\n-- Dump completed";

/// In how many of a dump's last bytes that stands.
pub(super) const TAIL_BYTES: usize = 512;

/// Reads all of it: `pg_restore` unpacks every row, SQLite looks at every page; a text dump tells its end.
pub(super) async fn readable(
    dialect: Dialect,
    server: &str,
    path: &Path,
    limit: Duration,
    observer: &dyn Observer,
) -> Result<(), BackupError> {
    match dialect {
        Dialect::Postgres => archive(server, path, limit, observer).await,
        Dialect::MySql => complete(path),
        Dialect::Sqlite => intact(path).await,
    }
}

async fn archive(
    server: &str,
    path: &Path,
    limit: Duration,
    observer: &dyn Observer,
) -> Result<(), BackupError> {
    let tool = find(Program::PgRestore, release(server)).await?;
    let call = Call::without_login(&tool, limit)
        .arg("--file=/dev/null")
        .arg(path);
    call.run(observer)
        .await
        .map_err(|error| BackupError::Unreadable(error.to_string()))
}

fn complete(path: &Path) -> Result<(), BackupError> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES as u64)))?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail)?;
        Ok(tail)
    };
    let tail = read().map_err(failed("read", path))?;
    is_completed(&tail)
}

pub(super) fn is_completed(tail: &[u8]) -> Result<(), BackupError> {
    if String::from_utf8_lossy(tail).contains(COMPLETED) {
        return Ok(());
    }
    Err(BackupError::Unreadable(
        "the dump has no line `-- Dump completed`: it is cut off".to_owned(),
    ))
}

/// Also makes a copy of a file with a write-ahead log a file that stands alone.
async fn intact(path: &Path) -> Result<(), BackupError> {
    let path = path.to_path_buf();
    let checking = tokio::task::spawn_blocking(move || -> Result<String, rusqlite::Error> {
        let connection = Connection::open(&path)?;
        connection.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
    });
    let answer = match checking.await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match answer {
        Ok(answer) if answer == "ok" => Ok(()),
        Ok(problem) | Err(problem) => Err(BackupError::Unreadable(problem)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_that_is_cut_off_is_told() {
        assert!(is_completed(b"UNLOCK TABLES;\n-- Dump completed on 2026-01-01\n").is_ok());
        assert!(is_completed(b"INSERT INTO t VALUES ('-- Dump completed').\n").is_err());
    }

    #[tokio::test]
    async fn a_file_that_is_no_database_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        std::fs::write(&path, "x".repeat(5000)).unwrap();
        assert!(matches!(intact(&path).await, Err(BackupError::Unreadable(_))));
    }
}
