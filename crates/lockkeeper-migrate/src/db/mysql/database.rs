//! A MariaDB or MySQL target as seen from outside.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::book::ToolTable;
use super::gate::{self, Lock};
use super::meta::Meta;
use super::session::Session;
use super::target::{Facts, Target, number};
use super::{catalogue, ledger, others, preflight, take, verify};
use crate::db::{
    Blocker, Books, Claim, Database, DatabaseOptions, DbError, ExecutorId, Finding, Hand, Inspection,
    Observer, TakeError, VerifyOutcome,
};
use crate::dialect::Dialect;
use crate::dsn::Dsn;
use crate::fingerprint::Schema;
use crate::sql::Statement;

/// How much longer than its patience a call may take before the server counts as silent.
const SILENCE_LIMIT: Duration = Duration::from_secs(10);

/// A database on a MariaDB or MySQL server. Opens a session per question.
#[derive(Debug, Clone)]
pub struct MySqlDatabase {
    pub(super) target: Target,
}

impl MySqlDatabase {
    /// Does not connect yet: a parameter of the DSN that cannot be used is told by the first call that does.
    #[must_use]
    pub fn new(dsn: &Dsn, options: DatabaseOptions) -> Self {
        Self {
            target: Target::new(dsn, options),
        }
    }

    pub(super) async fn session(&self) -> Result<(Session, Facts), DbError> {
        let mut session = self.target.connect().await?;
        self.target.prepare(&mut session).await?;
        let facts = Facts::read(&mut session, &self.target.database).await?;
        Ok((session, facts))
    }

    async fn look(&self, session: &mut Session, facts: Facts) -> Result<Inspection, DbError> {
        let server = facts.product();
        let other_ledgers = gate::other_ledgers(session, &self.target).await?;
        if gate::missing_tables(session, &self.target).await? {
            let ledger = match ToolTable::chosen(&self.target) {
                Some(table) => table.read(session, &self.target).await?,
                None => Vec::new(),
            };
            let chosen = self.target.limits.ledger;
            return Ok(Inspection {
                identity: facts.identity,
                server,
                gate_row: None,
                ledger,
                other_ledgers,
                books: Books {
                    chosen,
                    kept: chosen,
                    ..Books::default()
                },
            });
        }
        let meta = Meta::read(session, &self.target).await?;
        let gate_row = gate::read(session, &self.target, Lock::None)
            .await?
            .map(|record| record.row);
        let ledger = ledger::read(session, &self.target, meta).await?;
        let books = ledger::books(session, &self.target, meta).await?;
        Ok(Inspection {
            identity: facts.identity,
            server,
            gate_row,
            ledger,
            other_ledgers,
            books,
        })
    }
}

#[async_trait]
impl Database for MySqlDatabase {
    fn dialect(&self) -> Dialect {
        Dialect::MySql
    }

    async fn inspect(&self) -> Result<Inspection, DbError> {
        let (mut session, facts) = self.session().await?;
        let inspection = self.look(&mut session, facts).await;
        session.close().await;
        inspection
    }

    async fn schema(&self) -> Result<Schema, DbError> {
        let (mut session, facts) = self.session().await?;
        let schema = catalogue::read(&mut session, &self.target, &facts).await;
        session.close().await;
        schema
    }

    async fn verify(&self, statements: &[Statement]) -> Result<VerifyOutcome, DbError> {
        let (mut session, _) = self.session().await?;
        session.run("SET SESSION TRANSACTION READ ONLY").await?;
        let outcome = verify::verify(&mut session, &self.target, statements).await;
        session.close().await;
        outcome
    }

    async fn preflight(&self) -> Result<Vec<Finding>, DbError> {
        let (mut session, facts) = self.session().await?;
        let findings = preflight::preflight(&mut session, &self.target, &facts).await;
        session.close().await;
        findings
    }

    async fn take(
        &self,
        claim: &Claim,
        patience: Duration,
        observer: &dyn Observer,
    ) -> Result<Box<dyn Hand>, TakeError> {
        let taking = take::take(&self.target, claim, patience, observer);
        // Each wait inside has its limit; this one is for a server that stops answering in the middle.
        match tokio::time::timeout(patience + SILENCE_LIMIT, taking).await {
            Ok(taken) => Ok(Box::new(taken?)),
            Err(_) => Err(DbError::TimedOut {
                what: self.target.place.clone(),
                blockers: Vec::new(),
            }
            .into()),
        }
    }

    async fn blockers(&self, executor: &ExecutorId) -> Result<Vec<Blocker>, DbError> {
        let (mut session, facts) = self.session().await?;
        let blockers =
            others::in_the_way(&mut session, &self.target, &facts, number(&executor.session)).await;
        session.close().await;
        Ok(blockers?)
    }

    async fn end_executor(&self, executor: &ExecutorId, patience: Duration) -> Result<(), DbError> {
        let (mut session, facts) = self.session().await?;
        let deadline = Instant::now() + patience;
        let ended = others::end_executor(&mut session, &self.target, &facts, executor, deadline).await;
        session.close().await;
        ended.map(|_| ())
    }

    async fn cancel(&self, executor: &ExecutorId) -> Result<(), DbError> {
        let (mut session, facts) = self.session().await?;
        let cancelled = others::cancel(&mut session, &self.target, &facts, executor).await;
        session.close().await;
        cancelled
    }
}
