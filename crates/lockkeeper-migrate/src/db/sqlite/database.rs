//! An SQLite file as seen from outside.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;

use super::book::ToolTable;
use super::ledger::Book;
use super::lock::Wait;
use super::session::{self, Mode, Session};
use super::{catalogue, gate, holders, ledger, meta, take, verify, witness};
use crate::db::types::other_ledgers_literals;
use crate::db::{
    Blocker, Books, Claim, Database, DatabaseOptions, DbError, ExecutorId, Finding, FindingLevel, Hand,
    Inspection, Observer, ServerIdentity, Silent, TakeError, VerifyOutcome,
};
use crate::dialect::Dialect;
use crate::fingerprint::Schema;
use crate::ledger::LedgerEntry;
use crate::sql::Statement;

/// One SQLite file. Opens sessions on demand.
#[derive(Debug, Clone)]
pub struct SqliteDatabase {
    pub(super) path: PathBuf,
    pub(super) options: DatabaseOptions,
}

impl SqliteDatabase {
    /// The file at `path`. Touches nothing yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, options: DatabaseOptions) -> Self {
        let path = path.into();
        // SQLite would read a name like this as a URI of its own.
        let path = if path.starts_with("file:") {
            Path::new(".").join(path)
        } else {
            path
        };
        Self { path, options }
    }

    fn check_file(&self) -> Result<FileState, DbError> {
        let unreachable = |reason: String| DbError::Unreachable {
            place: session::place(&self.path),
            reason,
        };
        match std::fs::metadata(&self.path) {
            Ok(metadata) if metadata.is_file() => Ok(FileState::Present),
            Ok(_) => Err(unreachable("it is not a file".to_owned())),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unreachable(error.to_string())),
            Err(_) if !self.options.create_if_missing => Err(unreachable("there is no such file".to_owned())),
            Err(_) => {
                let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
                match folder {
                    Some(folder) if !folder.is_dir() => {
                        Err(unreachable(format!("there is no directory {}", folder.display())))
                    }
                    _ => Ok(FileState::ToBeMade),
                }
            }
        }
    }

    pub(super) async fn look(&self) -> Result<Session, DbError> {
        Session::open(&self.path, Mode::Look, self.options.connect_timeout).await
    }

    /// The wait of a reader: without a write-ahead log a commit shuts it out for a moment.
    fn shut_out(&self) -> Wait<'_> {
        let limit = self.options.connect_timeout;
        Wait::new(&self.path, "a commit that shuts readers out", limit, &Silent)
    }

    /// The books of a file that lockkeeper has never touched.
    fn untouched(&self) -> Books {
        let chosen = self.options.ledger;
        Books {
            chosen,
            kept: chosen,
            ..Books::default()
        }
    }

    async fn ledger_of(
        &self,
        session: &Session,
        been_here: bool,
    ) -> Result<(Vec<LedgerEntry>, Books), DbError> {
        let chosen = self.options.ledger;
        if been_here {
            let meta = meta::read(session).await?;
            let book = Book { chosen, meta };
            let ledger = ledger::all(session, book).await?;
            return Ok((ledger, ledger::books(session, book).await?));
        }
        let ledger = match ToolTable::of(chosen) {
            Some(table) => table.read(session).await?,
            None => Vec::new(),
        };
        Ok((ledger, self.untouched()))
    }

    async fn inspect_file(&self, session: &Session) -> Result<Inspection, DbError> {
        // One read transaction, so that row and ledger belong together.
        session.execute("BEGIN").await?;
        let inspection = async {
            let gate_row = gate::read(session).await?;
            let (ledger, books) = self.ledger_of(session, gate_row.is_some()).await?;
            let version = session
                .answer("SELECT sqlite_version()", None)
                .await?
                .unwrap_or_default();
            let version = version
                .first()
                .map(|row| gate::text(row, "sqlite_version()"))
                .transpose()?;
            let query = format!(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name IN ({}) ORDER BY 1",
                other_ledgers_literals()
            );
            let rows = session.answer(&query, None).await?.unwrap_or_default();
            let other_ledgers = rows
                .iter()
                .map(|row| gate::text(row, "name"))
                .collect::<Result<_, _>>()?;
            Ok(Inspection {
                identity: gate::identity(&self.path)?,
                server: format!("SQLite {}", version.unwrap_or_default()),
                gate_row,
                ledger,
                other_ledgers,
                books,
            })
        }
        .await;
        session.execute("ROLLBACK").await?;
        inspection
    }
}

/// What stands at the path.
enum FileState {
    Present,
    ToBeMade,
}

