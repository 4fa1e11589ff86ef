//! The simulated fleet: coordinators, agents with their writers, and writers that are no agents.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lockkeeper_agent::{Agent, OnLoss};
use lockkeeper_coordinator::leader::access::{AccessError, Migrations, Targets};
use lockkeeper_coordinator::records::SessionRecord;
use lockkeeper_coordinator::server::Coordinator;
use lockkeeper_coordinator::term::TermParts;
use lockkeeper_coordinator::world::{Ids, World};
use lockkeeper_core::lease::LeaseSettings;
use lockkeeper_core::spec::TargetSpec;
use lockkeeper_core::strength::Strength;
use lockkeeper_migrate::db::{BreakGlass, Database};

use crate::chance::Chance;
use crate::checker::UserWrite;
use crate::database::{Server, Target, Writer};
use crate::net::{Net, Way};
use crate::node::{Life, Node};
use crate::store::{Client, Store};
use crate::tell;
use crate::trace::Trace;

/// Name of the fleet.
const FLEET: &str = "sim";

/// Everything there is.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// The story.
    pub trace: Trace,
    /// The network.
    pub net: Net,
    /// The store.
    pub store: Store,
    /// The targets.
    pub servers: Vec<Server>,
    /// What every target is migrated with.
    pub migrations: Migrations,
    /// Where ids come from.
    pub chance: Chance,
    /// Names of the coordinators.
    pub coordinators: Vec<String>,
    processes: Arc<Mutex<Vec<Process>>>,
}

/// What a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    Coordinator,
    Agent,
    Writer,
}

#[derive(Debug)]
struct Process {
    node: Node,
    program: Program,
    /// Its tasks end with it.
    coordinator: Option<Coordinator>,
}

/// The targets as one coordinator reaches them.
#[derive(Debug)]
struct Reach {
    servers: Vec<Server>,
    migrations: Migrations,
    node: Node,
}

#[async_trait]
impl Targets for Reach {
    async fn database(&self, spec: &TargetSpec) -> Result<Box<dyn Database>, AccessError> {
        let named = self
            .servers
            .iter()
            .find(|server| server.name() == spec.name.as_str());
        let server = named.ok_or_else(|| AccessError::Reference("no such server".to_owned()))?;
        Ok(Box::new(Target {
            server: server.clone(),
            node: self.node.clone(),
        }))
    }

    async fn migrations(&self, _: &TargetSpec, _: &dyn Database) -> Result<Migrations, AccessError> {
        Ok(self.migrations.clone())
    }

    async fn break_glass(&self, _: &TargetSpec) -> Result<Box<dyn BreakGlass>, AccessError> {
        Err(AccessError::Reference(
            "breaking glass is not simulated".to_owned(),
        ))
    }
}

impl Fleet {
    /// A fleet without processes.
    #[must_use]
    pub fn new(
        trace: &Trace,
        net: &Net,
        store: &Store,
        servers: Vec<Server>,
        migrations: Migrations,
        chance: Chance,
        coordinators: Vec<String>,
    ) -> Self {
        Self {
            trace: trace.clone(),
            net: net.clone(),
            store: store.clone(),
            servers,
            migrations,
            chance,
            coordinators,
            processes: Arc::default(),
        }
    }

    /// Where a coordinator listens.
    #[must_use]
    pub fn address(name: &str) -> String {
        format!("{name}:7400")
    }

    fn node(&self, name: &str) -> Node {
        // Within the margin of ten percent between any two clocks.
        let rate = self.chance.between(960_000, 1_040_000);
        Node::start(name, rate, &self.trace)
    }

    /// Starts a coordinator; it goes on trying until it has a session.
    pub fn start_coordinator(&self, name: &str) {
        let node = self.node(name);
        self.enter(&node, Program::Coordinator);
        let fleet = self.clone();
        tokio::spawn(async move {
            loop {
                match fleet.coordinator(&node).await {
                    Ok(coordinator) => return fleet.hold(&node, coordinator),
                    Err(error) => tell!(fleet.trace, node.name(), "cannot start: {error}"),
                }
                node.sleep(Duration::from_millis(500)).await;
            }
        });
    }

    async fn coordinator(&self, node: &Node) -> Result<Coordinator, String> {
        let world = World {
            clock: Arc::new(node.clone()),
            ids: Arc::new(self.chance.clone()),
            targets: Arc::new(Reach {
                servers: self.servers.clone(),
                migrations: self.migrations.clone(),
                node: node.clone(),
            }),
            peers: Arc::new(self.way(node)),
        };
        let name = node.name();
        let address = Self::address(name);
        let parts = TermParts {
            store: Arc::new(Client {
                store: self.store.clone(),
                node: node.clone(),
            }),
            world,
            record: SessionRecord {
                coordinator: name.parse().map_err(|e| format!("{e}"))?,
                region: "eu".parse().map_err(|e| format!("{e}"))?,
                address: address.clone(),
                release: "0".to_owned(),
            },
            settings: LeaseSettings::default(),
        };
        let fleet = FLEET.parse().map_err(|e| format!("{e}"))?;
        let incoming = self.net.listen(&address, node);
        Coordinator::serving(parts, fleet, incoming, None)
            .await
            .map_err(|error| error.to_string())
    }

