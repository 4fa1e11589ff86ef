//! `FleetService`.

use std::time::Duration;

use futures::future::join_all;
use lockkeeper_core::gate::Position;
use lockkeeper_core::id::{FleetName, TargetName};
use lockkeeper_core::spec::TargetSpec;
use lockkeeper_proto::convert::{FieldError, name, timestamp};
use lockkeeper_proto::v1::fleet_service_client::FleetServiceClient;
use lockkeeper_proto::v1::fleet_service_server::FleetService;
use lockkeeper_proto::v1::{self};
use tonic::{Request, Response, Status};

use crate::agents::announce;
use crate::leader::run::Leader;
use crate::leader::waits::Doing;
use crate::leader::writer::{RecordChange, WriteError};
use crate::records::key;
use crate::services::forward::{Route, passed_on, route};
use crate::services::{answer, drift, generation};
use crate::store::StoreError;
use crate::term::{CurrentTerm, Term};

/// How long another coordinator may take to list its agents.
const PEER_TIMEOUT: Duration = Duration::from_secs(2);

/// Most targets that one commit declares, each with up to two changes: stores limit a transaction to 128. Cut off between
/// two commits, the same declaration again does the rest.
const DECLARED_MAX: usize = 50;

/// Serves operators.
#[derive(Debug, Clone)]
pub struct FleetApi {
    /// The fleet's name.
    pub fleet: FleetName,
    /// This coordinator's session and what hangs on it.
    pub term: CurrentTerm,
}

/// Maps what the leader's writer says.
pub fn write_error(error: WriteError) -> Status {
    match error {
        WriteError::NotLeader => Status::unavailable("leadership was lost meanwhile: try again"),
        WriteError::Conflict(what) => Status::aborted(format!("{what} was changed meanwhile: try again")),
        WriteError::Store(StoreError::Invalid(what)) => Status::invalid_argument(what),
        WriteError::Store(error) => Status::unavailable(error.to_string()),
    }
}

#[tonic::async_trait]
impl FleetService for FleetApi {
    async fn get_status(
        &self,
        _: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let term = self.term.get()?;
        let (agents, silent_coordinators) = all_agents(&term).await;
        let leader = leader(&term);
        let doing = |target: &TargetName| {
            term.leader
                .borrow()
                .as_ref()
                .map(|l| l.waits.of(target))
                .unwrap_or_default()
        };
        let view = term.view.borrow();
        let mut targets: Vec<v1::TargetStatus> = view
            .targets
            .keys()
            .filter_map(|name| answer::target_status(&view, name, &doing(name)))
            .collect();
        for target in &mut targets {
            // A follower does not know what the leader's database sessions wait for; agents it knows.
            if target.waiting_on.is_empty() && target.gate() == v1::GateState::Closed {
                target.waiting_on = draining(&agents, &target.name);
            }
        }
        Ok(Response::new(v1::GetStatusResponse {
            leader,
            coordinators: view
                .sessions
                .iter()
                .map(|(id, s)| answer::coordinator(id, s))
                .collect(),
            targets,
            agents: Some(answer::counts(&agents)),
            fleet: self.fleet.to_string(),
            silent_coordinators,
        }))
    }

    async fn list_agents(
        &self,
        request: Request<v1::ListAgentsRequest>,
    ) -> Result<Response<v1::ListAgentsResponse>, Status> {
        let term = self.term.get()?;
        let (agents, silent_coordinators) = match request.into_inner().local {
            true => (local_agents(&term), Vec::new()),
            false => all_agents(&term).await,
        };
        Ok(Response::new(v1::ListAgentsResponse {
            agents,
            silent_coordinators,
        }))
    }

    async fn list_targets(
        &self,
        _: Request<v1::ListTargetsRequest>,
    ) -> Result<Response<v1::ListTargetsResponse>, Status> {
        let term = self.term.get()?;
        let targets = term
            .view
            .borrow()
            .targets
            .values()
            .map(|t| t.record.clone().into())
            .collect();
        Ok(Response::new(v1::ListTargetsResponse { targets }))
    }

