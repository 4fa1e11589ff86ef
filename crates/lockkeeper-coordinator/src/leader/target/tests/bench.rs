//! A leader over the embedded store, and a database port that does as it is told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use lockkeeper_core::epoch::{GateEpoch, LeaderEpoch};
use lockkeeper_core::gate::{Gate, Verification};
use lockkeeper_core::id::{RolloutId, TargetName};
use lockkeeper_core::lease::LeaseSettings;
use lockkeeper_core::rollout::{OnFailure, State, Steering, Target};
use lockkeeper_core::spec::{RolloutSpec, TargetSpec};
use lockkeeper_core::time::WallTime;
use lockkeeper_core::version::{SchemaVersion, VersionOrder};
use lockkeeper_migrate::db::{
    Applied, ApplyError, BarrierReport, Blocker, Books, Claim, Database, DbError, Doubt, ExecutorId, Finding,
    GateRow, Hand, Inspection, LedgerWrite, Observer, Resolution, ServerIdentity, TakeError, VerifyOutcome,
};
use lockkeeper_migrate::dialect::Dialect;
use lockkeeper_migrate::fingerprint::Schema;
use lockkeeper_migrate::ledger::{EditRecord, EntryState, Extent, How, LedgerEntry};
use lockkeeper_migrate::source::{self, Checksum, Direction, Migration, Script};
use lockkeeper_migrate::sql::Statement;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::clock::wall_now;
use crate::leader::access::Migrations;
use crate::leader::run::Leader;
use crate::leader::target::TargetDriver;
use crate::leader::waits::Waits;
use crate::leader::writer::{LeaderWriter, RecordChange};
use crate::records::{ProgressRecord, RolloutRecord, Stored, key};
use crate::store::embedded::EmbeddedStore;
use crate::store::{Guard, Outcome, Store, Txn, Write};
use crate::view::FleetView;
use crate::world::World;

/// What the database is, and what happened to it.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) row: GateRow,
    pub(super) ledger: Vec<LedgerEntry>,
    pub(super) barrier: bool,
    /// Failures of the next attempts to raise the barrier.
    pub(super) raises: VecDeque<DbError>,
    pub(super) raised: usize,
    /// Whether every verification loses the session.
    pub(super) verify_loses: bool,
    /// Versions that were applied or reverted while no barrier stood.
    pub(super) unfenced: Vec<SchemaVersion>,
}

#[derive(Debug, Clone)]
pub(super) struct Fake(pub(super) Arc<Mutex<Scene>>);

impl Fake {
    pub(super) fn scene(&self) -> MutexGuard<'_, Scene> {
        self.0.lock().unwrap()
    }
}

#[async_trait]
impl Database for Fake {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    async fn inspect(&self) -> Result<Inspection, DbError> {
        let scene = self.scene();
        Ok(Inspection {
            identity: scene.row.identity.clone(),
            server: "fake".to_owned(),
            gate_row: Some(scene.row.clone()),
            ledger: scene.ledger.clone(),
            other_ledgers: Vec::new(),
            books: Books::default(),
        })
    }

    async fn schema(&self) -> Result<Schema, DbError> {
        Ok(Schema::new(Dialect::Sqlite, "fake".to_owned(), BTreeMap::new()))
    }

    async fn verify(&self, _: &[Statement]) -> Result<VerifyOutcome, DbError> {
        Ok(VerifyOutcome::Passed)
    }

    async fn preflight(&self) -> Result<Vec<Finding>, DbError> {
        Ok(Vec::new())
    }

    async fn take(&self, _: &Claim, _: Duration, _: &dyn Observer) -> Result<Box<dyn Hand>, TakeError> {
        let (row, executor) = (self.scene().row.clone(), executor());
        let fake = self.clone();
        Ok(Box::new(FakeHand { fake, row, executor }))
    }

    async fn blockers(&self, _: &ExecutorId) -> Result<Vec<Blocker>, DbError> {
        Ok(Vec::new())
    }

    async fn end_executor(&self, _: &ExecutorId, _: Duration) -> Result<(), DbError> {
        Ok(())
    }

    async fn cancel(&self, _: &ExecutorId) -> Result<(), DbError> {
        Ok(())
    }
}

fn executor() -> ExecutorId {
    ExecutorId {
        session: "1".to_owned(),
        started: "1".to_owned(),
    }
}

/// A round trip: without one, whatever has no time left would still get through.
async fn answer_takes_time() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

#[derive(Debug)]
struct FakeHand {
    fake: Fake,
    row: GateRow,
    executor: ExecutorId,
}

#[async_trait]
impl Hand for FakeHand {
    fn gate_row(&self) -> &GateRow {
        &self.row
    }

    fn executor(&self) -> &ExecutorId {
        &self.executor
    }

    async fn close(&mut self, epoch: GateEpoch, _: &str) -> Result<(), DbError> {
        self.row.gate_epoch = epoch;
        self.fake.scene().row.gate_epoch = epoch;
        Ok(())
    }

