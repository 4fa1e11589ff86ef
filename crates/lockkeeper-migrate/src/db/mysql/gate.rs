//! The gate row: made, read, and compared with the hand that acts under it.

use lockkeeper_core::epoch::{GateEpoch, LeaderEpoch};
use lockkeeper_core::version::SchemaVersion;

use super::failure::Failure;
use super::meta::Meta;
use super::session::{Row, Session};
use super::target::{Facts, Target, number};
use super::text::literal;
use crate::db::types::other_ledgers_literals;
use crate::db::{DbError, ExecutorId, GateRow, ServerIdentity};
use crate::ledger::format::FORMAT;

/// Lockkeeper's own tables.
const TABLES_SQL: &str = include_str!("../../../../../migrations/lockkeeper/mysql.sql");
/// True for lockkeeper's own tables. No LIKE: its escape depends on `sql_mode`.
pub(super) const IS_OWN: &str = "LEFT(TABLE_NAME, 11) = 'lockkeeper_'";
const TABLES: [&str; 3] = ["lockkeeper_gate", "lockkeeper_ledger", "lockkeeper_journal"];

/// How the row is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    /// As the session's snapshot has it.
    None,
    /// The newest committed row, kept from changing until the transaction ends. Writers that read the row in the
    /// barrier's triggers are not held up by it.
    Share,
    /// The newest committed row, to be changed.
    Update,
}

/// The row, with what the port does not show.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) row: GateRow,
    /// Who runs the executor, for people.
    pub(super) who: Option<String>,
    /// A newer leader has claimed the target and is ending the executor.
    pub(super) superseded: bool,
    /// The connection that holds the executor's witness lock.
    pub(super) witness: Option<u64>,
}

impl Record {
    /// Whether the row still names this hand.
    pub(super) fn names(&self, executor: &ExecutorId, epoch: LeaderEpoch) -> bool {
        self.row.executor.as_ref() == Some(executor) && !self.superseded && self.row.leader_epoch == epoch
    }

    /// Who has the target now, for an error.
    pub(super) fn holder(&self) -> String {
        match &self.row.executor {
            Some(executor) if !self.superseded => format!("{}, {executor}", self.row.leader_epoch),
            _ => self.row.leader_epoch.to_string(),
        }
    }
}

/// Makes the tables and the row where they are missing, and brings older ones up to date. Any number of callers may
/// do this at once.
pub(super) async fn ensure(session: &mut Session, target: &Target, facts: &Facts) -> Result<Meta, DbError> {
    if missing_tables(session, target).await? {
        make_tables(session, target).await?;
        session.run(&Meta::insert(target, target.limits.ledger)).await?;
    }
    let mut meta = Meta::read(session, target).await?;
    if meta.format < FORMAT {
        Meta::upgrade(session, target).await?;
        meta = Meta::read(session, target).await?;
    }
    // Looked at first: the insert would wait for whoever has the row locked.
    let gate = target.own("lockkeeper_gate");
    if !session
        .any(&format!("SELECT 1 FROM {gate} WHERE one = 1"))
        .await?
    {
        session
            .run(&format!(
                "INSERT INTO {gate} (one, identity, changed_at) VALUES (1, {}, UTC_TIMESTAMP(6)) \
                 ON DUPLICATE KEY UPDATE one = 1",
                literal(&facts.identity.0),
            ))
            .await?;
    }
    Ok(meta)
}

pub(super) async fn make_tables(session: &mut Session, target: &Target) -> Result<(), DbError> {
    for statement in statements(TABLES_SQL, "CREATE TABLE") {
        session
            .run(statement)
            .await
            .map_err(|failure| creating(failure, target))?;
    }
    Ok(())
}

/// The statements of a script of our own that hold `word`: one each, since the server takes no more at once.
pub(super) fn statements<'a>(script: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    script.split(";\n").filter(move |s| s.contains(word))
}

/// Whether one of lockkeeper's oldest tables is missing: then none has ever been here.
pub(super) async fn missing_tables(session: &mut Session, target: &Target) -> Result<bool, Failure> {
    let there = session
        .rows(&format!(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND {IS_OWN}",
            literal(&target.database)
        ))
        .await?;
    let has = |table: &str| {
        there
            .iter()
            .any(|row| row.first().is_some_and(|n| n.as_deref() == Some(table)))
    };
    Ok(!TABLES.iter().all(|table| has(table)))
}

/// The tables of other migrators that are here.
pub(super) async fn other_ledgers(session: &mut Session, target: &Target) -> Result<Vec<String>, Failure> {
    let rows = session
        .rows(&format!(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME IN ({}) \
             ORDER BY 1",
            literal(&target.database),
            other_ledgers_literals()
        ))
        .await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| row.into_iter().next().flatten())
        .collect())
}

