//! What `doctor` looks at on this dialect, beside the port's preflight.

use std::path::PathBuf;

use tokio::time::Instant;

use super::failure::Failure;
use super::gate::{self, Lock};
use super::others::{self, Life};
use super::session::{Row, Session};
use super::target::{Facts, Target, number};
use super::text::literal;
use crate::db::findings::{self, finding};
use crate::db::{Finding, FindingLevel};
use crate::dsn::Locality;

/// A statement this old will hold up whoever needs its table.
const LONG_STATEMENT_S: u32 = 300;

pub(super) async fn examine(
    session: &mut Session,
    target: &Target,
    facts: &Facts,
) -> Result<Vec<Finding>, Failure> {
    let mut found = Vec::new();
    found.extend(clock(session).await?);
    found.extend(transport(session, target).await?);
    found.extend(connections(session).await?);
    found.extend(statements(session, target).await?);
    found.extend(user_locks(session, target).await?);
    found.extend(other_tools(session, target).await?);
    found.extend(disk(session, target).await?);
    found.extend(own(session, target, facts).await?);
    Ok(found)
}

fn texts<const N: usize>(row: Row) -> [String; N] {
    let mut columns = row.into_iter().map(Option::unwrap_or_default);
    std::array::from_fn(|_| columns.next().unwrap_or_default())
}

async fn clock(session: &mut Session) -> Result<Option<Finding>, Failure> {
    let asked = Instant::now();
    let now = session
        .value("SELECT CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)")
        .await?;
    let now = now.and_then(|now| now.parse().ok());
    Ok(now.and_then(|now| findings::clock(now, asked.elapsed())))
}

async fn transport(session: &mut Session, target: &Target) -> Result<Option<Finding>, Failure> {
    let cipher = session.row("SHOW SESSION STATUS LIKE 'Ssl_cipher'").await?;
    let encrypted = cipher.is_some_and(|row| !texts::<2>(row)[1].is_empty());
    Ok((!encrypted && target.locality == Locality::Elsewhere).then(findings::plaintext))
}

async fn connections(session: &mut Session) -> Result<Option<Finding>, Failure> {
    let used = session.row("SHOW GLOBAL STATUS LIKE 'Threads_connected'").await?;
    let used = used.map_or(0, |row| number(&texts::<2>(row)[1]));
    let limit = session
        .value("SELECT @@max_connections")
        .await?
        .unwrap_or_default();
    Ok(findings::connections(used, number(&limit)))
}

/// What others run, as far as this user may see it. A statement that waits for a table's definition stops everybody
/// behind it.
async fn statements(session: &mut Session, target: &Target) -> Result<Vec<Finding>, Failure> {
    let rows = session
        .rows(&format!(
            "SELECT ID, USER, COALESCE(STATE, ''), TIME FROM information_schema.PROCESSLIST \
             WHERE DB = {} AND ID <> CONNECTION_ID() AND COMMAND NOT IN ('Sleep', 'Daemon', 'Binlog Dump') \
             AND (TIME > {LONG_STATEMENT_S} OR STATE LIKE 'Waiting for table metadata lock%') ORDER BY TIME DESC LIMIT 20",
            literal(&target.database)
        ))
        .await?;
    let told = |row: Row| {
        let [id, user, state, seconds] = texts(row);
        let remedy = format!("wait for it, or KILL {id}");
        if state.starts_with("Waiting for table metadata lock") {
            let message = format!(
                "connection {id} of {user} has waited {seconds} s for a table's definition: all others wait behind it"
            );
            return finding(FindingLevel::Warning, "metadata-lock", message, remedy);
        }
        let message = format!("connection {id} of {user} has been running one statement for {seconds} s");
        finding(FindingLevel::Warning, "long-statement", message, remedy)
    };
    Ok(rows.into_iter().map(told).collect())
}

/// Other migrators lock with GET_LOCK; a session that went into a pool keeps it. Only where a plugin (MariaDB) or an
/// instrument (MySQL) shows such locks; names of lockkeeper's own witnesses begin with its name.
async fn user_locks(session: &mut Session, target: &Target) -> Result<Vec<Finding>, Failure> {
    let mariadb = "SELECT l.THREAD_ID, l.TABLE_SCHEMA, p.TIME FROM information_schema.METADATA_LOCK_INFO l \
                   JOIN information_schema.PROCESSLIST p ON p.ID = l.THREAD_ID \
                   WHERE l.LOCK_TYPE = 'User lock' AND p.COMMAND = 'Sleep' AND LEFT(l.TABLE_SCHEMA, 11) <> 'lockkeeper_'";
    let mysql = "SELECT t.PROCESSLIST_ID, l.OBJECT_NAME, t.PROCESSLIST_TIME FROM performance_schema.metadata_locks l \
                 JOIN performance_schema.threads t ON t.THREAD_ID = l.OWNER_THREAD_ID \
                 WHERE l.OBJECT_TYPE = 'USER LEVEL LOCK' AND t.PROCESSLIST_COMMAND = 'Sleep' \
                 AND LEFT(l.OBJECT_NAME, 11) <> 'lockkeeper_'";
    for query in [mariadb, mysql] {
        match session.rows(query).await {
            Ok(rows) => return Ok(rows.into_iter().map(user_lock).collect()),
            Err(failure) if failure.is_lost() => return Err(failure),
            // Not there, or not allowed.
            Err(_) => {}
        }
    }
    named_locks(session, target).await
}