    async fn list_coordinators(
        &self,
        _: Request<v1::ListCoordinatorsRequest>,
    ) -> Result<Response<v1::ListCoordinatorsResponse>, Status> {
        let term = self.term.get()?;
        let coordinators = term
            .view
            .borrow()
            .sessions
            .iter()
            .map(|(id, s)| answer::coordinator(id, s))
            .collect();
        Ok(Response::new(v1::ListCoordinatorsResponse { coordinators }))
    }

    async fn apply_targets(
        &self,
        request: Request<v1::ApplyTargetsRequest>,
    ) -> Result<Response<v1::ApplyTargetsResponse>, Status> {
        let term = self.term.get()?;
        let route = route(&term, request.metadata())?;
        let message = request.into_inner();
        match route {
            Route::Here(leader) => apply(&leader, specs(message)?).await.map(Response::new),
            Route::There(channel) => {
                FleetServiceClient::new(channel)
                    .apply_targets(passed_on(message))
                    .await
            }
        }
    }

    async fn remove_target(
        &self,
        request: Request<v1::RemoveTargetRequest>,
    ) -> Result<Response<v1::RemoveTargetResponse>, Status> {
        let term = self.term.get()?;
        let route = route(&term, request.metadata())?;
        let message = request.into_inner();
        match route {
            Route::Here(leader) => remove(&leader, &name("name", message.name)?)
                .await
                .map(Response::new),
            Route::There(channel) => {
                FleetServiceClient::new(channel)
                    .remove_target(passed_on(message))
                    .await
            }
        }
    }

    async fn raise_generation(
        &self,
        request: Request<v1::RaiseGenerationRequest>,
    ) -> Result<Response<v1::RaiseGenerationResponse>, Status> {
        let term = self.term.get()?;
        let route = route(&term, request.metadata())?;
        let message = request.into_inner();
        match route {
            Route::Here(leader) => generation::raise(&leader, message).await.map(Response::new),
            Route::There(channel) => {
                FleetServiceClient::new(channel)
                    .raise_generation(passed_on(message))
                    .await
            }
        }
    }

    async fn announce_agents(
        &self,
        request: Request<v1::AnnounceAgentsRequest>,
    ) -> Result<Response<v1::AnnounceAgentsResponse>, Status> {
        let term = self.term.get()?;
        let newer = announce::newer(&term.hub, request.into_inner().agents);
        Ok(Response::new(v1::AnnounceAgentsResponse { newer }))
    }

    async fn compare_targets(
        &self,
        request: Request<v1::CompareTargetsRequest>,
    ) -> Result<Response<v1::CompareTargetsResponse>, Status> {
        let term = self.term.get()?;
        let service = request.into_inner().service;
        let specs: Vec<TargetSpec> = {
            let view = term.view.borrow();
            let all = view.targets.values().map(|t| t.record.clone());
            all.filter(|t| service.is_empty() || t.service.as_str() == service)
                .collect()
        };
        if specs.is_empty() && !service.is_empty() {
            return Err(Status::not_found(format!(
                "service {service} has no declared target"
            )));
        }
        Ok(Response::new(
            drift::compare(term.world.targets.as_ref(), specs).await,
        ))
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        let term = self.term.get()?;
        let route = route(&term, request.metadata());
        let message = request.into_inner();
        let target: TargetName = name("target", message.target.clone())?;
        if !term.view.borrow().targets.contains_key(&target) {
            return Err(Status::not_found(format!("target {target} is not declared")));
        }
        match route {
            Ok(Route::Here(leader)) => Ok(Response::new(explain(&leader, &target))),
            Ok(Route::There(channel)) => FleetServiceClient::new(channel).explain(passed_on(message)).await,
            Err(_) => Ok(Response::new(without_leader(&term, &target).await)),
        }
    }
}

fn leader(term: &Term) -> Option<v1::Leader> {
    let view = term.view.borrow();
    let address = |name: &str| {
        let session = view
            .sessions
            .values()
            .find(|s| s.record.coordinator.as_str() == name);
        session.map(|s| s.record.address.clone()).unwrap_or_default()
    };
    if let Some(leader) = term.leader.borrow().as_ref() {
        let coordinator = leader.coordinator.to_string();
        let (epoch, address) = (leader.writer.epoch().to_string(), address(&coordinator));
        return Some(v1::Leader {
            coordinator,
            epoch,
            address,
        });
    }
    let (epoch, info) = view.leader()?;
    Some(v1::Leader {
        coordinator: info.coordinator.to_string(),
        epoch: epoch.to_string(),
        address: info.address.clone(),
    })
}

