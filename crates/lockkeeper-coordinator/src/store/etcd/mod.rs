//! The store on etcd 3.4 or later.

mod failure;
mod keys;
mod members;
mod release;
mod watch;

use std::time::Duration;

use async_trait::async_trait;
use etcd_client::GetOptions;
use lockkeeper_core::id::FleetName;

use self::failure::Failure;
use self::keys::Keys;
use self::members::{Member, Members};
use super::check::check;
use super::{Entry, Lease, LeaseId, Listing, Outcome, Revision, Store, StoreError, Txn, Watch};

/// Largest answer to a read: the records of a fleet with some thousand targets.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How to talk to etcd.
#[derive(Debug, Clone)]
pub struct EtcdOptions {
    /// How long one request may take before its outcome counts as unknown. The default of 2 s is longer than an
    /// election among healthy members, and leaves a leadership lease of 3 s a second try.
    pub request_timeout: Duration,
}

impl Default for EtcdOptions {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(2),
        }
    }
}

/// The store on an etcd cluster. Cheap to clone an `Arc` of; connections are made when they are first needed.
#[derive(Debug)]
pub struct EtcdStore {
    members: Members,
    keys: Keys,
    request_timeout: Duration,
}

impl EtcdStore {
    /// Prepares the connections to `endpoints` (`host:port`). Nothing is sent yet, so this works while etcd is away.
    pub async fn connect(
        endpoints: &[String],
        fleet: &FleetName,
        options: EtcdOptions,
    ) -> Result<Self, StoreError> {
        let members = Members::connect(endpoints, &options).await?;
        Ok(Self {
            members,
            keys: Keys::of(fleet),
            request_timeout: options.request_timeout,
        })
    }
}

#[async_trait]
impl Store for EtcdStore {
    async fn grant(&self, ttl: Duration) -> Result<Lease, StoreError> {
        // etcd counts in seconds; rounding down would grant less than what was asked for.
        let seconds = i64::try_from(ttl.as_millis().div_ceil(1000))
            .unwrap_or(i64::MAX)
            .max(1);
        self.members
            .once(|member| async move {
                let answer = member.client.lease_client().grant(seconds, None).await;
                let answer = answer.map_err(|error| Failure::of(&member.endpoint, &error))?;
                Ok(Lease {
                    id: LeaseId(answer.id()),
                    ttl: granted(&member, answer.ttl())?,
                })
            })
            .await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        self.members.hedged(|member| renew(member, lease)).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.members
            .hedged(|member| async move {
                let answer = member.client.lease_client().revoke(lease.0).await;
                answer
                    .map(drop)
                    .map_err(|error| Failure::of(&member.endpoint, &error))
            })
            .await
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let key = self.keys.full(key);
        self.members
            .hedged(|member| {
                let key = key.clone();
                async move {
                    let answer = member.client.kv_client().get(key, None).await;
                    let answer = answer.map_err(|error| Failure::of(&member.endpoint, &error))?;
                    answer.kvs().first().map(|row| self.keys.entry(row)).transpose()
                }
            })
            .await
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        let prefix = self.keys.full(prefix);
        self.members
            .hedged(|member| {
                let prefix = prefix.clone();
                async move {
                    let mut client = member
                        .client
                        .kv_client()
                        .max_decoding_message_size(ANSWER_BYTES_MAX);
                    let answer = client.get(prefix, Some(GetOptions::new().with_prefix())).await;
                    let answer = answer.map_err(|error| Failure::of(&member.endpoint, &error))?;
                    self.keys.listing(&answer)
                }
            })
            .await
    }

    async fn commit(&self, txn: Txn) -> Result<Outcome, StoreError> {
        check(&txn)?;
        let request = self.keys.txn(&txn);
        self.members
            .once(|member| {
                let (request, txn) = (request.clone(), &txn);
                async move {
                    let mut client = member
                        .client
                        .kv_client()
                        .max_decoding_message_size(ANSWER_BYTES_MAX);
                    let answer = client.txn(request).await;
                    let answer = answer.map_err(|error| Failure::of(&member.endpoint, &error))?;
                    self.keys.outcome(txn, &answer)
                }
            })
            .await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, StoreError> {
        // etcd reads 0 as "from now on"; the port promises every change, which none can keep that far back.
        if from == 0 {
            return Err(StoreError::Compacted(from));
        }
        self.members
            .hedged(|member| watch::start(member, &self.keys, prefix, from, self.request_timeout))
            .await
    }

    async fn describe(&self) -> Result<String, StoreError> {
        let (endpoint, version) = self
            .members
            .hedged(|member| async move {
                let answer = member.client.maintenance_client().status().await;
                let answer = answer.map_err(|error| Failure::of(&member.endpoint, &error))?;
                Ok((member.endpoint.clone(), answer.version().to_owned()))
            })
            .await?;
        let warning =
            release::warning(&version).map_or_else(String::new, |text| format!("; warning: {text}"));
        Ok(format!("etcd {version} at {endpoint}{warning}"))
    }
}

/// Renews once. The client opens a stream with a first renewal but does not tell the time that it granted, so a
/// second one goes through the same stream.
async fn renew(member: Member, lease: LeaseId) -> Result<Duration, Failure> {
    let failed = |error| Failure::of(&member.endpoint, &error);
    let (mut keeper, mut answers) = member
        .client
        .lease_client()
        .keep_alive(lease.0)
        .await
        .map_err(failed)?;
    keeper.keep_alive().await.map_err(failed)?;
    match answers.message().await.map_err(failed)? {
        Some(answer) if answer.ttl() <= 0 => Err(Failure::Refused(StoreError::LeaseGone)),
        Some(answer) => granted(&member, answer.ttl()),
        None => Err(Failure::Lost(format!(
            "{}: the renewal was not answered",
            member.endpoint
        ))),
    }
}

fn granted(member: &Member, seconds: i64) -> Result<Duration, Failure> {
    match u64::try_from(seconds) {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err(Failure::Lost(format!(
            "{}: a lease of {seconds} s",
            member.endpoint
        ))),
    }
}
