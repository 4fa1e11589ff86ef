//! Other sessions: who they are, who is in the way, and how they are ended.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::failure::Failure;
use super::session::{Row, Session};
use super::target::{Facts, Target, number};
use super::text::{first_line, literal};
use crate::db::{Blocker, DbError, ExecutorId};

/// No such thread: it is gone, whoever asks.
const NO_SUCH_THREAD: u16 = 1094;
/// Not owner of the thread, and not allowed to end others'.
const KILL_DENIED: u16 = 1095;
/// Two readings of one server's start differ by up to this; a restart takes longer or changes the connection ids.
const START_TOLERANCE_S: i64 = 2;
/// Between two looks at a session that was ended: it rolls back first, which may take long.
const GONE_POLL: Duration = Duration::from_millis(20);
/// Longest text of another session's statement.
const QUERY_CHARS: usize = 200;

/// The name that a new session registers under, beside its connection id: `<server start>.<random>`. Connection
/// ids begin anew when a server restarts; the random part also names the lock that the session holds as a witness
/// that it lives, and user locks do not survive a restart.
pub(super) fn new_start_mark(facts: &Facts) -> String {
    format!("{}.{:016x}", facts.server_start, fastrand::u64(..))
}

/// Takes the witness lock of this session.
pub(super) async fn hold_witness(
    session: &mut Session,
    target: &Target,
    started: &str,
) -> Result<bool, Failure> {
    let got = session
        .value(&format!(
            "SELECT GET_LOCK({}, 0)",
            literal(&target.witness(started))
        ))
        .await?;
    Ok(got.as_deref() == Some("1"))
}

/// What can be told of a registered session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// It lives.
    Alive,
    /// Its witness lock is free and the server knows no such connection: it can do nothing any more.
    Gone,
}

/// Whether a registered session lives. "Gone" is said only when both its identifiers say so.
pub(super) async fn life(
    session: &mut Session,
    target: &Target,
    facts: &Facts,
    executor: &ExecutorId,
) -> Result<Life, Failure> {
    let id = number(&executor.session);
    let holder = session
        .value(&format!(
            "SELECT IS_USED_LOCK({})",
            literal(&target.witness(&executor.started))
        ))
        .await?;
    if holder.is_some_and(|holder| number(&holder) == id) {
        return Ok(Life::Alive);
    }
    let listed = session
        .any(&format!(
            "SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = {id}"
        ))
        .await?;
    // A connection id that was given again after a restart is somebody else.
    Ok(if listed && !restarted_since(facts, executor) {
        Life::Alive
    } else {
        Life::Gone
    })
}

fn restarted_since(facts: &Facts, executor: &ExecutorId) -> bool {
    let recorded = executor
        .started
        .split('.')
        .next()
        .and_then(|start| start.parse::<i64>().ok());
    recorded.is_some_and(|recorded| (facts.server_start - recorded).abs() > START_TOLERANCE_S)
}

/// Ends a registered session and waits until it is gone. Gives it as it was seen, if it lived.
pub(super) async fn end_executor(
    session: &mut Session,
    target: &Target,
    facts: &Facts,
    executor: &ExecutorId,
    deadline: Instant,
) -> Result<Option<Blocker>, DbError> {
    let id = number(&executor.session);
    let mut ended = None;
    loop {
        if life(session, target, facts, executor).await? == Life::Gone {
            return Ok(ended);
        }
        if ended.is_none() {
            ended = describe(session, facts, &[id])
                .await?
                .into_iter()
                .next()
                .or_else(|| Some(unseen(id)));
        }
        kill(session, id).await?;
        if Instant::now() >= deadline {
            let what = format!("the end of {executor}");
            return Err(DbError::TimedOut {
                what,
                blockers: ended.into_iter().collect(),
            });
        }
        sleep(GONE_POLL).await;
    }
}