#[async_trait]
impl Database for SqliteDatabase {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    async fn inspect(&self) -> Result<Inspection, DbError> {
        if let FileState::ToBeMade = self.check_file()? {
            return Ok(Inspection {
                identity: ServerIdentity("sqlite file to be made".to_owned()),
                server: "SQLite".to_owned(),
                gate_row: None,
                ledger: Vec::new(),
                other_ledgers: Vec::new(),
                books: self.untouched(),
            });
        }
        let session = self.look().await?;
        let mut wait = self.shut_out();
        let found = loop {
            match self.inspect_file(&session).await {
                Err(error) if session::is_busy(&error) => wait.again().await?,
                result => break result?,
            }
        };
        session.close().await?;
        Ok(found)
    }

    async fn schema(&self) -> Result<Schema, DbError> {
        if let FileState::ToBeMade = self.check_file()? {
            return Ok(catalogue::empty());
        }
        let session = self.look().await?;
        let mut wait = self.shut_out();
        let found = loop {
            match catalogue::read(&session).await {
                Err(error) if session::is_busy(&error) => wait.again().await?,
                result => break result?,
            }
        };
        session.close().await?;
        Ok(found)
    }

    async fn verify(&self, statements: &[Statement]) -> Result<VerifyOutcome, DbError> {
        self.check_file()?;
        // This one refuses every change by itself.
        let session = self.look().await?;
        session.execute("BEGIN").await?;
        let outcome = verify::run(&session, statements, self.options.statement_timeout).await;
        session.execute("ROLLBACK").await?;
        session.close().await?;
        outcome
    }

    async fn preflight(&self) -> Result<Vec<Finding>, DbError> {
        if let FileState::ToBeMade = self.check_file()? {
            return Ok(Vec::new());
        }
        let mut findings = Vec::new();
        let session = self.look().await?;
        if let Err(DbError::ForeignTable { table, detail }) = gate::read(&session).await {
            findings.push(Finding {
                level: FindingLevel::Error,
                code: "foreign-table".to_owned(),
                message: format!("table {table} has an unexpected shape: {detail}"),
                remedy: "use the lockkeeper release that made it, or rename the table".to_owned(),
            });
        }
        let mode = session
            .answer("PRAGMA journal_mode", None)
            .await?
            .unwrap_or_default();
        let mode = mode
            .first()
            .map(|row| gate::text(row, "journal_mode"))
            .transpose()?
            .unwrap_or_default();
        if mode != "wal" {
            findings.push(Finding {
                level: FindingLevel::Warning,
                code: "no-write-ahead-log".to_owned(),
                message: format!("journal mode is {mode}: the opening waits for readers, and readers for it"),
                remedy: "PRAGMA journal_mode = WAL; (once; the application must allow it)".to_owned(),
            });
        }
        // The lock is the only honest question: permissions, mounts and owners all have their say in it.
        let writable = session
            .execute("PRAGMA query_only = OFF; BEGIN IMMEDIATE; ROLLBACK")
            .await;
        if let Err(DbError::Permission { what, remedy }) = writable {
            findings.push(Finding {
                level: FindingLevel::Error,
                code: "read-only".to_owned(),
                message: format!("{} cannot be written to: {what}", self.path.display()),
                remedy,
            });
        }
        session.close().await?;
        Ok(findings)
    }

    async fn take(
        &self,
        claim: &Claim,
        patience: Duration,
        observer: &dyn Observer,
    ) -> Result<Box<dyn Hand>, TakeError> {
        self.check_file()?;
        let hand = take::take(&self.path, &self.options, claim, patience, observer).await?;
        Ok(Box::new(hand))
    }

    async fn blockers(&self, executor: &ExecutorId) -> Result<Vec<Blocker>, DbError> {
        let path = session::canonical(&self.path)?;
        // SQLite has no table of sessions; the kernel knows processes. One that is the executor's own cannot be
        // told from the executor.
        Ok(holders::of(&path)
            .into_iter()
            .filter(|holder| holder.id != executor.started)
            .collect())
    }

    async fn end_executor(&self, executor: &ExecutorId, patience: Duration) -> Result<(), DbError> {
        if session::end(&executor.session, None, patience).await? {
            return Ok(());
        }
        // Another process's connection cannot be ended from here: SQLite has no server that could do it.
        let path = session::canonical(&self.path)?;
        let what = format!("the end of process {} (end it by hand)", executor.started);
        let mut wait = Wait::new(&path, &what, patience, &Silent);
        wait.name(Some(take::registered(&path, executor)));
        while witness::lives(&path, &executor.session) {
            wait.again().await?;
        }
        Ok(())
    }

    async fn cancel(&self, executor: &ExecutorId) -> Result<(), DbError> {
        // Another process's statement cannot be reached from here; it has its own signal handler.
        session::cancel(&executor.session);
        Ok(())
    }
}
