//! How an agent is configured. Everything is checked here, once.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lockkeeper_core::id::{Incarnation, TargetName};
use lockkeeper_core::permits::OnLoss;
use tonic::metadata::MetadataMap;
use tracing::Span;
use uuid::Uuid;

use crate::agent::Agent;
use crate::clock::{BootClock, Clock};
use crate::coordinators::{Coordinator, Dial, Tcp};
use crate::error::{AgentError, BuildError};
use crate::gate_row::RowReader;
use crate::shared::ContinueTrace;
use crate::target::TargetConfig;
use crate::versions::Versions;
use crate::wait::{self, Opened, Progress};
use crate::wire::Identity;

/// Most targets that one agent may have: bounds the messages, and what a renewal costs a coordinator.
pub const TARGETS_MAX: usize = 256;

type AddMetadata = Arc<dyn Fn(&mut MetadataMap) + Send + Sync>;

/// Collects what an agent needs to know. Made by [`Agent::builder`].
#[derive(Clone)]
#[must_use]
pub struct AgentBuilder {
    service: String,
    replica: String,
    region: String,
    release: String,
    incarnation: Option<Uuid>,
    coordinators: Vec<String>,
    targets: Vec<(String, Versions)>,
    on_loss: Vec<(String, OnLoss)>,
    gate_rows: Vec<RowReader>,
    write_timeout: Option<Duration>,
    add_metadata: Option<AddMetadata>,
    continue_trace: Option<ContinueTrace>,
    clock: Arc<dyn Clock>,
    dial: Arc<dyn Dial>,
}

impl Default for AgentBuilder {
    fn default() -> Self {
        Self {
            service: String::new(),
            replica: String::new(),
            region: String::new(),
            release: String::new(),
            incarnation: None,
            coordinators: Vec::new(),
            targets: Vec::new(),
            on_loss: Vec::new(),
            gate_rows: Vec::new(),
            write_timeout: None,
            add_metadata: None,
            continue_trace: None,
            clock: Arc::new(BootClock),
            dial: Arc::new(Tcp),
        }
    }
}

impl AgentBuilder {
    /// The service, for example `kratos`. Required.
    pub fn service(mut self, name: impl Into<String>) -> Self {
        self.service = name.into();
        self
    }

    /// The replica's stable name, for example the pod's. Required. Two processes must not share it: the newer start
    /// wins, and the older is fenced for good.
    pub fn replica(mut self, name: impl Into<String>) -> Self {
        self.replica = name.into();
        self
    }

    /// The region that the replica runs in. Required.
    pub fn region(mut self, name: impl Into<String>) -> Self {
        self.region = name.into();
        self
    }

    /// The program's release, for people. Default: none.
    pub fn release(mut self, release: impl Into<String>) -> Self {
        self.release = release.into();
        self
    }

    /// The id of this process start, a UUIDv7. Default: a new one.
    pub fn incarnation(mut self, incarnation: Uuid) -> Self {
        self.incarnation = Some(incarnation);
        self
    }

    /// Another way to the coordinators than TCP.
    pub fn dial(mut self, dial: Arc<dyn Dial>) -> Self {
        self.dial = dial;
        self
    }

    /// Where coordinators listen: `http://host:port` or `host:port`. At least one is required; the agent uses any
    /// that answers.
    pub fn coordinators<A: Into<String>>(mut self, addresses: impl IntoIterator<Item = A>) -> Self {
        self.coordinators.extend(addresses.into_iter().map(Into::into));
        self
    }

    /// A database that the service writes to, and the schema versions that this release can work with. At least one
    /// is required.
    pub fn target(mut self, name: impl Into<String>, versions: impl Into<Versions>) -> Self {
        self.targets.push((name.into(), versions.into()));
        self
    }

    /// What to do about a target when no coordinator can be reached. Default: [`OnLoss::Stop`]. [`OnLoss::GoOn`] is
    /// safe only where the target has a barrier.
    pub fn on_loss(mut self, target: impl Into<String>, policy: OnLoss) -> Self {
        self.on_loss.push((target.into(), policy));
        self
    }

