//! Other sessions: who is in the way, and ending them.

use std::time::Duration;

use sqlx::{PgConnection, Row};
use tokio::time::{Instant, sleep};

use super::session::{code, db_error};
use crate::db::{Blocker, DbError, ExecutorId};

/// Pause between two looks at a session that is being ended.
const POLL: Duration = Duration::from_millis(20);

/// A blocker, and how to end it; `None` when it is no session or hides its start.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) blocker: Blocker,
    pub(super) session: Option<ExecutorId>,
}

/// Only the blockers.
pub(super) fn plain(found: &[Found]) -> Vec<Blocker> {
    found.iter().map(|f| f.blocker.clone()).collect()
}

const SESSION_COLUMNS: &str = "a.pid::text, \
     (extract(epoch FROM a.backend_start) * 1000000)::bigint::text, \
     a.usename::text, \
     coalesce(nullif(a.application_name, ''), a.backend_type, host(a.client_addr)), \
     nullif(left(a.query, 200), '<insufficient privilege>'), \
     greatest(0, extract(epoch FROM clock_timestamp() - \
         coalesce(a.xact_start, a.query_start, a.backend_start)) * 1000)::bigint";

/// Sessions and prepared transactions that hold a lock which the session `pid` waits for.
pub(super) async fn of_lock(conn: &mut PgConnection, pid: &str) -> Result<Vec<Found>, DbError> {
    let Ok(pid) = pid.parse::<i32>() else {
        return Ok(Vec::new());
    };
    let query = format!(
        "SELECT {SESSION_COLUMNS} FROM pg_stat_activity a WHERE a.pid = ANY (pg_blocking_pids($1)) ORDER BY 6 DESC"
    );
    let mut found = sessions(conn, query, pid).await?;
    // A prepared transaction has no process: pg_blocking_pids says 0, pg_locks knows it by its xid.
    let rows = sqlx::query(
        "SELECT DISTINCT p.gid, p.owner::text, \
                greatest(0, extract(epoch FROM clock_timestamp() - p.prepared) * 1000)::bigint \
         FROM pg_prepared_xacts p \
         JOIN pg_locks x ON x.pid IS NULL AND x.locktype = 'transactionid' AND x.transactionid = p.transaction \
         JOIN pg_locks l ON l.pid IS NULL AND l.virtualtransaction = x.virtualtransaction \
         JOIN pg_locks w ON w.pid = $1 AND NOT w.granted AND w.locktype = l.locktype \
              AND w.relation IS NOT DISTINCT FROM l.relation \
              AND w.transactionid IS NOT DISTINCT FROM l.transactionid \
         WHERE 0 = ANY (pg_blocking_pids($1)) AND p.database = current_database()",
    )
    .bind(pid)
    .fetch_all(conn)
    .await
    .map_err(db_error)?;
    found.extend(rows.iter().map(prepared));
    Ok(found)
}

/// Sessions that hold a lock on a table strong enough to have locked one of its rows.
pub(super) async fn of_row(conn: &mut PgConnection, table: &str) -> Result<Vec<Found>, DbError> {
    let query = format!(
        "SELECT {SESSION_COLUMNS} FROM pg_stat_activity a WHERE a.pid <> pg_backend_pid() AND EXISTS ( \
             SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.granted AND l.relation = to_regclass($1) \
             AND l.mode <> 'AccessShareLock') ORDER BY 6 DESC"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(table)
        .fetch_all(conn)
        .await
        .map_err(db_error)?;
    Ok(rows.iter().map(session).collect())
}

/// A transaction of this database that has written, or could have made a table, with its xid.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    pub(super) xid: String,
    pub(super) found: Found,
}

/// All transactions of this database that hold an xid, but this session's own.
pub(super) async fn writers(conn: &mut PgConnection) -> Result<Vec<Writer>, DbError> {
    let query = format!(
        "SELECT {SESSION_COLUMNS}, a.backend_xid::text FROM pg_stat_activity a \
         WHERE a.datname = current_database() AND a.backend_xid IS NOT NULL AND a.pid <> pg_backend_pid()"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(query))
        .fetch_all(&mut *conn)
        .await
        .map_err(db_error)?;
    let mut found: Vec<Writer> = rows
        .iter()
        .map(|row| Writer {
            xid: row.get(6),
            found: session(row),
        })
        .collect();
    let rows = sqlx::query(
        "SELECT p.gid, p.owner::text, \
                greatest(0, extract(epoch FROM clock_timestamp() - p.prepared) * 1000)::bigint, \
                p.transaction::text \
         FROM pg_prepared_xacts p WHERE p.database = current_database()",
    )
    .fetch_all(conn)
    .await
    .map_err(db_error)?;
    found.extend(rows.iter().map(|row| Writer {
        xid: row.get(3),
        found: prepared(row),
    }));
    Ok(found)
}

