//! What `doctor` looks at on this dialect, beside the port's preflight.

use std::path::PathBuf;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use tokio::time::Instant;

use super::blockers;
use super::gate::{self, Lock};
use super::schema::{self, Names};
use super::session::{code, db_error, quote};
use crate::db::findings::{self, finding};
use crate::db::{DbError, Finding, FindingLevel};
use crate::dsn::Locality;
use crate::ledger::LedgerChoice;

/// An idle transaction this old keeps locks and dead rows for nobody.
const IDLE_TRANSACTION_S: f64 = 60.0;

/// A statement this old will hold up whoever needs its table.
const LONG_STATEMENT_S: f64 = 300.0;

/// At most this many findings of one kind.
const NAMED_MAX: i64 = 20;

pub(super) async fn examine(conn: &mut PgConnection, locality: Locality) -> Result<Vec<Finding>, DbError> {
    let mut found = Vec::new();
    found.extend(clock(conn).await?);
    found.extend(transport(conn, locality).await?);
    found.extend(connections(conn).await?);
    found.extend(roles(conn).await?);
    found.extend(sessions(conn).await?);
    found.extend(advisory_locks(conn).await?);
    found.extend(other_tools(conn).await?);
    found.extend(disk(conn, locality).await?);
    match schema::find(conn, LedgerChoice::Own).await? {
        Some(names) => found.extend(own(conn, &names).await?),
        None => found.extend(barrier_without_gate(conn).await?),
    }
    Ok(found)
}

async fn rows(conn: &mut PgConnection, query: &str) -> Result<Vec<PgRow>, DbError> {
    sqlx::query(AssertSqlSafe(query.to_owned()))
        .fetch_all(conn)
        .await
        .map_err(db_error)
}

async fn clock(conn: &mut PgConnection) -> Result<Option<Finding>, DbError> {
    let asked = Instant::now();
    let rows = rows(
        conn,
        "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint",
    )
    .await?;
    Ok(rows
        .first()
        .and_then(|row| findings::clock(row.get(0), asked.elapsed())))
}

