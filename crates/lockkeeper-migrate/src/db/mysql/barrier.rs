//! The barrier: row triggers that refuse every writer but the registered executor until the gate row says that the
//! fence they were made for has been opened.
//!
//! What a trigger refuses follows from the number in its name: "unless `opened` has reached 8", never "if closed".
//! A stale snapshot can only show a lower number, so it refuses in every isolation level; a trigger that is left
//! over after the opening, or made late, does nothing.
//!
//! Making one needs the table's definition for itself alone. So it waits for every transaction that has written to
//! the table, which *is* the drain, and for every one that has read it. While it waits, new statements queue up
//! behind it: that is why each try is short and followed by a pause.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use lockkeeper_core::epoch::GateEpoch;
use tokio::time::{Instant, sleep};

use super::epoch_table;
use super::failure::Failure;
use super::gate::IS_OWN;
use super::session::Session;
use super::target::{Target, seconds};
use super::text::{literal, message, name};
use super::watch::{Wanted, Watch, jitter};
use crate::db::{BarrierReport, Blocker, DbError, Event, Observer};

/// Pause after a try that was not had: the readers that queued up behind it go first.
const TRY_PAUSE: Duration = Duration::from_millis(250);
/// Longest single try. Longer transactions that overlap without end are ended when the patience is over.
const TRY_MAX_S: u64 = 4;
/// Tries after the patience, each preceded by ending whoever is in the way.
const ROUNDS_AFTER_PATIENCE: usize = 6;
/// Between two looks at prepared transactions.
const PREPARED_POLL: Duration = Duration::from_millis(100);
/// Rescans for tables that appeared while the barrier was raised.
const RESCANS_MAX: usize = 20;
/// The table went away, or was renamed, between the scan and the trigger.
const NO_SUCH_TABLE: u16 = 1146;

const EVENTS: [(&str, &str); 3] = [("INSERT", "i"), ("UPDATE", "u"), ("DELETE", "d")];

/// What the names of a fence's triggers begin with.
pub(super) fn prefix(fence: GateEpoch) -> String {
    format!("lockkeeper_g{}_", fence.0)
}

/// The fence that a trigger of lockkeeper was made for.
pub(super) fn fence_of(trigger: &str) -> Option<GateEpoch> {
    let (number, _) = trigger.strip_prefix("lockkeeper_g")?.split_once('_')?;
    number.parse().ok().map(GateEpoch)
}

/// A statement that needs a table's definition for itself alone.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ddl {
    table: String,
    sql: String,
}

/// A trigger that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Missing {
    table: String,
    event: (&'static str, &'static str),
    /// The first trigger for the same event, which ours must precede: it could write elsewhere before ours refuses.
    first: Option<String>,
}

/// The barrier as it stands.
#[derive(Debug, Default)]
struct Scan {
    tables: BTreeSet<String>,
    missing: Vec<Missing>,
}

/// Bars tables in the name of one fence.
#[derive(Debug)]
pub(super) struct Barrier<'a> {
    pub(super) target: &'a Target,
    pub(super) fence: GateEpoch,
}