    /// A way to the target's own gate row. While no coordinator answers, the agent reads there whether the gate is
    /// open, and at which version: so it can also *start* without a coordinator. It goes on without one as with
    /// [`OnLoss::GoOn`], which this implies: only for targets with a barrier. `order` is how the target's migration
    /// layout orders versions (`lexical` for pop, `numeric` for golang-migrate).
    #[cfg(feature = "sqlx")]
    pub fn gate_row<DB: crate::sqlx::Gated>(
        mut self,
        target: impl Into<String>,
        order: lockkeeper_core::version::VersionOrder,
        pool: &::sqlx::Pool<DB>,
    ) -> Self {
        let (target, pool) = (target.into(), pool.clone());
        let read = move || {
            let pool = pool.clone();
            let reading = async move {
                let mut conn = pool.acquire().await.map_err(|e| e.to_string())?;
                DB::look(&mut conn).await.map_err(|e| e.to_string())
            };
            Box::pin(reading) as crate::gate_row::Reading
        };
        self.on_loss.push((target.clone(), OnLoss::GoOn));
        self.gate_rows.push(RowReader {
            target,
            order,
            read: Arc::new(read),
        });
        self
    }

    /// How long [`Agent::write`] waits for a fenced target. Default: for ever.
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.write_timeout = Some(timeout);
        self
    }

    /// Adds metadata to each registration, for example a trace context or a token.
    pub fn metadata(mut self, add: impl Fn(&mut MetadataMap) + Send + Sync + 'static) -> Self {
        self.add_metadata = Some(Arc::new(add));
        self
    }

    /// Traces every fence as a span `fenced` in the trace of the rollout that raised it. `continue_trace` is given the
    /// span and the rollout's W3C `traceparent`, and makes it the span's parent: with `tracing-opentelemetry`, extract
    /// a context from the text and call `set_parent`.
    pub fn trace_fences(mut self, continue_trace: impl Fn(&Span, &str) + Send + Sync + 'static) -> Self {
        self.continue_trace = Some(Arc::new(continue_trace));
        self
    }

    /// The clock that leases are compared with. Default: the machine's boot-time clock; tests bring their own.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Checks everything and starts the agent's background task, which registers at once.
    ///
    /// # Errors
    ///
    /// What is missing or wrong. A coordinator that cannot be reached is no error: the agent goes on trying.
    pub fn build(self) -> Result<Agent, BuildError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
        let (clock, write_timeout) = (Arc::clone(&self.clock), self.write_timeout);
        Ok(Agent::start(&runtime, self.check()?, clock, write_timeout))
    }

    /// Builds no agent, but waits until every target is open at a version that fits, telling `progress` what it
    /// waits for. A waiter is never granted a write lease, and no rollout waits for it: for init containers.
    ///
    /// # Errors
    ///
    /// What is missing or wrong, or that a coordinator rejected the registration. Coordinators that cannot be
    /// reached are no error: it goes on trying, so bound it with a time-out.
    pub async fn wait_open(
        self,
        progress: impl FnMut(Progress<'_>) + Send,
    ) -> Result<Vec<Opened>, WaitError> {
        let config = self.check()?;
        Ok(wait::until_open(&config, progress).await?)
    }

    fn check(self) -> Result<Config, BuildError> {
        let identity = Identity {
            service: self.service.parse()?,
            replica: self.replica.parse()?,
            region: self.region.parse()?,
            release: self.release,
            incarnation: Incarnation(self.incarnation.unwrap_or_else(Uuid::now_v7)),
        };
        if self.coordinators.is_empty() {
            return Err(BuildError::NoCoordinator);
        }
        let coordinators = self
            .coordinators
            .iter()
            .map(|address| Coordinator::parse(address));
        Ok(Config {
            identity,
            coordinators: coordinators.collect::<Result<_, _>>()?,
            targets: check_targets(self.targets, &self.on_loss)?,
            dial: self.dial,
            gate_rows: self.gate_rows,
            add_metadata: self.add_metadata,
            continue_trace: self.continue_trace,
        })
    }
}