    /// Starts an agent, and in the same process a writer for each target.
    ///
    /// # Errors
    /// The agent cannot be made.
    pub fn start_agent(&self, name: &str) -> Result<(), String> {
        let node = self.node(name);
        self.enter(&node, Program::Agent);
        let addresses: Vec<String> = self.coordinators.iter().map(|name| Self::address(name)).collect();
        let mut builder = Agent::builder()
            .service("svc")
            .replica(name)
            .region("eu")
            .incarnation(self.chance.unique())
            .coordinators(addresses)
            .clock(node.clone())
            .dial(Arc::new(self.way(&node)));
        for server in &self.servers {
            let on_loss = match server.strength().has_barrier() {
                true => OnLoss::GoOn,
                false => OnLoss::Stop,
            };
            builder = builder.target(server.name(), ..).on_loss(server.name(), on_loss);
        }
        let agent = builder.build().map_err(|error| error.to_string())?;
        for server in &self.servers {
            let writer = Writer {
                server: server.clone(),
                node: node.clone(),
            };
            tokio::spawn(write_under_permits(agent.clone(), writer, self.chance.fork()));
        }
        Ok(())
    }

    /// Starts a process that writes and knows nothing of lockkeeper.
    pub fn start_writer(&self, name: &str) {
        let node = self.node(name);
        self.enter(&node, Program::Writer);
        for server in self
            .servers
            .iter()
            .filter(|server| server.strength() == Strength::Barrier)
        {
            let writer = Writer {
                server: server.clone(),
                node: node.clone(),
            };
            tokio::spawn(write_without_asking(writer, self.chance.fork()));
        }
    }

    /// Another process of its own, for whoever asks the coordinators.
    #[must_use]
    pub fn bystander(&self, name: &str) -> Node {
        self.node(name)
    }

    /// The network as a process uses it.
    #[must_use]
    pub fn way(&self, node: &Node) -> Way {
        Way {
            net: self.net.clone(),
            node: node.clone(),
        }
    }

    /// Processes that are not dead.
    #[must_use]
    pub fn living(&self) -> Vec<Node> {
        let processes = self.processes();
        processes.iter().map(|process| process.node.clone()).collect()
    }

    /// Kills a process and starts it again after a while.
    pub async fn kill_and_restart(&self, node: &Node, down: Duration) {
        tell!(self.trace, node.name(), "is killed");
        node.set(Life::Dead);
        let killed = {
            let mut processes = self.processes();
            let at = processes.iter().position(|process| process.node.is(node));
            at.map(|at| processes.remove(at))
        };
        let Some(killed) = killed else { return };
        for server in &self.servers {
            server.client_died(node.name());
        }
        self.net.stir();
        let program = killed.program;
        drop(killed);
        tokio::time::sleep(down).await;
        tell!(self.trace, node.name(), "starts again");
        match program {
            Program::Coordinator => self.start_coordinator(node.name()),
            Program::Agent => {
                if let Err(error) = self.start_agent(node.name()) {
                    self.trace.violated(&format_args!("no agent: {error}"));
                }
            }
            Program::Writer => self.start_writer(node.name()),
        }
    }

    /// Pauses a process for a while.
    pub async fn pause(&self, node: &Node, time: Duration) {
        tell!(self.trace, node.name(), "is paused for {} ms", time.as_millis());
        node.set(Life::Paused);
        tokio::time::sleep(time).await;
        if node.life() == Life::Paused {
            tell!(self.trace, node.name(), "goes on");
        }
        node.set(Life::Running);
        self.net.stir();
    }

    fn enter(&self, node: &Node, program: Program) {
        self.processes().push(Process {
            node: node.clone(),
            program,
            coordinator: None,
        });
    }

    /// Keeps a coordinator that has started; one that was killed meanwhile goes at once.
    fn hold(&self, node: &Node, coordinator: Coordinator) {
        let mut processes = self.processes();
        let same = processes.iter_mut().find(|process| process.node.is(node));
        if let Some(process) = same {
            process.coordinator = Some(coordinator);
        }
    }

    fn processes(&self) -> std::sync::MutexGuard<'_, Vec<Process>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn write_under_permits(agent: Agent, writer: Writer, chance: Chance) {
    let target = writer.server.name().to_owned();
    for number in 0.. {
        writer.node.sleep(chance.millis(20, 900)).await;
        let Ok(permit) = agent.write(&target).await else {
            return;
        };
        let write = UserWrite {
            who: writer.node.name().to_owned(),
            number,
            carried: Some(permit.gate_epoch()),
        };
        if writer.server.strength().has_barrier() {
            // What becomes of a write is for the checker; a service would try it again.
            let _ = writer.write(write, thinks(&chance)).await;
        } else {
            writer.node.sleep(thinks(&chance)[1]).await;
            // What cooperative assumes: a write ends with its lease.
            if !permit.expired() {
                writer.write_at_once(&write);
            }
        }
        drop(permit);
    }
}

async fn write_without_asking(writer: Writer, chance: Chance) {
    for number in 0.. {
        writer.node.sleep(chance.millis(100, 1500)).await;
        let write = UserWrite {
            who: writer.node.name().to_owned(),
            number,
            carried: None,
        };
        let _ = writer.write(write, thinks(&chance)).await;
    }
}

/// Now and then a transaction stays open for long.
fn thinks(chance: &Chance) -> [Duration; 2] {
    let long = if chance.percent(3) { 15_000 } else { 120 };
    [chance.millis(0, 60), chance.millis(0, long)]
}
