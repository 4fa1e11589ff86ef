//! A coordinator's term: everything that hangs on one session in the store. When the session is lost, the term ends
//! whole, and a new one begins with nothing carried over.

use std::sync::Arc;
use std::time::Duration;

use lockkeeper_core::id::CoordinatorName;
use lockkeeper_core::lease::LeaseSettings;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::{info, warn};

use crate::agents::report::Reporter;
use crate::agents::{AgentHub, announce};
use crate::election::{Candidate, Claim, Election};
use crate::leader::run::Leader;
use crate::leader::waits::Waits;
use crate::leader::writer::LeaderWriter;
use crate::records::{SessionRecord, encode, key};
use crate::session::{Session, SessionError};
use crate::store::{Guard, Store, Txn, Write};
use crate::view::{FleetView, Watcher};
use crate::world::World;

/// What a term is made of.
#[derive(Debug, Clone)]
pub struct TermParts {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The world around it.
    pub world: World,
    /// This coordinator, as others see it.
    pub record: SessionRecord,
    /// The fleet's leases.
    pub settings: LeaseSettings,
}

/// One session and what hangs on it. Dropping it stops every task and revokes nothing, as a crash would.
#[derive(Debug)]
pub struct Term {
    /// The session.
    pub session: Arc<Session>,
    /// The store's picture.
    pub view: watch::Receiver<FleetView>,
    /// The connected agents.
    pub hub: Arc<AgentHub>,
    /// Who leads.
    pub claims: watch::Receiver<Claim>,
    /// This coordinator's leadership, while it leads.
    pub leader: watch::Receiver<Option<Arc<Leader>>>,
    /// The world around it.
    pub world: World,
    store: Arc<dyn Store>,
    election: Election,
    cancel: CancellationToken,
    tasks: JoinSet<()>,
}

/// How long a clean leave stays on record: far longer than any fence waits for a session.
const FAREWELL_KEPT: Duration = Duration::from_secs(600);

impl Term {
    /// Opens a session and starts everything on it.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn start(parts: &TermParts) -> Result<Self, SessionError> {
        let TermParts {
            store,
            world,
            record,
            settings,
        } = parts.clone();
        let name = record.coordinator.clone();
        let info = encode(&record);
        let opened = Session::open(Arc::clone(&store), &world, &name, info, settings.presence).await?;
        let session = Arc::new(opened.session);
        let (watcher, view) = Watcher::start(Arc::clone(&store), Arc::clone(&session)).await?;
        let granting: Arc<dyn crate::agents::Granting> = Arc::clone(&session) as _;
        let hub = AgentHub::new(Arc::clone(&world.clock), granting, view.clone(), settings.write);
        let reporter = Reporter::new(
            Arc::clone(&hub),
            Arc::clone(&store),
            Arc::clone(&session),
            view.clone(),
        );
        let candidate = Candidate {
            coordinator: name.clone(),
            session: session.id().clone(),
            address: record.address.clone(),
        };
        let election = Election::start(Arc::clone(&store), world.clone(), candidate, settings.leadership);
        let claims = election.claims();
        let (publish, leader) = watch::channel(None);
        let cancel = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(watcher.run(cancel.clone()));
        tasks.spawn(reporter.run(cancel.clone()));
        tasks.spawn(announce::run(
            Arc::clone(&hub),
            session.id().clone(),
            view.clone(),
            Arc::clone(&world.peers),
            cancel.clone(),
        ));
        let leading = Leading {
            store: Arc::clone(&store),
            world: world.clone(),
            name,
            settings,
            view: view.clone(),
            publish,
        };
        tasks.spawn(leading.run(claims.clone(), cancel.clone()));
        info!(session = %session.id(), "present");
        Ok(Self {
            session,
            view,
            hub,
            claims,
            leader,
            world,
            store,
            election,
            cancel,
            tasks,
        })
    }

    /// Hands leadership over, at once.
    pub async fn resign(&self) {
        self.election.resign().await;
    }

    /// Leaves in good order: hands leadership over first, then sends the agents away, then, when no write lease is
    /// out, leaves a clean record.
    pub async fn leave(mut self) {
        self.election.resign().await;
        self.hub.leave();
        self.cancel.cancel();
        self.tasks.shutdown().await;
        let clear = self.hub.is_clear();
        let Self {
            session, hub, store, ..
        } = self;
        drop(hub);
        let lease = match store.grant(FAREWELL_KEPT).await {
            Ok(lease) => lease.id,
            Err(error) => return warn!(%error, "left without a clean record"),
        };
        let farewell = Txn {
            guards: vec![Guard::ModRevision(key::left(session.id()), 0)],
            writes: vec![Write::Put {
                key: key::left(session.id()),
                value: b"{}".to_vec(),
                lease: Some(lease),
            }],
            lists: Vec::new(),
        };
        match Arc::try_unwrap(session) {
            Ok(session) if clear => {
                if let Err(error) = session.close(farewell).await {
                    warn!(%error, "left without a clean record");
                }
            }
            // Leases are out, or a stream still ends: the session ends by itself, and is waited for.
            Ok(_) | Err(_) => info!("left while write leases are out: they are waited for"),
        }
    }
}

/// Starts and stops leadership as the election says.
struct Leading {
    store: Arc<dyn Store>,
    world: World,
    name: CoordinatorName,
    settings: LeaseSettings,
    view: watch::Receiver<FleetView>,
    publish: watch::Sender<Option<Arc<Leader>>>,
}

impl Leading {
    async fn run(self, mut claims: watch::Receiver<Claim>, cancel: CancellationToken) {
        loop {
            let claim = claims.borrow_and_update().clone();
            if let Claim::Leader { epoch, id, .. } = claim {
                let leader = Leader::new(
                    LeaderWriter::new(Arc::clone(&self.store), epoch),
                    id,
                    self.name.clone(),
                    self.view.clone(),
                    self.world.clone(),
                    self.settings,
                    Waits::default(),
                );
                self.publish.send_replace(Some(Arc::clone(&leader)));
                let term = cancel.child_token();
                let run = leader.run(term.clone());
                tokio::pin!(run);
                let ended = tokio::select! {
                    () = &mut run => true,
                    () = lost(&mut claims, id) => false,
                    () = cancel.cancelled() => false,
                };
                self.publish.send_replace(None);
                term.cancel();
                if !ended {
                    run.await;
                }
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                changed = claims.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// Resolves when the claim is no longer this leadership.
async fn lost(claims: &mut watch::Receiver<Claim>, id: uuid::Uuid) {
    let other = |claim: &Claim| !matches!(claim, Claim::Leader { id: current, .. } if *current == id);
    // The election's end is a loss as well.
    let _ = claims.wait_for(other).await;
}

/// The term that is current, for services.
#[derive(Debug, Clone)]
pub struct CurrentTerm(watch::Receiver<Option<Arc<Term>>>);

impl CurrentTerm {
    /// Follows the terms of one coordinator.
    #[must_use]
    pub fn new(terms: watch::Receiver<Option<Arc<Term>>>) -> Self {
        Self(terms)
    }

    /// The current term.
    ///
    /// # Errors
    /// UNAVAILABLE when this coordinator has no session in the store.
    pub fn get(&self) -> Result<Arc<Term>, Status> {
        let term = self.0.borrow().clone();
        term.ok_or_else(|| {
            Status::unavailable("this coordinator has lost its session in the store: use another")
        })
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.0.borrow().is_some()
    }
}
