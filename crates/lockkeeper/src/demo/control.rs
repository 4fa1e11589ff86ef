//! Calls to whichever coordinator answers.

use std::time::Duration;

use lockkeeper_proto::v1;
use lockkeeper_proto::v1::fleet_service_client::FleetServiceClient;
use lockkeeper_proto::v1::rollout_service_client::RolloutServiceClient;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use crate::client::{refused, request};
use crate::exit::{Exit, Failure};

/// How long one coordinator may take to accept a connection, and to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// How long no coordinator may answer: longer than an election.
const PATIENCE: Duration = Duration::from_secs(15);

/// Pause before all are asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// All coordinators.
#[derive(Debug, Clone)]
pub(super) struct Control {
    channels: Vec<Channel>,
}

impl Control {
    pub(super) fn new(addresses: &[String]) -> Result<Self, Failure> {
        let channel = |address: &String| {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))
                .map_err(|e| Failure::new(Exit::Error, format!("coordinator {address}: {e}")))?;
            Ok(endpoint
                .connect_timeout(CONNECT_TIMEOUT)
                .tcp_nodelay(true)
                .connect_lazy())
        };
        Ok(Self {
            channels: addresses.iter().map(channel).collect::<Result<_, Failure>>()?,
        })
    }

    /// Asks one after the other until one answers.
    async fn ask<T, F: Future<Output = Result<T, Status>>>(
        &self,
        call: impl Fn(Channel) -> F,
    ) -> Result<T, Failure> {
        let until = Instant::now() + PATIENCE;
        loop {
            let mut last = Status::unavailable("nobody was asked");
            for channel in &self.channels {
                let answer = tokio::time::timeout(ANSWER_TIMEOUT, call(channel.clone())).await;
                match answer.unwrap_or_else(|_| Err(Status::unavailable("no answer in time"))) {
                    Ok(answer) => return Ok(answer),
                    Err(status) if is_passing(status.code()) => last = status,
                    Err(status) => return Err(refused(status)),
                }
            }
            if Instant::now() >= until {
                let text = format!(
                    "ask the coordinators for {} s: {}",
                    PATIENCE.as_secs(),
                    last.message()
                );
                return Err(Failure::new(Exit::TimedOut, text));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    pub(super) async fn status(&self) -> Result<v1::GetStatusResponse, Failure> {
        let call = async |channel| {
            FleetServiceClient::new(channel)
                .get_status(request(v1::GetStatusRequest {}))
                .await
        };
        Ok(self.ask(call).await?.into_inner())
    }

    pub(super) async fn explain(&self, target: &str) -> Result<v1::ExplainResponse, Failure> {
        let call = |channel| {
            let message = v1::ExplainRequest {
                target: target.to_owned(),
            };
            async move { FleetServiceClient::new(channel).explain(request(message)).await }
        };
        Ok(self.ask(call).await?.into_inner())
    }

    pub(super) async fn apply_targets(&self, targets: Vec<v1::TargetSpec>) -> Result<(), Failure> {
        let call = |channel| {
            let message = v1::ApplyTargetsRequest {
                targets: targets.clone(),
            };
            async move {
                FleetServiceClient::new(channel)
                    .apply_targets(request(message))
                    .await
            }
        };
        self.ask(call).await.map(drop)
    }

    pub(super) async fn create_rollout(&self, id: &str, spec: v1::RolloutSpec) -> Result<(), Failure> {
        let call = |channel| {
            let (id, requested_by) = (id.to_owned(), "lockkeeper demo".to_owned());
            let message = v1::CreateRolloutRequest {
                id,
                spec: Some(spec.clone()),
                requested_by,
            };
            async move {
                RolloutServiceClient::new(channel)
                    .create_rollout(request(message))
                    .await
            }
        };
        self.ask(call).await.map(drop)
    }

    pub(super) async fn rollout(&self, id: &str) -> Result<v1::Rollout, Failure> {
        let call = |channel| {
            let message = v1::GetRolloutRequest { id: id.to_owned() };
            async move {
                RolloutServiceClient::new(channel)
                    .get_rollout(request(message))
                    .await
            }
        };
        let answer = self.ask(call).await?.into_inner();
        answer
            .rollout
            .ok_or_else(|| Failure::new(Exit::Error, "read the rollout: the answer is empty"))
    }

    /// The rollout now and with every change, until the coordinator that tells is lost.
    pub(super) async fn watch_rollout(
        &self,
        id: &str,
    ) -> Result<Streaming<v1::WatchRolloutResponse>, Failure> {
        let call = |channel| {
            let message = v1::WatchRolloutRequest {
                id: id.to_owned(),
                ..v1::WatchRolloutRequest::default()
            };
            async move {
                RolloutServiceClient::new(channel)
                    .watch_rollout(request(message))
                    .await
            }
        };
        Ok(self.ask(call).await?.into_inner())
    }
}

/// What another coordinator, or the same one a moment later, may answer otherwise: a follower may not know yet what
/// the leader has just recorded.
fn is_passing(code: Code) -> bool {
    use Code::{Cancelled, DeadlineExceeded, Internal, NotFound, Unavailable, Unknown};
    matches!(
        code,
        Unavailable | Unknown | Cancelled | DeadlineExceeded | Internal | NotFound
    )
}
