//! The operator: declares targets, begins rollouts up and down, decides about those that are held.

use std::time::Duration;

use lockkeeper_coordinator::world::Peers;
use lockkeeper_core::spec::TargetSpec;
use lockkeeper_proto::v1;
use lockkeeper_proto::v1::fleet_service_client::FleetServiceClient;
use lockkeeper_proto::v1::rollout_service_client::RolloutServiceClient;
use lockkeeper_proto::v1::ruling::What;
use tonic::transport::Channel;

use crate::chance::Chance;
use crate::fleet::Fleet;
use crate::net::Way;
use crate::node::Node;
use crate::run::VERSIONS;
use crate::tell;

/// How long one call may take.
const CALL: Duration = Duration::from_secs(10);

/// Who operates a fleet.
#[derive(Debug, Clone)]
pub struct Operator {
    fleet: Fleet,
    node: Node,
    way: Way,
    chance: Chance,
}

impl Operator {
    /// One at a machine of their own.
    #[must_use]
    pub fn new(fleet: &Fleet, chance: Chance) -> Self {
        let node = fleet.bystander("operator");
        Self {
            fleet: fleet.clone(),
            way: fleet.way(&node),
            node,
            chance,
        }
    }

    /// Declares every target, until it is done.
    pub async fn declare(&self) {
        let specs: Vec<TargetSpec> = self.fleet.servers.iter().map(declaration).collect();
        let targets: Vec<v1::TargetSpec> = specs.into_iter().map(Into::into).collect();
        loop {
            let message = v1::ApplyTargetsRequest {
                targets: targets.clone(),
            };
            let applied = self
                .ask(async |channel| {
                    FleetServiceClient::new(channel)
                        .apply_targets(message.clone())
                        .await
                })
                .await;
            if applied.is_some() {
                return;
            }
            self.node.sleep(Duration::from_millis(500)).await;
        }
    }

    /// Begins one rollout after the other, and now and then aborts or retries one.
    pub async fn operate(&self) {
        for number in 1..=VERSIONS {
            let (id, to) = (format!("r{number}"), number.to_string());
            while !self.create(&id, &to).await {
                self.node.sleep(self.chance.millis(200, 2000)).await;
            }
            tell!(self.fleet.trace, "operator", "began {id} to {to}");
            self.see_through(&id).await;
            self.node.sleep(self.chance.millis(100, 3000)).await;
        }
    }

    async fn see_through(&self, id: &str) {
        loop {
            self.node.sleep(self.chance.millis(1000, 5000)).await;
            let Some(rollout) = self.get(id).await else {
                continue;
            };
            if is_over(&rollout) {
                return;
            }
            if self.chance.percent(6) {
                self.meddle(id).await;
            } else {
                self.decide(id, &rollout).await;
            }
        }
    }

    /// What is held is retried or aborted, what is paused goes on.
    async fn decide(&self, id: &str, rollout: &v1::Rollout) {
        if rollout.state() == v1::RolloutState::Paused {
            self.rule(id, What::Resume(v1::ruling::Resume {})).await;
        } else if is_held(rollout) && self.chance.percent(20) {
            // It may be paused besides: then nothing is retried before it is resumed.
            self.rule(id, What::Resume(v1::ruling::Resume {})).await;
        } else if is_held(rollout) && self.chance.percent(70) {
            let message = v1::RetryRolloutRequest {
                id: id.to_owned(),
                requested_by: "operator".to_owned(),
                ..Default::default()
            };
            self.ask(async |channel| {
                RolloutServiceClient::new(channel)
                    .retry_rollout(message.clone())
                    .await
            })
            .await;
        } else if is_held(rollout) {
            self.abort(id).await;
        }
    }

    /// What an operator does on a whim.
    async fn meddle(&self, id: &str) {
        if self.chance.percent(50) {
            return self.abort(id).await;
        }
        self.rule(id, What::Pause(v1::ruling::Pause {})).await;
    }

    async fn rule(&self, id: &str, what: What) {
        let message = v1::DecideRolloutRequest {
            id: id.to_owned(),
            ruling: Some(v1::Ruling { what: Some(what) }),
            requested_by: "operator".to_owned(),
            ..Default::default()
        };
        self.ask(async |channel| {
            RolloutServiceClient::new(channel)
                .decide_rollout(message.clone())
                .await
        })
        .await;
    }

