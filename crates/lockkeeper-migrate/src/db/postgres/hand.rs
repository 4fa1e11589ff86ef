//! The leader's own hand on a PostgreSQL target.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use lockkeeper_core::epoch::{GateEpoch, LeaderEpoch};
use lockkeeper_core::row::Opening;
use lockkeeper_core::version::SchemaVersion;
use sqlx::{AssertSqlSafe, Connection};
use tokio::time::{Instant, sleep, timeout};

use super::barrier::Barrier;
use super::blockers;
use super::book::Book;
use super::gate::{self, Lock, Terms};
use super::identity::{Question, identity};
use super::ledger::RowOf;
use super::schema::Names;
use super::session::{Connector, Session, db_error};
use super::take::{Taken, signed};
use super::{catalogue, clean_up, epoch_table, guest, ledger, verify};
use crate::db::{
    Applied, ApplyError, BarrierReport, DbError, Doubt, ExecutorId, GateRow, Guest, Hand, LedgerWrite,
    Observer, Resolution, VerifyOutcome,
};
use crate::fingerprint::Schema;
use crate::ledger::{EditRecord, LedgerEntry};
use crate::source::{Migration, Script};
use crate::sql::Statement;

/// How long the look at the row may take that tells why a session was lost.
const POST_MORTEM_LIMIT: Duration = Duration::from_secs(5);

/// A successor that finds the row locked ends the holder first and writes its claim a moment later: so long the
/// row is looked at before the loss counts as one of the network.
const SUCCESSOR_WAIT: Duration = Duration::from_secs(1);

const SUCCESSOR_POLL: Duration = Duration::from_millis(30);

/// One registered session.
pub(super) struct PgHand {
    pub(super) session: Session,
    pub(super) connector: Connector,
    pub(super) names: Names,
    pub(super) row: GateRow,
    pub(super) terms: Terms,
    fleet: bool,
    /// The barrier that this hand raised, which it keeps up.
    pub(super) barrier: Option<Barrier>,
    /// How this session asks for the server's identity.
    pub(super) question: Option<Question>,
}

impl fmt::Debug for PgHand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgHand")
            .field("place", &self.connector.place)
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}

impl PgHand {
    pub(super) fn new(connector: Connector, taken: Taken) -> Self {
        let Taken {
            session,
            names,
            row,
            terms,
            fleet,
        } = taken;
        Self {
            session,
            connector,
            names,
            row,
            terms,
            fleet,
            barrier: None,
            question: None,
        }
    }

    /// The epoch to record what this hand does under; [`LeaderEpoch::NONE`] outside of a fleet.
    pub(super) fn fleet_epoch(&self) -> LeaderEpoch {
        if self.fleet {
            self.terms.epoch
        } else {
            LeaderEpoch::NONE
        }
    }

    /// A lost session is most often one that a newer leader ended: the row tells.
    pub(super) async fn settle<T>(&self, result: Result<T, DbError>) -> Result<T, DbError> {
        match result {
            Err(DbError::ConnectionLost(reason)) => {
                let reason = match timeout(POST_MORTEM_LIMIT, self.post_mortem()).await {
                    Ok(Err(DbError::Superseded { by })) => return Err(DbError::Superseded { by }),
                    Ok(_) | Err(_) => reason,
                };
                Err(DbError::ConnectionLost(reason))
            }
            other => other,
        }
    }

    async fn post_mortem(&self) -> Result<(), DbError> {
        let mut session = self.connector.connect().await?;
        let give_up = Instant::now() + SUCCESSOR_WAIT;
        loop {
            let found = gate::read(&mut session.conn, &self.names, Lock::None).await?;
            let verdict = self.terms.check(&found);
            if verdict.is_err() || Instant::now() >= give_up {
                session.close().await;
                return verdict;
            }
            sleep(SUCCESSOR_POLL).await;
        }
    }

