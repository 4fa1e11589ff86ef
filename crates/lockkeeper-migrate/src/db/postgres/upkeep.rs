//! Row counts, snapshots, and the records of backups.

use std::collections::BTreeMap;

use async_trait::async_trait;
use lockkeeper_core::version::SchemaVersion;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::barrier::USER_TABLES;
use super::schema::{self, Names};
use super::session::{Session, db_error, quote, run};
use super::take::signed;
use super::{Postgres, examine};
use crate::db::{BackupRecord, DbError, Finding, RecordKind, ServerIdentity, Snapshot, Upkeep, Verified};
use crate::ledger::{LedgerChoice, Tool};

pub(super) const BACKUP_SQL: &str = include_str!("../../../../../migrations/lockkeeper/postgres-backup.sql");

#[async_trait]
impl Upkeep for Postgres {
    async fn holds_rows(&self) -> Result<bool, DbError> {
        let mut session = self.connector.connect().await?;
        let found = holds_rows(&mut session.conn).await;
        session.close().await;
        found
    }

    async fn row_counts(&self) -> Result<BTreeMap<String, u64>, DbError> {
        let mut session = self.connector.connect().await?;
        let counts = row_counts(&mut session.conn).await;
        session.close().await;
        counts
    }

    async fn snapshot(&self) -> Result<Option<Box<dyn Snapshot>>, DbError> {
        let mut session = self.connector.connect().await?;
        run(
            &mut session.conn,
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        )
        .await?;
        let name = sqlx::query_scalar("SELECT pg_export_snapshot()")
            .fetch_one(&mut session.conn)
            .await
            .map_err(db_error)?;
        Ok(Some(Box::new(PgSnapshot { session, name })))
    }

    async fn records(&self) -> Result<Vec<BackupRecord>, DbError> {
        let mut session = self.connector.connect().await?;
        let records = records(&mut session.conn).await;
        session.close().await;
        records
    }

    async fn record(&self, record: &BackupRecord) -> Result<(), DbError> {
        let mut session = self.connector.connect().await?;
        let done = write(&mut session.conn, record, self.connector.settings.ledger).await;
        session.close().await;
        done
    }

    async fn examine(&self) -> Result<Vec<Finding>, DbError> {
        let mut session = self.connector.connect().await?;
        let findings = examine::examine(&mut session.conn, self.connector.locality).await;
        session.close().await;
        findings
    }

    async fn adopt_copy(&self) -> Result<(), DbError> {
        let mut session = self.connector.connect().await?;
        let done = adopt_copy(&mut session.conn).await;
        session.close().await;
        done
    }
}

/// One guarded update: what another server's row says of a fence or an executor means nothing here.
async fn adopt_copy(conn: &mut PgConnection) -> Result<(), DbError> {
    let Some(names) = schema::find(conn, LedgerChoice::Own).await? else {
        return Ok(());
    };
    let update = format!(
        "UPDATE {} SET identity = $1, opened = gate_epoch, executor_session = NULL, executor_started = NULL, \
         executor_who = NULL, rollout = 'doctor: adopted as a copy', changed_at = now() WHERE identity <> $1",
        names.gate
    );
    let seen = super::identity::identity(conn).await?;
    let updated = sqlx::query(AssertSqlSafe(update))
        .bind(seen.0)
        .execute(conn)
        .await;
    updated.map(|_| ()).map_err(db_error)
}

#[derive(Debug)]
struct PgSnapshot {
    session: Session,
    name: String,
}

#[async_trait]
impl Snapshot for PgSnapshot {
    fn name(&self) -> &str {
        &self.name
    }

    async fn row_counts(&mut self) -> Result<BTreeMap<String, u64>, DbError> {
        row_counts(&mut self.session.conn).await
    }
}

