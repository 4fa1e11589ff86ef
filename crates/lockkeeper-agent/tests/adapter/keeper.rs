//! The leader's side: closes and opens the gate of a target as a rollout does.

use std::time::Duration;

use lockkeeper_core::epoch::{GateEpoch, LeaderEpoch};
use lockkeeper_core::strength::Strength;
use lockkeeper_core::version::SchemaVersion;
use lockkeeper_migrate::db::{BarrierReport, Claim, DatabaseOptions, Hand, Silent, open};
use lockkeeper_migrate::dsn::Dsn;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The schema version at every opening.
pub(crate) const VERSION: &str = "2";

/// The hand on one target.
pub(crate) struct Keeper {
    pub(crate) hand: Box<dyn Hand>,
    strength: Strength,
}

impl Keeper {
    pub(crate) async fn take(dsn: &Dsn, strength: Strength) -> Self {
        let options = DatabaseOptions {
            strength,
            ..DatabaseOptions::default()
        };
        let id = uuid::Uuid::from_u128(1);
        let epoch = LeaderEpoch {
            generation: 1,
            revision: 1,
        };
        let claim = Claim::Leader { epoch, id };
        let hand = open(dsn, options).take(&claim, PATIENCE, &Silent).await.unwrap();
        Self { hand, strength }
    }

    /// Closes the gate; with a barrier it stands, and older writers are gone, when this returns.
    pub(crate) async fn close(&mut self, epoch: u64) -> Option<BarrierReport> {
        self.close_within(epoch, PATIENCE).await
    }

    pub(crate) async fn close_within(&mut self, epoch: u64, patience: Duration) -> Option<BarrierReport> {
        self.hand.close(GateEpoch(epoch), "r1").await.unwrap();
        if !self.strength.has_barrier() {
            return None;
        }
        Some(self.hand.raise_barrier(patience, &Silent).await.unwrap())
    }

    pub(crate) async fn open(&mut self, epoch: u64) {
        let version = SchemaVersion(VERSION.to_owned());
        // Without a barrier, SQLite asks the ledger for the version; nothing was applied here.
        let version = self.strength.has_barrier().then_some(&version);
        self.hand.open(GateEpoch(epoch), version).await.unwrap();
        self.hand.clean_up(&Silent).await.unwrap();
    }

    /// A whole fence, with nothing behind it.
    pub(crate) async fn turn(&mut self, epoch: u64) {
        self.close(epoch).await;
        self.open(epoch).await;
    }
}
