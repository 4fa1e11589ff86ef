//! The one session that changes the file.

use std::path::PathBuf;

use async_trait::async_trait;
use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_core::version::SchemaVersion;

use super::ledger::Book;
use super::lock::{self, Wait};
use super::session::Session;
use super::verify::{self, first_column};
use super::{catalogue, gate, ledger, run};
use crate::db::resolution::not_in_doubt;
use crate::db::retry::LOCK_TRIES;
use crate::db::{
    Applied, ApplyError, BarrierReport, Claim, DatabaseOptions, DbError, Doubt, ExecutorId, GateRow, Hand,
    LedgerWrite, Observer, Resolution, Silent, VerifyOutcome,
};
use crate::fingerprint::Schema;
use crate::ledger::{EditRecord, LedgerEntry};
use crate::source::{Migration, Script};
use crate::sql::Statement;

/// How far this hand's fence has come.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fence {
    /// Nothing is closed. Each migration is a transaction of its own.
    None,
    /// Closed, and known to this hand only: the file says nothing of it before the write lock is held.
    Announced { epoch: GateEpoch, rollout: String },
    /// The write lock is held; everything since is in one open transaction.
    Held { epoch: GateEpoch },
    /// SQLite, or a dropped call, rolled the fence's transaction back. Only a new hand can start again.
    Lost,
}

/// One registered session, and the fence that it may hold.
#[derive(Debug)]
pub(super) struct SqliteHand {
    pub(super) session: Session,
    pub(super) path: PathBuf,
    pub(super) options: DatabaseOptions,
    pub(super) claim: Claim,
    row: GateRow,
    pub(super) book: Book,
    fence: Fence,
    /// Set while a call runs: found set at the start of a call, the one before was dropped midway.
    under_way: bool,
}

impl SqliteHand {
    pub(super) fn new(
        session: Session,
        path: PathBuf,
        options: DatabaseOptions,
        claim: Claim,
        row: GateRow,
        book: Book,
    ) -> Self {
        Self {
            session,
            path,
            options,
            claim,
            row,
            book,
            fence: Fence::None,
            under_way: false,
        }
    }

    pub(super) fn holds_barrier(&self) -> bool {
        matches!(self.fence, Fence::Held { .. })
    }

    /// Who this hand works for, for the gate row.
    fn who(&self) -> String {
        who(&self.claim)
    }

    /// Begins a step: a savepoint in the fence's transaction, or a transaction of its own, in which the gate row
    /// names this hand. Ends with [`Self::keep`] or [`Self::undo`].
    ///
    /// The check lasts as long as the step: no other connection can change the row while this one holds SQLite's
    /// only write lock, and it is held from before the check until the step is kept, or, under a barrier, until
    /// the gate opens. A newer leader can register only after that; it then finds the step in the ledger.
    pub(super) async fn begin_step(&mut self, observer: &dyn Observer) -> Result<(), DbError> {
        self.session.check_not_ended()?;
        self.settle_dropped_call().await;
        self.under_way = true;
        let begun = match self.fence {
            Fence::Lost => Err(lost("an earlier call was dropped or failed")),
            Fence::Held { .. } => self.session.execute("SAVEPOINT lockkeeper_step").await,
            Fence::None | Fence::Announced { .. } => {
                let mut wait = self.wait("the write lock", observer);
                lock::begin_immediate(&self.session, &mut wait).await
            }
        };
        if let Err(error) = begun {
            self.under_way = false;
            return Err(error);
        }
        if let Err(error) = self.check_row().await {
            self.undo().await?;
            return Err(error);
        }
        Ok(())
    }

    /// Ends a step for good; under a barrier it becomes durable with the opening.
    pub(super) async fn keep(&mut self, observer: &dyn Observer) -> Result<(), DbError> {
        let kept = if self.holds_barrier() {
            self.session.execute("RELEASE lockkeeper_step").await
        } else {
            let mut wait = self.wait("readers before the commit", observer);
            lock::commit(&self.session, &mut wait).await
        };
        match kept {
            Ok(()) => {
                self.under_way = false;
                Ok(())
            }
            Err(error) => {
                self.undo().await?;
                Err(error)
            }
        }
    }

