//! The one thread that changes the embedded store.
//!
//! Commits that wait while another is being written to disk are written together: one flush for all of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use lockkeeper_core::time::Instant;
use redb::{Database, Durability};
use tokio::sync::oneshot;

use super::history::History;
use super::leases::Leases;
use super::tables::Batch;
use crate::clock::Clock;
use crate::store::{Change, Lease, LeaseId, Outcome, Revision, StoreError, Txn};

/// Most requests that share one flush.
const BATCH_MAX: usize = 256;

/// Longest sleep while a lease lives: the boot-time clock may jump ahead of the timer when the machine slept.
const LEASE_CHECK_MAX: Duration = Duration::from_millis(100);

/// Sleep while no lease lives; only a request ends it sooner.
const IDLE: Duration = Duration::from_secs(3600);

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What callers ask of the thread. A caller that stopped waiting is answered into the void.
#[derive(Debug)]
pub(super) enum Request {
    Grant(Duration, Reply<Lease>),
    Renew(LeaseId, Reply<Duration>),
    Revoke(LeaseId, Reply<()>),
    Commit(Txn, Reply<Outcome>),
}

/// An answer that is held back until its batch is on disk.
enum Answer {
    Lease(Reply<Lease>, Lease),
    Renewed(Reply<Duration>, Result<Duration, StoreError>),
    Revoked(Reply<()>, Result<(), StoreError>),
    Outcome(Reply<Outcome>, Result<Outcome, StoreError>),
}

impl Answer {
    fn send(self) {
        match self {
            Self::Lease(reply, lease) => drop(reply.send(Ok(lease))),
            Self::Renewed(reply, result) => drop(reply.send(result)),
            Self::Revoked(reply, result) => drop(reply.send(result)),
            Self::Outcome(reply, result) => drop(reply.send(result)),
        }
    }
}

pub(super) struct Engine {
    pub(super) database: Arc<Database>,
    pub(super) history: Arc<History>,
    pub(super) clock: Arc<dyn Clock>,
    leases: Leases,
}

impl Engine {
    pub(super) fn new(database: Arc<Database>, history: Arc<History>, clock: Arc<dyn Clock>) -> Self {
        Self {
            database,
            history,
            clock,
            leases: Leases::default(),
        }
    }

    /// Runs until every sender is gone, or the disk failed: then nothing more is accepted, because what the next
    /// commit would build on is not known.
    pub(super) fn run(mut self, requests: &Receiver<Request>) {
        loop {
            let wait = self
                .leases
                .next(self.clock.now())
                .map_or(IDLE, |next| next.min(LEASE_CHECK_MAX));
            let batch: Vec<Request> = match requests.recv_timeout(wait.max(Duration::from_millis(1))) {
                Ok(first) => std::iter::once(first)
                    .chain(requests.try_iter())
                    .take(BATCH_MAX)
                    .collect(),
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if let Err(error) = self.process(batch) {
                tracing::error!(%error, "the embedded store failed; restart this process");
                break;
            }
        }
        self.history.close();
    }

    fn process(&mut self, requests: Vec<Request>) -> Result<(), redb::Error> {
        let now = self.clock.now();
        let expired = self.leases.expire(now);
        let writes = |request: &Request| matches!(request, Request::Revoke(..) | Request::Commit(..));
        if expired.is_empty() && !requests.iter().any(writes) {
            for request in requests {
                self.lease_request(request, now).send();
            }
            return Ok(());
        }
        // Should anything below fail, the replies are dropped, which their callers read as an unknown outcome.
        let (answers, commits) = self.write(expired, requests, now)?;
        self.history.publish(commits);
        answers.into_iter().for_each(Answer::send);
        Ok(())
    }

    #[expect(
        clippy::type_complexity,
        reason = "the two halves are used at once by the only caller"
    )]
    fn write(
        &mut self,
        expired: Vec<BTreeSet<String>>,
        requests: Vec<Request>,
        now: Instant,
    ) -> Result<(Vec<Answer>, Vec<(Revision, Vec<Change>)>), redb::Error> {
        let database = Arc::clone(&self.database);
        let mut write = database.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        let mut answers = Vec::with_capacity(requests.len());
        let mut batch = Batch::open(&write)?;
        for keys in expired {
            batch.remove(keys)?;
        }
        for request in requests {
            answers.push(match request {
                Request::Commit(txn, reply) => Answer::Outcome(reply, batch.apply(&txn, &mut self.leases)?),
                Request::Revoke(lease, reply) => {
                    let keys = self.leases.end(lease);
                    let result = if keys.is_some() {
                        Ok(())
                    } else {
                        Err(StoreError::LeaseGone)
                    };
                    batch.remove(keys.unwrap_or_default())?;
                    Answer::Revoked(reply, result)
                }
                other => self.lease_request(other, now),
            });
        }
        let commits = batch.finish()?;
        if commits.is_empty() {
            write.abort()?;
        } else {
            write.commit()?;
        }
        Ok((answers, commits))
    }

    fn lease_request(&mut self, request: Request, now: Instant) -> Answer {
        match request {
            Request::Grant(ttl, reply) => Answer::Lease(reply, self.leases.grant(ttl, now)),
            Request::Renew(lease, reply) => {
                Answer::Renewed(reply, self.leases.renew(lease, now).ok_or(StoreError::LeaseGone))
            }
            // Only reached when no transaction is open, that is never; answering is still better than a panic.
            Request::Revoke(_, reply) => {
                Answer::Revoked(reply, Err(StoreError::Unavailable("no transaction".to_owned())))
            }
            Request::Commit(_, reply) => {
                Answer::Outcome(reply, Err(StoreError::Unavailable("no transaction".to_owned())))
            }
        }
    }
}