fn creating(failure: Failure, target: &Target) -> DbError {
    if failure.is_denied() {
        return DbError::Permission {
            what: failure.to_string(),
            remedy: format!(
                "run `GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, REFERENCES, TRIGGER ON {}.* TO` \
                 lockkeeper's role",
                super::text::name(&target.database)
            ),
        };
    }
    failure.into()
}

/// Reads the row; `None` when there is none.
pub(super) async fn read(
    session: &mut Session,
    target: &Target,
    lock: Lock,
) -> Result<Option<Record>, Failure> {
    let sql = select(target, lock);
    Ok(session.row(&sql).await?.map(record))
}

/// The statement that reads the row.
fn select(target: &Target, lock: Lock) -> String {
    let lock = match lock {
        Lock::None => "",
        Lock::Share => " LOCK IN SHARE MODE",
        Lock::Update => " FOR UPDATE",
    };
    format!(
        "SELECT identity, generation, revision, leader_id, gate_epoch, opened, version, executor_session, \
         executor_started, executor_who, superseded, rollout, \
         IS_USED_LOCK(CONCAT('{}', IFNULL(executor_started, 'nobody'))) FROM {} WHERE one = 1{lock}",
        target.witness_prefix(),
        target.own("lockkeeper_gate"),
    )
}

/// Begins a transaction and reads the row in it so that it cannot change, in one message.
pub(super) async fn begin(session: &mut Session, target: &Target) -> Result<Record, DbError> {
    let sql = format!("START TRANSACTION; {}", select(target, Lock::Share));
    session.row(&sql).await?.map(record).ok_or_else(missing)
}

/// As [`read`], where lockkeeper's tables are known to be there.
pub(super) async fn read_present(
    session: &mut Session,
    target: &Target,
    lock: Lock,
) -> Result<Record, DbError> {
    read(session, target, lock).await?.ok_or_else(missing)
}

fn missing() -> DbError {
    DbError::ForeignTable {
        table: "lockkeeper_gate".to_owned(),
        detail:
            "its row was deleted: nobody can tell which fence stood; look at the triggers named lockkeeper_g*"
                .to_owned(),
    }
}

fn record(columns: Row) -> Record {
    let mut columns = columns.into_iter();
    let mut text = || columns.next().flatten();
    let identity = ServerIdentity(text().unwrap_or_default());
    let mut count = || number(&text().unwrap_or_default());
    let leader_epoch = LeaderEpoch {
        generation: count(),
        revision: count(),
    };
    let leader_id = text().and_then(|id| id.parse().ok());
    let mut count = || number(&text().unwrap_or_default());
    let (gate_epoch, opened) = (GateEpoch(count()), GateEpoch(count()));
    let version = text().map(SchemaVersion);
    let (session, started, who) = (text(), text(), text());
    let superseded = text().as_deref() == Some("1");
    let rollout = text();
    let witness = text().map(|id| number(&id));
    let executor = session
        .zip(started)
        .map(|(session, started)| ExecutorId { session, started });
    let row = GateRow {
        identity,
        leader_epoch,
        leader_id,
        gate_epoch,
        opened,
        version,
        executor,
        rollout,
    };
    Record {
        row,
        who,
        superseded,
        witness,
    }
}

/// Refuses when the row no longer names this hand, or was written on another server.
pub(super) fn check(
    record: &Record,
    executor: &ExecutorId,
    epoch: LeaderEpoch,
    facts: &Facts,
) -> Result<(), DbError> {
    if record.row.identity != facts.identity {
        return Err(DbError::IdentityChanged {
            recorded: record.row.identity.clone(),
            seen: facts.identity.clone(),
        });
    }
    if !record.names(executor, epoch) {
        return Err(DbError::Superseded { by: record.holder() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(superseded: &str) -> Row {
        let texts = [
            "id", "1", "42", "", "8", "7", "v3", "17", "170.ab", "me", superseded, "r1", "17",
        ];
        texts
            .iter()
            .map(|text| (!text.is_empty()).then(|| (*text).to_owned()))
            .collect()
    }

    #[test]
    fn a_claimed_executor_is_no_longer_named() {
        let epoch = LeaderEpoch {
            generation: 1,
            revision: 42,
        };
        let executor = ExecutorId {
            session: "17".to_owned(),
            started: "170.ab".to_owned(),
        };
        assert!(record(columns("0")).names(&executor, epoch));
        assert!(!record(columns("1")).names(&executor, epoch));
        assert!(!record(columns("0")).names(
            &executor,
            LeaderEpoch {
                generation: 1,
                revision: 41
            }
        ));
        assert!(record(columns("0")).row.is_closed());
    }

    #[test]
    fn each_table_is_one_statement() {
        // The two of format 2 come on top.
        assert_eq!(statements(TABLES_SQL, "CREATE TABLE").count(), TABLES.len() + 2);
    }
}