fn local_agents(term: &Term) -> Vec<v1::Agent> {
    let coordinator = term.session.id().coordinator.to_string();
    term.hub
        .rows()
        .iter()
        .map(|row| answer::agent(row, &coordinator))
        .collect()
}

/// The agents of all coordinators, and the coordinators that did not answer.
async fn all_agents(term: &Term) -> (Vec<v1::Agent>, Vec<String>) {
    let mut agents = local_agents(term);
    let peers: Vec<(String, String)> = {
        let view = term.view.borrow();
        let others = view.sessions.iter().filter(|(id, _)| *id != term.session.id());
        others
            .map(|(_, s)| (s.record.coordinator.to_string(), s.record.address.clone()))
            .collect()
    };
    let ask = |(name, address): (String, String)| async move {
        let answer = async {
            let mut client = FleetServiceClient::new(term.world.peers.channel(&address)?);
            client
                .list_agents(passed_on(v1::ListAgentsRequest { local: true }))
                .await
        };
        match tokio::time::timeout(PEER_TIMEOUT, answer).await {
            Ok(Ok(response)) => Ok(response.into_inner().agents),
            Ok(Err(_)) | Err(_) => Err(name),
        }
    };
    let mut silent = Vec::new();
    for answer in join_all(peers.into_iter().map(ask)).await {
        match answer {
            Ok(more) => agents.extend(more),
            Err(name) => silent.push(name),
        }
    }
    agents.sort_by(|a, b| {
        (&a.replica, &a.incarnation, &a.target).cmp(&(&b.replica, &b.incarnation, &b.target))
    });
    (agents, silent)
}

fn draining(agents: &[v1::Agent], target: &str) -> Vec<v1::WaitingOn> {
    let out = |a: &&v1::Agent| {
        a.target == target && matches!(a.state(), v1::AgentState::Draining | v1::AgentState::Lost)
    };
    let waiting = agents.iter().filter(out);
    waiting
        .map(|a| v1::WaitingOn {
            kind: "agent".to_owned(),
            who: format!("{} ({})", a.replica, a.incarnation),
            since: a.since,
            detail: format!(
                "region {}, {} permits, at coordinator {}",
                a.region, a.permits, a.coordinator
            ),
        })
        .collect()
}

fn specs(message: v1::ApplyTargetsRequest) -> Result<Vec<TargetSpec>, FieldError> {
    let specs = message.targets.into_iter().enumerate();
    let specs: Vec<TargetSpec> = specs
        .map(|(i, spec)| {
            spec.try_into()
                .map_err(|e: FieldError| e.within(&format!("targets[{i}]")))
        })
        .collect::<Result<_, _>>()?;
    for (i, spec) in specs.iter().enumerate() {
        if specs[..i].iter().any(|s| s.name == spec.name) {
            return Err(FieldError::new(
                format!("targets[{i}].name"),
                format!("{} stands twice", spec.name),
            ));
        }
    }
    Ok(specs)
}

async fn apply(leader: &Leader, specs: Vec<TargetSpec>) -> Result<v1::ApplyTargetsResponse, Status> {
    let mut response = v1::ApplyTargetsResponse::default();
    let mut changes = Vec::new();
    {
        let view = leader.view.borrow();
        for spec in &specs {
            let at = key::target(&spec.name);
            match view.targets.get(&spec.name) {
                None => {
                    response.created.push(spec.name.to_string());
                    changes.push(vec![RecordChange::create(at, spec)]);
                }
                Some(known) if known.record == *spec => response.unchanged.push(spec.name.to_string()),
                Some(known) => {
                    refuse_active(&view, &spec.name)?;
                    response.changed.push(spec.name.to_string());
                    changes.push(vec![
                        RecordChange::absent(key::active(&spec.name)),
                        RecordChange::update(at, known, spec),
                    ]);
                }
            }
        }
    }
    for changes in changes.chunks(DECLARED_MAX) {
        let written = leader
            .writer
            .commit(changes.concat(), &[])
            .await
            .map_err(write_error)?;
        leader.view_at(written.revision).await;
    }
    Ok(response)
}

