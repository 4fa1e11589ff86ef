//! What each statement locked and wrote anew, for rehearsals.
//!
//! A transaction keeps its locks, so what a statement took is what is held after it and was not before. A statement
//! that no transaction can hold gives its locks back before it ends: another session looks at it while it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection, Row};
use tokio::time::{Instant, sleep};

use super::apply::{Failure, run_counted, tell};
use super::session::{Connector, Session, db_error};
use crate::db::measure::{Blocks, Effects, Evidence, LockTaken, Rewritten};
use crate::db::{DbError, Event, ExecutorId, Observer};
use crate::sql::{Statement, StatementKind};

/// Pause between two looks at a statement that runs.
const SAMPLE_EVERY: Duration = Duration::from_millis(2);

/// The relations of users, by object id: what can be locked and written anew.
const RELATIONS: &str = "SELECT c.oid::bigint, format('%I.%I', n.nspname, c.relname), c.relfilenode::bigint \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relname NOT LIKE 'lockkeeper\\_%'";

/// Locks on relations of this database that a session holds.
const LOCKS: &str = "SELECT l.relation::bigint, l.mode FROM pg_locks l \
     JOIN pg_database d ON d.oid = l.database AND d.datname = current_database() \
     WHERE l.locktype = 'relation' AND l.granted AND l.pid = ";

type Relations = BTreeMap<i64, Relation>;
type Locks = BTreeSet<(i64, String)>;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Relation {
    name: String,
    /// Changes when the storage is written anew; 0 for what has none.
    file: i64,
}

/// The database at one moment, as the measured transaction sees it.
#[derive(Debug, Clone)]
struct Scene {
    relations: Relations,
    locks: Locks,
}

impl Scene {
    async fn look(conn: &mut PgConnection) -> Result<Self, DbError> {
        Ok(Self {
            relations: relations(conn).await?,
            locks: locks(conn, "pg_backend_pid()").await?,
        })
    }
}

/// Where statements stand in their script.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// All of the script's.
    pub(super) script: &'a [Statement],
    /// The position of the first that is run here, from 0.
    pub(super) first: usize,
}

/// Runs statements in the open transaction of `conn`, and tells what each did.
pub(super) async fn run_statements(
    conn: &mut PgConnection,
    statements: &[Statement],
    place: Place<'_>,
    observer: &dyn Observer,
) -> Result<(), Failure> {
    let start = Scene::look(conn).await?;
    let mut before = start.clone();
    for (at, statement) in statements.iter().enumerate() {
        let position = place.first + at;
        tell(observer, place.script, position);
        let began = Instant::now();
        let count = run_counted(conn, statement).await?;
        let duration = began.elapsed();
        let after = Scene::look(conn).await?;
        let effects = Effects {
            duration,
            rows: rows(statement, count),
            locks: locks_taken(&start, &before.locks, &after.locks),
            rewritten: rewritten(&start.relations, &before.relations, &after.relations),
            algorithm: None,
        };
        observer.event(Event::Measured(effects.of(position, statement)));
        before = after;
    }
    Ok(())
}

/// Runs a statement that no transaction can hold, and tells what it did.
pub(super) async fn run_bare(
    conn: &mut PgConnection,
    statement: &Statement,
    position: usize,
    watcher: Watcher<'_>,
    observer: &dyn Observer,
) -> Result<(), Failure> {
    let mut session = watcher.connector.connect().await?;
    let before = relations(&mut session.conn).await?;
    let began = Instant::now();
    let (count, sampled) = watcher.over(&mut session, run_counted(conn, statement)).await;
    let duration = began.elapsed();
    let after = relations(&mut session.conn).await;
    session.close().await;
    let (count, after) = (count?, after?);
    let mut locks = named(&before, &sampled, Evidence::Sampled);
    if locks.is_empty() {
        locks.extend(documented(statement));
    }
    let effects = Effects {
        duration,
        rows: rows(statement, count),
        locks,
        rewritten: rewritten(&before, &before, &after),
        algorithm: None,
    };
    observer.event(Event::Measured(effects.of(position, statement)));
    Ok(())
}

/// Looks at a session from another one.
#[derive(Clone, Copy)]
pub(super) struct Watcher<'a> {
    pub(super) connector: &'a Connector,
    pub(super) executor: &'a ExecutorId,
}

