//! `lockkeeper target`: the databases of a fleet.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use lockkeeper_core::spec::{MigrationsSpec, TargetSpec, TargetsFile};
use lockkeeper_migrate::external::Rule;
use lockkeeper_proto::v1;
use lockkeeper_proto::v1::fleet_service_client::FleetServiceClient;
use serde::Serialize;
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::client::{ServerFlag, read_yaml, refused, request, retried};
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};

/// Declare, list and remove targets
#[derive(Debug, Args)]
pub(crate) struct TargetCommand {
    #[command(flatten)]
    server: ServerFlag,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Declare the targets of a file: new ones are added, known ones changed, others left alone
    Apply {
        /// The file; - is standard input
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
        /// How to print the result
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// List the declared targets
    List {
        /// How to print the result
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Forget a target; its database is left alone
    Remove {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Serialize)]
struct Applied {
    created: Vec<String>,
    changed: Vec<String>,
    unchanged: Vec<String>,
}

impl TargetCommand {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        match self.verb {
            Verb::Apply { file, format } => apply(&self.server, file, format).await,
            Verb::List { format } => list(&self.server, format).await,
            Verb::Remove { name } => remove(&self.server, name).await,
        }
    }
}

async fn apply(server: &ServerFlag, file: PathBuf, format: Format) -> Result<Exit, Failure> {
    let declared: TargetsFile = read_yaml(&file)?;
    check_rules(&declared.targets, &file)?;
    let targets = declared.targets.into_iter().map(v1::TargetSpec::from).collect();
    let client = FleetServiceClient::new(server.connect().await?);
    let message = v1::ApplyTargetsRequest { targets };
    let answer = retried(|| apply_once(client.clone(), message.clone())).await?;
    let v1::ApplyTargetsResponse {
        created,
        changed,
        unchanged,
    } = answer;
    output::print(
        format,
        &Applied {
            created,
            changed,
            unchanged,
        },
        |applied| {
            let line = |names: &[String], what: &str| {
                names
                    .iter()
                    .map(|n| format!("target {n} {what}\n"))
                    .collect::<String>()
            };
            line(&applied.created, "created")
                + &line(&applied.changed, "changed")
                + &line(&applied.unchanged, "unchanged")
        },
    )?;
    Ok(Exit::Ok)
}

async fn apply_once(
    mut client: FleetServiceClient<Channel>,
    message: v1::ApplyTargetsRequest,
) -> Result<Response<v1::ApplyTargetsResponse>, Status> {
    client.apply_targets(request(message)).await
}

async fn list(server: &ServerFlag, format: Format) -> Result<Exit, Failure> {
    let mut client = FleetServiceClient::new(server.connect().await?);
    let answer = client
        .list_targets(request(v1::ListTargetsRequest {}))
        .await
        .map_err(refused)?;
    let targets: Result<Vec<TargetSpec>, _> = answer
        .into_inner()
        .targets
        .into_iter()
        .map(TargetSpec::try_from)
        .collect();
    let targets =
        targets.map_err(|e| Failure::new(Exit::Error, format!("read the coordinator's answer: {e}")))?;
    output::print(format, &TargetsFile { targets }, |file| {
        let row = |t: &TargetSpec| {
            vec![
                t.name.to_string(),
                t.service.to_string(),
                t.region.to_string(),
                t.strength.to_string(),
                migrations(&t.migrations),
            ]
        };
        output::table(
            &["NAME", "SERVICE", "REGION", "STRENGTH", "MIGRATIONS"],
            &file.targets.iter().map(row).collect::<Vec<_>>(),
        )
    })?;
    Ok(Exit::Ok)
}

fn migrations(spec: &MigrationsSpec) -> String {
    match spec {
        MigrationsSpec::Directory(files) => format!("{}: {}", files.layout, files.dir.to_vec().join(", ")),
        MigrationsSpec::External(commands) => format!("external: {}", commands.up.words().join(" ")),
    }
}

/// What the types cannot tell: whether external migrators' rules can be used.
fn check_rules(targets: &[TargetSpec], file: &Path) -> Result<(), Failure> {
    let external = |target: &'_ TargetSpec| target.migrations.external().map(|spec| Rule::new(&spec.rule));
    for target in targets {
        if let Some(Err(error)) = external(target) {
            let place = file.display();
            return Err(Failure::usage(format!(
                "{place}: target {}: {error}",
                target.name
            )));
        }
    }
    Ok(())
}

async fn remove(server: &ServerFlag, name: String) -> Result<Exit, Failure> {
    let mut client = FleetServiceClient::new(server.connect().await?);
    let message = v1::RemoveTargetRequest { name: name.clone() };
    client.remove_target(request(message)).await.map_err(refused)?;
    output::write(&format!("target {name} removed\n"))?;
    Ok(Exit::Ok)
}
