//! Row counts, and the records of backups.

use std::collections::BTreeMap;

use async_trait::async_trait;
use lockkeeper_core::version::SchemaVersion;

use super::database::MySqlDatabase;
use super::examine;
use super::failure::Failure;
use super::gate::{self, IS_OWN};
use super::session::{Row, Session};
use super::target::{Target, number};
use super::text::{literal, literal_or_null, name};
use crate::db::{BackupRecord, DbError, Finding, RecordKind, ServerIdentity, Snapshot, Upkeep, Verified};
use crate::ledger::Tool;

const BACKUP_SQL: &str = include_str!("../../../../../migrations/lockkeeper/mysql-backup.sql");

#[async_trait]
impl Upkeep for MySqlDatabase {
    async fn holds_rows(&self) -> Result<bool, DbError> {
        let (mut session, _) = self.session().await?;
        let found = holds_rows(&mut session, &self.target).await;
        session.close().await;
        Ok(found?)
    }

    async fn row_counts(&self) -> Result<BTreeMap<String, u64>, DbError> {
        let (mut session, _) = self.session().await?;
        let counts = row_counts(&mut session, &self.target).await;
        session.close().await;
        Ok(counts?)
    }

    /// No two sessions of these servers can be given the same moment without a lock on everything.
    async fn snapshot(&self) -> Result<Option<Box<dyn Snapshot>>, DbError> {
        Ok(None)
    }

    async fn records(&self) -> Result<Vec<BackupRecord>, DbError> {
        let (mut session, _) = self.session().await?;
        let records = records(&mut session, &self.target).await;
        session.close().await;
        Ok(records?)
    }

    async fn record(&self, record: &BackupRecord) -> Result<(), DbError> {
        let (mut session, facts) = self.session().await?;
        gate::ensure(&mut session, &self.target, &facts).await?;
        let done = write(&mut session, &self.target, record).await;
        session.close().await;
        Ok(done?)
    }

    async fn examine(&self) -> Result<Vec<Finding>, DbError> {
        let (mut session, facts) = self.session().await?;
        let findings = examine::examine(&mut session, &self.target, &facts).await;
        session.close().await;
        Ok(findings?)
    }

    async fn adopt_copy(&self) -> Result<(), DbError> {
        let (mut session, facts) = self.session().await?;
        let done = match gate::missing_tables(&mut session, &self.target).await {
            Ok(false) => session
                .run(&adoption(&self.target, &facts.identity))
                .await
                .map(|_| ()),
            Ok(true) => Ok(()),
            Err(failure) => Err(failure),
        };
        session.close().await;
        Ok(done?)
    }
}

/// What another server's row says of a fence or an executor means nothing here.
fn adoption(target: &Target, identity: &ServerIdentity) -> String {
    format!(
        "UPDATE {} SET identity = {seen}, opened = gate_epoch, executor_session = NULL, executor_started = NULL, \
         executor_who = NULL, superseded = 0, rollout = 'doctor: adopted as a copy', changed_at = UTC_TIMESTAMP(6) \
         WHERE one = 1 AND identity <> {seen}",
        target.own("lockkeeper_gate"),
        seen = literal(&identity.0)
    )
}

async fn tables(session: &mut Session, target: &Target) -> Result<Vec<String>, Failure> {
    let rows = session
        .rows(&format!(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} \
             AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') AND NOT {IS_OWN} ORDER BY 1",
            literal(&target.database)
        ))
        .await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| row.into_iter().next().flatten())
        .collect())
}

async fn holds_rows(session: &mut Session, target: &Target) -> Result<bool, Failure> {
    let tables = tables(session, target).await?.into_iter();
    for table in tables.filter(|table| !Tool::owns(table)) {
        if session
            .any(&format!("SELECT 1 FROM {} LIMIT 1", target.own(&table)))
            .await?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn row_counts(session: &mut Session, target: &Target) -> Result<BTreeMap<String, u64>, Failure> {
    let mut counts = BTreeMap::new();
    for table in tables(session, target).await? {
        let count = session
            .value(&format!("SELECT COUNT(*) FROM {}", target.own(&table)))
            .await?;
        counts.insert(table, number(&count.unwrap_or_default()));
    }
    Ok(counts)
}

async fn has_records(session: &mut Session, target: &Target) -> Result<bool, Failure> {
    session
        .any(&format!(
            "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = 'lockkeeper_backup'",
            literal(&target.database)
        ))
        .await
}

async fn records(session: &mut Session, target: &Target) -> Result<Vec<BackupRecord>, Failure> {
    if !has_records(session, target).await? {
        return Ok(Vec::new());
    }
    let rows = session
        .rows(&format!(
            "SELECT id, kind, GREATEST(0, TIMESTAMPDIFF(MICROSECOND, taken_at, UTC_TIMESTAMP(6)) DIV 1000), place, \
             size, sha256, version, identity, tool, verified, made_by FROM {} ORDER BY taken_at DESC, id DESC",
            target.own("lockkeeper_backup")
        ))
        .await?;
    Ok(rows.into_iter().map(decode).collect())
}

fn decode(row: Row) -> BackupRecord {
    let mut columns = row.into_iter();
    let mut optional = || columns.next().flatten();
    let mut text = || optional().unwrap_or_default();
    let (id, kind, age, place, size, sha256) = (text(), text(), text(), text(), text(), text());
    let version = optional().map(SchemaVersion);
    let mut text = || optional().unwrap_or_default();
    BackupRecord {
        id,
        kind: RecordKind::parse(&kind),
        age_ms: number(&age),
        place,
        size: number(&size),
        sha256,
        version,
        identity: ServerIdentity(text()),
        tool: text(),
        verified: Verified::parse(&text()),
        made_by: text(),
    }
}

async fn write(session: &mut Session, target: &Target, record: &BackupRecord) -> Result<(), Failure> {
    if !has_records(session, target).await? {
        session.run(&format!("USE {}", name(&target.database))).await?;
        session.run(BACKUP_SQL).await?;
    }
    let sql = format!(
        "INSERT IGNORE INTO {} (id, kind, taken_at, place, size, sha256, version, identity, tool, verified, made_by) \
         VALUES ({}, {}, UTC_TIMESTAMP(6) - INTERVAL {} MICROSECOND, {}, {}, {}, {}, {}, {}, {}, {})",
        target.own("lockkeeper_backup"),
        literal(&record.id),
        literal(record.kind.as_str()),
        record.age_ms.saturating_mul(1000),
        literal(&record.place),
        record.size,
        literal(&record.sha256),
        literal_or_null(record.version.as_ref().map(|version| version.0.as_str())),
        literal(&record.identity.0),
        literal(&record.tool),
        literal(record.verified.as_str()),
        literal(&record.made_by),
    );
    session.run(&sql).await?;
    Ok(())
}