/// Cancels what a registered session runs at this moment; the session goes on.
pub(super) async fn cancel(
    session: &mut Session,
    target: &Target,
    facts: &Facts,
    executor: &ExecutorId,
) -> Result<(), DbError> {
    if life(session, target, facts, executor).await? == Life::Gone {
        return Ok(());
    }
    match session
        .run(&format!("KILL QUERY {}", number(&executor.session)))
        .await
    {
        Err(failure) if !failure.is(NO_SUCH_THREAD) => Err(failure.into()),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Ends a connection. One that is not there is success.
pub(super) async fn kill(session: &mut Session, id: u64) -> Result<(), DbError> {
    match session.run(&format!("KILL {id}")).await {
        Ok(_) => Ok(()),
        Err(failure) if failure.is(NO_SUCH_THREAD) => Ok(()),
        Err(failure) if failure.is(KILL_DENIED) => Err(DbError::Permission {
            what: format!("end connection {id} of another user"),
            remedy: "run all coordinators as one database user, or run `GRANT CONNECTION ADMIN ON *.* TO` \
                     (MariaDB) or `GRANT CONNECTION_ADMIN ON *.* TO` (MySQL) lockkeeper's role"
                .to_owned(),
        }),
        Err(failure) => Err(failure.into()),
    }
}

fn unseen(id: u64) -> Blocker {
    Blocker {
        kind: "session".to_owned(),
        id: id.to_string(),
        user: None,
        application: None,
        query: None,
        age_ms: 0,
    }
}

/// What can be seen of the connections `ids`.
pub(super) async fn describe(
    session: &mut Session,
    facts: &Facts,
    ids: &[u64],
) -> Result<Vec<Blocker>, Failure> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let time = if facts.mariadb {
        "p.TIME_MS"
    } else {
        "p.TIME * 1000"
    };
    let with_transactions = format!(
        "SELECT p.ID, p.USER, p.HOST, COALESCE(p.INFO, t.trx_query), \
         CAST(GREATEST(COALESCE({time}, 0), COALESCE(TIMESTAMPDIFF(MICROSECOND, t.trx_started, NOW(6)) / 1000, 0)) \
         AS UNSIGNED) FROM information_schema.PROCESSLIST p \
         LEFT JOIN information_schema.INNODB_TRX t ON t.trx_mysql_thread_id = p.ID WHERE p.ID IN ({})",
        ids.join(", ")
    );
    let rows = match session.rows(&with_transactions).await {
        Err(failure) if failure.is_denied() => {
            let plain = format!(
                "SELECT p.ID, p.USER, p.HOST, p.INFO, CAST({time} AS UNSIGNED) \
                 FROM information_schema.PROCESSLIST p WHERE p.ID IN ({})",
                ids.join(", ")
            );
            session.rows(&plain).await?
        }
        other => other?,
    };
    Ok(rows.into_iter().map(blocker).collect())
}

fn blocker(row: Row) -> Blocker {
    let mut columns = row.into_iter();
    let mut text = || columns.next().flatten();
    Blocker {
        kind: "session".to_owned(),
        id: text().unwrap_or_default(),
        user: text(),
        application: text(),
        query: text().map(|query| first_line(&query, QUERY_CHARS)),
        age_ms: text().map_or(0, |age| number(&age)),
    }
}

/// Connections that hold a lock on a table's definition, as well as the server can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Holders {
    /// The server said who holds it.
    Exact(Vec<u64>),
    /// Who may hold it, in the order in which they are ended: open transactions in this database, then those
    /// whose statement names it, then everybody who is in it.
    Suspects([Vec<u64>; 3]),
}

impl Holders {
    /// Those that are most likely in the way, for messages.
    pub(super) fn named(&self) -> &[u64] {
        match self {
            Self::Exact(ids) => ids,
            Self::Suspects(stages) => stages
                .iter()
                .find(|ids| !ids.is_empty())
                .map_or(&[], Vec::as_slice),
        }
    }

    /// Those to end in the given round.
    pub(super) fn round(&self, round: usize) -> &[u64] {
        match self {
            Self::Exact(ids) => ids,
            Self::Suspects(stages) => &stages[round.min(2)],
        }
    }
}

/// Who holds a lock on the definition of `table`, other than `me` and the asking session.
pub(super) async fn table_holders(
    session: &mut Session,
    target: &Target,
    table: &str,
    me: u64,
) -> Result<Holders, Failure> {
    let (database, table) = (literal(&target.database), literal(table));
    let exact = [
        format!(
            "SELECT DISTINCT THREAD_ID FROM information_schema.METADATA_LOCK_INFO WHERE TABLE_SCHEMA = {database} \
             AND TABLE_NAME = {table} AND THREAD_ID NOT IN ({me}, CONNECTION_ID())"
        ),
        format!(
            "SELECT DISTINCT t.PROCESSLIST_ID FROM performance_schema.metadata_locks l \
             JOIN performance_schema.threads t ON t.THREAD_ID = l.OWNER_THREAD_ID WHERE l.OBJECT_SCHEMA = {database} \
             AND l.OBJECT_NAME = {table} AND l.LOCK_STATUS = 'GRANTED' \
             AND t.PROCESSLIST_ID NOT IN ({me}, CONNECTION_ID())"
        ),
    ];
    for sql in exact {
        // Neither is always there: a plugin in MariaDB, an instrument that is off by default.
        match session.rows(&sql).await {
            Ok(rows) if !rows.is_empty() => return Ok(Holders::Exact(ids(rows))),
            Err(failure) if failure.is_lost() => return Err(failure),
            Ok(_) | Err(_) => {}
        }
    }
    suspects(session, target, me).await
}

/// Whether the connection waits for a lock on a definition at this moment.
pub(super) async fn waits_for_definition(session: &mut Session, waiter: u64) -> Result<bool, Failure> {
    let state = session
        .value(&format!(
            "SELECT STATE FROM information_schema.PROCESSLIST WHERE ID = {waiter}"
        ))
        .await?
        .unwrap_or_default();
    Ok(state.starts_with("Waiting for") && state.ends_with("lock"))
}

