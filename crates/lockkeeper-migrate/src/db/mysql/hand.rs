//! The leader's own hand on a MariaDB or MySQL database.

use std::time::Duration;

use async_trait::async_trait;
use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_core::version::SchemaVersion;

use super::barrier::{self, Barrier};
use super::book::ToolTable;
use super::gate::{self, Lock, Record};
use super::meta::{self, Meta};
use super::session::Session;
use super::target::{Facts, Target};
use super::text::{literal, literal_or_null};
use super::watch::{Unseen, Watch, update_row};
use super::{apply, catalogue, epoch_table, ledger, others, verify};
use crate::db::{
    Applied, ApplyError, BarrierReport, DbError, Doubt, ExecutorId, GateRow, Hand, LedgerWrite, Observer,
    Resolution, Silent, VerifyOutcome,
};
use crate::fingerprint::Schema;
use crate::ledger::{EditRecord, LedgerChoice, LedgerEntry};
use crate::source::{Migration, Script};
use crate::sql::Statement;

/// How long an opening waits before it ends whoever keeps the row locked: a writer that was refused and left its
/// transaction open.
const ROW_PATIENCE: Duration = Duration::from_secs(2);

/// One registered session, and a second one that watches whoever it waits for.
#[derive(Debug)]
pub(super) struct MySqlHand {
    pub(super) target: Target,
    pub(super) facts: Facts,
    pub(super) session: Session,
    pub(super) watch: Watch,
    /// The row as this hand knows it.
    pub(super) row: GateRow,
    pub(super) executor: ExecutorId,
    /// The fence whose barrier stands; new tables are barred in its name.
    pub(super) barred: Option<GateEpoch>,
    /// Where the history is.
    pub(super) meta: Meta,
    /// Whose waits and run times the session bounds at this moment.
    pub(super) limits: Limits,
}

/// What the session's limits are set for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limits {
    /// Short waits for the gate row, no limit on run times.
    Own,
    /// A migration's statements.
    Script,
}

impl MySqlHand {
    pub(super) fn new(
        target: Target,
        facts: Facts,
        session: Session,
        watch: Watch,
        record: Record,
        executor: ExecutorId,
        meta: Meta,
    ) -> Self {
        Self {
            target,
            facts,
            session,
            watch,
            row: record.row,
            executor,
            barred: None,
            meta,
            limits: Limits::Own,
        }
    }

    /// Makes the chosen ledger ready: the first hand on a target decides where its history is kept, and a tool's
    /// table is made when it is missing.
    pub(super) async fn open_book(&mut self) -> Result<(), DbError> {
        let chosen = self.target.limits.ledger;
        let mut take_over = false;
        if self.meta.kept == LedgerChoice::Own && chosen != self.meta.kept {
            let own = ledger::own(&mut self.session, &self.target, self.meta).await?;
            take_over = own.is_empty();
        }
        if take_over {
            self.session.run(&meta::keep(&self.target)).await?;
            self.meta.kept = chosen;
        }
        match ToolTable::chosen(&self.target) {
            Some(table) if self.meta.kept == chosen => table.ensure(&mut self.session, &self.target).await,
            Some(_) | None => Ok(()),
        }
    }

    async fn try_record(&mut self, versions: &[LedgerWrite]) -> Result<(), DbError> {
        // The table's making commits, so it comes first.
        if let Some(table) = ToolTable::chosen(&self.target) {
            table.ensure(&mut self.session, &self.target).await?;
        }
        let mut statements = Vec::new();
        // Our own rows are from before a tool's table was kept: they are not what the tool says now.
        if self.meta.kept != LedgerChoice::Own && self.target.limits.ledger == LedgerChoice::Own {
            statements.push(format!("DELETE FROM {}", self.target.own("lockkeeper_ledger")));
        }
        for write in versions {
            let run = ledger::Run {
                epoch: self.row.leader_epoch,
                duration: write.provenance.duration.unwrap_or_default(),
                warnings: 0,
            };
            statements.extend(ledger::record(&self.target, write, run)?);
        }
        statements.push(meta::keep(&self.target));
        self.commit_guarded(&statements).await?;
        self.meta.kept = self.target.limits.ledger;
        Ok(())
    }

    /// Finds out whether an earlier hand left a barrier of the closed fence.
    pub(super) async fn find_barrier(&mut self) -> Result<(), DbError> {
        if self.row.is_closed()
            && barrier::stands(&mut self.session, &self.target, self.row.gate_epoch).await?
        {
            self.barred = Some(self.row.gate_epoch);
        }
        Ok(())
    }

    /// Begins a transaction, reads the row so that it cannot change before the transaction ends, and refuses when it
    /// no longer names this hand.
    pub(super) async fn begin_guarded(&mut self) -> Result<(), DbError> {
        let record = gate::begin(&mut self.session, &self.target).await?;
        gate::check(&record, &self.executor, self.row.leader_epoch, &self.facts)?;
        // A migration may have said RELEASE_ALL_LOCKS().
        let held = record.witness == Some(self.facts.connection)
            || others::hold_witness(&mut self.session, &self.target, &self.executor.started).await?;
        if !held {
            return Err(DbError::Superseded {
                by: "another session, which holds this hand's witness lock".to_owned(),
            });
        }
        Ok(())
    }