async fn sessions(conn: &mut PgConnection, query: String, pid: i32) -> Result<Vec<Found>, DbError> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(pid)
        .fetch_all(conn)
        .await
        .map_err(db_error)?;
    Ok(rows.iter().map(session).collect())
}

fn session(row: &sqlx::postgres::PgRow) -> Found {
    let id: String = row.get(0);
    let started: Option<String> = row.get(1);
    let blocker = Blocker {
        kind: "session".to_owned(),
        id: id.clone(),
        user: row.get(2),
        application: row.get(3),
        query: row.get::<Option<String>, _>(4).map(|q| one_line(&q)),
        age_ms: millis(row.get(5)),
    };
    Found {
        blocker,
        session: started.map(|started| ExecutorId { session: id, started }),
    }
}

fn prepared(row: &sqlx::postgres::PgRow) -> Found {
    let blocker = Blocker {
        kind: "prepared transaction".to_owned(),
        id: row.get(0),
        user: row.get(1),
        application: None,
        query: None,
        age_ms: millis(row.get(2)),
    };
    Found {
        blocker,
        session: None,
    }
}

fn one_line(query: &str) -> String {
    query.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn millis(value: Option<i64>) -> u64 {
    value.and_then(|v| u64::try_from(v).ok()).unwrap_or(0)
}

/// Whether the session is there. One that hides its start counts as there: it may be the one.
pub(super) async fn is_alive(conn: &mut PgConnection, id: &ExecutorId) -> Result<bool, DbError> {
    let row = sqlx::query(
        "SELECT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid::text = $1 \
             AND coalesce((extract(epoch FROM a.backend_start) * 1000000)::bigint::text, $2) = $2)",
    )
    .bind(&id.session)
    .bind(&id.started)
    .fetch_one(conn)
    .await
    .map_err(db_error)?;
    Ok(row.get(0))
}

/// Asks the server to end the session; true when it was there to be asked.
pub(super) async fn terminate(conn: &mut PgConnection, id: &ExecutorId) -> Result<bool, DbError> {
    let row = sqlx::query(
        "SELECT coalesce(bool_or(pg_terminate_backend(a.pid)), false) FROM pg_stat_activity a \
         WHERE a.pid::text = $1 AND a.pid <> pg_backend_pid() \
           AND coalesce((extract(epoch FROM a.backend_start) * 1000000)::bigint::text, $2) = $2",
    )
    .bind(&id.session)
    .bind(&id.started)
    .fetch_one(conn)
    .await
    .map_err(db_error);
    match row {
        Ok(row) => Ok(row.get(0)),
        Err(error) if code(&error) == Some("42501") => Err(DbError::Permission {
            what: format!("ending {id}"),
            remedy: "let every executor of this target log in as the same role, or GRANT pg_signal_backend"
                .to_owned(),
        }),
        Err(error) => Err(error),
    }
}

/// Cancels what the session runs at this moment.
pub(super) async fn cancel(conn: &mut PgConnection, id: &ExecutorId) -> Result<(), DbError> {
    sqlx::query(
        "SELECT pg_cancel_backend(a.pid) FROM pg_stat_activity a WHERE a.pid::text = $1 AND a.state <> 'idle' \
           AND coalesce((extract(epoch FROM a.backend_start) * 1000000)::bigint::text, $2) = $2",
    )
    .bind(&id.session)
    .bind(&id.started)
    .execute(conn)
    .await
    .map_err(db_error)?;
    Ok(())
}

/// Ends the session and waits until the server no longer lists it: its locks are released before that.
/// True when it was there at the first look.
pub(super) async fn end_and_confirm(
    conn: &mut PgConnection,
    id: &ExecutorId,
    deadline: Instant,
) -> Result<bool, DbError> {
    let mut was_there = false;
    while is_alive(conn, id).await? {
        was_there = true;
        terminate(conn, id).await?;
        if Instant::now() >= deadline {
            return Err(DbError::TimedOut {
                what: format!("the end of {id}"),
                blockers: Vec::new(),
            });
        }
        sleep(POLL).await;
    }
    Ok(was_there)
}

/// The session as a blocker, if it is there.
pub(super) async fn describe(conn: &mut PgConnection, id: &ExecutorId) -> Result<Option<Blocker>, DbError> {
    let query = format!(
        "SELECT {SESSION_COLUMNS} FROM pg_stat_activity a WHERE a.pid::text = $1 \
           AND coalesce((extract(epoch FROM a.backend_start) * 1000000)::bigint::text, $2) = $2"
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(&id.session)
        .bind(&id.started)
        .fetch_optional(conn)
        .await
        .map_err(db_error)?;
    Ok(row.map(|row| session(&row).blocker))
}
