//! The coordinators, as runtimes of this process or as processes, and how one is killed.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lockkeeper_coordinator::server::{Coordinator, Options};
use lockkeeper_coordinator::store::embedded::EmbeddedStore;
use lockkeeper_coordinator::store::etcd::{EtcdOptions, EtcdStore};
use lockkeeper_coordinator::store::{Store, Txn, Write};
use lockkeeper_core::lease::LeaseSettings;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::child::Process;
use super::options::REGIONS;
use crate::exit::{Exit, Failure};

/// How many there are: one may be lost, and there is still a choice.
pub(super) const COUNT: usize = 3;

/// Short, so that the loss of a leader can be watched.
const SHORT: LeaseSettings = LeaseSettings {
    write: Duration::from_millis(2_500),
    presence: Duration::from_secs(4),
    leadership: Duration::from_secs(1),
};

/// Longer, for a machine that runs every process of a fleet at once: one that gets no turn for a second or two has
/// not failed.
const LONGER: LeaseSettings = LeaseSettings {
    write: Duration::from_secs(5),
    presence: Duration::from_secs(8),
    leadership: Duration::from_secs(2),
};

/// The fleet's leases, for a fleet in one process or in many.
fn leases(in_processes: bool) -> LeaseSettings {
    if in_processes { LONGER } else { SHORT }
}

/// Keys that are removed in one transaction: fewer than stores allow.
const DELETED_AT_ONCE: usize = 100;

/// How long a coordinator may take to leave.
const LEAVE: Duration = Duration::from_secs(2);

/// Name of the `i`th coordinator, from 0.
fn name(i: usize) -> String {
    format!("coordinator-{}", i + 1)
}

/// The coordinators.
#[derive(Debug)]
pub(super) enum Coordinators {
    /// In this process, over a store in memory.
    Runtimes(Vec<InProcess>),
    /// `lockkeeper serve`, over etcd.
    Processes(Vec<(Process, String)>),
}

/// One coordinator with a runtime of its own, so that all of it can be stopped at once, wherever it is.
#[derive(Debug)]
pub(super) struct InProcess {
    name: String,
    address: SocketAddr,
    coordinator: Option<Coordinator>,
    runtime: Option<Runtime>,
}

impl InProcess {
    async fn start(i: usize, store: Arc<dyn Store>, settings: LeaseSettings) -> Result<Self, Failure> {
        let failed = |e: String| Failure::new(Exit::Error, format!("start {}: {e}", name(i)));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(name(i))
            .enable_all()
            .build()
            .map_err(|e| failed(e.to_string()))?;
        let start = async move {
            let listener = TcpListener::bind("127.0.0.1:0")
                .await
                .map_err(|e| e.to_string())?;
            let address = listener.local_addr().map_err(|e| e.to_string())?;
            let options = Options {
                name: name(i).parse().map_err(|e| format!("{e}"))?,
                fleet: "demo".parse().map_err(|e| format!("{e}"))?,
                region: REGIONS[i % REGIONS.len()].parse().map_err(|e| format!("{e}"))?,
                advertise: None,
                listener,
                admin_listener: None,
                store,
                settings,
            };
            let started = Coordinator::start(options).await.map_err(|e| e.to_string())?;
            Ok::<_, String>((address, started))
        };
        // Held from here on, so that a failure does not drop a runtime where that would block.
        let mut this = Self {
            name: name(i),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            coordinator: None,
            runtime: Some(runtime),
        };
        let Some(runtime) = &this.runtime else {
            return Ok(this);
        };
        let started = runtime.spawn(start).await.map_err(|e| failed(e.to_string()))?;
        let (address, coordinator) = started.map_err(failed)?;
        this.address = address;
        this.coordinator = Some(coordinator);
        Ok(this)
    }

