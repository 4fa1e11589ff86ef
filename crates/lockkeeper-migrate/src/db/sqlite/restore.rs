//! A copy of a backup, put right before it takes the place of the database.

use lockkeeper_core::epoch::GateEpoch;
use sqlx::Row;

use super::database::SqliteDatabase;
use super::session::{Mode, Session};
use super::upkeep::{BACKUP_SQL, quote, write};
use super::{gate, meta};
use crate::db::{BackupRecord, DbError, GateRow, ServerIdentity};

impl SqliteDatabase {
    /// Puts this copy right: `before` is the row of the database that it will replace, `kept` that one's records.
    pub(crate) async fn settle_copy(
        &self,
        before: &GateRow,
        identity: &ServerIdentity,
        kept: &[BackupRecord],
        record: &BackupRecord,
        reason: &str,
    ) -> Result<(), DbError> {
        let session = Session::open(&self.path, Mode::Change, self.options.connect_timeout).await?;
        session.execute("BEGIN IMMEDIATE").await?;
        drop_barrier(&session).await?;
        meta::ensure(&session, self.options.ledger).await?;
        gate::ensure_row(&session, identity).await?;
        let row = gate::read_row(&session).await?;
        let row = settled(row, before, identity, newest(&session).await?, reason);
        gate::write(&session, &row, None).await?;
        session.execute(BACKUP_SQL).await?;
        for kept in kept {
            write(&session, kept).await?;
        }
        let version = row.version.clone();
        write(
            &session,
            &BackupRecord {
                version,
                ..record.clone()
            },
        )
        .await?;
        session.execute("COMMIT").await?;
        session.close().await
    }
}

/// This file's again, open, with no executor, and with the larger one of each pair of epochs.
fn settled(
    row: GateRow,
    before: &GateRow,
    identity: &ServerIdentity,
    version: Option<String>,
    reason: &str,
) -> GateRow {
    let gate_epoch: GateEpoch = row.gate_epoch.max(before.gate_epoch);
    let leader = if row.leader_epoch > before.leader_epoch {
        &row
    } else {
        before
    };
    GateRow {
        identity: identity.clone(),
        leader_epoch: leader.leader_epoch,
        leader_id: leader.leader_id,
        gate_epoch,
        opened: gate_epoch,
        version: version.map(lockkeeper_core::version::SchemaVersion),
        executor: None,
        rollout: Some(reason.to_owned()),
    }
}

async fn newest(session: &Session) -> Result<Option<String>, DbError> {
    let sql = "SELECT version FROM lockkeeper_ledger ORDER BY applied_at DESC, rowid DESC LIMIT 1";
    let rows = session.answer(sql, None).await?.unwrap_or_default();
    Ok(rows.first().map(|row| row.get("version")))
}

/// Lockkeeper makes no triggers on SQLite; a copy from elsewhere may have some of its name.
async fn drop_barrier(session: &Session) -> Result<(), DbError> {
    let sql = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND name GLOB 'lockkeeper_g[0-9]*'";
    for row in session.answer(sql, None).await?.unwrap_or_default() {
        let drop = format!("DROP TRIGGER {}", quote(&gate::text(&row, "name")?));
        session.execute(&drop).await?;
    }
    Ok(())
}
