//! A coordinator process: terms one after the other, the gRPC server and the admin port.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use futures::Stream;
use lockkeeper_core::id::{CoordinatorName, FleetName, Region};
use lockkeeper_core::lease::LeaseSettings;
use lockkeeper_proto::FILE_DESCRIPTOR_SET;
use lockkeeper_proto::v1::agent_service_server::AgentServiceServer;
use lockkeeper_proto::v1::fleet_service_server::FleetServiceServer;
use lockkeeper_proto::v1::rollout_service_server::RolloutServiceServer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::{Connected, TcpIncoming};
use tracing::{info, warn};

use crate::moving::{self, MoveError};
use crate::records::SessionRecord;
use crate::services::agent::AgentApi;
use crate::services::fleet::FleetApi;
use crate::services::rollout::RolloutApi;
use crate::session::SessionError;
use crate::store::{Store, StoreError};
use crate::telemetry;
use crate::term::{CurrentTerm, Term, TermParts};
use crate::world::World;

/// Largest request that is read, in bytes.
const REQUEST_MAX_BYTES: usize = 4 * 1024 * 1024;

/// How often an idle connection is asked whether its client still lives, and how long the answer may take: a
/// replica whose machine vanished is noticed within their sum.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long calls in flight may take to end when the coordinator leaves.
const DRAIN_CONNECTIONS: Duration = Duration::from_millis(300);

/// Pause before a new term is begun after a session was lost.
const NEW_TERM_PAUSE: Duration = Duration::from_millis(500);

/// What a coordinator is started with.
#[derive(Debug)]
pub struct Options {
    /// Its stable name.
    pub name: CoordinatorName,
    /// Its fleet.
    pub fleet: FleetName,
    /// Where it runs.
    pub region: Region,
    /// Where clients and other coordinators reach it; `None`: where it listens.
    pub advertise: Option<String>,
    /// Where it serves gRPC.
    pub listener: TcpListener,
    /// Where it serves `/livez` and `/readyz`.
    pub admin_listener: Option<TcpListener>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// The fleet's leases.
    pub settings: LeaseSettings,
}

/// Why a coordinator could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No session in the store.
    #[error("open a session in the store: {0}")]
    Session(#[from] SessionError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store is being moved, or was.
    #[error(transparent)]
    Moving(#[from] MoveError),
    /// The network.
    #[error("listen: {0}")]
    Listen(#[from] std::io::Error),
    /// Reflection.
    #[error("serve reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// A running coordinator. Dropping it stops every task and revokes nothing: a crash, as far as others can see.
#[derive(Debug)]
pub struct Coordinator {
    term: CurrentTerm,
    stop: CancellationToken,
    stopping: Arc<AtomicBool>,
    terms: Option<JoinHandle<()>>,
    publish: watch::Sender<Option<Arc<Term>>>,
    tasks: Vec<AbortHandle>,
}

impl Coordinator {
    /// Opens a session and serves.
    ///
    /// # Errors
    /// The store or the network.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let address = options.listener.local_addr()?;
        let parts = TermParts {
            store: options.store,
            world: World::default(),
            record: SessionRecord {
                coordinator: options.name,
                region: options.region,
                address: options.advertise.unwrap_or_else(|| address.to_string()),
                release: env!("CARGO_PKG_VERSION").to_owned(),
            },
            settings: options.settings,
        };
        let incoming = TcpIncoming::from(options.listener).with_nodelay(Some(true));
        let coordinator = Self::serving(parts, options.fleet, incoming, options.admin_listener).await?;
        info!(%address, "serving");
        Ok(coordinator)
    }

    /// The same on whatever carries its connections, in whatever world.
    ///
    /// # Errors
    /// The store.
    pub async fn serving<I, C>(
        parts: TermParts,
        fleet: FleetName,
        incoming: I,
        admin_listener: Option<TcpListener>,
    ) -> Result<Self, StartError>
    where
        I: Stream<Item = std::io::Result<C>> + Send + 'static,
        C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        // Awaited first: within the macro it would make this future one that cannot change threads.
        let store = parts.store.describe().await?;
        info!(store, "store");
        moving::refuse_marked(parts.store.as_ref()).await?;
        let stopping = Arc::new(AtomicBool::new(false));
        let (publish, terms) = watch::channel(None);
        let term = CurrentTerm::new(terms);
        let mut tasks = Vec::new();
        if let Some(listener) = admin_listener {
            tasks.push(tokio::spawn(admin(listener, term.clone(), Arc::clone(&stopping))).abort_handle());
        }
        let first = Term::start(&parts).await?;
        let stop = CancellationToken::new();
        tasks.push(serve(incoming, fleet, term.clone(), stop.clone())?.abort_handle());
        let terms = tokio::spawn(terms_in_turn(first, parts, publish.clone(), stop.clone()));
        tasks.push(terms.abort_handle());
        Ok(Self {
            term,
            stop,
            stopping,
            terms: Some(terms),
            publish,
            tasks,
        })
    }

    /// The term that is current, for whoever asks within the process.
    #[must_use]
    pub fn term(&self) -> CurrentTerm {
        self.term.clone()
    }

    /// Whether it leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.term.get().is_ok_and(|term| term.leader.borrow().is_some())
    }

    /// Hands leadership over, sends the agents to other coordinators and ends.
    pub async fn shutdown(mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.stop.cancel();
        if let Some(terms) = self.terms.take()
            && let Err(error) = terms.await
        {
            warn!(%error, "the last term ended badly");
        }
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        // Connections that are still served would otherwise keep the term, and with it a leader, alive.
        self.publish.send_replace(None);
    }
}