impl Barrier<'_> {
    /// Raises it everywhere, and returns when no older writer can commit any more.
    pub(super) async fn raise(
        &self,
        session: &mut Session,
        watch: &mut Watch,
        patience: Duration,
        observer: &dyn Observer,
    ) -> Result<BarrierReport, DbError> {
        let deadline = Instant::now() + patience;
        let mut report = BarrierReport::default();
        self.turn_epoch(session, watch, deadline, &mut report.ended, observer)
            .await?;
        let mut scan = self.scan(session).await?;
        report.continued = scan.missing.is_empty();
        for _ in 0..RESCANS_MAX {
            if scan.missing.is_empty() {
                break;
            }
            let triggers = self.triggers(&scan.missing);
            self.run_all(session, watch, triggers, deadline, &mut report.ended, observer)
                .await?;
            scan = self.scan(session).await?;
        }
        if let Some(missing) = scan.missing.first() {
            let what = format!(
                "table {} to stay as it is: somebody keeps making tables",
                missing.table
            );
            return Err(DbError::TimedOut {
                what,
                blockers: Vec::new(),
            });
        }
        self.await_prepared(session, deadline, observer).await?;
        restore_lock_wait(session, self.target).await?;
        report.tables = scan.tables.into_iter().collect();
        Ok(report)
    }

    /// Bars the tables that carry no barrier, which this hand has just made. Gives their names.
    pub(super) async fn complete(
        &self,
        session: &mut Session,
        watch: &mut Watch,
        observer: &dyn Observer,
    ) -> Result<Vec<String>, DbError> {
        let scan = self.scan(session).await?;
        if scan.missing.is_empty() {
            return Ok(Vec::new());
        }
        let mut tables: Vec<String> = scan.missing.iter().map(|missing| missing.table.clone()).collect();
        tables.dedup();
        let deadline = Instant::now() + self.target.limits.lock_timeout;
        let triggers = self.triggers(&scan.missing);
        self.run_all(session, watch, triggers, deadline, &mut Vec::new(), observer)
            .await?;
        restore_lock_wait(session, self.target).await?;
        Ok(tables)
    }

    async fn scan(&self, session: &mut Session) -> Result<Scan, Failure> {
        let database = literal(&self.target.database);
        let tables = session
            .rows(&format!(
                "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {database} \
                 AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') AND NOT {IS_OWN}"
            ))
            .await?;
        let triggers = session
            .rows(&format!(
                "SELECT EVENT_OBJECT_TABLE, EVENT_MANIPULATION, TRIGGER_NAME FROM information_schema.TRIGGERS \
                 WHERE TRIGGER_SCHEMA = {database} AND ACTION_TIMING = 'BEFORE' ORDER BY ACTION_ORDER"
            ))
            .await?;
        let tables = tables
            .into_iter()
            .filter_map(|row| row.into_iter().next().flatten())
            .collect();
        Ok(self.compare(tables, triggers))
    }

    fn compare(&self, tables: BTreeSet<String>, triggers: Vec<Vec<Option<String>>>) -> Scan {
        let prefix = prefix(self.fence);
        let mut first: BTreeMap<(String, String), String> = BTreeMap::new();
        let mut barred: BTreeSet<(String, String)> = BTreeSet::new();
        for row in triggers {
            let [Some(table), Some(event), Some(trigger)] = <[_; 3]>::try_from(row).unwrap_or_default()
            else {
                continue;
            };
            if trigger.starts_with(&prefix) {
                barred.insert((table.clone(), event.clone()));
            }
            first.entry((table, event)).or_insert(trigger);
        }
        let mut missing = Vec::new();
        for table in &tables {
            for event in EVENTS {
                let key = (table.clone(), event.0.to_owned());
                if !barred.contains(&key) {
                    missing.push(Missing {
                        table: table.clone(),
                        event,
                        first: first.remove(&key),
                    });
                }
            }
        }
        Scan { tables, missing }
    }

    fn triggers(&self, missing: &[Missing]) -> Vec<Ddl> {
        let ddl = |missing: &Missing| Ddl {
            table: missing.table.clone(),
            sql: self.trigger(missing),
        };
        missing.iter().map(ddl).collect()
    }

    /// Replaces the epoch tables of earlier gates by this fence's. Dropping one waits for every writer that carries
    /// that epoch.
    async fn turn_epoch(
        &self,
        session: &mut Session,
        watch: &mut Watch,
        deadline: Instant,
        ended: &mut Vec<Blocker>,
        observer: &dyn Observer,
    ) -> Result<(), DbError> {
        if self.target.limits.strength.has_epoch() {
            epoch_table::ensure(session, self.target, self.fence).await?;
        }
        let mut old = epoch_table::all(session, self.target).await?;
        old.retain(|epoch| *epoch != self.fence);
        let drops = old.into_iter().map(|epoch| Ddl {
            table: epoch_table::name(epoch),
            sql: epoch_table::drop_statement(self.target, epoch),
        });
        self.run_all(session, watch, drops.collect(), deadline, ended, observer)
            .await
    }

    /// Runs the statements. A first round takes what can be had without waiting; then each is waited for in longer
    /// and longer tries, and when the patience is over, whoever is in the way is ended.
    async fn run_all(
        &self,
        session: &mut Session,
        watch: &mut Watch,
        statements: Vec<Ddl>,
        deadline: Instant,
        ended: &mut Vec<Blocker>,
        observer: &dyn Observer,
    ) -> Result<(), DbError> {
        set_lock_wait(session, 0).await?;
        let mut left = Vec::new();
        for ddl in statements {
            match run_one(session, &ddl).await {
                Ok(()) => {}
                Err(failure) if failure.is_retryable() => left.push(ddl),
                Err(failure) => return Err(failure.into()),
            }
        }
        for ddl in left {
            self.insist(session, watch, &ddl, deadline, ended, observer)
                .await?;
        }
        Ok(())
    }

    async fn insist(
        &self,
        session: &mut Session,
        watch: &mut Watch,
        ddl: &Ddl,
        deadline: Instant,
        ended: &mut Vec<Blocker>,
        observer: &dyn Observer,
    ) -> Result<(), DbError> {
        let wanted = Wanted::Table(&ddl.table);
        let mut try_s = 1;
        let mut rounds = 0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let ids = watch.holders(&ddl.table).await?.round(rounds).to_vec();
                ended.extend(watch.end(&ids, observer).await?);
                rounds += 1;
            }
            set_lock_wait(
                session,
                if left.is_zero() {
                    1
                } else {
                    try_s.min(seconds(left))
                },
            )
            .await?;
            let (result, blockers) = watch.over(wanted, None, observer, run_one(session, ddl)).await;
            match result {
                Ok(()) => return Ok(()),
                Err(failure) if failure.is_retryable() => {}
                Err(failure) => return Err(failure.into()),
            }
            if rounds == ROUNDS_AFTER_PATIENCE {
                return Err(DbError::TimedOut {
                    what: format!("lock on {}", ddl.table),
                    blockers,
                });
            }
            // The second try of each length wins against what the first one met.
            try_s = (try_s * 2).min(TRY_MAX_S);
            sleep(jitter(TRY_PAUSE).min(left)).await;
        }
    }

    /// The text of one trigger. InnoDB makes most reads in a trigger locking ones, so a refused writer keeps the row
    /// from changing until its transaction ends: the hand itself therefore takes shared locks where it can. Whether
    /// the session may pass is asked with a lock in every case, so that an old snapshot cannot say yes.
    fn trigger(&self, missing: &Missing) -> String {
        let Missing {
            table,
            event: (event, letter),
            first,
        } = missing;
        let fence = self.fence;
        let trigger = format!("{}{letter}_{:016x}", prefix(fence), fastrand::u64(..));
        let precedes = first
            .as_ref()
            .map_or_else(String::new, |first| format!(" PRECEDES {}", name(first)));
        let mut text = format!(
            "CREATE TRIGGER {} BEFORE {event} ON {} ",
            self.qualified(&trigger),
            self.qualified(table)
        );
        let _ = write!(
            text,
            "FOR EACH ROW{precedes} BEGIN \
             IF NOT EXISTS (SELECT 1 FROM lockkeeper_gate WHERE one = 1 AND opened >= {number}) THEN \
             IF NOT EXISTS (SELECT 1 FROM lockkeeper_gate WHERE one = 1 AND executor_session = CONNECTION_ID()) THEN \
             SIGNAL SQLSTATE 'LK001' SET MESSAGE_TEXT = \
             'lockkeeper: {table} is fenced at {fence}, retry when the gate is open'; \
             ELSEIF NOT EXISTS (SELECT 1 FROM lockkeeper_gate WHERE one = 1 AND executor_session = CONNECTION_ID() \
             AND superseded = 0 AND IS_USED_LOCK(CONCAT('{witness}', executor_started)) = CONNECTION_ID() \
             LOCK IN SHARE MODE) THEN \
             SIGNAL SQLSTATE 'LK002' SET MESSAGE_TEXT = \
             'lockkeeper: {table} at {fence}: a newer leader has taken this target'; \
             END IF; END IF; END",
            number = fence.0,
            table = message(table, 60),
            witness = self.target.witness_prefix(),
        );
        text
    }

    fn qualified(&self, object: &str) -> String {
        self.target.own(object)
    }

    /// Waits until every transaction that was prepared before the barrier stood has ended: one whose connection is
    /// gone holds no lock on a table's definition, and can commit its rows at any time.
    async fn await_prepared(
        &self,
        session: &mut Session,
        deadline: Instant,
        observer: &dyn Observer,
    ) -> Result<(), DbError> {
        let at_first = prepared(session).await?;
        let mut told: Option<Instant> = None;
        loop {
            let now = prepared(session).await?;
            let left: Vec<Blocker> = now
                .into_iter()
                .filter(|xid| at_first.contains(xid))
                .map(prepared_blocker)
                .collect();
            if left.is_empty() {
                return Ok(());
            }
            let what = "prepared transactions (end them with XA COMMIT or XA ROLLBACK)".to_owned();
            if Instant::now() >= deadline {
                return Err(DbError::TimedOut { what, blockers: left });
            }
            if told.is_none_or(|at| at.elapsed() >= Duration::from_millis(900)) {
                told = Some(Instant::now());
                observer.event(Event::Waiting { what, blockers: left });
            }
            sleep(PREPARED_POLL).await;
        }
    }
}