/// Schema and name of every user table that holds rows of its own.
async fn tables(conn: &mut PgConnection) -> Result<Vec<(String, String)>, DbError> {
    let own_schema = own_schema(conn).await?;
    let query = format!(
        "SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE {USER_TABLES} AND c.relkind = 'r' ORDER BY 1, 2"
    );
    let rows = sqlx::query(AssertSqlSafe(query))
        .bind(own_schema)
        .fetch_all(conn)
        .await
        .map_err(db_error)?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Where lockkeeper's tables are, or would be.
async fn own_schema(conn: &mut PgConnection) -> Result<String, DbError> {
    Ok(schema::find(conn, LedgerChoice::Own)
        .await?
        .map_or_else(|| "public".to_owned(), |names| names.schema))
}

async fn holds_rows(conn: &mut PgConnection) -> Result<bool, DbError> {
    let tables = tables(conn).await?.into_iter();
    for (schema, table) in tables.filter(|(_, table)| !Tool::owns(table)) {
        let query = format!("SELECT EXISTS (SELECT FROM {}.{})", quote(&schema), quote(&table));
        let any: bool = sqlx::query_scalar(AssertSqlSafe(query))
            .fetch_one(&mut *conn)
            .await
            .map_err(db_error)?;
        if any {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn row_counts(conn: &mut PgConnection) -> Result<BTreeMap<String, u64>, DbError> {
    let mut counts = BTreeMap::new();
    for (schema, table) in tables(conn).await? {
        let query = format!("SELECT count(*) FROM ONLY {}.{}", quote(&schema), quote(&table));
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(query))
            .fetch_one(&mut *conn)
            .await
            .map_err(db_error)?;
        counts.insert(format!("{schema}.{table}"), u64::try_from(count).unwrap_or(0));
    }
    Ok(counts)
}

/// Whether the table of records is there.
pub(super) async fn has_records(conn: &mut PgConnection, names: &Names) -> Result<bool, DbError> {
    sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(names.own("lockkeeper_backup"))
        .fetch_one(conn)
        .await
        .map_err(db_error)
}

async fn records(conn: &mut PgConnection) -> Result<Vec<BackupRecord>, DbError> {
    let Some(names) = schema::find(conn, LedgerChoice::Own).await? else {
        return Ok(Vec::new());
    };
    if !has_records(conn, &names).await? {
        return Ok(Vec::new());
    }
    let query = format!(
        "SELECT id, kind, (extract(epoch FROM clock_timestamp() - taken_at) * 1000)::bigint, place, size, sha256, \
                version, identity, tool, verified, made_by \
         FROM {} ORDER BY taken_at DESC, id DESC",
        names.own("lockkeeper_backup")
    );
    let rows = sqlx::query(AssertSqlSafe(query))
        .fetch_all(conn)
        .await
        .map_err(db_error)?;
    Ok(rows.iter().map(decode).collect())
}

fn decode(row: &PgRow) -> BackupRecord {
    let number = |column: usize| u64::try_from(row.get::<i64, _>(column)).unwrap_or(0);
    BackupRecord {
        id: row.get(0),
        kind: RecordKind::parse(row.get(1)),
        age_ms: number(2),
        place: row.get(3),
        size: number(4),
        sha256: row.get(5),
        version: row.get::<Option<String>, _>(6).map(SchemaVersion),
        identity: ServerIdentity(row.get(7)),
        tool: row.get(8),
        verified: Verified::parse(row.get(9)),
        made_by: row.get(10),
    }
}

async fn write(conn: &mut PgConnection, record: &BackupRecord, ledger: LedgerChoice) -> Result<(), DbError> {
    let names = schema::ensure(conn, ledger, tokio::time::Instant::now()).await?;
    if !has_records(conn, &names).await? {
        let path = format!("SET search_path = {}", quote(&names.schema));
        run(conn, path).await?;
        run(conn, "SET client_min_messages = warning").await?;
        run(conn, BACKUP_SQL).await?;
    }
    let insert = format!(
        "INSERT INTO {} (id, kind, taken_at, place, size, sha256, version, identity, tool, verified, made_by) \
         VALUES ($1, $2, clock_timestamp() - $3 * interval '1 millisecond', $4, $5, $6, $7, $8, $9, $10, $11) \
         ON CONFLICT DO NOTHING",
        names.own("lockkeeper_backup")
    );
    sqlx::query(AssertSqlSafe(insert))
        .bind(&record.id)
        .bind(record.kind.as_str())
        .bind(signed(record.age_ms))
        .bind(&record.place)
        .bind(signed(record.size))
        .bind(&record.sha256)
        .bind(record.version.as_ref().map(|version| version.0.clone()))
        .bind(&record.identity.0)
        .bind(&record.tool)
        .bind(record.verified.as_str())
        .bind(&record.made_by)
        .execute(conn)
        .await
        .map_err(db_error)?;
    Ok(())
}