fn check_targets(
    targets: Vec<(String, Versions)>,
    on_loss: &[(String, OnLoss)],
) -> Result<Vec<TargetConfig>, BuildError> {
    match targets.len() {
        0 => return Err(BuildError::NoTarget),
        1..=TARGETS_MAX => {}
        count => return Err(BuildError::TooManyTargets { count }),
    }
    if let Some((name, _)) = on_loss
        .iter()
        .find(|(name, _)| targets.iter().all(|(target, _)| target != name))
    {
        return Err(BuildError::PolicyWithoutTarget(name.clone()));
    }
    let mut seen = HashSet::new();
    let check = |(name, versions): (String, Versions)| {
        let policy = on_loss.iter().rfind(|(target, _)| *target == name);
        let name: TargetName = name.parse()?;
        if !seen.insert(name.clone()) {
            return Err(BuildError::DuplicateTarget(name));
        }
        let on_loss = policy.map(|(_, policy)| *policy).unwrap_or_default();
        Ok(TargetConfig {
            name,
            versions: versions.0,
            on_loss,
        })
    };
    targets.into_iter().map(check).collect()
}

/// Why waiting for open targets failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The waiter cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A coordinator ended the wait.
    #[error(transparent)]
    Agent(#[from] AgentError),
}

/// What has been checked.
pub(crate) struct Config {
    pub(crate) identity: Identity,
    pub(crate) coordinators: Vec<Coordinator>,
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) targets: Vec<TargetConfig>,
    pub(crate) gate_rows: Vec<RowReader>,
    add_metadata: Option<AddMetadata>,
    pub(crate) continue_trace: Option<ContinueTrace>,
}

impl Config {
    pub(crate) fn add_metadata<T>(&self, request: &mut tonic::Request<T>) {
        if let Some(add) = &self.add_metadata {
            add(request.metadata_mut());
        }
    }
}

impl fmt::Debug for AgentBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentBuilder")
            .field("service", &self.service)
            .field("replica", &self.replica)
            .field("region", &self.region)
            .field("coordinators", &self.coordinators)
            .field("targets", &self.targets)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> AgentBuilder {
        AgentBuilder::default()
            .service("kratos")
            .replica("kratos-1")
            .region("eu-west-1")
            .coordinators(["127.0.0.1:1"])
            .target("kratos/eu-west-1", "1"..="2")
    }

    fn problem(builder: AgentBuilder) -> String {
        builder.check().map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn whatever_is_missing_or_wrong_is_named() {
        assert!(whole().check().is_ok());
        assert_eq!(problem(whole().replica("")), "replica name is empty");
        assert_eq!(
            problem(whole().target("kratos/eu-west-1", ..)),
            "target kratos/eu-west-1 is given twice"
        );
        assert!(
            problem(whole().on_loss("other", OnLoss::GoOn))
                .contains("\"other\", which is none of the targets")
        );
        assert!(
            problem(AgentBuilder {
                coordinators: Vec::new(),
                ..whole()
            })
            .contains("no coordinator")
        );
        assert!(
            problem(AgentBuilder {
                targets: Vec::new(),
                ..whole()
            })
            .contains("no target")
        );
        let many = (0..TARGETS_MAX).fold(whole(), |builder, n| builder.target(format!("t{n}"), ..));
        assert_eq!(problem(many), "257 targets are given; at most 256 are allowed");
    }

    #[test]
    fn an_agent_needs_a_runtime() {
        assert!(matches!(whole().build(), Err(BuildError::NoRuntime)));
    }

    #[test]
    fn ranges_become_version_ranges() {
        let range = |versions: Versions| (versions.0.min.map(|v| v.0), versions.0.max.map(|v| v.0));
        assert_eq!(range(("1"..="2").into()), (Some("1".into()), Some("2".into())));
        assert_eq!(range(("1"..).into()), (Some("1".into()), None));
        assert_eq!(range((..="2".to_owned()).into()), (None, Some("2".into())));
        assert_eq!(range((..).into()), (None, None));
        assert_eq!(range((None::<&str>, Some("2")).into()), (None, Some("2".into())));
    }
}