async fn suspects(session: &mut Session, target: &Target, me: u64) -> Result<Holders, Failure> {
    let database = literal(&target.database);
    let people = format!(
        "p.ID NOT IN ({me}, CONNECTION_ID()) AND p.COMMAND NOT IN ('Daemon', 'Binlog Dump', 'Slave_IO', 'Slave_SQL') \
         AND p.USER <> 'system user'"
    );
    let in_transaction = "p.ID IN (SELECT trx_mysql_thread_id FROM information_schema.INNODB_TRX)";
    let from = "SELECT p.ID FROM information_schema.PROCESSLIST p WHERE";
    let busy =
        format!("{from} {people} AND p.DB = {database} AND (p.COMMAND <> 'Sleep' OR {in_transaction})");
    let naming = format!(
        "{from} {people} AND (p.DB IS NULL OR p.DB <> {database}) AND \
         (LOCATE({database}, p.INFO) > 0 OR (p.DB IS NULL AND {in_transaction}))"
    );
    let everybody = format!("{from} {people} AND p.DB = {database}");
    let mut stages = [Vec::new(), Vec::new(), Vec::new()];
    for (stage, sql) in stages.iter_mut().zip([busy, naming, everybody]) {
        match session.rows(&sql).await {
            Ok(rows) => *stage = ids(rows),
            // Without PROCESS the open transactions cannot be seen; the last stage needs no such right.
            Err(failure) if failure.is_denied() => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(Holders::Suspects(stages))
}

/// Whoever the connection `waiter` waits for at this moment, described.
pub(super) async fn in_the_way(
    session: &mut Session,
    target: &Target,
    facts: &Facts,
    waiter: u64,
) -> Result<Vec<Blocker>, Failure> {
    let mut found = row_holders(session, facts, waiter).await?;
    if found.is_empty() && waits_for_definition(session, waiter).await? {
        let statement = session
            .value(&format!(
                "SELECT INFO FROM information_schema.PROCESSLIST WHERE ID = {waiter}"
            ))
            .await?
            .unwrap_or_default();
        let table = super::doubt::table_of(&statement).unwrap_or_default();
        found = table_holders(session, target, &table, waiter)
            .await?
            .named()
            .to_vec();
    }
    describe(session, facts, &found).await
}

/// Connections whose transaction holds a row lock that the connection `waiter` waits for at this moment.
///
/// In MariaDB every transaction that has written nothing has the id 0, refused writers and plain readers alike: of
/// those, readers are told by holding no row lock.
pub(super) async fn row_holders(
    session: &mut Session,
    facts: &Facts,
    waiter: u64,
) -> Result<Vec<u64>, Failure> {
    let sql = if facts.mariadb {
        format!(
            "SELECT DISTINCT b.trx_mysql_thread_id FROM information_schema.INNODB_LOCK_WAITS w \
             JOIN information_schema.INNODB_TRX b ON b.trx_id = w.blocking_trx_id \
             JOIN information_schema.INNODB_TRX r ON r.trx_id = w.requesting_trx_id \
             WHERE r.trx_mysql_thread_id = {waiter} AND b.trx_mysql_thread_id <> {waiter} \
             AND (b.trx_id <> 0 OR b.trx_rows_locked > 0)"
        )
    } else {
        format!(
            "SELECT DISTINCT b.PROCESSLIST_ID FROM performance_schema.data_lock_waits w \
             JOIN performance_schema.threads b ON b.THREAD_ID = w.BLOCKING_THREAD_ID \
             JOIN performance_schema.threads r ON r.THREAD_ID = w.REQUESTING_THREAD_ID \
             WHERE r.PROCESSLIST_ID = {waiter}"
        )
    };
    match session.rows(&sql).await {
        Ok(rows) => Ok(ids(rows)),
        Err(failure) if failure.is_denied() => Ok(Vec::new()),
        Err(failure) => Err(failure),
    }
}

fn ids(rows: Vec<Row>) -> Vec<u64> {
    let first = rows
        .into_iter()
        .filter_map(|row| row.into_iter().next().flatten());
    first.map(|id| number(&id)).filter(|id| *id != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::ServerIdentity;

    fn facts(server_start: i64) -> Facts {
        let identity = ServerIdentity(String::new());
        Facts {
            mariadb: true,
            version: String::new(),
            identity,
            connection: 1,
            server_start,
        }
    }

    #[test]
    fn only_a_clear_difference_is_a_restart() {
        let executor = ExecutorId {
            session: "5".to_owned(),
            started: "1000.ab".to_owned(),
        };
        assert!(!restarted_since(&facts(1001), &executor));
        assert!(restarted_since(&facts(1003), &executor));
        let odd = ExecutorId {
            session: "5".to_owned(),
            started: "ab".to_owned(),
        };
        assert!(!restarted_since(&facts(1003), &odd));
    }

    #[test]
    fn suspects_are_ended_from_the_likely_to_the_unlikely() {
        let holders = Holders::Suspects([Vec::new(), vec![7], vec![7, 8]]);
        assert_eq!(holders.named(), [7]);
        assert_eq!(holders.round(0), [0_u64; 0]);
        assert_eq!(holders.round(5), [7, 8]);
    }
}
