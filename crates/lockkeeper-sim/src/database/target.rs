//! The target as one process looks at it and takes it.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use lockkeeper_core::row::ExecutorId;
use lockkeeper_migrate::db::{
    Blocker, Books, Claim, Database, DbError, Finding, Hand, Inspection, Observer, TakeError, VerifyOutcome,
};
use lockkeeper_migrate::dialect::Dialect;
use lockkeeper_migrate::fingerprint::Schema;
use lockkeeper_migrate::sql::Statement;
use tokio::time::Instant;

use super::session::Session;
use super::state::{Pid, State};
use super::{Server, taking};
use crate::node::Node;

/// One process's way to the server.
#[derive(Debug, Clone)]
pub struct Target {
    /// The server.
    pub server: Server,
    /// The process.
    pub node: Node,
}

impl Target {
    async fn look<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut State) -> Result<T, DbError> + Send + 'static,
    ) -> Result<T, DbError> {
        Session::open(&self.server, &self.node).await?.ask(question).await
    }
}

#[async_trait]
impl Database for Target {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    async fn inspect(&self) -> Result<Inspection, DbError> {
        self.look(|state| {
            Ok(Inspection {
                identity: State::identity(),
                server: "simulated".to_owned(),
                gate_row: state.row.clone(),
                ledger: state.ledger.clone(),
                other_ledgers: Vec::new(),
                books: Books::default(),
            })
        })
        .await
    }

    async fn schema(&self) -> Result<Schema, DbError> {
        self.look(|_| Ok(empty_schema())).await
    }

    async fn verify(&self, _: &[Statement]) -> Result<VerifyOutcome, DbError> {
        self.look(|_| Ok(VerifyOutcome::Passed)).await
    }

    async fn preflight(&self) -> Result<Vec<Finding>, DbError> {
        self.look(|_| Ok(Vec::new())).await
    }

    async fn take(
        &self,
        claim: &Claim,
        patience: Duration,
        _: &dyn Observer,
    ) -> Result<Box<dyn Hand>, TakeError> {
        let Claim::Leader { epoch, id } = claim else {
            return Err(DbError::Unsupported("only leaders are simulated".to_owned()).into());
        };
        let session = Session::open(&self.server, &self.node).await?;
        let hand = taking::take(session, *epoch, *id, Instant::now() + patience).await?;
        Ok(Box::new(hand))
    }

    async fn blockers(&self, executor: &ExecutorId) -> Result<Vec<Blocker>, DbError> {
        let executor = executor.clone();
        self.look(move |state| {
            let others = state
                .sessions
                .iter()
                .filter(|(pid, session)| pid.to_string() != executor.session && !session.writes.is_empty());
            Ok(others
                .map(|(pid, session)| blocker(*pid, &session.node))
                .collect())
        })
        .await
    }

    async fn end_executor(&self, executor: &ExecutorId, patience: Duration) -> Result<(), DbError> {
        let session = Session::open(&self.server, &self.node).await?;
        let (server, executor) = (self.server.clone(), executor.clone());
        session
            .run(async move {
                match taking::end(&server, &executor, Instant::now() + patience).await {
                    true => Ok(()),
                    false => Err(DbError::TimedOut {
                        what: format!("the end of {executor}"),
                        blockers: Vec::new(),
                    }),
                }
            })
            .await
    }

    async fn cancel(&self, executor: &ExecutorId) -> Result<(), DbError> {
        let executor = executor.clone();
        self.look(move |state| {
            let pid = executor.session.parse().unwrap_or(0);
            if let Some(session) = state.sessions.get_mut(&pid)
                && session.busy
            {
                session.cancelled = true;
            }
            Ok(())
        })
        .await
    }
}

/// The simulation knows no schema: what migrations did is told by the checker.
pub(super) fn empty_schema() -> Schema {
    Schema::new(Dialect::Postgres, "simulated".to_owned(), BTreeMap::new())
}

pub(super) fn blocker(pid: Pid, node: &str) -> Blocker {
    Blocker {
        kind: "session".to_owned(),
        id: pid.to_string(),
        user: None,
        application: Some(node.to_owned()),
        query: None,
        age_ms: 0,
    }
}
