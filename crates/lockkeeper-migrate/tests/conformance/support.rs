//! Small helpers that the rules share.

use std::sync::Mutex;
use std::time::Duration;

use lockkeeper_core::epoch::{GateEpoch, LeaderEpoch};
use lockkeeper_core::version::SchemaVersion;
use lockkeeper_migrate::db::{
    Applied, ApplyError, Claim, Database, Event, Hand, LedgerWrite, Observer, Provenance, Silent,
};
use lockkeeper_migrate::dialect::Dialect;
use lockkeeper_migrate::source::{Direction, Layout, Script, load};
use uuid::Uuid;

/// Long enough for everything that is meant to succeed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const G1: GateEpoch = GateEpoch(1);

pub(crate) fn leader(revision: u64) -> Claim {
    leader_with(revision, Uuid::from_u128(u128::from(revision)))
}

pub(crate) fn leader_with(revision: u64, id: Uuid) -> Claim {
    Claim::Leader {
        epoch: epoch(revision),
        id,
    }
}

pub(crate) fn epoch(revision: u64) -> LeaderEpoch {
    LeaderEpoch {
        generation: 1,
        revision,
    }
}

pub(crate) fn standalone(who: &str) -> Claim {
    Claim::Standalone { who: who.to_owned() }
}

pub(crate) async fn take(database: &dyn Database, claim: &Claim) -> Box<dyn Hand> {
    database.take(claim, PATIENCE, &Silent).await.unwrap()
}

/// Takes the target as leader `e1.1` and closes the gate at g1 with a barrier.
pub(crate) async fn fenced(database: &dyn Database) -> Box<dyn Hand> {
    let mut hand = take(database, &leader(1)).await;
    hand.close(G1, "r1").await.unwrap();
    hand.raise_barrier(PATIENCE, &Silent).await.unwrap();
    hand
}

/// A script, read from a file as every script is.
pub(crate) fn script(dialect: Dialect, text: &str) -> Script {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("1_test.up.sql"), text).unwrap();
    std::fs::write(dir.path().join("1_test.down.sql"), "SELECT 1;").unwrap();
    let set = load(&[dir.path().to_owned()], Some(Layout::GolangMigrate), dialect).unwrap();
    set.migrations[0].up.clone()
}

pub(crate) fn ledger_write(version: &str, direction: Direction) -> LedgerWrite {
    LedgerWrite {
        version: SchemaVersion::from(version),
        name: format!("m{version}"),
        checksum: format!("checksum of {version}"),
        direction,
        layout: "golang-migrate".to_owned(),
        applied_by: "conformance".to_owned(),
        provenance: Provenance::default(),
        facts: None,
    }
}

/// Applies `text` as the migration of `version`.
pub(crate) async fn apply(
    hand: &mut dyn Hand,
    dialect: Dialect,
    version: &str,
    text: &str,
) -> Result<Applied, ApplyError> {
    hand.apply(
        &script(dialect, text),
        &ledger_write(version, Direction::Up),
        &Silent,
    )
    .await
}

/// The versions in the ledger, sorted.
pub(crate) async fn versions(hand: &mut dyn Hand) -> Vec<String> {
    let mut versions: Vec<String> = hand
        .ledger()
        .await
        .unwrap()
        .into_iter()
        .map(|entry| entry.version.0)
        .collect();
    versions.sort();
    versions
}

/// Keeps what it is told.
#[derive(Debug, Default)]
pub(crate) struct Recorder(Mutex<Vec<Event>>);

impl Observer for Recorder {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Recorder {
    pub(crate) fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }

    /// Whether some wait was told that `wanted` accepts.
    pub(crate) fn waited(&self, wanted: impl Fn(&str, &[lockkeeper_migrate::db::Blocker]) -> bool) -> bool {
        self.events().iter().any(|event| match event {
            Event::Waiting { what, blockers } => wanted(what, blockers),
            _ => false,
        })
    }
}