    /// A guarded transaction of own statements.
    pub(super) async fn commit_guarded(&mut self, statements: &[String]) -> Result<(), DbError> {
        let written = self.write_guarded(statements).await;
        if written.is_err() {
            // On a dead session there is nothing to roll back.
            let _ = self.session.run("ROLLBACK").await;
        }
        written
    }

    async fn write_guarded(&mut self, statements: &[String]) -> Result<(), DbError> {
        self.begin_guarded().await?;
        self.session
            .run(&format!("{}; COMMIT", statements.join("; ")))
            .await?;
        Ok(())
    }

    /// The condition that the row still names this hand, for updates that change it.
    fn condition(&self) -> String {
        format!(
            "one = 1 AND identity = {} AND generation = {} AND revision = {} AND superseded = 0 \
             AND executor_session = {} AND executor_started = {} AND CONNECTION_ID() = {}",
            literal(&self.facts.identity.0),
            self.row.leader_epoch.generation,
            self.row.leader_epoch.revision,
            self.facts.connection,
            literal(&self.executor.started),
            self.facts.connection,
        )
    }

    /// One guarded update of the row. When it matches nothing, `explain` says why, or that nothing is wrong.
    async fn change(
        &mut self,
        columns: &str,
        extra: &str,
        (patience, unseen): (Duration, Unseen),
        explain: impl FnOnce(&GateRow) -> Result<(), DbError> + Send,
    ) -> Result<(), DbError> {
        let changed = self.try_change(columns, extra, (patience, unseen), explain).await;
        self.settle(changed).await
    }

    async fn try_change(
        &mut self,
        columns: &str,
        extra: &str,
        (patience, unseen): (Duration, Unseen),
        explain: impl FnOnce(&GateRow) -> Result<(), DbError> + Send,
    ) -> Result<(), DbError> {
        self.limit(Limits::Own).await?;
        let sql = format!(
            "UPDATE {} SET {columns}, changed_at = UTC_TIMESTAMP(6) WHERE {} AND {extra}",
            self.target.own("lockkeeper_gate"),
            self.condition()
        );
        let matched = update_row(
            &mut self.session,
            &mut self.watch,
            &sql,
            patience,
            unseen,
            &Silent,
        )
        .await?;
        let record = gate::read_present(&mut self.session, &self.target, Lock::None).await?;
        if matched == 0 {
            gate::check(&record, &self.executor, self.row.leader_epoch, &self.facts)?;
            explain(&record.row)?;
        }
        self.row = record.row;
        Ok(())
    }

    /// A lost session was in most cases ended by a newer leader: asks the row, through another session, who has the
    /// target now.
    async fn settle<T>(&mut self, result: Result<T, DbError>) -> Result<T, DbError> {
        if !matches!(result, Err(DbError::ConnectionLost(_))) {
            return result;
        }
        match self.watch.record().await {
            Ok(record) if !record.names(&self.executor, self.row.leader_epoch) => {
                Err(DbError::Superseded { by: record.holder() })
            }
            // Nobody else has taken it, or it cannot be told: the session is lost in any case.
            Ok(_) | Err(_) => result,
        }
    }

    async fn try_raise(
        &mut self,
        patience: Duration,
        observer: &dyn Observer,
    ) -> Result<BarrierReport, DbError> {
        self.limit(Limits::Own).await?;
        let record = gate::read_present(&mut self.session, &self.target, Lock::None).await?;
        gate::check(&record, &self.executor, self.row.leader_epoch, &self.facts)?;
        self.row = record.row;
        let fence = self.fence()?;
        let barrier = Barrier {
            target: &self.target,
            fence,
        };
        let report = barrier
            .raise(&mut self.session, &mut self.watch, patience, observer)
            .await?;
        self.barred = Some(fence);
        Ok(report)
    }

    /// Gives an open gate its epoch table: for a target that is new, or was not of strength EPOCH before.
    pub(super) async fn arm(&mut self) -> Result<(), DbError> {
        if !self.target.limits.strength.has_epoch() || self.row.is_closed() {
            return Ok(());
        }
        let made = epoch_table::ensure(&mut self.session, &self.target, self.row.opened).await;
        self.settle(made).await
    }

    async fn try_clean_up(&mut self) -> Result<usize, DbError> {
        self.limit(Limits::Own).await?;
        let record = gate::read_present(&mut self.session, &self.target, Lock::None).await?;
        gate::check(&record, &self.executor, self.row.leader_epoch, &self.facts)?;
        barrier::drop_opened(&mut self.session, &self.target, record.row.opened).await
    }

    fn fence(&self) -> Result<GateEpoch, DbError> {
        if self.row.is_closed() {
            return Ok(self.row.gate_epoch);
        }
        Err(DbError::Unsupported(format!(
            "the gate is open at {}: close it before raising a barrier",
            self.row.opened
        )))
    }
}

#[async_trait]
impl Hand for MySqlHand {
    fn gate_row(&self) -> &GateRow {
        &self.row
    }