    async fn try_close(&mut self, epoch: GateEpoch, rollout: &str) -> Result<(), DbError> {
        let wait = self.connector.settings.lock_timeout;
        let mut tx = self.session.conn.begin().await.map_err(db_error)?;
        let row = self.terms.hold(&mut tx, &self.names, wait).await?;
        row.admit_closing(epoch)
            .map_err(|behind| DbError::behind(behind, epoch))?;
        let update = format!(
            "UPDATE {} SET gate_epoch = $1, rollout = $2, changed_at = now()",
            self.names.gate
        );
        sqlx::query(AssertSqlSafe(update))
            .bind(signed(epoch.0))
            .bind(rollout)
            .execute(&mut *tx)
            .await
            .map_err(db_error)?;
        tx.commit().await.map_err(db_error)?;
        self.row = GateRow {
            gate_epoch: epoch,
            rollout: Some(rollout.to_owned()),
            ..row
        };
        Ok(())
    }

    async fn try_open(&mut self, epoch: GateEpoch, version: Option<&SchemaVersion>) -> Result<(), DbError> {
        let seen = identity(&mut self.session.conn).await?;
        let wait = self.connector.settings.lock_timeout;
        let mut tx = self.session.conn.begin().await.map_err(db_error)?;
        let row = self.terms.hold(&mut tx, &self.names, wait).await?;
        if row.identity != seen {
            return Err(DbError::IdentityChanged {
                recorded: row.identity,
                seen,
            });
        }
        let opening = row.admit_opening(epoch);
        if opening.map_err(|behind| DbError::behind(behind, epoch))? == Opening::Already {
            self.row = row;
            return Ok(());
        }
        if self.connector.settings.strength.has_epoch() {
            // Raising the barrier has made it, unless that failed or the strength was declared since.
            epoch_table::ensure(&mut tx, &self.names, epoch).await?;
        }
        let update = format!(
            "UPDATE {} SET opened = $1, version = $2, changed_at = now()",
            self.names.gate
        );
        sqlx::query(AssertSqlSafe(update))
            .bind(signed(epoch.0))
            .bind(version.map(SchemaVersion::as_str))
            .execute(&mut *tx)
            .await
            .map_err(db_error)?;
        tx.commit().await.map_err(db_error)?;
        self.barrier = None;
        self.row = GateRow {
            opened: epoch,
            version: version.cloned(),
            ..row
        };
        Ok(())
    }

    async fn try_record(&mut self, versions: &[LedgerWrite]) -> Result<(), DbError> {
        let epoch = self.fleet_epoch();
        let wait = self.connector.settings.lock_timeout;
        let mut tx = self.session.conn.begin().await.map_err(db_error)?;
        self.terms.hold(&mut tx, &self.names, wait).await?;
        if let Book::Tool(table) = &self.names.book {
            table.ensure(&mut tx).await?;
        }
        ledger::clear_stale(&mut tx, &self.names).await?;
        for write in versions {
            let row = RowOf {
                write,
                duration: write.provenance.duration.unwrap_or_default(),
                epoch,
                warnings: 0,
            };
            ledger::put(&mut tx, &self.names, &row).await?;
        }
        ledger::keep(&mut tx, &self.names).await?;
        tx.commit().await.map_err(db_error)?;
        self.names.kept = self.names.book.choice();
        Ok(())
    }

    async fn try_accept_edit(&mut self, migration: &Migration, edit: &EditRecord) -> Result<(), DbError> {
        let wait = self.connector.settings.lock_timeout;
        let mut tx = self.session.conn.begin().await.map_err(db_error)?;
        self.terms.hold(&mut tx, &self.names, wait).await?;
        ledger::accept_edit(&mut tx, &self.names, migration, edit).await?;
        tx.commit().await.map_err(db_error)
    }

    async fn try_release(mut self) -> Result<(), DbError> {
        let update = format!(
            "UPDATE {} SET executor_session = NULL, executor_started = NULL, executor_who = NULL, \
                    changed_at = now() \
             WHERE executor_session = $1 AND executor_started = $2",
            self.names.gate
        );
        sqlx::query(AssertSqlSafe(update))
            .bind(&self.terms.executor.session)
            .bind(&self.terms.executor.started)
            .execute(&mut self.session.conn)
            .await
            .map_err(db_error)?;
        self.session.close().await;
        Ok(())
    }
}

#[async_trait]
impl Hand for PgHand {
    fn gate_row(&self) -> &GateRow {
        &self.row
    }

