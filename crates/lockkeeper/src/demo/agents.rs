//! All replicas of the service, as tasks of this process or as processes.

use std::path::Path;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::child::Process;
use super::database::RegionDatabase;
use super::journal::{Notes, Tally};
use super::replica::{self, ReplicaFlags};
use super::service::Release;
use super::writes::Connections;
use crate::exit::{Exit, Failure};

/// How long all replicas together may take to end.
const STOP: Duration = Duration::from_secs(10);

/// One replica, as the demo sees it.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) name: String,
    pub(super) region: &'static str,
    pub(super) release: Release,
    pub(super) tally: Tally,
    notes: Notes,
}

/// All replicas.
#[derive(Debug)]
pub(super) struct Agents {
    pub(super) known: Vec<Known>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    processes: Vec<Process>,
}

impl Agents {
    pub(super) fn new() -> Self {
        Self {
            known: Vec::new(),
            stop: CancellationToken::new(),
            tasks: JoinSet::new(),
            processes: Vec::new(),
        }
    }

    /// Starts `count` replicas of `release` in a region.
    pub(super) fn start(
        &mut self,
        how: &How<'_>,
        database: &RegionDatabase,
        release: Release,
        count: u32,
    ) -> Result<(), Failure> {
        let shared = match how {
            How::Tasks { .. } => Some(
                Connections::open(&database.dsn)
                    .map_err(|e| Failure::new(Exit::Error, format!("open {}: {e}", database.place)))?,
            ),
            How::Processes { .. } => None,
        };
        for place in 1..=count {
            let name = format!("orders-r{}-{}-{place}", release.name(), database.region);
            let (dir, servers) = match how {
                How::Tasks { servers } => (Path::new(""), *servers),
                How::Processes { dir, servers } => (*dir, *servers),
            };
            let flags = ReplicaFlags {
                name: name.clone(),
                index: i64::try_from(self.known.len())
                    .unwrap_or(i64::MAX)
                    .saturating_add(1),
                region: database.region.to_owned(),
                release,
                server: servers.to_vec(),
                dsn_file: database.dsn_file.clone(),
                journal: dir.join(format!("{name}.journal")),
            };
            let notes = match &shared {
                Some(connections) => self.spawn(flags, connections.clone()),
                None => self.start_process(dir, &flags)?,
            };
            self.known.push(Known {
                name,
                region: database.region,
                release,
                tally: Tally::default(),
                notes,
            });
        }
        Ok(())
    }

    fn spawn(&mut self, flags: ReplicaFlags, connections: Connections) -> Notes {
        let (journal, notes) = Notes::in_memory();
        let stop = self.stop.clone();
        self.tasks
            .spawn(async move { replica::run(&flags, &connections, &journal, stop).await });
        notes
    }

    fn start_process(&mut self, dir: &Path, flags: &ReplicaFlags) -> Result<Notes, Failure> {
        let (index, servers) = (flags.index.to_string(), flags.server.join(","));
        let (dsn_file, journal) = (flags.dsn_file.to_string_lossy(), flags.journal.to_string_lossy());
        let command = [
            "demo",
            "agent",
            "--name",
            &flags.name,
            "--index",
            &index,
            "--region",
            &flags.region,
            "--release",
            flags.release.name(),
            "--server",
            &servers,
            "--dsn-file",
            &dsn_file,
            "--journal",
            &journal,
        ];
        let process = Process::start(dir, &flags.name, &command);
        self.processes
            .push(process.map_err(|e| Failure::new(Exit::Error, format!("start {}: {e}", flags.name)))?);
        Ok(Notes::of_file(&flags.journal))
    }

    /// Reads what the replicas noted since.
    pub(super) fn read(&mut self) -> Result<(), Failure> {
        for known in &mut self.known {
            let entries = known.notes.take();
            let entries = entries
                .map_err(|e| Failure::new(Exit::Error, format!("read the notes of {}: {e}", known.name)))?;
            entries.into_iter().for_each(|entry| known.tally.add(entry));
        }
        Ok(())
    }

    /// What ended a replica unasked, if anything did.
    pub(super) fn first_death(&mut self) -> Option<String> {
        let noted = self
            .known
            .iter()
            .find_map(|k| Some(format!("{}: {}", k.name, k.tally.died.as_ref()?)));
        noted.or_else(|| self.processes.iter_mut().find_map(Process::obituary))
    }

    /// The replicas of one release in one region.
    pub(super) fn of(&self, region: &str, release: Release) -> impl Iterator<Item = &Known> {
        self.known
            .iter()
            .filter(move |known| known.region == region && known.release == release)
    }

    /// Writes acknowledged in one region.
    pub(super) fn acked(&self, region: &str) -> usize {
        self.known
            .iter()
            .filter(|k| k.region == region)
            .map(|k| k.tally.acked.len())
            .sum()
    }

    /// Lets every write that is under way end, and reads the last notes.
    pub(super) async fn stop(&mut self) -> Result<(), Failure> {
        self.stop.cancel();
        self.processes.iter().for_each(Process::terminate);
        let until = tokio::time::Instant::now() + STOP;
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let stopped = tokio::time::timeout_at(until, all).await.is_ok();
        for process in &mut self.processes {
            process
                .ended(until.saturating_duration_since(tokio::time::Instant::now()))
                .await;
        }
        self.read()?;
        match stopped {
            true => Ok(()),
            false => Err(Failure::new(
                Exit::TimedOut,
                format!("stop the replicas within {} s", STOP.as_secs()),
            )),
        }
    }
}

/// How replicas are started.
#[derive(Debug, Clone, Copy)]
pub(super) enum How<'a> {
    /// In this process; those of a region share a connection pool.
    Tasks {
        /// The coordinators.
        servers: &'a [String],
    },
    /// As processes.
    Processes {
        /// Where their logs and journals go.
        dir: &'a Path,
        /// The coordinators.
        servers: &'a [String],
    },
}