    async fn raise_barrier(&mut self, _: Duration, _: &dyn Observer) -> Result<BarrierReport, DbError> {
        let mut scene = self.fake.scene();
        scene.raised += 1;
        if let Some(error) = scene.raises.pop_front() {
            return Err(error);
        }
        scene.barrier = true;
        Ok(BarrierReport::default())
    }

    async fn apply(
        &mut self,
        _: &Script,
        write: &LedgerWrite,
        _: &dyn Observer,
    ) -> Result<Applied, ApplyError> {
        answer_takes_time().await;
        let mut scene = self.fake.scene();
        if !scene.barrier {
            scene.unfenced.push(write.version.clone());
        }
        match write.direction {
            Direction::Up => scene.ledger.push(entry(&write.version, &write.checksum)),
            Direction::Down => scene.ledger.retain(|e| e.version != write.version),
        }
        Ok(Applied::Ran {
            duration: Duration::ZERO,
            notices: Vec::new(),
        })
    }

    async fn ledger(&mut self) -> Result<Vec<LedgerEntry>, DbError> {
        answer_takes_time().await;
        Ok(self.fake.scene().ledger.clone())
    }

    async fn own_ledger(&mut self) -> Result<Vec<LedgerEntry>, DbError> {
        self.ledger().await
    }

    async fn record(&mut self, _: &[LedgerWrite]) -> Result<(), DbError> {
        Ok(())
    }

    async fn accept_edit(&mut self, _: &Migration, _: &EditRecord) -> Result<(), DbError> {
        Ok(())
    }

    async fn schema(&mut self) -> Result<Schema, DbError> {
        self.fake.schema().await
    }

    async fn doubts(&mut self) -> Result<Vec<Doubt>, DbError> {
        Ok(Vec::new())
    }

    async fn resolve(&mut self, _: &Doubt, _: &Resolution) -> Result<(), DbError> {
        Ok(())
    }

    async fn scalar(&mut self, _: &str) -> Result<Option<String>, DbError> {
        Ok(None)
    }

    async fn verify(&mut self, _: &[Statement]) -> Result<VerifyOutcome, DbError> {
        match self.fake.scene().verify_loses {
            true => Err(DbError::ConnectionLost("killed by the server".to_owned())),
            false => Ok(VerifyOutcome::Passed),
        }
    }

    async fn open(&mut self, epoch: GateEpoch, version: Option<&SchemaVersion>) -> Result<(), DbError> {
        let mut scene = self.fake.scene();
        scene.row.opened = epoch;
        scene.row.version = version.cloned();
        scene.barrier = false;
        self.row = scene.row.clone();
        Ok(())
    }

    async fn clean_up(&mut self, _: &dyn Observer) -> Result<usize, DbError> {
        Ok(0)
    }

    async fn release(self: Box<Self>) -> Result<(), DbError> {
        Ok(())
    }
}

pub(super) fn entry(version: &SchemaVersion, checksum: &str) -> LedgerEntry {
    LedgerEntry {
        version: version.clone(),
        name: "a".to_owned(),
        checksum_up: Checksum(checksum.to_owned()).into(),
        applied_at_unix_ms: 0,
        duration_ms: 0,
        applied_by: "test".to_owned(),
        leader_epoch: None,
        layout: "golang-migrate".to_owned(),
        warnings: 0,
        state: EntryState::Applied,
        how: How::Ran,
        extent: Extent::One,
    }
}

/// One target `t` of rollout `r`, whose one migration is version 1.
pub(super) struct Bench {
    pub(super) store: Arc<dyn Store>,
    pub(super) leader: Arc<Leader>,
    pub(super) view: watch::Sender<FleetView>,
    pub(super) fake: Fake,
    pub(super) migrations: Migrations,
    pub(super) spec: RolloutSpec,
    feeder: JoinHandle<()>,
    _files: tempfile::TempDir,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.feeder.abort();
    }
}

pub(super) fn target() -> TargetName {
    "t".parse().unwrap()
}

pub(super) fn rollout() -> RolloutId {
    "r".parse().unwrap()
}

pub(super) fn target_spec() -> TargetSpec {
    serde_json::from_value(serde_json::json!({
        "name": "t", "service": "s", "region": "eu", "dsn": {"env": "DSN"}, "migrations": {"dir": "m"}
    }))
    .unwrap()
}