    fn executor(&self) -> &ExecutorId {
        &self.terms.executor
    }

    async fn close(&mut self, epoch: GateEpoch, rollout: &str) -> Result<(), DbError> {
        let result = self.try_close(epoch, rollout).await;
        self.settle(result).await
    }

    async fn raise_barrier(
        &mut self,
        patience: Duration,
        observer: &dyn Observer,
    ) -> Result<BarrierReport, DbError> {
        let result = self.raise(patience, observer).await;
        self.settle(result).await
    }

    async fn apply(
        &mut self,
        script: &Script,
        write: &LedgerWrite,
        observer: &dyn Observer,
    ) -> Result<Applied, ApplyError> {
        match self.run_script(script, write, observer).await {
            Err(ApplyError::Db(error)) => Err(ApplyError::Db(
                self.settle::<()>(Err(error))
                    .await
                    .err()
                    .unwrap_or(DbError::ConnectionLost("the session was lost".to_owned())),
            )),
            other => other,
        }
    }

    async fn admit_guest(&mut self) -> Result<Guest, DbError> {
        let result = self.make_guest().await;
        self.settle(result).await
    }

    async fn end_guests(&mut self, patience: Duration) -> Result<Vec<String>, DbError> {
        let deadline = Instant::now() + patience;
        let result = guest::end_all(&mut self.session.conn, &self.names, deadline).await;
        self.settle(result).await
    }

    async fn ledger(&mut self) -> Result<Vec<LedgerEntry>, DbError> {
        let result = ledger::read(&mut self.session.conn, &self.names).await;
        self.settle(result).await
    }

    async fn schema(&mut self) -> Result<Schema, DbError> {
        let result = catalogue::read(&mut self.session.conn).await;
        self.settle(result).await
    }

    async fn own_ledger(&mut self) -> Result<Vec<LedgerEntry>, DbError> {
        let result = ledger::own(&mut self.session.conn, &self.names).await;
        self.settle(result).await
    }

    async fn record(&mut self, versions: &[LedgerWrite]) -> Result<(), DbError> {
        let result = self.try_record(versions).await;
        self.settle(result).await
    }

    async fn accept_edit(&mut self, migration: &Migration, edit: &EditRecord) -> Result<(), DbError> {
        let result = self.try_accept_edit(migration, edit).await;
        self.settle(result).await
    }

    async fn doubts(&mut self) -> Result<Vec<Doubt>, DbError> {
        let result = self.list_doubts().await;
        self.settle(result).await
    }

    async fn resolve(&mut self, doubt: &Doubt, resolution: &Resolution) -> Result<(), DbError> {
        let result = self.record_resolution(doubt, resolution).await;
        self.settle(result).await
    }

    async fn scalar(&mut self, query: &str) -> Result<Option<String>, DbError> {
        let result = verify::scalar(&mut self.session.conn, query).await;
        self.settle(result).await
    }

    async fn verify(&mut self, statements: &[Statement]) -> Result<VerifyOutcome, DbError> {
        let limit = self.connector.settings.statement_timeout;
        let result = verify::verify(&mut self.session.conn, statements, limit).await;
        self.settle(result).await
    }

    async fn open(&mut self, epoch: GateEpoch, version: Option<&SchemaVersion>) -> Result<(), DbError> {
        let result = self.try_open(epoch, version).await;
        self.settle(result).await
    }

    async fn clean_up(&mut self, _observer: &dyn Observer) -> Result<usize, DbError> {
        let result = clean_up::clean_up(&mut self.session.conn, &self.names, &self.terms).await;
        self.settle(result).await
    }

    async fn release(self: Box<Self>) -> Result<(), DbError> {
        self.try_release().await
    }
}

/// Ends `executor` from a session of its own.
pub(super) async fn end_executor(
    connector: &Connector,
    executor: &ExecutorId,
    patience: Duration,
) -> Result<(), DbError> {
    let deadline = Instant::now() + patience;
    let mut session = connector.connect().await?;
    blockers::end_and_confirm(&mut session.conn, executor, deadline).await?;
    session.close().await;
    Ok(())
}