    /// Ends a step as if it had never begun.
    pub(super) async fn undo(&mut self) -> Result<(), DbError> {
        self.under_way = false;
        if self.holds_barrier() {
            // A full disk, an I/O error or an ON CONFLICT ROLLBACK makes SQLite roll back everything by itself:
            // the savepoint is gone then, and the barrier with it.
            let undone = self
                .session
                .execute("ROLLBACK TO lockkeeper_step; RELEASE lockkeeper_step")
                .await;
            if let Err(error) = undone {
                self.fence = Fence::Lost;
                let _ = self.session.execute("ROLLBACK").await;
                self.session.check_not_ended()?;
                return Err(lost(&error.to_string()));
            }
            return Ok(());
        }
        // It fails when SQLite has rolled back by itself, which is what is wanted here.
        let _ = self.session.execute("ROLLBACK").await;
        Ok(())
    }

    /// Keeps a step that went well, and undoes one that did not.
    async fn end_step(&mut self, done: Result<(), DbError>) -> Result<(), DbError> {
        match done {
            Ok(()) => self.keep(&Silent).await,
            Err(error) => {
                self.undo().await?;
                Err(error)
            }
        }
    }

    /// A wait as long as the other dialects' tries take together: SQLite has no queue that others would be held up
    /// in.
    pub(super) fn wait<'a>(&'a self, what: &'a str, observer: &'a dyn Observer) -> Wait<'a> {
        Wait::new(&self.path, what, self.options.lock_timeout * LOCK_TRIES, observer)
    }

    /// A future that was dropped in the middle leaves a transaction in an unknown state. It is rolled back, and a
    /// fence that it was part of is lost.
    async fn settle_dropped_call(&mut self) {
        if !std::mem::take(&mut self.under_way) {
            return;
        }
        let _ = self.session.execute("ROLLBACK").await;
        if self.holds_barrier() {
            self.fence = Fence::Lost;
        }
    }

    async fn check_row(&self) -> Result<(), DbError> {
        let row = gate::read_row(&self.session).await?;
        if row.executor.as_ref() != Some(self.session.id())
            || row.leader_epoch != self.row.leader_epoch
            || row.leader_id != self.row.leader_id
        {
            let by = match &row.executor {
                _ if row.leader_epoch > self.row.leader_epoch => format!("leader {}", row.leader_epoch),
                Some(executor) => executor.to_string(),
                None => "another session, which has ended".to_owned(),
            };
            return Err(DbError::Superseded { by });
        }
        // The file may have been replaced under our feet: writes would go to the unlinked one.
        let seen = gate::identity(&self.path)?;
        if seen != row.identity {
            return Err(DbError::IdentityChanged {
                recorded: row.identity,
                seen,
            });
        }
        Ok(())
    }

    async fn user_tables(&self) -> Result<Vec<String>, DbError> {
        let sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!' \
                   AND name NOT LIKE 'lockkeeper!_%' ESCAPE '!' ORDER BY name";
        let rows = self.session.rows(sqlx::query(sql)).await?;
        rows.iter().map(|row| gate::text(row, "name")).collect()
    }

    async fn raise(&mut self, epoch: GateEpoch, rollout: String, wait: &mut Wait<'_>) -> Result<(), DbError> {
        // Without a write-ahead log a full page cache is spilled into the file, which shuts readers out until the
        // fence ends. Memory is the cheaper price.
        self.session.execute("PRAGMA cache_spill = OFF").await?;
        lock::begin_immediate(&self.session, wait).await?;
        self.check_row().await?;
        let mut row = gate::read_row(&self.session).await?;
        if row.gate_epoch > epoch || row.opened >= epoch {
            return Err(DbError::EpochBehind {
                given: epoch,
                recorded: row.gate_epoch.max(row.opened),
            });
        }
        row.gate_epoch = epoch;
        row.rollout = Some(rollout);
        gate::write(&self.session, &row, Some(&self.who())).await?;
        self.row = row;
        self.fence = Fence::Held { epoch };
        Ok(())
    }

    /// Opening without a barrier: at COOPERATIVE, or when an earlier hand's opening was committed and its answer
    /// lost.
    async fn open_without_barrier(
        &mut self,
        epoch: GateEpoch,
        version: Option<&SchemaVersion>,
    ) -> Result<(), DbError> {
        self.begin_step(&Silent).await?;
        match self.write_opening(epoch, version).await {
            Ok(row) => {
                self.keep(&Silent).await?;
                self.row = row;
                self.fence = Fence::None;
                Ok(())
            }
            Err(error) => {
                self.undo().await?;
                Err(error)
            }
        }
    }

    async fn write_opening(
        &self,
        epoch: GateEpoch,
        version: Option<&SchemaVersion>,
    ) -> Result<GateRow, DbError> {
        let mut row = gate::read_row(&self.session).await?;
        if row.opened >= epoch {
            return Ok(row);
        }
        if row.gate_epoch > epoch {
            return Err(DbError::EpochBehind {
                given: epoch,
                recorded: row.gate_epoch,
            });
        }
        if !self.holds_barrier() {
            self.check_version_is_here(version).await?;
        }
        row.gate_epoch = epoch;
        row.opened = epoch;
        row.version = version.cloned();
        gate::write(&self.session, &row, Some(&self.who())).await?;
        Ok(row)
    }

    /// A crash undoes the fence's transaction: a successor that only repeats the opening must not record a
    /// version that went with it.
    async fn check_version_is_here(&self, version: Option<&SchemaVersion>) -> Result<(), DbError> {
        let Some(version) = version else {
            return Ok(());
        };
        if !ledger::has(&self.session, self.book, version).await? {
            return Err(lost(&format!("the ledger does not hold version {version}")));
        }
        Ok(())
    }
}