impl Bench {
    pub(super) async fn new() -> Self {
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory().unwrap());
        let elected = Txn {
            guards: vec![Guard::ModRevision(key::LEADER.to_owned(), 0)],
            writes: vec![Write::Put {
                key: key::LEADER.to_owned(),
                value: b"{}".to_vec(),
                lease: None,
            }],
            lists: Vec::new(),
        };
        let Outcome::Committed { revision, .. } = store.commit(elected).await.unwrap() else {
            panic!("no leader")
        };
        let epoch = LeaderEpoch {
            generation: 1,
            revision,
        };
        let (view, receiver) = watch::channel(FleetView::default());
        let leader = Leader::new(
            LeaderWriter::new(Arc::clone(&store), epoch),
            Uuid::nil(),
            "c1".parse().unwrap(),
            receiver,
            World::default(),
            LeaseSettings::default(),
            Waits::default(),
        );
        let files = tempfile::tempdir().unwrap();
        for (name, sql) in [
            ("1_a.up.sql", "CREATE TABLE a (x INT);"),
            ("1_a.down.sql", "DROP TABLE a;"),
        ] {
            std::fs::write(files.path().join(name), sql).unwrap();
        }
        let dirs = [files.path().to_path_buf()];
        let set = source::load(&dirs, Some(source::Layout::GolangMigrate), Dialect::Sqlite).unwrap();
        let scene = Scene {
            row: GateRow {
                identity: ServerIdentity("here".to_owned()),
                leader_epoch: LeaderEpoch::NONE,
                leader_id: None,
                gate_epoch: GateEpoch::ZERO,
                opened: GateEpoch::ZERO,
                version: None,
                executor: None,
                rollout: None,
            },
            ledger: Vec::new(),
            barrier: false,
            raises: VecDeque::new(),
            raised: 0,
            verify_loses: false,
            unfenced: Vec::new(),
        };
        let spec = serde_json::from_value(serde_json::json!({
            "service": "s", "to": "latest", "waves": [{"targets": ["t"]}], "drain_timeout": "0s"
        }))
        .unwrap();
        let (feed, to) = (Arc::clone(&store), view.clone());
        let feeder = tokio::spawn(async move {
            loop {
                to.send_replace(FleetView::from_listing(&feed.list("").await.unwrap()));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        Self {
            store,
            leader,
            view,
            fake: Fake(Arc::new(Mutex::new(scene))),
            migrations: Migrations {
                set,
                verify: Vec::new(),
            },
            spec,
            feeder,
            _files: files,
        }
    }

    /// Ends the view's updates: it stays as it is.
    pub(super) fn freeze_view(&self) {
        self.feeder.abort();
    }

    pub(super) async fn commit(&self, changes: Vec<RecordChange>) {
        let written = self.leader.writer.commit(changes, &[]).await.unwrap();
        self.leader.view_at(written.revision).await;
    }

    /// The rollout's record and its mark on the target.
    pub(super) async fn declare(&self) {
        let record = RolloutRecord {
            id: rollout(),
            spec: self.spec.clone(),
            waves: vec![vec![target()]],
            created_at: wall_now(),
            created_by: "test".to_owned(),
            abort: None,
            steering: Steering::default(),
            history: Vec::new(),
            ended_at: None,
            traceparent: None,
        };
        self.commit(vec![
            RecordChange::create(key::rollout(&rollout()), &record),
            RecordChange::create(key::active(&target()), &rollout()),
            RecordChange::create(key::target(&target()), &target_spec()),
        ])
        .await;
    }

    /// The rollout with its target in `state`, behind a gate that it closed an hour ago.
    pub(super) async fn closed_an_hour_ago(&self, state: State) -> Stored<ProgressRecord> {
        self.declare().await;
        let (epoch, long_ago) = (GateEpoch(1), WallTime(wall_now().0 - 3_600_000));
        let verified = Verification {
            version: None,
            checked: String::new(),
            at: long_ago,
        };
        let leader = self.leader.writer.epoch();
        let gate = Gate::first(GateEpoch::ZERO, VersionOrder::Numeric, leader, verified);
        let gate = gate.close(epoch, rollout(), leader, long_ago);
        let target_state = Target {
            state,
            to: Some("1".into()),
            gate_epoch: Some(epoch),
            ..Target::new(OnFailure::Rollback)
        };
        let mut progress = ProgressRecord::new(0, target_state, long_ago);
        progress.closed_at = Some(long_ago);
        self.fake.scene().row.gate_epoch = epoch;
        self.commit(vec![
            RecordChange::create(key::gate(&target()), &gate),
            RecordChange::create(key::progress(&rollout(), &target()), &progress),
        ])
        .await;
        self.progress()
    }

    /// The one migration, as applied.
    pub(super) fn applied(&self) {
        let migration = &self.migrations.set.migrations[0];
        let done = entry(&migration.version, &migration.up.checksum.0);
        self.fake.scene().ledger.push(done);
    }

    pub(super) fn progress(&self) -> Stored<ProgressRecord> {
        self.leader.progress(&rollout()).remove(&target()).unwrap()
    }

    pub(super) fn driver(&self, progress: Stored<ProgressRecord>) -> TargetDriver {
        let mut driver = TargetDriver::new(
            Arc::clone(&self.leader),
            rollout(),
            self.spec.clone(),
            target_spec(),
            progress,
        );
        driver.database = Some(Box::new(self.fake.clone()));
        driver.migrations = Some(self.migrations.clone());
        driver
    }
}
