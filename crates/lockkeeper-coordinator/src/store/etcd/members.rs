//! The members of the cluster, and which of them is asked.
//!
//! One client per member instead of the client's own balancing: that one keeps sending every n-th request to a
//! member that is dead or frozen, and cannot say which member an answer came from.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{Client, ConnectOptions};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, timeout_at};

use super::EtcdOptions;
use super::failure::Failure;
use crate::store::StoreError;

/// Interval of HTTP/2 pings: etcd closes connections that ping more often than every 5 s.
const PING_INTERVAL: Duration = Duration::from_secs(6);

#[derive(Debug)]
pub(super) struct Members {
    members: Vec<Member>,
    preferred: AtomicUsize,
    request_timeout: Duration,
}

/// One member and its own connection, which is made when it is first needed and made again after it broke.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) endpoint: String,
    pub(super) client: Client,
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.endpoint)
    }
}

impl Members {
    pub(super) async fn connect(endpoints: &[String], options: &EtcdOptions) -> Result<Self, StoreError> {
        if endpoints.is_empty() {
            return Err(StoreError::Invalid("no etcd endpoint is given".to_owned()));
        }
        let connect = ConnectOptions::new()
            .with_require_leader(true)
            .with_keep_alive(PING_INTERVAL, options.request_timeout)
            .with_connect_timeout(options.request_timeout / 4);
        let mut members = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            let client = Client::connect([endpoint], Some(connect.clone()))
                .await
                .map_err(|error| StoreError::Invalid(format!("etcd endpoint {endpoint:?}: {error}")))?;
            members.push(Member {
                endpoint: endpoint.clone(),
                client,
            });
        }
        // Coordinators spread over the members instead of all using the first.
        let preferred = AtomicUsize::new(fastrand::usize(..members.len()));
        Ok(Self {
            members,
            preferred,
            request_timeout: options.request_timeout,
        })
    }

    /// Every member once, the preferred one first.
    fn rotation(&self) -> impl Iterator<Item = (usize, &Member)> {
        let count = self.members.len();
        let first = self.preferred.load(Ordering::Relaxed);
        (0..count)
            .map(move |step| (first + step) % count)
            .map(|index| (index, &self.members[index]))
    }

    /// For what must be sent at most once: another member is asked only when it is sure that nothing was done.
    pub(super) async fn once<T, F, R>(&self, operation: F) -> Result<T, StoreError>
    where
        F: Fn(Member) -> R,
        R: Future<Output = Result<T, Failure>>,
    {
        let deadline = Instant::now() + self.request_timeout;
        let mut reasons = Vec::new();
        for (index, member) in self.rotation() {
            match timeout_at(deadline, operation(member.clone())).await {
                Ok(Ok(value)) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(value);
                }
                Ok(Err(Failure::NotDone(reason))) => reasons.push(reason),
                Ok(Err(Failure::Refused(error))) => return Err(error),
                Ok(Err(Failure::Lost(reason))) => {
                    self.leave(index);
                    return Err(StoreError::Unknown(reason));
                }
                Err(_) => {
                    self.leave(index);
                    return Err(StoreError::Unknown(self.silence(member)));
                }
            }
        }
        Err(StoreError::Unavailable(reasons.join("; ")))
    }

    /// For what may be done twice: a member that fails or is silent for an eighth of the timeout gets company, and
    /// the first usable answer wins. So one frozen member does not cost a lease.
    pub(super) async fn hedged<T, F, R>(&self, operation: F) -> Result<T, StoreError>
    where
        F: Fn(Member) -> R,
        R: Future<Output = Result<T, Failure>>,
    {
        let deadline = Instant::now() + self.request_timeout;
        let mut waiting = self.rotation();
        let mut attempts = FuturesUnordered::new();
        let mut reasons = Vec::new();
        let mut lost = false;
        loop {
            let next = waiting.next();
            let patience = match next {
                Some((index, member)) => {
                    let attempt = operation(member.clone());
                    attempts.push(async move { (index, attempt.await) });
                    deadline.min(Instant::now() + self.request_timeout / 8)
                }
                None => deadline,
            };
            match timeout_at(patience, attempts.next()).await {
                Ok(Some((index, Ok(value)))) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(value);
                }
                Ok(Some((_, Err(Failure::Refused(error))))) => return Err(error),
                Ok(Some((_, Err(Failure::NotDone(reason))))) => reasons.push(reason),
                Ok(Some((_, Err(Failure::Lost(reason))))) => {
                    lost = true;
                    reasons.push(reason);
                }
                Ok(None) if next.is_none() => break,
                Ok(None) => {}
                Err(_) if Instant::now() >= deadline => {
                    lost = true;
                    reasons.push(format!("no answer within {:?}", self.request_timeout));
                    break;
                }
                Err(_) => {}
            }
        }
        let reasons = reasons.join("; ");
        Err(if lost {
            StoreError::Unknown(reasons)
        } else {
            StoreError::Unavailable(reasons)
        })
    }

    fn silence(&self, member: &Member) -> String {
        format!("{}: no answer within {:?}", member.endpoint, self.request_timeout)
    }

    /// The next request starts at another member.
    fn leave(&self, index: usize) {
        let next = (index + 1) % self.members.len();
        let _ = self
            .preferred
            .compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}