async fn transport(conn: &mut PgConnection, locality: Locality) -> Result<Option<Finding>, DbError> {
    let rows = rows(conn, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").await?;
    let encrypted = rows.first().is_none_or(|row| row.get(0));
    Ok((!encrypted && locality == Locality::Elsewhere).then(findings::plaintext))
}

async fn connections(conn: &mut PgConnection) -> Result<Option<Finding>, DbError> {
    let rows = rows(
        conn,
        "SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'), \
                current_setting('max_connections')::bigint",
    )
    .await?;
    let number = |row: &PgRow, column| u64::try_from(row.get::<i64, _>(column)).unwrap_or(0);
    Ok(rows
        .first()
        .and_then(|row| findings::connections(number(row, 0), number(row, 1))))
}

/// Whoever is a superuser, or owns the tables, can take a barrier away, and every mistake of an application counts
/// fully.
async fn roles(conn: &mut PgConnection) -> Result<Vec<Finding>, DbError> {
    let rows = rows(
        conn,
        "SELECT DISTINCT a.usename::text, r.rolsuper FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid \
         WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.application_name <> 'lockkeeper' \
           AND (r.rolsuper OR EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                WHERE c.relowner = a.usesysid AND c.relkind IN ('r', 'p') AND n.nspname NOT LIKE 'pg\\_%' \
                  AND n.nspname <> 'information_schema' AND c.relname NOT LIKE 'lockkeeper\\_%')) ORDER BY 1",
    )
    .await?;
    let told = |row: &PgRow| {
        let (role, superuser): (String, bool) = (row.get(0), row.get(1));
        let remedy = format!(
            "let applications log in as a role of their own that owns nothing: CREATE ROLE app LOGIN; GRANT SELECT, \
             INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app; keep {} for migrations",
            quote(&role)
        );
        if superuser {
            let message = format!("sessions of the superuser {role} are at work in this database");
            finding(FindingLevel::Warning, "superuser-application", message, remedy)
        } else {
            let message = format!("sessions of {role}, which owns tables, are at work in this database");
            finding(FindingLevel::Info, "owner-application", message, remedy)
        }
    };
    Ok(rows.iter().map(told).collect())
}

async fn sessions(conn: &mut PgConnection) -> Result<Vec<Finding>, DbError> {
    let rows = rows(
        conn,
        &format!(
            "SELECT pid, coalesce(usename::text, ''), coalesce(application_name, ''), state, \
                    extract(epoch FROM clock_timestamp() - CASE WHEN state = 'active' THEN query_start ELSE state_change END)::float8 \
             FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend' \
               AND state IS NOT NULL ORDER BY 5 DESC LIMIT {}",
            NAMED_MAX * 10
        ),
    )
    .await?;
    Ok(rows.iter().flat_map(session).take(NAMED_MAX as usize).collect())
}

fn session(row: &PgRow) -> Vec<Finding> {
    let (pid, user, application): (i32, String, String) = (row.get(0), row.get(1), row.get(2));
    let (state, age): (String, f64) = (row.get(3), row.get(4));
    let end = format!("SELECT pg_terminate_backend({pid})");
    let who = format!("session {pid} of {user} ({application})");
    let mut found = Vec::new();
    if state.starts_with("idle in transaction") && age > IDLE_TRANSACTION_S {
        found.push(finding(
            FindingLevel::Warning,
            "idle-in-transaction",
            format!("{who} has been idle in a transaction for {age:.0} s: DDL waits for its locks"),
            format!("{end}; and set idle_in_transaction_session_timeout for its role"),
        ));
    }
    if state == "active" && age > LONG_STATEMENT_S {
        found.push(finding(
            FindingLevel::Warning,
            "long-statement",
            format!("{who} has been running one statement for {age:.0} s: DDL on its tables waits for it"),
            format!("wait for it, or {end}"),
        ));
    }
    if findings::is_migrator(&application) {
        found.push(finding(
            FindingLevel::Warning,
            "other-migrator",
            format!("{who} is a migrator's, {state} for {age:.0} s"),
            format!("let it end before another one begins; one that hangs: {end}"),
        ));
    }
    found
}

/// Other migrators lock with advisory locks of a session; one that went into a pool keeps it.
async fn advisory_locks(conn: &mut PgConnection) -> Result<Vec<Finding>, DbError> {
    let rows = rows(
        conn,
        "SELECT DISTINCT a.pid, coalesce(a.usename::text, ''), coalesce(a.application_name, ''), \
                extract(epoch FROM clock_timestamp() - a.state_change)::float8 \
         FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid \
         WHERE l.locktype = 'advisory' AND l.granted AND a.datname = current_database() AND a.state = 'idle' \
           AND a.pid <> pg_backend_pid() ORDER BY 1",
    )
    .await?;
    let told = |row: &PgRow| {
        let (pid, user, application, age): (i32, String, String, f64) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        finding(
            FindingLevel::Warning,
            "advisory-lock",
            format!(
                "session {pid} of {user} ({application}), idle for {age:.0} s, holds an advisory lock: migrators that \
                 lock that way wait for it"
            ),
            format!("if it is a lock that leaked into a pool: SELECT pg_terminate_backend({pid})"),
        )
    };
    Ok(rows.iter().map(told).collect())
}

async fn other_tools(conn: &mut PgConnection) -> Result<Vec<Finding>, DbError> {
    let mut found = Vec::new();
    let dirty = optional(
        conn,
        "schema_migrations",
        "dirty",
        "SELECT version::text, '' FROM schema_migrations WHERE dirty",
    );
    found.extend(dirty.await?.map(|(version, _)| findings::dirty(&version)));
    let locked = optional(
        conn,
        "databasechangeloglock",
        "locked",
        "SELECT coalesce(lockedby, 'nobody'), coalesce(lockgranted::text, 'an unknown time') \
         FROM databasechangeloglock WHERE locked",
    );
    found.extend(
        locked
            .await?
            .map(|(by, since)| findings::liquibase_lock(&by, &since)),
    );
    Ok(found)
}

/// Two texts of another tool's table, where it has that column and may be read.
async fn optional(
    conn: &mut PgConnection,
    table: &str,
    column: &str,
    query: &str,
) -> Result<Option<(String, String)>, DbError> {
    let there: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = $2 AND NOT attisdropped)",
    )
    .bind(table)
    .bind(column)
    .fetch_one(&mut *conn)
    .await
    .map_err(db_error)?;
    if !there {
        return Ok(None);
    }
    match rows(conn, query).await {
        Ok(rows) => Ok(rows.first().map(|row| (row.get(0), row.get(1)))),
        Err(error) if code(&error) == Some("42501") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Only for a server on this machine, and only where the role may know its directory.
async fn disk(conn: &mut PgConnection, locality: Locality) -> Result<Option<Finding>, DbError> {
    if locality == Locality::Elsewhere {
        return Ok(None);
    }
    let asked = "SELECT pg_database_size(current_database()), current_setting('data_directory')";
    let answer = match rows(conn, asked).await {
        Ok(rows) => rows
            .first()
            .map(|row| (row.get::<i64, _>(0), row.get::<String, _>(1))),
        Err(error) if code(&error) == Some("42501") => None,
        Err(error) => return Err(error),
    };
    let Some((size, directory)) = answer else {
        return Ok(None);
    };
    let directory = PathBuf::from(directory);
    let size = u64::try_from(size).unwrap_or(0);
    Ok(crate::doctor::space(&directory).and_then(|space| space.finding(size, &directory)))
}

async fn own(conn: &mut PgConnection, names: &Names) -> Result<Vec<Finding>, DbError> {
    let seen = gate::read(conn, names, Lock::None).await?;
    let mut found = Vec::new();
    if let Some(executor) = &seen.row.executor
        && blockers::is_alive(conn, executor).await?
    {
        let who = seen.who.as_deref().unwrap_or("unknown");
        found.push(findings::executor(who, &executor.session));
    }
    let left = barrier_triggers(conn, Some(&names.schema), seen.row.opened.0).await?;
    if left > 0 {
        found.push(findings::left_over_barrier(left));
    }
    Ok(found)
}

/// A barrier's function reads the gate row: without one, every writer gets an error.
async fn barrier_without_gate(conn: &mut PgConnection) -> Result<Option<Finding>, DbError> {
    let left = barrier_triggers(conn, None, u64::MAX).await?;
    Ok((left > 0).then(|| {
        finding(
            FindingLevel::Error,
            "barrier-without-gate",
            format!(
                "{left} triggers of a fence stand on tables, and lockkeeper_gate is not there: writes fail"
            ),
            "drop the functions named lockkeeper_g*, with their triggers: DROP FUNCTION … CASCADE",
        )
    }))
}

/// How many triggers of fences up to `opened` are there.
async fn barrier_triggers(
    conn: &mut PgConnection,
    schema: Option<&str>,
    opened: u64,
) -> Result<u64, DbError> {
    let count: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid \
         JOIN pg_namespace n ON n.oid = p.pronamespace \
         WHERE NOT t.tgisinternal AND p.proname ~ '^lockkeeper_g[0-9]{1,18}_[0-9a-f]{8}$' \
           AND ($1::text IS NULL OR n.nspname = $1) \
           AND substring(p.proname FROM '^lockkeeper_g([0-9]+)_')::bigint <= $2",
    )
    .bind(schema)
    .bind(super::take::signed(opened))
    .fetch_one(conn)
    .await
    .map_err(db_error)?;
    Ok(u64::try_from(count).unwrap_or(0))
}