async fn run_one(session: &mut Session, ddl: &Ddl) -> Result<(), Failure> {
    match session.run(&ddl.sql).await {
        Err(failure) if failure.is(NO_SUCH_TABLE) => Ok(()),
        other => other.map(|_| ()),
    }
}

/// The names of all prepared transactions of the server: which database they touched cannot be told.
pub(super) async fn prepared(session: &mut Session) -> Result<Vec<String>, Failure> {
    let rows = session.rows("XA RECOVER").await?;
    Ok(rows
        .into_iter()
        .map(|row| row.into_iter().nth(3).flatten().unwrap_or_default())
        .collect())
}

pub(super) fn prepared_blocker(xid: String) -> Blocker {
    Blocker {
        kind: "prepared transaction".to_owned(),
        id: xid,
        user: None,
        application: None,
        query: None,
        age_ms: 0,
    }
}

async fn set_lock_wait(session: &mut Session, seconds: u64) -> Result<(), Failure> {
    session
        .run(&format!("SET SESSION lock_wait_timeout = {seconds}"))
        .await?;
    Ok(())
}

async fn restore_lock_wait(session: &mut Session, target: &Target) -> Result<(), Failure> {
    set_lock_wait(session, seconds(target.limits.lock_timeout)).await
}

/// Drops triggers whose fence has been opened, and epoch tables of earlier gates. Gives how many are left.
pub(super) async fn drop_opened(
    session: &mut Session,
    target: &Target,
    opened: GateEpoch,
) -> Result<usize, DbError> {
    let rows = session
        .rows(&format!(
            "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = {} \
             AND LEFT(TRIGGER_NAME, 12) = 'lockkeeper_g'",
            literal(&target.database)
        ))
        .await?;
    let names = rows
        .into_iter()
        .filter_map(|row| row.into_iter().next().flatten());
    let mut inert: Vec<String> = names
        .filter(|name| fence_of(name).is_some_and(|fence| fence <= opened))
        .map(|trigger| format!("DROP TRIGGER IF EXISTS {}", target.own(&trigger)))
        .collect();
    let mut earlier = epoch_table::all(session, target).await?;
    earlier.retain(|epoch| *epoch < opened);
    inert.extend(
        earlier
            .into_iter()
            .map(|epoch| epoch_table::drop_statement(target, epoch)),
    );
    set_lock_wait(session, 0).await?;
    let mut left = Vec::new();
    for statement in inert {
        if !drop_one(session, &statement).await? {
            left.push(statement);
        }
    }
    // Once more with the shortest wait, since tables in use are never free at once. One that is not had after that
    // is left for the next call: readers must not pay for tidiness.
    set_lock_wait(session, 1).await?;
    let mut remaining = 0;
    for statement in left {
        if remaining > 0 || !drop_one(session, &statement).await? {
            remaining += 1;
        }
    }
    restore_lock_wait(session, target).await?;
    Ok(remaining)
}

