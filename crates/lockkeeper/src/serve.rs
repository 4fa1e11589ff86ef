//! `lockkeeper serve`: one coordinator.

mod options;

use std::net::SocketAddr;

use clap::Args;
use lockkeeper_coordinator::server::{Coordinator, Options};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::exit::{Exit, Failure};
use options::ServeFlags;

/// Run a coordinator
///
/// Each setting is taken from its flag, else from its environment variable, else from the configuration file, else
/// from its default. SIGTERM and SIGINT hand leadership over, send the agents to other coordinators and end.
#[derive(Debug, Args)]
pub(crate) struct ServeCommand {
    #[command(flatten)]
    flags: ServeFlags,
}

impl ServeCommand {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let settings = self.flags.settle()?;
        let listener = listen(settings.listen, "listen").await?;
        let admin_listener = listen(settings.admin_listen, "admin-listen").await?;
        let store = settings.store.open(&settings.fleet).await.map_err(|e| {
            Failure::new(Exit::Error, format!("--store {}: {e}", settings.store)).hint(store_hint())
        })?;
        let mut terminate = signal(SignalKind::terminate()).map_err(cannot_listen)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot_listen)?;
        let options = Options {
            name: settings.name,
            fleet: settings.fleet,
            region: settings.region,
            advertise: settings.advertise,
            listener,
            admin_listener: Some(admin_listener),
            store,
            settings: settings.leases,
        };
        let coordinator = Coordinator::start(options)
            .await
            .map_err(|e| Failure::new(Exit::Error, e).hint(store_hint()))?;
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: leaving"),
            _ = interrupt.recv() => info!("SIGINT: leaving"),
        }
        coordinator.shutdown().await;
        Ok(Exit::Ok)
    }
}

fn cannot_listen(error: std::io::Error) -> Failure {
    Failure::new(Exit::Error, format!("listen for signals: {error}"))
}

fn store_hint() -> &'static str {
    "is the store up, and does --store name its client addresses?"
}

async fn listen(address: SocketAddr, flag: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .map_err(|e| Failure::new(Exit::Error, format!("--{flag} {address}: {e}")))
}