    fn executor(&self) -> &ExecutorId {
        &self.executor
    }

    async fn close(&mut self, epoch: GateEpoch, rollout: &str) -> Result<(), DbError> {
        let rollout: String = rollout.chars().take(255).collect();
        let columns = format!("gate_epoch = {}, rollout = {}", epoch.0, literal(&rollout));
        let extra = format!("gate_epoch <= {0} AND opened < {0}", epoch.0);
        // Where triggers of an earlier fence are left, writers in good order hold the row as well: no haste.
        let patience = self.target.limits.lock_timeout;
        self.change(&columns, &extra, (patience, Unseen::Spare), |row| {
            row.admit_closing(epoch)
                .map_err(|behind| DbError::behind(behind, epoch))
        })
        .await
    }

    async fn raise_barrier(
        &mut self,
        patience: Duration,
        observer: &dyn Observer,
    ) -> Result<BarrierReport, DbError> {
        let raised = self.try_raise(patience, observer).await;
        self.settle(raised).await
    }

    async fn apply(
        &mut self,
        script: &Script,
        write: &LedgerWrite,
        observer: &dyn Observer,
    ) -> Result<Applied, ApplyError> {
        match apply::apply(self, script, write, observer).await {
            Err(ApplyError::Db(error)) => Err(self.settle::<Applied>(Err(error)).await.map_or_else(
                ApplyError::Db,
                // Settling an error gives an error.
                |_| ApplyError::Db(DbError::ConnectionLost("the session is gone".to_owned())),
            )),
            other => other,
        }
    }

    async fn ledger(&mut self) -> Result<Vec<LedgerEntry>, DbError> {
        let read = ledger::read(&mut self.session, &self.target, self.meta).await;
        self.settle(read).await
    }

    async fn schema(&mut self) -> Result<Schema, DbError> {
        let schema = catalogue::read(&mut self.session, &self.target, &self.facts).await;
        self.settle(schema).await
    }

    async fn own_ledger(&mut self) -> Result<Vec<LedgerEntry>, DbError> {
        let read = ledger::own(&mut self.session, &self.target, self.meta).await;
        self.settle(read.map_err(DbError::from)).await
    }

    async fn record(&mut self, versions: &[LedgerWrite]) -> Result<(), DbError> {
        let recorded = self.try_record(versions).await;
        self.settle(recorded).await
    }

    async fn accept_edit(&mut self, migration: &Migration, edit: &EditRecord) -> Result<(), DbError> {
        let statements = ledger::accept_edit(&self.target, migration, edit);
        let accepted = self.commit_guarded(&statements).await;
        self.settle(accepted).await
    }

    async fn doubts(&mut self) -> Result<Vec<Doubt>, DbError> {
        let listed = self.list_doubts().await;
        self.settle(listed).await
    }

    async fn resolve(&mut self, doubt: &Doubt, resolution: &Resolution) -> Result<(), DbError> {
        let recorded = self.record_resolution(doubt, resolution).await;
        self.settle(recorded).await
    }

    async fn scalar(&mut self, query: &str) -> Result<Option<String>, DbError> {
        let value = self.session.value(query).await.map_err(DbError::from);
        self.settle(value).await
    }

    async fn verify(&mut self, statements: &[Statement]) -> Result<VerifyOutcome, DbError> {
        let outcome = match self.limit(Limits::Own).await {
            Ok(()) => verify::verify(&mut self.session, &self.target, statements).await,
            Err(error) => Err(error),
        };
        self.settle(outcome).await
    }

    async fn open(&mut self, epoch: GateEpoch, version: Option<&SchemaVersion>) -> Result<(), DbError> {
        if self.target.limits.strength.has_epoch() && self.row.opened < epoch {
            // Raising the barrier has made it, unless that failed or the strength was declared since.
            let made = epoch_table::ensure(&mut self.session, &self.target, epoch).await;
            self.settle(made).await?;
        }
        let version = literal_or_null(version.map(SchemaVersion::as_str));
        let columns = format!("opened = {}, version = {version}", epoch.0);
        let extra = format!("gate_epoch = {0} AND opened <= {0}", epoch.0);
        self.change(&columns, &extra, (ROW_PATIENCE, Unseen::End), |row| {
            let opening = row.admit_opening(epoch);
            opening.map(drop).map_err(|behind| DbError::behind(behind, epoch))
        })
        .await?;
        self.barred = self.barred.filter(|fence| *fence > epoch);
        Ok(())
    }

    async fn clean_up(&mut self, _observer: &dyn Observer) -> Result<usize, DbError> {
        let cleaned = self.try_clean_up().await;
        self.settle(cleaned).await
    }

    async fn release(mut self: Box<Self>) -> Result<(), DbError> {
        let columns = "executor_session = NULL, executor_started = NULL, executor_who = NULL";
        let released = self
            .change(columns, "one = 1", (ROW_PATIENCE, Unseen::Spare), |_| Ok(()))
            .await;
        let Self {
            session, mut watch, ..
        } = *self;
        watch.close().await;
        session.close().await;
        released
    }
}
