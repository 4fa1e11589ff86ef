//! One replica of the demo's service: waits for its schema, then writes without pause until it is stopped.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use lockkeeper_agent::{Agent, BootClock, Cause, Clock, Refused, TargetView, WriteError};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::journal::{Entry, Journal};
use super::service::{self, Release};
use super::writes::{Connections, InsertError};
use crate::exit::{Exit, Failure};

/// Numbers that one replica may give to its writes.
pub(super) const NUMBERS_PER_REPLICA: i64 = 1_000_000_000;

/// Pause after a failed write, so that a broken database is not hammered.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// How long a write that is under way at the stop may still take.
const LAST_WRITE: Duration = Duration::from_secs(3);

/// How long the farewell to the coordinator may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// Who a replica is.
#[derive(Debug, Clone, Args)]
pub(super) struct ReplicaFlags {
    /// Its stable name
    #[arg(long)]
    pub(super) name: String,
    /// Its place among all replicas, from 1: its writes are numbered from there
    #[arg(long)]
    pub(super) index: i64,
    /// Where it runs
    #[arg(long)]
    pub(super) region: String,
    /// What it runs
    #[arg(long)]
    pub(super) release: Release,
    /// The coordinators
    #[arg(long, value_delimiter = ',')]
    pub(super) server: Vec<String>,
    /// File that holds the database's DSN
    #[arg(long)]
    pub(super) dsn_file: PathBuf,
    /// File that it notes its writes in
    #[arg(long)]
    pub(super) journal: PathBuf,
}

/// Runs a replica as the whole of this process, until SIGTERM.
pub(super) async fn run_process(flags: ReplicaFlags) -> Result<Exit, Failure> {
    let failed = |what: &str, e: &dyn std::fmt::Display| Failure::new(Exit::Error, format!("{what}: {e}"));
    let file = File::create(&flags.journal).map_err(|e| failed("make the journal", &e))?;
    let text = std::fs::read_to_string(&flags.dsn_file).map_err(|e| failed("read the DSN's file", &e))?;
    let connections = Connections::open(text.trim()).map_err(|e| failed("open the database", &e))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| failed("listen for signals", &e))?;
    let stop = CancellationToken::new();
    let journal = Journal::File(Arc::new(file));
    let ended = run(&flags, &connections, &journal, stop.clone());
    tokio::pin!(ended);
    tokio::select! {
        () = &mut ended => {}
        _ = terminate.recv() => {
            stop.cancel();
            ended.await;
        }
    }
    connections.close().await;
    Ok(Exit::Ok)
}

/// Runs a replica until `stop`. What goes wrong is in its journal.
pub(super) async fn run(
    flags: &ReplicaFlags,
    connections: &Connections,
    journal: &Journal,
    stop: CancellationToken,
) {
    if let Err(why) = write_until(flags, connections, journal, &stop).await {
        let _ = journal.note(Entry::Died { why });
    }
}

async fn write_until(
    flags: &ReplicaFlags,
    connections: &Connections,
    journal: &Journal,
    stop: &CancellationToken,
) -> Result<(), String> {
    let target = service::target(&flags.region);
    let agent = Agent::builder()
        .service(service::NAME)
        .replica(&flags.name)
        .region(&flags.region)
        .release(flags.release.name())
        .coordinators(flags.server.iter().cloned())
        .target(&target, flags.release.versions())
        .build()
        .map_err(|e| e.to_string())?;
    let replica = Replica {
        agent: &agent,
        target: &target,
        release: flags.release,
        connections,
        journal,
    };
    let ended = tokio::select! {
        ended = replica.write_until(flags.index * NUMBERS_PER_REPLICA, stop) => ended,
        noted = replica.note_misfits() => noted.map_err(|e| e.to_string()),
    };
    // A permit that is still out then is one whose write was given up, and is noted as unknown.
    let _ = agent.shutdown_within(FAREWELL).await;
    ended
}

struct Replica<'a> {
    agent: &'a Agent,
    target: &'a str,
    release: Release,
    connections: &'a Connections,
    journal: &'a Journal,
}

impl Replica<'_> {
    async fn write_until(&self, first: i64, stop: &CancellationToken) -> Result<(), String> {
        tokio::select! {
            ready = self.agent.register_and_wait() => ready.map_err(|e| e.to_string())?,
            () = stop.cancelled() => return Ok(()),
        }
        self.note(Entry::Ready)?;
        for number in first.. {
            if stop.is_cancelled() || !self.write(number, stop).await? {
                break;
            }
        }
        Ok(())
    }

    /// One write, tried again after each refusal. Gives whether to go on.
    async fn write(&self, number: i64, stop: &CancellationToken) -> Result<bool, String> {
        // Dropping the write is harmless while it waits for its permit, and only then.
        let under_way = AtomicBool::new(false);
        let outcome = {
            let write = self.agent.write_with(self.target, || async {
                under_way.store(true, Ordering::Relaxed);
                let outcome = self.connections.write(self.release.order(number)).await;
                under_way.store(false, Ordering::Relaxed);
                if let Err(error) = &outcome
                    && error.refusal().is_some()
                {
                    // A journal that cannot be written shows with the next note.
                    let _ = self.journal.note(Entry::Refused { number });
                }
                outcome
            });
            tokio::pin!(write);
            tokio::select! {
                outcome = &mut write => Some(outcome),
                () = stop.cancelled() => match under_way.load(Ordering::Relaxed) {
                    true => tokio::time::timeout(LAST_WRITE, write).await.ok(),
                    false => return Ok(false),
                },
            }
        };
        let entry = match outcome {
            Some(Ok(())) => Entry::Acked {
                number,
                at_ms: BootClock.now().0,
            },
            Some(Err(WriteError::Agent(error))) => return Err(error.to_string()),
            Some(Err(error @ WriteError::DeadlinePassed)) => Entry::Unknown {
                number,
                why: error.to_string(),
            },
            Some(Err(WriteError::Write(error @ InsertError::Unknown(_)))) => Entry::Unknown {
                number,
                why: error.to_string(),
            },
            Some(Err(error)) => Entry::Failed {
                number,
                why: error.to_string(),
            },
            // Refused, and waiting for the gate when the time was up: the transaction was rolled back.
            None if !under_way.load(Ordering::Relaxed) => return Ok(false),
            None => Entry::Unknown {
                number,
                why: "given up at the stop".to_owned(),
            },
        };
        let failed = !matches!(entry, Entry::Acked { .. });
        self.note(entry)?;
        if failed {
            tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
        }
        Ok(true)
    }

    /// Notes when the replica is told that it does not fit. Ends with a journal that cannot be written.
    async fn note_misfits(&self) -> std::io::Result<()> {
        let Some(mut views) = self.agent.watch(self.target) else {
            return std::future::pending().await;
        };
        loop {
            let why = match &*views.borrow_and_update() {
                TargetView::Fenced(fence)
                    if matches!(fence.cause, Cause::SchemaTooNew | Cause::SchemaTooOld) =>
                {
                    Some(fence.to_string())
                }
                TargetView::Fenced(_) | TargetView::Open { .. } => None,
            };
            if let Some(why) = why {
                self.journal.note(Entry::Unfit { why })?;
            }
            if views.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    fn note(&self, entry: Entry) -> Result<(), String> {
        self.journal
            .note(entry)
            .map_err(|e| format!("write the journal: {e}"))
    }
}
