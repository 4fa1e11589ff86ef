//! What all dialects share: looking at everything first, taking the target, the record.

use lockkeeper_core::version::SchemaVersion;
use uuid::Uuid;

use super::order::RestoreOrder;
use crate::backup::dump::release;
use crate::backup::error::{BackupError, RestoreFailure};
use crate::backup::{check, file};
use crate::db::{
    self, BackupRecord, Claim, Database, Hand, Inspection, Observer, RecordKind, TakeError, Upkeep, Verified,
};
use crate::dialect::Dialect;
use crate::dump_tools::{Program, Tool, ToolError, find};

/// What stands in the gate row during a restore and, on MariaDB and MySQL, after one that was cut off.
pub(crate) const REASON: &str = "restore of ";

pub(super) struct Restoring<'a> {
    pub(super) order: &'a RestoreOrder<'a>,
    pub(super) observer: &'a dyn Observer,
    pub(super) database: Box<dyn Database>,
    pub(super) upkeep: Box<dyn Upkeep>,
    pub(super) before: Inspection,
    pub(super) record: BackupRecord,
    pub(super) known: bool,
}

impl<'a> Restoring<'a> {
    /// Looks at everything that can be looked at before anything is touched.
    pub(super) async fn prepare(
        order: &'a RestoreOrder<'a>,
        observer: &'a dyn Observer,
    ) -> Result<Self, RestoreFailure> {
        refuse_itself(order)?;
        let content = file::content(order.file).await?;
        let database = db::open(order.dsn, order.options.clone());
        let upkeep = db::upkeep(order.dsn, order.options.clone());
        let before = database.inspect().await?;
        match order.dsn.dialect() {
            Dialect::Postgres | Dialect::MySql => {
                let dialect = order.dsn.dialect();
                check::readable(dialect, &before.server, order.file, order.limit, observer).await?;
            }
            // Looking at one changes it: its copy is looked at.
            Dialect::Sqlite => {}
        }
        let records = upkeep.records().await?;
        let record = BackupRecord {
            id: Uuid::now_v7().to_string(),
            kind: RecordKind::Restore,
            age_ms: 0,
            place: format!("{}:{}", file::host(), order.file.display()),
            size: content.size,
            version: None,
            identity: before.identity.clone(),
            tool: before.server.clone(),
            verified: Verified::Readable,
            made_by: order.who.to_owned(),
            sha256: content.sha256,
        };
        let known = records.iter().any(|known| known.sha256 == record.sha256);
        Ok(Self {
            order,
            observer,
            database,
            upkeep,
            before,
            record,
            known,
        })
    }

    pub(super) fn reason(&self) -> String {
        let name = self.order.file.file_name().unwrap_or_default();
        format!("{REASON}{}", name.to_string_lossy())
    }

    /// Refuses a closed gate, and waits for another executor that lives.
    pub(super) async fn take(&self) -> Result<Box<dyn Hand>, TakeError> {
        let claim = Claim::Standalone {
            who: format!("{}, {}", self.order.who, self.reason()),
        };
        self.database
            .take(&claim, self.order.patience, self.observer)
            .await
    }

    pub(super) async fn tool(&self, program: Program) -> Result<Tool, ToolError> {
        find(program, release(&self.before.server)).await
    }
}

fn refuse_itself(order: &RestoreOrder<'_>) -> Result<(), BackupError> {
    let real = |path: &std::path::Path| path.canonicalize().ok();
    if order
        .dsn
        .path()
        .is_some_and(|path| real(path).is_some() && real(path) == real(order.file))
    {
        return Err(BackupError::Usage(
            "the file to restore is the database itself".to_owned(),
        ));
    }
    Ok(())
}

/// The newest version of a ledger, as text.
pub(super) fn version_of(inspection: &Inspection) -> Option<String> {
    let version = inspection.ledger.last().map(|entry| &entry.version);
    version.map(SchemaVersion::to_string)
}