fn refuse_active(view: &crate::view::FleetView, target: &TargetName) -> Result<(), Status> {
    match view.active.get(target) {
        Some(active) => {
            let rollout = &active.record;
            Err(Status::failed_precondition(format!(
                "rollout {rollout} is working on target {target}: nothing was changed"
            )))
        }
        None => Ok(()),
    }
}

pub(crate) async fn remove(leader: &Leader, target: &TargetName) -> Result<v1::RemoveTargetResponse, Status> {
    let changes = {
        let view = leader.view.borrow();
        refuse_active(&view, target)?;
        let Some(spec) = view.targets.get(target) else {
            return Err(Status::not_found(format!("target {target} is not declared")));
        };
        let gate = view.gates.get(target);
        // The view may be older than a rollout that was created meanwhile.
        let mut changes = vec![
            RecordChange::absent(key::active(target)),
            RecordChange::delete(key::target(target), spec),
        ];
        if let Some(gate) = gate {
            changes.push(RecordChange::delete(key::gate(target), gate));
            let (at, epoch) = (key::retired(target), gate.record.epoch);
            changes.push(match view.retired.get(target) {
                Some(retired) => RecordChange::update(at, retired, &epoch),
                None => RecordChange::create(at, &epoch),
            });
        }
        changes
    };
    let written = leader.writer.commit(changes, &[]).await.map_err(write_error)?;
    leader.view_at(written.revision).await;
    Ok(v1::RemoveTargetResponse {})
}

fn explain(leader: &Leader, target: &TargetName) -> v1::ExplainResponse {
    let doing = leader.waits.of(target);
    let mut waiting_on: Vec<v1::WaitingOn> = doing.waits.iter().map(answer::waiting_on).collect();
    let view = leader.view.borrow();
    let active = view.active.get(target).map(|a| &a.record);
    let progress = active
        .and_then(|id| view.progress.get(&(id.clone(), target.clone())))
        .map(|p| &p.record);
    let next = match progress {
        Some(progress) if matches!(progress.target.state, lockkeeper_core::rollout::State::Held(_)) => {
            waiting_on.push(v1::WaitingOn {
                kind: "person".to_owned(),
                who: "operator".to_owned(),
                since: Some(timestamp(progress.since)),
                detail: progress.target.reason.clone(),
            });
            let rollout = active.map(ToString::to_string).unwrap_or_default();
            Some(v1::NextStep {
                action: format!(
                    "`lockkeeper rollout retry {rollout}` or `lockkeeper rollout abort {rollout}`"
                ),
                at: None,
            })
        }
        Some(progress) if progress.target.state == lockkeeper_core::rollout::State::Pending => {
            let rollout = active.and_then(|id| answer::rollout(&view, id, leader.wall()));
            let (waiting, next) = answer::pending(progress, &rollout.unwrap_or_default());
            waiting_on.push(waiting);
            next
        }
        Some(_) | None => next_step(&doing),
    };
    v1::ExplainResponse { waiting_on, next }
}

fn next_step(doing: &Doing) -> Option<v1::NextStep> {
    let action = match (&doing.statement, doing.next.as_str()) {
        (_, "") => return None,
        (Some(statement), next) => format!("{next} (now: {statement})"),
        (None, next) => next.to_owned(),
    };
    Some(v1::NextStep {
        action,
        at: doing.at.map(timestamp),
    })
}

/// What is known without a leader: that there is none, and which agents are out.
async fn without_leader(term: &Term, target: &TargetName) -> v1::ExplainResponse {
    let (agents, _) = all_agents(term).await;
    let closed = {
        let view = term.view.borrow();
        view.gates
            .get(target)
            .is_some_and(|g| matches!(g.record.position, Position::Closed { .. }))
    };
    let mut waiting_on = if closed {
        draining(&agents, target.as_str())
    } else {
        Vec::new()
    };
    waiting_on.push(v1::WaitingOn {
        kind: "leader".to_owned(),
        who: "no coordinator leads".to_owned(),
        since: None,
        detail: "an election takes a few seconds; without a majority of the store there is none".to_owned(),
    });
    let next = Some(v1::NextStep {
        action: "elect a leader, which goes on".to_owned(),
        at: None,
    });
    v1::ExplainResponse { waiting_on, next }
}