fn user_lock(row: Row) -> Finding {
    let [id, name, seconds] = texts(row);
    finding(
        FindingLevel::Warning,
        "user-lock",
        format!("connection {id}, idle for {seconds} s, holds the lock {name:?}: migrators that use it wait"),
        format!("if it is a lock that leaked into a pool: KILL {id}"),
    )
}

/// Where locks cannot be listed, those whose names are known can be asked for: golang-migrate's is a checksum of the
/// database's name, Rails' of its own; dbmate and goose take none here.
async fn named_locks(session: &mut Session, target: &Target) -> Result<Vec<Finding>, Failure> {
    let names = [
        target.database.clone(),
        format!("{}:migrate", target.database),
        "flyway".to_owned(),
    ];
    let mut found = Vec::new();
    for name in names {
        let query = format!("SELECT IS_USED_LOCK({})", literal(&name));
        if let Some(id) = session.value(&query).await? {
            found.push(user_lock(vec![Some(id), Some(name), Some("unknown".to_owned())]));
        }
    }
    Ok(found)
}

async fn other_tools(session: &mut Session, target: &Target) -> Result<Vec<Finding>, Failure> {
    let mut found = Vec::new();
    if let Some(table) = table_with(session, target, "schema_migrations", "dirty").await? {
        let query = format!("SELECT version FROM {} WHERE dirty", target.own(&table));
        found.extend(
            session
                .value(&query)
                .await?
                .map(|version| findings::dirty(&version)),
        );
    }
    if let Some(table) = table_with(session, target, "databasechangeloglock", "locked").await? {
        let query = format!(
            "SELECT COALESCE(LOCKEDBY, 'nobody'), COALESCE(LOCKGRANTED, 'an unknown time') FROM {} WHERE LOCKED",
            target.own(&table)
        );
        found.extend(session.row(&query).await?.map(|row| {
            let [by, since] = texts(row);
            findings::liquibase_lock(&by, &since)
        }));
    }
    Ok(found)
}

/// The table as it is written here, if it has that column.
async fn table_with(
    session: &mut Session,
    target: &Target,
    table: &str,
    column: &str,
) -> Result<Option<String>, Failure> {
    session
        .value(&format!(
            "SELECT TABLE_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {} AND LOWER(TABLE_NAME) = {} \
             AND LOWER(COLUMN_NAME) = {}",
            literal(&target.database),
            literal(table),
            literal(column)
        ))
        .await
}

/// Only for a server on this machine.
async fn disk(session: &mut Session, target: &Target) -> Result<Option<Finding>, Failure> {
    if target.locality == Locality::Elsewhere {
        return Ok(None);
    }
    let size = session
        .value(&format!(
            "SELECT CAST(COALESCE(SUM(DATA_LENGTH + INDEX_LENGTH), 0) AS UNSIGNED) FROM information_schema.TABLES \
             WHERE TABLE_SCHEMA = {}",
            literal(&target.database)
        ))
        .await?;
    let directory = PathBuf::from(session.value("SELECT @@datadir").await?.unwrap_or_default());
    let size = number(&size.unwrap_or_default());
    Ok(crate::doctor::space(&directory).and_then(|space| space.finding(size, &directory)))
}

async fn own(session: &mut Session, target: &Target, facts: &Facts) -> Result<Vec<Finding>, Failure> {
    if gate::missing_tables(session, target).await? {
        return Ok(Vec::new());
    }
    let Some(record) = gate::read(session, target, Lock::None).await? else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    if let Some(executor) = &record.row.executor
        && others::life(session, target, facts, executor).await? == Life::Alive
    {
        let who = record.who.as_deref().unwrap_or("unknown");
        found.push(findings::executor(who, &executor.session));
    }
    let left = session
        .value(&format!(
            "SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = {} \
             AND TRIGGER_NAME REGEXP '^lockkeeper_g[0-9]+_' \
             AND CAST(SUBSTRING_INDEX(SUBSTRING(TRIGGER_NAME, 13), '_', 1) AS UNSIGNED) <= {}",
            literal(&target.database),
            record.row.opened.0
        ))
        .await?;
    match number(&left.unwrap_or_default()) {
        0 => {}
        left => found.push(findings::left_over_barrier(left)),
    }
    if record.row.is_closed()
        && record
            .row
            .rollout
            .as_deref()
            .is_some_and(|rollout| rollout.starts_with(crate::backup::RESTORE_REASON))
    {
        found.push(finding(
            FindingLevel::Error,
            "restore-cut-off",
            "a restore was cut off: the database holds only a part of the backup, behind a closed gate",
            "run the same `lockkeeper migrate sql restore` again",
        ));
    }
    Ok(found)
}
