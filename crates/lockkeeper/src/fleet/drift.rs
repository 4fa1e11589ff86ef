//! `lockkeeper fleet drift`: which targets are alike, and how the others differ.

use clap::Args;
use lockkeeper_proto::v1;
use lockkeeper_proto::v1::fleet_service_client::FleetServiceClient;
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::client::{refused, request};
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};

/// What is compared.
#[derive(Debug, Args)]
pub(super) struct DriftArgs {
    /// Only the targets of this service
    #[arg(long, value_name = "NAME", default_value = "")]
    service: String,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl DriftArgs {
    pub(super) async fn run(self, channel: Channel) -> Result<Exit, Failure> {
        let message = v1::CompareTargetsRequest {
            service: self.service,
        };
        let answer = FleetServiceClient::new(channel)
            .compare_targets(request(message))
            .await;
        let answer = answer.map_err(refused)?.into_inner();
        output::print(self.format, &as_json(&answer), |_| as_text(&answer))?;
        Ok(match answer {
            v1::CompareTargetsResponse { unseen, .. } if !unseen.is_empty() => Exit::Error,
            answer if outliers(&answer) > 0 => Exit::WrongState,
            _ => Exit::Ok,
        })
    }
}

/// How many targets are not like the others of their service.
fn outliers(answer: &v1::CompareTargetsResponse) -> usize {
    let usual = |index: usize| index == 0 || answer.groups[index - 1].service != answer.groups[index].service;
    let others = answer
        .groups
        .iter()
        .enumerate()
        .filter(|(index, _)| !usual(*index));
    others.map(|(_, group)| group.targets.len()).sum()
}

fn as_json(answer: &v1::CompareTargetsResponse) -> Value {
    let difference = |d: &v1::SchemaDifference| json!({"object": d.object, "change": d.change, "properties": d.properties});
    let group = |g: &v1::TargetGroup| {
        json!({
            "service": g.service, "version": g.version, "fingerprint": g.fingerprint, "targets": g.targets,
            "differences": g.differences.iter().map(difference).collect::<Vec<_>>(),
        })
    };
    let unseen = |u: &v1::UnseenTarget| json!({"target": u.target, "reason": u.reason});
    json!({
        "outliers": outliers(answer),
        "groups": answer.groups.iter().map(group).collect::<Vec<_>>(),
        "unseen": answer.unseen.iter().map(unseen).collect::<Vec<_>>(),
    })
}

fn as_text(answer: &v1::CompareTargetsResponse) -> String {
    let mut text = String::new();
    for group in &answer.groups {
        let version = if group.version.is_empty() {
            "none"
        } else {
            &group.version
        };
        let fingerprint: String = group.fingerprint.chars().take(15).collect();
        text += &format!(
            "{} at {version}, {fingerprint}: {} targets: {}\n",
            group.service,
            group.targets.len(),
            group.targets.join(", ")
        );
        for difference in &group.differences {
            text += &format!("  {} {}\n", difference.change, difference.object);
            for property in &difference.properties {
                text += &format!("    {}\n", property.replace('\n', "\n    "));
            }
        }
    }
    for unseen in &answer.unseen {
        text += &format!("{} could not be looked at: {}\n", unseen.target, unseen.reason);
    }
    text
}
