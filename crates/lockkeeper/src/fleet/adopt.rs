//! `fleet adopt`: a person's word that this store is the right one.

use clap::Args;
use lockkeeper_proto::v1;
use lockkeeper_proto::v1::fleet_service_client::FleetServiceClient;
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::client::{request, requested_by, retried};
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use crate::prompt::{self, Answer};

/// Raise the generation, so that every target takes the leaders of this store
///
/// After a store was restored from an older copy or rebuilt, targets refuse its leaders, since they have seen larger
/// epochs. This looks at every target, shows what each has seen, and asks. Gates that the store has forgotten follow
/// from their targets. Rollouts that were held for it go on with `lockkeeper rollout retry`.
#[derive(Debug, Args)]
pub(super) struct AdoptArgs {
    /// Why this store is the right one; kept with the decision
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only show what the targets have seen
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl AdoptArgs {
    pub(super) async fn run(self, channel: Channel) -> Result<Exit, Failure> {
        let look = v1::RaiseGenerationRequest {
            survey_only: true,
            ..Default::default()
        };
        let seen = call(&channel, look).await?;
        if self.dry_run {
            output::print(self.format, &answer_json(&seen), |_| survey_text(&seen))?;
            return Ok(Exit::Ok);
        }
        let Some(reason) = self.reason.filter(|reason| !reason.trim().is_empty()) else {
            return Err(Failure::usage(
                "--reason is missing: say why this store is the right one",
            ));
        };
        if !self.yes {
            eprint!("{}", survey_text(&seen));
            let question = format!("Raise the generation from {}?", seen.previous);
            if prompt::ask(&question)? == Answer::No {
                output::print(self.format, &answer_json(&seen), |_| {
                    "declined, nothing was changed\n".to_owned()
                })?;
                return Ok(Exit::Ok);
            }
        }
        let raise = v1::RaiseGenerationRequest {
            survey_only: false,
            current: seen.previous,
            reason,
            requested_by: requested_by(),
        };
        let raised = call(&channel, raise).await?;
        output::print(self.format, &answer_json(&raised), |_| {
            format!(
                "the generation is {} now, it was {}\n",
                raised.raised, raised.previous
            )
        })?;
        Ok(Exit::Ok)
    }
}

async fn call(
    channel: &Channel,
    message: v1::RaiseGenerationRequest,
) -> Result<v1::RaiseGenerationResponse, Failure> {
    retried(|| {
        let mut client = FleetServiceClient::new(channel.clone());
        let message = message.clone();
        async move { client.raise_generation(request(message)).await }
    })
    .await
}

fn answer_json(answer: &v1::RaiseGenerationResponse) -> Value {
    let target = |t: &v1::SurveyedTarget| json!({"name": t.name, "recorded": t.recorded, "ahead": t.ahead, "problem": t.problem});
    json!({
        "previous": answer.previous,
        "raised": (answer.raised != 0).then_some(answer.raised),
        "targets": answer.targets.iter().map(target).collect::<Vec<_>>(),
    })
}

fn survey_text(answer: &v1::RaiseGenerationResponse) -> String {
    let row = |t: &v1::SurveyedTarget| {
        let seen = match (t.problem.as_str(), t.recorded.as_str()) {
            ("", "") => "no leader".to_owned(),
            ("", recorded) => recorded.to_owned(),
            (problem, _) => format!("? ({problem})"),
        };
        vec![
            t.name.clone(),
            seen,
            if t.ahead { "ahead of the store" } else { "-" }.to_owned(),
        ]
    };
    let rows = answer.targets.iter().map(row).collect::<Vec<_>>();
    format!(
        "generation {}\n\n{}\n",
        answer.previous,
        output::table(&["TARGET", "HAS SEEN", "STANDING"], &rows)
    )
}
