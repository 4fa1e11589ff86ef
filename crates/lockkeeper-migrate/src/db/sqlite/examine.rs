//! What `doctor` looks at on this dialect, beside the port's preflight.

use std::path::Path;

use sqlx::Row;

use super::session::{self, Session};
use super::{gate, holders, witness};
use crate::db::findings::{self, finding};
use crate::db::{DbError, Finding, FindingLevel};

/// A write-ahead log that is larger than this and than the database is not being taken over into it.
const LARGE_LOG_BYTES: u64 = 64 << 20;

pub(super) async fn examine(session: &Session, path: &Path) -> Result<Vec<Finding>, DbError> {
    let path = session::canonical(path)?;
    let mut found = disk(&path);
    found.extend(log(&path));
    found.extend(holders::of(&path).iter().map(|holder| {
        finding(
            FindingLevel::Info,
            "write-lock",
            format!("{holder} holds the write lock at this moment"),
            "wait for it; one that hangs has to be ended by hand",
        )
    }));
    found.extend(other_tools(session).await?);
    found.extend(own(session, &path).await?);
    Ok(found)
}

fn disk(path: &Path) -> Vec<Finding> {
    let folder = path.parent().unwrap_or(path);
    let Some(space) = crate::doctor::space(folder) else {
        return Vec::new();
    };
    let mut found: Vec<Finding> = space.finding(size(path), folder).into_iter().collect();
    if space.network {
        found.push(finding(
            FindingLevel::Warning,
            "network-file-system",
            format!(
                "{} lies on a network file system, where SQLite's locks cannot be trusted",
                path.display()
            ),
            "keep the file on a local disk of the one machine that uses it",
        ));
    }
    found
}

fn log(path: &Path) -> Option<Finding> {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    let log = size(Path::new(&name));
    (log > LARGE_LOG_BYTES && log > size(path)).then(|| {
        finding(
            FindingLevel::Warning,
            "large-log",
            format!(
                "the write-ahead log has {} MB, more than the database: some reader never ends",
                log >> 20
            ),
            "end readers that stay in one transaction, then run PRAGMA wal_checkpoint(TRUNCATE)",
        )
    })
}

/// 0 for what is not there.
fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

async fn other_tools(session: &Session) -> Result<Option<Finding>, DbError> {
    let sql = "SELECT 1 FROM pragma_table_info('schema_migrations') WHERE name = 'dirty'";
    if session.answer(sql, None).await?.unwrap_or_default().is_empty() {
        return Ok(None);
    }
    let sql = "SELECT CAST(version AS text) AS version FROM schema_migrations WHERE dirty";
    let rows = session.answer(sql, None).await?.unwrap_or_default();
    Ok(rows
        .first()
        .map(|row| findings::dirty(&row.get::<String, _>("version"))))
}

async fn own(session: &Session, path: &Path) -> Result<Vec<Finding>, DbError> {
    let Some(row) = gate::read(session).await? else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    let seen = gate::identity(path)?;
    if row.identity != seen {
        found.push(finding(
            FindingLevel::Warning,
            "identity-changed",
            format!(
                "the gate row was written in {}, this is {seen}: a copy of a file",
                row.identity
            ),
            "if this copy is to live on: lockkeeper doctor --fix",
        ));
    }
    if let Some(executor) = row
        .executor
        .as_ref()
        .filter(|executor| witness::lives(path, &executor.session))
    {
        let who = gate::executor_who(session).await?.unwrap_or_default();
        found.push(findings::executor(&who, &executor.session));
    }
    Ok(found)
}