#[async_trait]
impl Hand for SqliteHand {
    fn gate_row(&self) -> &GateRow {
        &self.row
    }

    fn executor(&self) -> &ExecutorId {
        self.session.id()
    }

    async fn close(&mut self, epoch: GateEpoch, rollout: &str) -> Result<(), DbError> {
        if epoch < self.row.gate_epoch || epoch <= self.row.opened {
            return Err(DbError::EpochBehind {
                given: epoch,
                recorded: self.row.gate_epoch.max(self.row.opened),
            });
        }
        // Nothing is written, so nothing is locked: this is only to tell a superseded hand soon.
        self.check_row().await?;
        match &self.fence {
            Fence::Lost => return Err(lost("an earlier call was dropped or failed")),
            Fence::Held { epoch: held } if *held == epoch => return Ok(()),
            Fence::Held { epoch: held } => {
                return Err(DbError::Unsupported(format!(
                    "fence {held} is not open yet: {epoch} must wait"
                )));
            }
            Fence::None | Fence::Announced { .. } => {}
        }
        self.fence = Fence::Announced {
            epoch,
            rollout: rollout.to_owned(),
        };
        self.row.gate_epoch = epoch;
        self.row.rollout = Some(rollout.to_owned());
        Ok(())
    }

    async fn raise_barrier(
        &mut self,
        patience: std::time::Duration,
        observer: &dyn Observer,
    ) -> Result<BarrierReport, DbError> {
        self.settle_dropped_call().await;
        let (epoch, rollout) = match &self.fence {
            Fence::Held { .. } => {
                let tables = self.user_tables().await?;
                return Ok(BarrierReport {
                    tables,
                    ended: Vec::new(),
                    continued: true,
                });
            }
            Fence::Lost => return Err(lost("an earlier call was dropped or failed")),
            Fence::None => {
                return Err(DbError::Unsupported(
                    "a barrier needs a closed gate: close it first".to_owned(),
                ));
            }
            Fence::Announced { epoch, rollout } => (*epoch, rollout.clone()),
        };
        self.under_way = true;
        let path = self.path.clone();
        let mut wait = Wait::new(&path, "the write lock, to fence every writer", patience, observer);
        let raised = self.raise(epoch, rollout, &mut wait).await;
        self.under_way = false;
        if let Err(error) = raised {
            let _ = self.session.execute("ROLLBACK").await;
            return Err(error);
        }
        Ok(BarrierReport {
            tables: self.user_tables().await?,
            ended: Vec::new(),
            continued: false,
        })
    }

    async fn apply(
        &mut self,
        script: &Script,
        write: &LedgerWrite,
        observer: &dyn Observer,
    ) -> Result<Applied, ApplyError> {
        run::apply(self, script, write, observer).await
    }

    async fn ledger(&mut self) -> Result<Vec<LedgerEntry>, DbError> {
        self.settle_dropped_call().await;
        ledger::all(&self.session, self.book).await
    }

    async fn own_ledger(&mut self) -> Result<Vec<LedgerEntry>, DbError> {
        self.settle_dropped_call().await;
        ledger::own(&self.session, self.book.meta).await
    }

