//! How commands reach a coordinator: any of those that `--server` names.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use lockkeeper_coordinator::telemetry;
use serde::de::DeserializeOwned;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

use crate::exit::{Exit, Failure};

/// How long one coordinator may take to accept a connection before the next one is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a write waits for a leader, and how often it asks.
const ELECTION_PATIENCE: Duration = Duration::from_secs(15);
const ELECTION_PAUSE: Duration = Duration::from_millis(300);

/// Where the coordinators are.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServerFlag {
    /// Coordinators, any of which will do
    #[arg(
        long,
        env = "LOCKKEEPER_SERVER",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        default_value = "127.0.0.1:7400",
        global = true
    )]
    server: Vec<String>,
}

impl ServerFlag {
    /// Connects to the first coordinator that answers.
    pub(crate) async fn connect(&self) -> Result<Channel, Failure> {
        let mut tried = Vec::new();
        for server in &self.server {
            let address = server.strip_prefix("http://").unwrap_or(server);
            let endpoint = Endpoint::from_shared(format!("http://{address}"))
                .map_err(|e| Failure::usage(format!("--server {server}: {e}")))?;
            match endpoint.connect_timeout(CONNECT_TIMEOUT).connect().await {
                Ok(channel) => return Ok(channel),
                Err(error) => tried.push(format!("{server} ({})", root_cause(&error))),
            }
        }
        Err(Failure::new(
            Exit::Error,
            format!("connect to a coordinator: {}", tried.join(", ")),
        )
        .hint("is `lockkeeper serve` running there? --server or LOCKKEEPER_SERVER says where to look"))
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// A request that carries the current trace.
pub(crate) fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    telemetry::inject(request.metadata_mut());
    request
}

/// Calls again while no coordinator leads: an election takes a few seconds, and every call can be repeated.
pub(crate) async fn retried<T, F>(mut call: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let until = tokio::time::Instant::now() + ELECTION_PATIENCE;
    loop {
        match call().await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) if status.code() == Code::Unavailable && tokio::time::Instant::now() < until => {
                tokio::time::sleep(ELECTION_PAUSE).await;
            }
            Err(status) => return Err(refused(status)),
        }
    }
}

/// A coordinator's refusal as a failure of the command.
pub(crate) fn refused(status: Status) -> Failure {
    let exit = match status.code() {
        Code::InvalidArgument | Code::NotFound => Exit::Usage,
        Code::FailedPrecondition | Code::AlreadyExists => Exit::WrongState,
        _ => Exit::Error,
    };
    let message = match status.message() {
        "" => status.code().to_string(),
        message => message.to_owned(),
    };
    Failure::new(exit, message)
}

/// Who asks, for the record: `user@host`. A claim, not proof.
pub(crate) fn requested_by() -> String {
    let user = std::env::var("USER")
        .or_else(|_| std::env::var("LOGNAME"))
        .unwrap_or_else(|_| "unknown".to_owned());
    format!("{user}@{}", rustix::system::uname().nodename().to_string_lossy())
}

/// Reads a YAML file; errors name file, line and column. `-` is standard input.
pub(crate) fn read_yaml<T: DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let text = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(path)
    };
    let text = text.map_err(|e| Failure::usage(format!("read {}: {e}", path.display())))?;
    // Without a snippet: the lines around an error may hold a password.
    serde_saphyr::from_str(&text)
        .map_err(|e| Failure::usage(format!("{}: {}", path.display(), e.without_snippet())))
}
