//! `lockkeeper rollout`: takes targets from one schema version to another.

mod show;
mod steer;
mod validate;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use lockkeeper_core::rollout::Ruling;
use lockkeeper_core::spec::RolloutSpec;
use lockkeeper_proto::v1;
use lockkeeper_proto::v1::rollout_service_client::RolloutServiceClient;
use tonic::transport::Channel;
use tonic::{Response, Status};
use uuid::Uuid;

use crate::client::{ServerFlag, read_yaml, refused, request, requested_by, retried};
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};

/// Create, show and decide on rollouts
///
/// Exit codes of commands that wait: 0 done, 5 held, 6 timed out (the rollout goes on), 7 aborted or rolled back.
#[derive(Debug, Args)]
pub(crate) struct RolloutCommand {
    #[command(flatten)]
    server: ServerFlag,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create the rollout of a file and start it
    Create(CreateArgs),
    /// Check a rollout's file without asking anyone
    Validate(validate::ValidateArgs),
    /// List rollouts, newest first
    List {
        /// How to print the result
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show one rollout
    Get {
        /// Its id
        id: String,
        /// How to print the result
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Follow a rollout until it ends or is held
    Watch {
        /// Its id
        id: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Start no more targets; those under way go to their end
    Pause(steer::OrderArgs),
    /// Go on after a pause
    Resume(steer::OrderArgs),
    /// Let a wave start that asks for an approval
    Approve {
        #[command(flatten)]
        order: steer::OrderArgs,
        /// The wave's index, from 0 [default: the one that waits]
        #[arg(long, value_name = "INDEX")]
        wave: Option<usize>,
    },
    /// Stop a rollout: what has not begun does not start, what runs is rolled back
    Abort {
        #[command(flatten)]
        order: steer::OrderArgs,
        /// What becomes of targets behind their fence
        #[arg(long, value_enum, default_value_t)]
        way: steer::Way,
    },
    /// Let the held targets of a rollout go on
    Retry(steer::OrderArgs),
    /// Leave out a target whose gate is open; the others go on
    Skip(steer::TargetOrderArgs),
    /// Open a held target's gate though nothing has verified it
    ForceOpen(steer::TargetOrderArgs),
    /// Say what became of a statement in doubt on a held target, which then goes on
    Resolve(steer::ResolveOrderArgs),
    /// Show who ruled what about a rollout, when and why
    History {
        /// Its id
        id: String,
        /// How to print the result
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// The file; - is standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// The rollout's id; the same id again is the same rollout [default: a new one]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// End with the rollout, and draw its progress
    #[arg(long, conflicts_with = "wait")]
    watch: bool,
    /// End with the rollout, and log its progress
    #[arg(long = "wait")]
    wait: bool,
    #[command(flatten)]
    how: WaitArgs,
}

#[derive(Debug, Clone, Args)]
struct WaitArgs {
    /// Longest time to wait; the rollout itself goes on [default: without limit]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// How to print the result; json prints one object a line for every change
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

type Client = RolloutServiceClient<Channel>;

impl RolloutCommand {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        if let Verb::Validate(args) = self.verb {
            return args.run();
        }
        // Bad input is told before anyone is asked.
        let spec = match &self.verb {
            Verb::Create(args) => Some(read_yaml::<RolloutSpec>(&args.file)?),
            _ => None,
        };
        let mut client = RolloutServiceClient::new(self.server.connect().await?);
        match self.verb {
            Verb::Create(args) => {
                let spec = spec.ok_or_else(|| Failure::usage("--file is missing"))?;
                create(&mut client, &self.server, args, spec).await
            }
            Verb::Validate(args) => args.run(),
            Verb::List { format } => list(&mut client, format).await,
            Verb::Get { id, format } => get(&mut client, id, format).await,
            Verb::Watch { id, wait } => {
                watch::follow(&self.server, &id, wait.timeout, wait.format, watch::Style::Drawn).await
            }
            Verb::Pause(order) => steer::rule(&client, order, Ruling::Pause).await,
            Verb::Resume(order) => steer::rule(&client, order, Ruling::Resume).await,
            Verb::Approve { order, wave } => steer::rule(&client, order, Ruling::Approve(wave)).await,
            Verb::Abort { order, way } => steer::rule(&client, order, Ruling::Abort(way.into())).await,
            Verb::Retry(order) => steer::rule(&client, order, Ruling::Retry).await,
            Verb::Skip(args) => steer::rule_on(&client, args, Ruling::Skip).await,
            Verb::ForceOpen(args) => steer::rule_on(&client, args, Ruling::ForceOpen).await,
            Verb::Resolve(args) => steer::resolve(&client, args).await,
            Verb::History { id, format } => steer::history(&mut client, id, format).await,
        }
    }
}

async fn create(
    client: &mut Client,
    server: &ServerFlag,
    args: CreateArgs,
    spec: RolloutSpec,
) -> Result<Exit, Failure> {
    let id = args.id.unwrap_or_else(|| {
        let unique = Uuid::now_v7().simple().to_string();
        format!("{}-{}", spec.service, &unique[unique.len() - 12..])
    });
    let message = v1::CreateRolloutRequest {
        id: id.clone(),
        spec: Some(spec.into()),
        requested_by: requested_by(),
    };
    let answer = retried(|| create_once(client.clone(), message.clone())).await?;
    let rollout = answer.rollout.unwrap_or_default();
    let style = match (args.watch, args.wait) {
        (true, _) => watch::Style::Drawn,
        (false, true) => watch::Style::Logged,
        (false, false) => {
            output::print(args.how.format, &show::json(&rollout), |_| {
                format!("rollout {id} created\n")
            })?;
            return Ok(Exit::Ok);
        }
    };
    eprintln!("rollout {id} created");
    watch::follow(server, &id, args.how.timeout, args.how.format, style).await
}

async fn create_once(
    mut client: Client,
    message: v1::CreateRolloutRequest,
) -> Result<Response<v1::CreateRolloutResponse>, Status> {
    client.create_rollout(request(message)).await
}

async fn list(client: &mut Client, format: Format) -> Result<Exit, Failure> {
    let answer = client
        .list_rollouts(request(v1::ListRolloutsRequest {}))
        .await
        .map_err(refused)?
        .into_inner();
    let all: Vec<_> = answer.rollouts.iter().map(show::json).collect();
    output::print(format, &serde_json::json!({ "rollouts": all }), |_| {
        show::list(&answer.rollouts)
    })?;
    Ok(Exit::Ok)
}

async fn get(client: &mut Client, id: String, format: Format) -> Result<Exit, Failure> {
    let answer = client
        .get_rollout(request(v1::GetRolloutRequest { id }))
        .await
        .map_err(refused)?
        .into_inner();
    let rollout = answer.rollout.unwrap_or_default();
    output::print(format, &show::json(&rollout), |_| show::text(&rollout))?;
    Ok(Exit::Ok)
}
