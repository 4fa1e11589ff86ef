//! The store of one machine: a durable file, or memory.
//!
//! One process opens it; several coordinators in that process share it as an `Arc`. Leases live in memory, so all
//! leased keys of a former process are removed when the store is opened.

mod engine;
mod history;
mod leases;
mod tables;

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use redb::backends::InMemoryBackend;
use redb::{Builder, Database, Durability, ReadTransaction, ReadableDatabase};
use tokio::sync::oneshot;

use self::engine::{Engine, Request};
use self::history::History;
use self::tables::Batch;
use super::check::check;
use super::{Entry, Lease, LeaseId, Listing, Outcome, Revision, Store, StoreError, Txn, Watch};
use crate::clock::{BootClock, Clock};

/// Changes kept for watches. A coordinator that falls behind by more lists again.
pub const HISTORY_CHANGES: usize = 16_384;

/// How long a caller waits for the disk before the outcome counts as unknown.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Memory for the pages of the file; the records of a fleet are far smaller.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

const FILE: &str = "store.redb";
const LOCK: &str = "lock";

/// The embedded store. Dropping the last reference waits for the commit that is being written and closes the file.
pub struct EmbeddedStore {
    database: Arc<Database>,
    history: Arc<History>,
    requests: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
    place: Option<PathBuf>,
    /// Held for as long as the store is open.
    _lock: Option<File>,
}

impl EmbeddedStore {
    /// Opens the store in a directory, which is made when it is missing. Blocks for a moment.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(directory.as_ref(), Arc::new(BootClock), HISTORY_CHANGES)
    }

    /// The same with a clock and a history length of the caller's choice.
    pub fn open_with(
        directory: &Path,
        clock: Arc<dyn Clock>,
        history_changes: usize,
    ) -> Result<Self, StoreError> {
        let failed = |what: &str, error: &dyn fmt::Display| {
            StoreError::Invalid(format!("{what} in {}: {error}", directory.display()))
        };
        fs::create_dir_all(directory).map_err(|error| failed("make the embedded store", &error))?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(directory.join(LOCK))
            .map_err(|error| failed("open the embedded store's lock", &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Invalid(format!(
                    "the embedded store in {} is in use by another process: stop that one, or use etcd to run \
                     several coordinators",
                    directory.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock the embedded store", &error)),
        }
        let database = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create(directory.join(FILE))
            .map_err(|error| failed("open the embedded store", &error))?;
        Self::start(
            database,
            clock,
            history_changes,
            Some((directory.to_owned(), lock)),
        )
    }

    /// A store that is forgotten with the process, for tests and the demo.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::in_memory_with(Arc::new(BootClock), HISTORY_CHANGES)
    }

    /// The same with a clock and a history length of the caller's choice.
    pub fn in_memory_with(clock: Arc<dyn Clock>, history_changes: usize) -> Result<Self, StoreError> {
        let database = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(InMemoryBackend::new())
            .map_err(unavailable)?;
        Self::start(database, clock, history_changes, None)
    }

    fn start(
        database: Database,
        clock: Arc<dyn Clock>,
        history_changes: usize,
        place: Option<(PathBuf, File)>,
    ) -> Result<Self, StoreError> {
        let revision = prepare(&database).map_err(unavailable)??;
        let database = Arc::new(database);
        let history = Arc::new(History::new(revision, history_changes));
        let engine = Engine::new(Arc::clone(&database), Arc::clone(&history), clock);
        let (requests, inbox) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("embedded-store".to_owned())
            .spawn(move || engine.run(&inbox))
            .map_err(unavailable)?;
        let (place, lock) = place.unzip();
        Ok(Self {
            database,
            history,
            requests: Some(requests),
            thread: Some(thread),
            place,
            _lock: lock,
        })
    }

    async fn request<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request,
    ) -> Result<T, StoreError> {
        let failed = || StoreError::Unavailable("the embedded store failed or was closed".to_owned());
        let (reply, answer) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or_else(failed)?;
        requests.send(request(reply)).map_err(|_| failed())?;
        match tokio::time::timeout(REQUEST_TIMEOUT, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(StoreError::Unknown(
                "the embedded store failed while writing".to_owned(),
            )),
            Err(_) => Err(StoreError::Unknown(format!(
                "the disk took longer than {REQUEST_TIMEOUT:?}"
            ))),
        }
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let database = Arc::clone(&self.database);
        let work = move || {
            let transaction = database.begin_read().map_err(redb::Error::from)?;
            read(&transaction)
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(unavailable)?
            .map_err(unavailable)
    }
}

fn unavailable(error: impl fmt::Display) -> StoreError {
    StoreError::Unavailable(format!("embedded store: {error}"))
}

fn prepare(database: &Database) -> Result<Result<Revision, StoreError>, redb::Error> {
    let mut write = database.begin_write()?;
    write.set_durability(Durability::Immediate)?;
    let mut batch = Batch::open(&write)?;
    let revision = match batch.prepare()? {
        Ok(revision) => revision,
        Err(error) => return Ok(Err(error)),
    };
    batch.finish()?;
    write.commit()?;
    Ok(Ok(revision))
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // Waits for one batch at most; without it, the file would still be open after the store is gone.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedStore")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn grant(&self, ttl: Duration) -> Result<Lease, StoreError> {
        if ttl < Duration::from_millis(1) {
            return Err(StoreError::Invalid(format!("a lease of {ttl:?}")));
        }
        self.request(|reply| Request::Grant(ttl, reply)).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        self.request(|reply| Request::Renew(lease, reply)).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.request(|reply| Request::Revoke(lease, reply)).await
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let key = key.to_owned();
        self.read(move |transaction| tables::get(transaction, &key)).await
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        let prefix = prefix.to_owned();
        self.read(move |transaction| tables::list(transaction, &prefix))
            .await
    }

    async fn commit(&self, txn: Txn) -> Result<Outcome, StoreError> {
        check(&txn)?;
        self.request(|reply| Request::Commit(txn, reply)).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, StoreError> {
        self.history.watch(prefix, from)
    }

    async fn describe(&self) -> Result<String, StoreError> {
        Ok(match &self.place {
            Some(place) => format!("embedded store in {}", place.display()),
            None => "embedded store in memory".to_owned(),
        })
    }
}
