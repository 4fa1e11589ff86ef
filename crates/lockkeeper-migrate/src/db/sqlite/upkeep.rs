//! Row counts, and the records of backups.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use lockkeeper_core::version::SchemaVersion;
use sqlx::sqlite::SqliteRow;

use super::database::SqliteDatabase;
use super::gate::{self, count, integer, number, optional, signed, text};
use super::lock::{self, Wait};
use super::session::{Mode, Session};
use super::{examine, meta};
use crate::db::{
    BackupRecord, DbError, Finding, GateRow, RecordKind, ServerIdentity, Silent, Snapshot, Upkeep, Verified,
};
use crate::ledger::Tool;

pub(super) const BACKUP_SQL: &str = include_str!("../../../../../migrations/lockkeeper/sqlite-backup.sql");

/// How long a record waits for the write lock.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);

#[async_trait]
impl Upkeep for SqliteDatabase {
    async fn holds_rows(&self) -> Result<bool, DbError> {
        let Some(session) = self.look_if_present().await? else {
            return Ok(false);
        };
        let mut found = false;
        let tables = tables(&session).await?.into_iter();
        for table in tables.filter(|table| !Tool::owns(table)) {
            let sql = format!("SELECT EXISTS (SELECT 1 FROM {}) AS n", quote(&table));
            let rows = session.answer(&sql, None).await?.unwrap_or_default();
            found = found || count(&rows)? > 0;
        }
        session.close().await?;
        Ok(found)
    }

    async fn row_counts(&self) -> Result<BTreeMap<String, u64>, DbError> {
        let Some(session) = self.look_if_present().await? else {
            return Ok(BTreeMap::new());
        };
        let counts = row_counts(&session).await?;
        session.close().await?;
        Ok(counts)
    }

    /// A copy holds its own moment; nobody else can be given it.
    async fn snapshot(&self) -> Result<Option<Box<dyn Snapshot>>, DbError> {
        Ok(None)
    }

    async fn records(&self) -> Result<Vec<BackupRecord>, DbError> {
        let Some(session) = self.look_if_present().await? else {
            return Ok(Vec::new());
        };
        let records = records(&session).await?;
        session.close().await?;
        Ok(records)
    }

    async fn record(&self, record: &BackupRecord) -> Result<(), DbError> {
        let session = Session::open(&self.path, Mode::Change, self.options.connect_timeout).await?;
        let mut wait = Wait::new(&self.path, "the write lock", WRITE_PATIENCE, &Silent);
        lock::begin_immediate(&session, &mut wait).await?;
        meta::ensure(&session, self.options.ledger).await?;
        gate::ensure_row(&session, &gate::identity(&self.path)?).await?;
        session.execute(BACKUP_SQL).await?;
        write(&session, record).await?;
        lock::commit(&session, &mut wait).await?;
        session.close().await
    }

    async fn examine(&self) -> Result<Vec<Finding>, DbError> {
        match self.look_if_present().await? {
            Some(session) => {
                let findings = examine::examine(&session, &self.path).await?;
                session.close().await?;
                Ok(findings)
            }
            None => Ok(Vec::new()),
        }
    }

    async fn adopt_copy(&self) -> Result<(), DbError> {
        let seen = gate::identity(&self.path)?;
        let session = Session::open(&self.path, Mode::Change, self.options.connect_timeout).await?;
        let mut wait = Wait::new(&self.path, "the write lock", WRITE_PATIENCE, &Silent);
        lock::begin_immediate(&session, &mut wait).await?;
        if let Some(row) = gate::read(&session).await?.filter(|row| row.identity != seen) {
            let row = GateRow {
                identity: seen,
                opened: row.gate_epoch,
                executor: None,
                rollout: Some("doctor: adopted as a copy".to_owned()),
                ..row
            };
            gate::write(&session, &row, None).await?;
        }
        lock::commit(&session, &mut wait).await?;
        session.close().await
    }
}

impl SqliteDatabase {
    async fn look_if_present(&self) -> Result<Option<Session>, DbError> {
        if !self.path.exists() {
            return Ok(None);
        }
        self.look().await.map(Some)
    }
}

pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The user's tables. Virtual ones answer from tables that are counted already.
async fn tables(session: &Session) -> Result<Vec<String>, DbError> {
    let sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
               AND name NOT LIKE 'lockkeeper\\_%' ESCAPE '\\' AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name";
    let rows = session.answer(sql, None).await?.unwrap_or_default();
    rows.iter().map(|row| text(row, "name")).collect()
}

async fn row_counts(session: &Session) -> Result<BTreeMap<String, u64>, DbError> {
    let mut counts = BTreeMap::new();
    for table in tables(session).await? {
        let sql = format!("SELECT count(*) AS n FROM {}", quote(&table));
        let rows = session.answer(&sql, None).await?.unwrap_or_default();
        counts.insert(table, u64::try_from(count(&rows)?).unwrap_or(0));
    }
    Ok(counts)
}

async fn records(session: &Session) -> Result<Vec<BackupRecord>, DbError> {
    let there = session
        .answer(
            "SELECT count(*) AS n FROM sqlite_master WHERE name = 'lockkeeper_backup'",
            None,
        )
        .await?
        .unwrap_or_default();
    if count(&there)? == 0 {
        return Ok(Vec::new());
    }
    let sql = "SELECT id, kind, CAST((julianday('now') - julianday(taken_at)) * 86400000 AS integer) AS age, place, \
               size, sha256, version, identity, tool, verified, made_by \
               FROM lockkeeper_backup ORDER BY taken_at DESC, id DESC";
    let rows = session.answer(sql, None).await?.unwrap_or_default();
    rows.iter().map(decode).collect()
}

fn decode(row: &SqliteRow) -> Result<BackupRecord, DbError> {
    Ok(BackupRecord {
        id: text(row, "id")?,
        kind: RecordKind::parse(&text(row, "kind")?),
        age_ms: u64::try_from(integer(row, "age")?).unwrap_or(0),
        place: text(row, "place")?,
        size: number(row, "size")?,
        sha256: text(row, "sha256")?,
        version: optional(row, "version")?.map(SchemaVersion),
        identity: ServerIdentity(text(row, "identity")?),
        tool: text(row, "tool")?,
        verified: Verified::parse(&text(row, "verified")?),
        made_by: text(row, "made_by")?,
    })
}

pub(super) async fn write(session: &Session, record: &BackupRecord) -> Result<(), DbError> {
    let sql = "INSERT OR IGNORE INTO lockkeeper_backup \
               (id, kind, taken_at, place, size, sha256, version, identity, tool, verified, made_by) \
               VALUES (?, ?, strftime('%Y-%m-%d %H:%M:%f', julianday('now') - ? / 86400000.0), ?, ?, ?, ?, ?, ?, ?, ?)";
    let query = sqlx::query(sql)
        .bind(record.id.clone())
        .bind(record.kind.as_str())
        .bind(signed(record.age_ms)?)
        .bind(record.place.clone())
        .bind(signed(record.size)?)
        .bind(record.sha256.clone())
        .bind(record.version.as_ref().map(|version| version.0.clone()))
        .bind(record.identity.0.clone())
        .bind(record.tool.clone())
        .bind(record.verified.as_str())
        .bind(record.made_by.clone());
    session.rows(query).await.map(|_| ())
}