    /// Stops every task and closes every socket and database session, wherever they are. Revokes nothing.
    fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        self.coordinator = None;
    }

    async fn leave(&mut self) {
        if let (Some(runtime), Some(coordinator)) = (&self.runtime, self.coordinator.take()) {
            let leaving = runtime.spawn(coordinator.shutdown());
            // The fleet ends here: nobody waits for what it did not hand over.
            let _ = tokio::time::timeout(LEAVE, leaving).await;
        }
        self.kill();
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Coordinators {
    /// Starts them in this process; the replicas may be processes.
    pub(super) async fn in_process(replicas_are_processes: bool) -> Result<Self, Failure> {
        let store = EmbeddedStore::in_memory()
            .map_err(|e| Failure::new(Exit::Error, format!("open the store: {e}")))?;
        let store: Arc<dyn Store> = Arc::new(store);
        let mut all = Vec::new();
        for i in 0..COUNT {
            all.push(InProcess::start(i, Arc::clone(&store), leases(replicas_are_processes)).await?);
        }
        Ok(Self::Runtimes(all))
    }

    /// Starts them as processes.
    pub(super) async fn processes(dir: &Path, etcd: &[String], fleet: &str) -> Result<Self, Failure> {
        let store = format!("etcd://{}", etcd.join(","));
        let leases = leases(true);
        let lease = |lease: Duration| format!("{}ms", lease.as_millis());
        let mut all = Vec::new();
        for i in 0..COUNT {
            let failed = |e: std::io::Error| Failure::new(Exit::Error, format!("start {}: {e}", name(i)));
            let address = free_address().await.map_err(failed)?;
            let admin = free_address().await.map_err(failed)?;
            let (write, presence, leadership) = (
                lease(leases.write),
                lease(leases.presence),
                lease(leases.leadership),
            );
            let name = name(i);
            let command = [
                "serve",
                "--store",
                &store,
                "--fleet",
                fleet,
                "--name",
                &name,
                "--region",
                REGIONS[i % REGIONS.len()],
                "--listen",
                &address,
                "--admin-listen",
                &admin,
                "--write-lease",
                &write,
                "--presence-ttl",
                &presence,
                "--leadership-ttl",
                &leadership,
            ];
            all.push((Process::start(dir, &name, &command).map_err(failed)?, address));
        }
        Ok(Self::Processes(all))
    }

    /// Where they serve.
    pub(super) fn addresses(&self) -> Vec<String> {
        match self {
            Self::Runtimes(all) => all.iter().map(|one| one.address.to_string()).collect(),
            Self::Processes(all) => all.iter().map(|(_, address)| address.clone()).collect(),
        }
    }

    /// Kills one by name. Gives how.
    pub(super) fn kill(&mut self, name: &str) -> Result<&'static str, Failure> {
        let nobody = || Failure::new(Exit::Error, format!("kill {name}: there is none of that name"));
        match self {
            Self::Runtimes(all) => {
                all.iter_mut()
                    .find(|one| one.name == name)
                    .ok_or_else(nobody)?
                    .kill();
                Ok("all its tasks were dropped, nothing was revoked")
            }
            Self::Processes(all) => {
                let (process, _) = all
                    .iter_mut()
                    .find(|(process, _)| process.name == name)
                    .ok_or_else(nobody)?;
                process
                    .kill()
                    .map_err(|e| Failure::new(Exit::Error, format!("kill {name}: {e}")))?;
                Ok("SIGKILL")
            }
        }
    }

    /// Which have ended, and their last words; the one that was `killed` is not among them.
    pub(super) fn obituaries(&mut self, killed: Option<&str>) -> Vec<String> {
        match self {
            Self::Runtimes(_) => Vec::new(),
            Self::Processes(all) => {
                let others = all
                    .iter_mut()
                    .filter(|(process, _)| Some(process.name.as_str()) != killed);
                others.filter_map(|(process, _)| process.obituary()).collect()
            }
        }
    }

    /// Ends them in good order.
    pub(super) async fn leave(&mut self) {
        match self {
            Self::Runtimes(all) => {
                for one in all {
                    one.leave().await;
                }
            }
            Self::Processes(all) => {
                all.iter().for_each(|(process, _)| process.terminate());
                for (process, _) in all {
                    process.ended(LEAVE).await;
                }
            }
        }
    }
}

/// A loopback address that was free a moment ago.
async fn free_address() -> std::io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    Ok(listener.local_addr()?.to_string())
}

/// Removes everything that a fleet left in etcd.
pub(super) async fn forget(etcd: &[String], fleet: &str) -> Result<(), String> {
    let fleet = fleet.parse().map_err(|e| format!("{e}"))?;
    let store = EtcdStore::connect(etcd, &fleet, EtcdOptions::default())
        .await
        .map_err(|e| e.to_string())?;
    let entries = store.list("").await.map_err(|e| e.to_string())?.entries;
    for some in entries.chunks(DELETED_AT_ONCE) {
        let writes = some
            .iter()
            .map(|entry| Write::Delete(entry.key.clone()))
            .collect();
        let txn = Txn {
            writes,
            ..Txn::default()
        };
        store.commit(txn).await.map_err(|e| e.to_string())?;
    }
    Ok(())
}