/// One term after the other, until stopped.
async fn terms_in_turn(
    first: Term,
    parts: TermParts,
    publish: watch::Sender<Option<Arc<Term>>>,
    stop: CancellationToken,
) {
    let mut term = Some(first);
    loop {
        let current = match term.take() {
            Some(term) => Arc::new(term),
            None => match Term::start(&parts).await {
                Ok(term) => Arc::new(term),
                Err(error) => {
                    warn!(%error, "cannot open a session, trying again");
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(NEW_TERM_PAUSE.mul_f64(0.5 + fastrand::f64())) => continue,
                    }
                }
            },
        };
        let ended = current.session.ended();
        publish.send_replace(Some(Arc::clone(&current)));
        tokio::select! {
            () = ended.cancelled() => {
                warn!(reason = ?current.session.end_reason().map(|e| e.to_string()), "the session is lost: granting stops");
                publish.send_replace(None);
                current.hub.leave();
            }
            () = stop.cancelled() => {
                publish.send_replace(None);
                leave(current).await;
                return;
            }
        }
    }
}

/// Leaves as the only holder of the term; a call that still holds it after a moment is left behind.
async fn leave(mut term: Arc<Term>) {
    term.hub.leave();
    term.resign().await;
    let until = tokio::time::Instant::now() + DRAIN_CONNECTIONS;
    loop {
        term = match Arc::try_unwrap(term) {
            Ok(term) => return term.leave().await,
            Err(shared) if tokio::time::Instant::now() >= until => {
                drop(shared);
                return;
            }
            Err(shared) => shared,
        };
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn serve<I, C>(
    incoming: I,
    fleet: FleetName,
    term: CurrentTerm,
    stop: CancellationToken,
) -> Result<JoinHandle<()>, StartError>
where
    I: Stream<Item = std::io::Result<C>> + Send + 'static,
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let (health, health_service) = tonic_health::server::health_reporter();
    let v1 = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let v1alpha = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1alpha()?;
    let agents =
        AgentServiceServer::new(AgentApi { term: term.clone() }).max_decoding_message_size(REQUEST_MAX_BYTES);
    let rollouts = RolloutServiceServer::new(RolloutApi { term: term.clone() })
        .max_decoding_message_size(REQUEST_MAX_BYTES);
    let fleets =
        FleetServiceServer::new(FleetApi { fleet, term }).max_decoding_message_size(REQUEST_MAX_BYTES);
    let router = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .trace_fn(|request| telemetry::request_span(request.headers(), request.uri().path()))
        .add_service(health_service)
        .add_service(v1)
        .add_service(v1alpha)
        .add_service(agents)
        .add_service(rollouts)
        .add_service(fleets);
    Ok(tokio::spawn(async move {
        health.set_serving::<AgentServiceServer<AgentApi>>().await;
        health.set_serving::<RolloutServiceServer<RolloutApi>>().await;
        health.set_serving::<FleetServiceServer<FleetApi>>().await;
        if let Err(error) = router
            .serve_with_incoming_shutdown(incoming, stop.cancelled())
            .await
        {
            warn!(%error, "the gRPC server ended");
        }
    }))
}

#[derive(Clone)]
struct Admin {
    term: CurrentTerm,
    stopping: Arc<AtomicBool>,
}

async fn admin(listener: TcpListener, term: CurrentTerm, stopping: Arc<AtomicBool>) {
    let router = Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(readyz))
        .with_state(Admin { term, stopping });
    if let Err(error) = axum::serve(listener, router).await {
        warn!(%error, "the admin server ended");
    }
}

/// Ready: has a session, and is not leaving.
async fn readyz(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    if admin.stopping.load(Ordering::SeqCst) {
        return (StatusCode::SERVICE_UNAVAILABLE, "leaving");
    }
    match admin.term.is_present() {
        true => (StatusCode::OK, "ok"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "no session in the store"),
    }
}