impl Watcher<'_> {
    async fn over<T>(self, session: &mut Session, work: impl Future<Output = T>) -> (T, Locks) {
        let mut seen = Locks::new();
        let mut work = std::pin::pin!(work);
        loop {
            let looking = async {
                sleep(SAMPLE_EVERY).await;
                locks(&mut session.conn, &self.executor.session).await
            };
            tokio::select! {
                biased;
                result = &mut work => return (result, seen),
                // Looking is a help: when it fails, less is known.
                looked = looking => seen.extend(looked.unwrap_or_default()),
            }
        }
    }
}

async fn relations(conn: &mut PgConnection) -> Result<Relations, DbError> {
    let rows = sqlx::query(RELATIONS).fetch_all(conn).await.map_err(db_error)?;
    let relation = |row: &sqlx::postgres::PgRow| {
        let (name, file) = (row.get(1), row.get(2));
        (row.get(0), Relation { name, file })
    };
    Ok(rows.iter().map(relation).collect())
}

async fn locks(conn: &mut PgConnection, pid: &str) -> Result<Locks, DbError> {
    let query = format!("{LOCKS}{pid}");
    let rows = sqlx::query(AssertSqlSafe(query))
        .fetch_all(conn)
        .await
        .map_err(db_error)?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// The locks that are new, on what was there when the transaction began.
fn locks_taken(start: &Scene, before: &Locks, after: &Locks) -> Vec<LockTaken> {
    let new = after.difference(before).cloned().collect();
    named(&start.relations, &new, Evidence::Seen)
}

fn named(relations: &Relations, locks: &Locks, evidence: Evidence) -> Vec<LockTaken> {
    let taken = locks.iter().filter_map(|(relation, mode)| {
        Some(LockTaken {
            blocks: blocks(mode),
            mode: mode.clone(),
            object: relations.get(relation)?.name.clone(),
            evidence,
        })
    });
    taken.collect()
}

/// What was there when the transaction began, and has other storage since the statement.
fn rewritten(start: &Relations, before: &Relations, after: &Relations) -> Vec<Rewritten> {
    let written = after.iter().filter(|(oid, relation)| {
        start.contains_key(oid) && before.get(oid).is_some_and(|before| before.file != relation.file)
    });
    written
        .map(|(_, relation)| Rewritten {
            object: relation.name.clone(),
            evidence: Evidence::Seen,
        })
        .collect()
}

fn blocks(mode: &str) -> Blocks {
    match mode {
        "AccessExclusiveLock" => Blocks::ReadsAndWrites,
        "ShareLock" | "ShareRowExclusiveLock" | "ExclusiveLock" => Blocks::Writes,
        "ShareUpdateExclusiveLock" => Blocks::SchemaChanges,
        _ => Blocks::Nothing,
    }
}

/// What the manual says of statements that came to their end before anybody could look.
fn documented(statement: &Statement) -> Option<LockTaken> {
    let StatementKind::NonTransactional { what } = statement.kind else {
        return None;
    };
    (what.contains("CONCURRENTLY") || what == "VACUUM").then(|| LockTaken {
        blocks: Blocks::SchemaChanges,
        mode: "ShareUpdateExclusiveLock".to_owned(),
        object: "its table".to_owned(),
        evidence: Evidence::Documented,
    })
}

/// The server counts rows of what changes them, and of what copies them.
fn rows(statement: &Statement, count: u64) -> Option<u64> {
    (statement.kind == StatementKind::RowChange || count > 0).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relations(of: &[(i64, &str, i64)]) -> Relations {
        let relation = |(oid, name, file): &(i64, &str, i64)| {
            let name = (*name).to_owned();
            (*oid, Relation { name, file: *file })
        };
        of.iter().map(relation).collect()
    }

    #[test]
    fn new_tables_count_neither_as_locked_nor_as_rewritten() {
        let start = Scene {
            relations: relations(&[(1, "public.old", 10)]),
            locks: Locks::new(),
        };
        let after = relations(&[(1, "public.old", 11), (2, "public.new", 12)]);
        let taken = Locks::from([
            (1, "AccessExclusiveLock".to_owned()),
            (2, "AccessExclusiveLock".to_owned()),
        ]);
        let locks = locks_taken(&start, &start.locks, &taken);
        assert_eq!(locks.len(), 1);
        assert_eq!(
            (locks[0].object.as_str(), locks[0].blocks),
            ("public.old", Blocks::ReadsAndWrites)
        );
        let before = relations(&[(1, "public.old", 10), (2, "public.new", 9)]);
        let anew = rewritten(&start.relations, &before, &after);
        assert_eq!(anew.len(), 1, "{anew:?}");
        assert_eq!(anew[0].object, "public.old");
    }
}
