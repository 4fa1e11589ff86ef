//! `lockkeeper fleet`: how a fleet stands, what it waits for, and what a person decides about all of it.

mod adopt;
mod drift;

use clap::{Args, Subcommand};
use lockkeeper_proto::v1;
use lockkeeper_proto::v1::fleet_service_client::FleetServiceClient;
use serde_json::{Value, json};

use crate::client::{ServerFlag, refused, request};
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use crate::text::{ago, gate, plain, target_state, time};

/// Show a fleet, and decide what concerns all of it
#[derive(Debug, Args)]
pub(crate) struct FleetCommand {
    #[command(flatten)]
    server: ServerFlag,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Leader and epoch, coordinators, targets with gate, version and strength, agents by state
    Status {
        /// How to print the result
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Every agent on every target, with what it may do and why
    Agents {
        /// How to print the result
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// What a target waits for, who that is, and what happens next
    Explain {
        /// The target's name
        target: String,
        /// How to print the result
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Which targets are alike in version and schema, and how the others differ
    ///
    /// Exit codes: 0 all are alike, 1 a target could not be looked at, 4 some differ.
    Drift(drift::DriftArgs),
    /// Raise the generation after the store went back in time or was rebuilt
    Adopt(adopt::AdoptArgs),
}

impl FleetCommand {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let channel = self.server.connect().await?;
        let mut client = FleetServiceClient::new(channel.clone());
        match self.verb {
            Verb::Adopt(args) => return args.run(channel).await,
            Verb::Drift(args) => return args.run(channel).await,
            Verb::Status { format } => {
                let answer = client
                    .get_status(request(v1::GetStatusRequest {}))
                    .await
                    .map_err(refused)?
                    .into_inner();
                output::print(format, &status_json(&answer), |_| status_text(&answer))?;
            }
            Verb::Agents { format } => {
                let answer = client
                    .list_agents(request(v1::ListAgentsRequest { local: false }))
                    .await;
                let answer = answer.map_err(refused)?.into_inner();
                output::print(format, &agents_json(&answer), |_| agents_text(&answer))?;
            }
            Verb::Explain { target, format } => {
                let message = v1::ExplainRequest {
                    target: target.clone(),
                };
                let answer = client
                    .explain(request(message))
                    .await
                    .map_err(refused)?
                    .into_inner();
                output::print(format, &explain_json(&target, &answer), |_| {
                    explain_text(&target, &answer)
                })?;
            }
        }
        Ok(Exit::Ok)
    }
}

fn waiting_json(waiting: &[v1::WaitingOn]) -> Vec<Value> {
    let one =
        |w: &v1::WaitingOn| json!({"kind": w.kind, "who": w.who, "since": time(w.since), "detail": w.detail});
    waiting.iter().map(one).collect()
}

fn waiting_text(waiting: &[v1::WaitingOn], indent: &str) -> String {
    let one = |w: &v1::WaitingOn| format!("{indent}{} {}, {}: {}\n", w.kind, w.who, ago(w.since), w.detail);
    waiting.iter().map(one).collect()
}

fn status_json(answer: &v1::GetStatusResponse) -> Value {
    let target = |t: &v1::TargetStatus| {
        json!({
            "name": t.name, "service": t.service, "region": t.region, "gate": gate(t.gate()),
            "gate_epoch": t.gate_epoch, "version": t.version, "strength": plain(t.strength().as_str_name(), "STRENGTH_"),
            "rollout": t.rollout, "state": target_state(t.state()), "reason": t.reason,
            "waiting_on": waiting_json(&t.waiting_on),
        })
    };
    let coordinator = |c: &v1::Coordinator| json!({"name": c.name, "session": c.session, "region": c.region, "address": c.address, "release": c.release});
    let agents = answer.agents.unwrap_or_default();
    json!({
        "fleet": answer.fleet,
        "leader": answer.leader.as_ref().map(|l| json!({"coordinator": l.coordinator, "epoch": l.epoch, "address": l.address})),
        "coordinators": answer.coordinators.iter().map(coordinator).collect::<Vec<_>>(),
        "targets": answer.targets.iter().map(target).collect::<Vec<_>>(),
        "agents": {"open": agents.open, "draining": agents.draining, "fenced": agents.fenced,
                   "waiting": agents.waiting, "lost": agents.lost},
        "silent_coordinators": answer.silent_coordinators,
    })
}

fn status_text(answer: &v1::GetStatusResponse) -> String {
    let leader = match &answer.leader {
        Some(leader) => format!("{} ({}, {})", leader.coordinator, leader.epoch, leader.address),
        None => "none at this moment".to_owned(),
    };
    let mut text = format!("fleet {}\nleader {leader}\n\n", answer.fleet);
    let row = |c: &v1::Coordinator| {
        vec![
            c.name.clone(),
            c.region.clone(),
            c.address.clone(),
            c.release.clone(),
        ]
    };
    text += &output::table(
        &["COORDINATOR", "REGION", "ADDRESS", "RELEASE"],
        &answer.coordinators.iter().map(row).collect::<Vec<_>>(),
    );
    text.push('\n');
    let row = |t: &v1::TargetStatus| {
        let or_dash = |text: &str| {
            if text.is_empty() {
                "-".to_owned()
            } else {
                text.to_owned()
            }
        };
        vec![
            t.name.clone(),
            format!("{} g{}", gate(t.gate()), t.gate_epoch),
            or_dash(&t.version),
            plain(t.strength().as_str_name(), "STRENGTH_"),
            or_dash(&t.rollout),
            target_state(t.state()),
        ]
    };
    text += &output::table(
        &["TARGET", "GATE", "VERSION", "STRENGTH", "ROLLOUT", "STATE"],
        &answer.targets.iter().map(row).collect::<Vec<_>>(),
    );
    for target in &answer.targets {
        if !target.reason.is_empty() {
            text += &format!("{}: {}\n", target.name, target.reason);
        }
        if !target.waiting_on.is_empty() {
            text += &format!(
                "{} waits for\n{}",
                target.name,
                waiting_text(&target.waiting_on, "  ")
            );
        }
    }
    let a = answer.agents.unwrap_or_default();
    text += &format!(
        "\nagents: {} open, {} draining, {} fenced, {} waiting, {} lost\n",
        a.open, a.draining, a.fenced, a.waiting, a.lost
    );
    if !answer.silent_coordinators.is_empty() {
        text += &format!(
            "no answer from {}: their agents are not counted\n",
            answer.silent_coordinators.join(", ")
        );
    }
    text
}

fn agents_json(answer: &v1::ListAgentsResponse) -> Value {
    let agent = |a: &v1::Agent| {
        json!({
            "service": a.service, "replica": a.replica, "incarnation": a.incarnation, "region": a.region,
            "release": a.release, "target": a.target, "state": plain(a.state().as_str_name(), "AGENT_STATE_"),
            "reason": a.reason, "coordinator": a.coordinator, "permits": a.permits,
            "oldest_label": a.oldest_label, "since": time(a.since),
        })
    };
    json!({
        "agents": answer.agents.iter().map(agent).collect::<Vec<_>>(),
        "silent_coordinators": answer.silent_coordinators,
    })
}

fn agents_text(answer: &v1::ListAgentsResponse) -> String {
    let row = |a: &v1::Agent| {
        vec![
            a.replica.clone(),
            a.region.clone(),
            a.release.clone(),
            a.target.clone(),
            plain(a.state().as_str_name(), "AGENT_STATE_"),
            a.permits.to_string(),
            a.coordinator.clone(),
            a.reason.clone(),
        ]
    };
    let header = [
        "REPLICA",
        "REGION",
        "RELEASE",
        "TARGET",
        "STATE",
        "PERMITS",
        "COORDINATOR",
        "REASON",
    ];
    output::table(&header, &answer.agents.iter().map(row).collect::<Vec<_>>())
}

fn explain_json(target: &str, answer: &v1::ExplainResponse) -> Value {
    let next = answer
        .next
        .as_ref()
        .map(|n| json!({"action": n.action, "at": n.at.map(|at| time(Some(at)))}));
    json!({"target": target, "waiting_on": waiting_json(&answer.waiting_on), "next": next})
}

fn explain_text(target: &str, answer: &v1::ExplainResponse) -> String {
    let mut text = match answer.waiting_on.is_empty() {
        true => format!("{target} waits for nothing\n"),
        false => format!("{target} waits for\n{}", waiting_text(&answer.waiting_on, "  ")),
    };
    if let Some(next) = &answer.next {
        let at = next
            .at
            .map(|at| format!(", at the latest {}", time(Some(at))))
            .unwrap_or_default();
        text += &format!("next: {}{at}\n", next.action);
    }
    text
}
