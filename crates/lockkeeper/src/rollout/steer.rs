//! What an operator rules about a rollout, and the record of it.

use clap::{Args, ValueEnum};
use lockkeeper_core::id::TargetName;
use lockkeeper_core::rollout::{AbortWay, Ruling, StatementOutcome};
use lockkeeper_core::version::SchemaVersion;
use lockkeeper_proto::v1;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Client, show};
use crate::client::{refused, request, requested_by, retried};
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use crate::text::time;

/// Which rollout, and what goes into the record.
#[derive(Debug, Args)]
pub(super) struct OrderArgs {
    /// The rollout's id
    id: String,
    /// Why, for the record
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    how: HowArgs,
}

/// The same for one of its targets.
#[derive(Debug, Args)]
pub(super) struct TargetOrderArgs {
    /// The rollout's id
    id: String,
    /// The target's name
    target: TargetName,
    /// Why, for the record
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    how: HowArgs,
}

/// A statement in doubt, and what became of it.
#[derive(Debug, Args)]
pub(super) struct ResolveOrderArgs {
    /// The rollout's id
    id: String,
    /// The target's name
    target: TargetName,
    /// The version whose statement is in doubt; the target's reason names it
    // Not named `version`: that is clap's own flag.
    #[arg(value_name = "VERSION")]
    of: String,
    /// Whether the statement took effect
    #[arg(long = "as", value_enum, value_name = "OUTCOME")]
    outcome: Outcome,
    /// Why, for the record
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    how: HowArgs,
}

/// What became of the statement.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Outcome {
    /// It took effect: go on behind it
    Done,
    /// It did not, or what it left has been removed: run it again
    NotDone,
}

impl From<Outcome> for StatementOutcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::Done,
            Outcome::NotDone => Self::NotDone,
        }
    }
}

#[derive(Debug, Args)]
struct HowArgs {
    /// Tells a repeated order from a new one: the same id again changes nothing [default: a new one]
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What becomes of targets that an abort finds behind their fence.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(super) enum Way {
    /// Revert what the rollout has applied, and open at the old version
    #[default]
    RollBack,
    /// Open at the old version where nothing took effect, hold where something did; revert nothing
    Reopen,
    /// Stop, and leave the fence up for a person
    Hold,
}

impl From<Way> for AbortWay {
    fn from(way: Way) -> Self {
        match way {
            Way::RollBack => Self::RollBack,
            Way::Reopen => Self::Reopen,
            Way::Hold => Self::Hold,
        }
    }
}

/// Sends a ruling about one target.
pub(super) async fn rule_on(
    client: &Client,
    args: TargetOrderArgs,
    ruling: fn(TargetName) -> Ruling,
) -> Result<Exit, Failure> {
    let ruling = ruling(args.target);
    let (id, reason, how) = (args.id, args.reason, args.how);
    rule(client, OrderArgs { id, reason, how }, ruling).await
}

/// Sends what became of a statement in doubt.
pub(super) async fn resolve(client: &Client, args: ResolveOrderArgs) -> Result<Exit, Failure> {
    let ruling = Ruling::Resolve {
        target: args.target,
        version: SchemaVersion::from(args.of.as_str()),
        outcome: args.outcome.into(),
    };
    let (id, reason, how) = (args.id, args.reason, args.how);
    rule(client, OrderArgs { id, reason, how }, ruling).await
}

/// Sends a ruling. An answer that did not come is asked for again, under the same request id.
pub(super) async fn rule(client: &Client, order: OrderArgs, ruling: Ruling) -> Result<Exit, Failure> {
    let request_id = order.how.request_id;
    let message = v1::DecideRolloutRequest {
        id: order.id,
        ruling: Some(ruling.into()),
        reason: order.reason,
        requested_by: requested_by(),
        request_id: request_id.unwrap_or_else(|| Uuid::now_v7().to_string()),
    };
    let send = || {
        let (mut client, message) = (client.clone(), message.clone());
        async move { client.decide_rollout(request(message)).await }
    };
    let answer = retried(send).await?;
    let rollout = answer.rollout.unwrap_or_default();
    if !answer.note.is_empty() {
        eprintln!("{}", answer.note);
    }
    output::print(order.how.format, &show::json(&rollout), |_| show::text(&rollout))?;
    Ok(Exit::Ok)
}

/// Prints the record of all rulings.
pub(super) async fn history(client: &mut Client, id: String, format: Format) -> Result<Exit, Failure> {
    let message = v1::GetRolloutHistoryRequest { id };
    let answer = client.get_rollout_history(request(message)).await;
    let entries = answer.map_err(refused)?.into_inner().entries;
    let all: Vec<Value> = entries.iter().map(entry).collect();
    output::print(format, &json!({ "history": all }), |_| table(&entries))?;
    Ok(Exit::Ok)
}

fn entry(entry: &v1::HistoryEntry) -> Value {
    json!({
        "at": time(entry.at), "by": entry.by, "by_verified": false, "from": entry.from,
        "ruling": entry.text, "reason": entry.reason, "note": entry.note,
        "request_id": entry.request_id, "leader_epoch": entry.leader_epoch,
    })
}

fn table(entries: &[v1::HistoryEntry]) -> String {
    let row = |e: &v1::HistoryEntry| {
        vec![
            time(e.at),
            e.by.clone(),
            e.from.clone(),
            e.text.clone(),
            e.reason.clone(),
            e.note.clone(),
        ]
    };
    let header = ["WHEN", "WHO (CLAIMED)", "FROM", "RULING", "WHY", "NOTE"];
    output::table(&header, &entries.iter().map(row).collect::<Vec<_>>())
}
