//! Waiting for open targets without being granted anything.

use std::time::Duration;

use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_core::id::TargetName;
use lockkeeper_core::permits::Fence;
use lockkeeper_core::version::SchemaVersion;
use lockkeeper_proto::v1::agent_service_client::AgentServiceClient;
use tonic::{Code, Request};

use crate::builder::Config;
use crate::coordinators::{Backoff, Coordinator, Ended, Rotation};
use crate::error::AgentError;
use crate::link::chain;
use crate::wire::{self, Said};

/// A target that is open at a version that fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The target.
    pub target: TargetName,
    /// The gate epoch.
    pub gate_epoch: GateEpoch,
    /// The schema version.
    pub version: SchemaVersion,
}

/// What a waiter has just learnt.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// A target is fenced, and why.
    Fenced(&'a str, &'a Fence),
    /// A target is open.
    Opened(&'a Opened),
    /// A coordinator was lost, and why; another is tried.
    Lost(&'a str, &'a str),
}

/// How a waiter's stream ended without reaching the goal.
enum End {
    Final(AgentError),
    Again(Ended, String),
}

pub(crate) async fn until_open(
    config: &Config,
    mut progress: impl FnMut(Progress<'_>) + Send,
) -> Result<Vec<Opened>, AgentError> {
    let mut rotation = Rotation::new(&config.coordinators);
    let mut backoff = Backoff::new(config.coordinators.len());
    loop {
        let coordinator = rotation.next();
        let (ended, error) = match one_stream(config, &coordinator, &mut progress).await {
            Ok(opened) => return Ok(opened),
            Err(End::Final(error)) => return Err(error),
            Err(End::Again(ended, error)) => (ended, error),
        };
        progress(Progress::Lost(&coordinator.address, &error));
        tokio::time::sleep(backoff.pause(ended, Duration::ZERO)).await;
    }
}

async fn one_stream(
    config: &Config,
    coordinator: &Coordinator,
    progress: &mut (impl FnMut(Progress<'_>) + Send),
) -> Result<Vec<Opened>, End> {
    let channel = coordinator
        .connect(&*config.dial)
        .await
        .map_err(|e| End::Again(Ended::Lost, chain(&e)))?;
    // A stream of one message: its end is what makes this a waiter.
    let mut request = Request::new(tokio_stream::once(wire::register(
        &config.identity,
        &config.targets,
    )));
    config.add_metadata(&mut request);
    let answer = AgentServiceClient::new(channel).register_and_wait(request).await;
    let mut incoming = answer.map_err(|status| ended_by(&status))?.into_inner();
    let mut open: Vec<Opened> = Vec::new();
    while let Some(message) = incoming.message().await.map_err(|status| ended_by(&status))? {
        let Some((name, said)) = wire::said(message) else {
            continue;
        };
        open.retain(|opened| opened.target.as_str() != name);
        match said {
            Said::Fenced { fence, .. } => progress(Progress::Fenced(&name, &fence)),
            Said::Granted {
                gate_epoch, version, ..
            }
            | Said::Opened { gate_epoch, version } => {
                let Some(target) = config.targets.iter().find(|target| target.name.as_str() == name) else {
                    continue;
                };
                let opened = Opened {
                    target: target.name.clone(),
                    gate_epoch,
                    version,
                };
                progress(Progress::Opened(&opened));
                open.push(opened);
            }
        }
    }
    if open.len() == config.targets.len() {
        return Ok(open);
    }
    Err(End::Again(
        Ended::Left,
        "the coordinator ended the stream before every target was open".to_owned(),
    ))
}

fn ended_by(status: &tonic::Status) -> End {
    let text = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Code::InvalidArgument => End::Final(AgentError::Rejected(status.message().to_owned())),
        Code::Aborted => End::Final(AgentError::Superseded(status.message().to_owned())),
        Code::Unavailable => End::Again(Ended::Left, text),
        _ => End::Again(Ended::Lost, text),
    }
}
