//! Tells the other coordinators who has registered here, so that a replica's newer incarnation fences its older one
//! wherever that is connected. Best effort, for tidiness: what keeps a late write out is the lease and the barrier.

use std::sync::Arc;

use futures::future::join_all;
use lockkeeper_core::id::{AgentId, Incarnation, SessionId};
use lockkeeper_proto::v1;
use lockkeeper_proto::v1::fleet_service_client::FleetServiceClient;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::agents::AgentHub;
use crate::services::forward::passed_on;
use crate::view::FleetView;
use crate::world::Peers;

/// Announces until cancelled.
pub async fn run(
    hub: Arc<AgentHub>,
    own: SessionId,
    view: watch::Receiver<FleetView>,
    peers: Arc<dyn Peers>,
    cancel: CancellationToken,
) {
    loop {
        let newcomers = tokio::select! {
            () = cancel.cancelled() => return,
            newcomers = hub.newcomers() => newcomers,
        };
        let addresses: Vec<String> = {
            let view = view.borrow();
            let others = view.sessions.iter().filter(|(id, _)| **id != own);
            others
                .map(|(_, session)| session.record.address.clone())
                .collect()
        };
        let agents: Vec<v1::AnnouncedAgent> = newcomers.into_iter().map(message).collect();
        let answers = join_all(
            addresses
                .iter()
                .map(|address| ask(&*peers, address, agents.clone())),
        )
        .await;
        for (agent, incarnation) in answers.into_iter().flatten().filter_map(parse) {
            hub.announced(&agent, incarnation);
        }
    }
}

async fn ask(peers: &dyn Peers, address: &str, agents: Vec<v1::AnnouncedAgent>) -> Vec<v1::AnnouncedAgent> {
    let answer = async {
        let mut client = FleetServiceClient::new(peers.channel(address)?);
        client
            .announce_agents(passed_on(v1::AnnounceAgentsRequest { agents }))
            .await
    };
    match answer.await {
        Ok(answer) => answer.into_inner().newer,
        Err(error) => {
            debug!(address, %error, "cannot announce agents");
            Vec::new()
        }
    }
}

fn message((agent, incarnation): (AgentId, Incarnation)) -> v1::AnnouncedAgent {
    v1::AnnouncedAgent {
        replica: agent.to_string(),
        incarnation: incarnation.to_string(),
    }
}

/// What another coordinator announced; nothing when it cannot be read.
#[must_use]
pub fn parse(agent: v1::AnnouncedAgent) -> Option<(AgentId, Incarnation)> {
    Some((
        agent.replica.parse().ok()?,
        Incarnation(agent.incarnation.parse().ok()?),
    ))
}

/// The newer ones among those that are connected here; older ones here are ended.
#[must_use]
pub fn newer(hub: &AgentHub, agents: Vec<v1::AnnouncedAgent>) -> Vec<v1::AnnouncedAgent> {
    let known = |(agent, incarnation): (AgentId, Incarnation)| {
        let newer = hub.announced(&agent, incarnation)?;
        Some(message((agent, newer)))
    };
    agents.into_iter().filter_map(parse).filter_map(known).collect()
}