    async fn record(&mut self, versions: &[LedgerWrite]) -> Result<(), DbError> {
        self.begin_step(&Silent).await?;
        let epoch = self.row.leader_epoch;
        let recorded = ledger::record(&self.session, self.book, versions, epoch).await;
        self.end_step(recorded).await?;
        self.book.meta.kept = self.book.chosen;
        Ok(())
    }

    async fn accept_edit(&mut self, migration: &Migration, edit: &EditRecord) -> Result<(), DbError> {
        self.begin_step(&Silent).await?;
        let accepted = ledger::accept_edit(&self.session, self.book, migration, edit).await;
        self.end_step(accepted).await
    }

    async fn schema(&mut self) -> Result<Schema, DbError> {
        self.settle_dropped_call().await;
        catalogue::read(&self.session).await
    }

    async fn doubts(&mut self) -> Result<Vec<Doubt>, DbError> {
        // A statement and its mark are one transaction, and what no transaction holds may run again.
        Ok(Vec::new())
    }

    async fn resolve(&mut self, doubt: &Doubt, _: &Resolution) -> Result<(), DbError> {
        Err(not_in_doubt(doubt))
    }

    async fn scalar(&mut self, query: &str) -> Result<Option<String>, DbError> {
        self.settle_dropped_call().await;
        let rows = self.session.answer(query, None).await?.unwrap_or_default();
        rows.first().map_or(Ok(None), first_column)
    }

    async fn verify(&mut self, statements: &[Statement]) -> Result<VerifyOutcome, DbError> {
        self.begin_step(&Silent).await?;
        let outcome = verify::run(&self.session, statements, self.options.statement_timeout).await;
        self.undo().await?;
        outcome
    }

    async fn open(&mut self, epoch: GateEpoch, version: Option<&SchemaVersion>) -> Result<(), DbError> {
        match self.fence {
            Fence::Held { epoch: held } if held == epoch => {}
            Fence::Held { epoch: held } => {
                return Err(DbError::EpochBehind {
                    given: epoch,
                    recorded: held,
                });
            }
            Fence::Lost | Fence::None | Fence::Announced { .. } => {
                return self.open_without_barrier(epoch, version).await;
            }
        }
        self.begin_step(&Silent).await?;
        let row = match self.write_opening(epoch, version).await {
            Ok(row) => row,
            Err(error) => {
                self.undo().await?;
                return Err(error);
            }
        };
        self.keep(&Silent).await?;
        // From here a dropped call leaves it open whether the commit took effect; the row of the next hand tells.
        self.under_way = true;
        let committed = {
            let mut wait = self.wait("readers before the commit", &Silent);
            lock::commit(&self.session, &mut wait).await
        };
        self.under_way = false;
        // A commit that readers kept out leaves the transaction as it was: the barrier stands, and open() again
        // is the way on.
        committed?;
        self.row = row;
        self.fence = Fence::None;
        self.session.execute("PRAGMA cache_spill = ON").await
    }

    async fn clean_up(&mut self, _: &dyn Observer) -> Result<usize, DbError> {
        // The barrier was a lock: nothing is left of it.
        Ok(0)
    }

    async fn release(mut self: Box<Self>) -> Result<(), DbError> {
        self.settle_dropped_call().await;
        if self.holds_barrier() {
            self.session.execute("ROLLBACK").await?;
            self.fence = Fence::None;
        }
        let cleared = self.clear_registration().await;
        self.session.close().await?;
        match cleared {
            // Somebody else is registered already: nothing of ours is left to clear.
            Err(DbError::Superseded { .. }) => Ok(()),
            other => other,
        }
    }
}

impl SqliteHand {
    async fn clear_registration(&mut self) -> Result<(), DbError> {
        if self.fence == Fence::Lost {
            self.fence = Fence::None;
        }
        self.begin_step(&Silent).await?;
        let mut row = gate::read_row(&self.session).await?;
        row.executor = None;
        match gate::write(&self.session, &row, None).await {
            Ok(()) => self.keep(&Silent).await,
            Err(error) => {
                self.undo().await?;
                Err(error)
            }
        }
    }
}

/// Who works under a claim, for people.
pub(super) fn who(claim: &Claim) -> String {
    match claim {
        Claim::Leader { epoch, .. } => format!("leader {epoch}"),
        Claim::Standalone { who } => who.clone(),
    }
}

fn lost(why: &str) -> DbError {
    DbError::ConnectionLost(format!(
        "the fence's transaction was rolled back ({why}): take the target again and start over"
    ))
}