    async fn abort(&self, id: &str) {
        let message = v1::AbortRolloutRequest {
            id: id.to_owned(),
            reason: "to see what happens".to_owned(),
            requested_by: "operator".to_owned(),
            way: self.chance.below(4).try_into().unwrap_or(0),
            ..Default::default()
        };
        self.ask(async |channel| {
            RolloutServiceClient::new(channel)
                .abort_rollout(message.clone())
                .await
        })
        .await;
    }

    /// When everything works again, every rollout must come to its end, with decisions about what is held or paused. Gives
    /// the ones that do not.
    pub async fn wind_up(&self, patience: Duration) -> Vec<String> {
        let end = tokio::time::Instant::now() + patience;
        loop {
            self.node.sleep(Duration::from_secs(2)).await;
            if let Some(open) = self.not_over().await {
                if open.is_empty() {
                    return Vec::new();
                }
                if tokio::time::Instant::now() >= end {
                    return open.iter().map(told).collect();
                }
                for rollout in &open {
                    self.decide(&rollout.id, rollout).await;
                }
            } else if tokio::time::Instant::now() >= end {
                return vec!["no coordinator answers".to_owned()];
            }
        }
    }

    async fn not_over(&self) -> Option<Vec<v1::Rollout>> {
        let message = v1::ListRolloutsRequest::default();
        let listed = self
            .ask(async |channel| RolloutServiceClient::new(channel).list_rollouts(message).await)
            .await?;
        Some(
            listed
                .rollouts
                .into_iter()
                .filter(|rollout| !is_over(rollout))
                .collect(),
        )
    }

    async fn create(&self, id: &str, to: &str) -> bool {
        let on_failure = if self.chance.percent(50) {
            "rollback"
        } else {
            "hold"
        };
        let spec = serde_json::json!({
            "service": "svc", "to": to, "waves": [{"regions": ["eu"]}], "budget": "30s", "drain_timeout": "3s",
            "on_failure": on_failure, "require_strength": "cooperative",
        });
        let Ok(spec) = serde_json::from_value::<lockkeeper_core::spec::RolloutSpec>(spec) else {
            return false;
        };
        let message = v1::CreateRolloutRequest {
            id: id.to_owned(),
            spec: Some(spec.into()),
            requested_by: "operator".to_owned(),
        };
        self.ask(async |channel| {
            RolloutServiceClient::new(channel)
                .create_rollout(message.clone())
                .await
        })
        .await
        .is_some()
    }

    async fn get(&self, id: &str) -> Option<v1::Rollout> {
        let message = v1::GetRolloutRequest { id: id.to_owned() };
        self.ask(async |channel| {
            RolloutServiceClient::new(channel)
                .get_rollout(message.clone())
                .await
        })
        .await?
        .rollout
    }

    /// Asks any coordinator.
    async fn ask<T>(
        &self,
        call: impl AsyncFn(Channel) -> Result<tonic::Response<T>, tonic::Status>,
    ) -> Option<T> {
        let name = self.chance.one_of(&self.fleet.coordinators)?;
        let channel = self.way.channel(&Fleet::address(name)).ok()?;
        match tokio::time::timeout(CALL, call(channel)).await {
            Ok(Ok(answer)) => Some(answer.into_inner()),
            Ok(Err(status)) => {
                tell!(
                    self.fleet.trace,
                    "operator",
                    "{name}: {:?}: {}",
                    status.code(),
                    status.message()
                );
                None
            }
            Err(_) => None,
        }
    }
}

fn declaration(server: &crate::database::Server) -> TargetSpec {
    let declared = serde_json::json!({
        "name": server.name(), "service": "svc", "region": "eu", "dsn": {"env": "DSN"},
        "migrations": {"dir": "m"}, "strength": server.strength(),
    });
    serde_json::from_value(declared).unwrap_or_else(|error| unreachable!("a declaration: {error}"))
}

fn is_over(rollout: &v1::Rollout) -> bool {
    rollout.ended_at.is_some()
}

fn is_held(rollout: &v1::Rollout) -> bool {
    let held = |target: &v1::RolloutTarget| target.state() == v1::TargetState::Held;
    rollout.targets.iter().any(held)
}

fn told(rollout: &v1::Rollout) -> String {
    let targets = rollout.targets.iter();
    let targets: Vec<String> = targets
        .map(|target| format!("{} {:?} {}", target.name, target.state(), target.reason))
        .collect();
    format!("{}: {}", rollout.id, targets.join(", "))
}
