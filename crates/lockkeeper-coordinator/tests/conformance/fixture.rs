//! The stores under test.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use lockkeeper_coordinator::clock::BootClock;
use lockkeeper_coordinator::store::embedded::EmbeddedStore;
use lockkeeper_coordinator::store::etcd::{EtcdOptions, EtcdStore};
use lockkeeper_coordinator::store::{Outcome, Revision, Store, Txn, Write};
use lockkeeper_core::id::FleetName;
use lockkeeper_tests::etcd::{EtcdCluster, EtcdRelease};

/// Changes that the embedded stores under test remember: few, so that a test can outrun them.
const HISTORY_CHANGES: usize = 64;

/// Compaction strikes every fleet of a shared etcd: tests that watch the past hold it for reading.
pub(crate) static HISTORY: tokio::sync::RwLock<()> = tokio::sync::RwLock::const_new(());

/// A store, and what must live as long as it.
pub(crate) struct Fixture {
    pub(crate) store: Arc<dyn Store>,
    etcd: Option<Arc<EtcdCluster>>,
    _place: Box<dyn Any + Send + Sync>,
}

impl Fixture {
    /// Forgets the changes up to `revision`, each store in its way.
    pub(crate) async fn compact(&self, revision: Revision) {
        match &self.etcd {
            Some(cluster) => {
                let _alone = HISTORY.write().await;
                let cluster = Arc::clone(cluster);
                let compact = move || cluster.etcdctl(&["compact", &revision.to_string()]);
                tokio::task::spawn_blocking(compact).await.unwrap().unwrap();
            }
            None => {
                for _ in 0..=HISTORY_CHANGES {
                    self.put("filler", "x").await;
                }
            }
        }
    }

    /// Sets a key, come what may, and gives the revision.
    pub(crate) async fn put(&self, key: &str, value: &str) -> Revision {
        let write = Write::Put {
            key: key.to_owned(),
            value: value.into(),
            lease: None,
        };
        let outcome = self
            .store
            .commit(Txn {
                writes: vec![write],
                ..Txn::default()
            })
            .await
            .unwrap();
        committed(&outcome)
    }
}

pub(crate) fn committed(outcome: &Outcome) -> Revision {
    match outcome {
        Outcome::Committed { revision, .. } => *revision,
        conflict => panic!("expected a commit, got {conflict:?}"),
    }
}

pub(crate) async fn memory() -> Fixture {
    let store = EmbeddedStore::in_memory_with(Arc::new(BootClock), HISTORY_CHANGES).unwrap();
    Fixture {
        store: Arc::new(store),
        etcd: None,
        _place: Box::new(()),
    }
}

pub(crate) fn memory_with_history(changes: usize) -> Arc<dyn Store> {
    Arc::new(EmbeddedStore::in_memory_with(Arc::new(BootClock), changes).unwrap())
}

pub(crate) async fn file() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open_with(directory.path(), Arc::new(BootClock), HISTORY_CHANGES).unwrap();
    Fixture {
        store: Arc::new(store),
        etcd: None,
        _place: Box::new(directory),
    }
}

pub(crate) async fn etcd_3_4() -> Fixture {
    static CLUSTER: Mutex<Weak<EtcdCluster>> = Mutex::new(Weak::new());
    etcd(&CLUSTER, EtcdRelease::V3_4).await
}

pub(crate) async fn etcd_3_5() -> Fixture {
    static CLUSTER: Mutex<Weak<EtcdCluster>> = Mutex::new(Weak::new());
    etcd(&CLUSTER, EtcdRelease::V3_5).await
}

/// A fleet of its own on a server that all tests of the release share while one of them runs.
async fn etcd(shared: &'static Mutex<Weak<EtcdCluster>>, release: EtcdRelease) -> Fixture {
    let start = move || {
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(EtcdCluster::start(1, release).unwrap());
            *shared = Arc::downgrade(&cluster);
            cluster
        })
    };
    let cluster = tokio::task::spawn_blocking(start).await.unwrap();
    let store = connect(&cluster.endpoints()).await;
    Fixture {
        store,
        etcd: Some(cluster),
        _place: Box::new(()),
    }
}

/// A store with a fleet of its own.
pub(crate) async fn connect(endpoints: &[String]) -> Arc<dyn Store> {
    let fleet = fresh_fleet();
    Arc::new(
        EtcdStore::connect(endpoints, &fleet, EtcdOptions::default())
            .await
            .unwrap(),
    )
}

pub(crate) fn fresh_fleet() -> FleetName {
    format!("t{}", fastrand::u64(..)).parse().unwrap()
}