async fn drop_one(session: &mut Session, statement: &str) -> Result<bool, DbError> {
    match session.run(statement).await {
        Ok(_) => Ok(true),
        Err(failure) if failure.is_retryable() => Ok(false),
        Err(failure) => Err(failure.into()),
    }
}

/// The barrier's triggers that are there.
pub(super) async fn objects(session: &mut Session, target: &Target) -> Result<Vec<String>, Failure> {
    let rows = session
        .rows(&format!(
            "SELECT CONCAT('trigger ', TRIGGER_NAME, ' on ', EVENT_OBJECT_TABLE) FROM information_schema.TRIGGERS \
             WHERE TRIGGER_SCHEMA = {} AND LEFT(TRIGGER_NAME, 12) = 'lockkeeper_g' ORDER BY 1",
            literal(&target.database)
        ))
        .await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| row.into_iter().next().flatten())
        .collect())
}

/// Whether any trigger of the fence is there.
pub(super) async fn stands(
    session: &mut Session,
    target: &Target,
    fence: GateEpoch,
) -> Result<bool, Failure> {
    let prefix = prefix(fence);
    session
        .any(&format!(
            "SELECT 1 FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = {} AND LEFT(TRIGGER_NAME, {}) = '{prefix}' LIMIT 1",
            literal(&target.database),
            prefix.len()
        ))
        .await
}
