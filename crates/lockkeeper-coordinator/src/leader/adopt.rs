//! Gates that follow from the target: the first one of a declared target, open at the version that its own ledger
//! proves; and the gate of a target that has had fences which the store knows nothing of, because it was restored
//! from an older copy.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_core::gate::{Gate, Verification};
use lockkeeper_core::id::TargetName;
use lockkeeper_core::spec::{MigrationsSpec, TargetSpec};
use lockkeeper_core::version::{SchemaVersion, VersionOrder};
use lockkeeper_migrate::db::{Claim, Database, Inspection, Silent, TakeError};
use lockkeeper_migrate::{engine, plan};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::leader::external::Versions;
use crate::leader::recall::Recall;
use crate::leader::run::Leader;
use crate::leader::writer::{RecordChange, WriteError};
use crate::records::{Stored, key};

/// First and longest pause between two tries to reach a declared target.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// How many targets are looked at at a time: hundreds may live on one server, which has a limit of connections.
const LOOKS_MAX: usize = 32;

/// How long taking a target may wait for its row.
const ARM_PATIENCE: Duration = Duration::from_secs(10);

/// Why a target's gate does not follow from the target yet.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// Its database or migrations cannot be had, or are not in order.
    #[error("{0}")]
    Target(String),
    /// The gate could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Settles every declared target once, and from then on every one that has no gate, each in a task of its own so
/// that one that cannot be reached holds up no other. Runs until the leader stops.
pub async fn run(leader: Arc<Leader>) {
    let mut view = leader.view.clone();
    let mut tasks = JoinSet::new();
    let mut under_way = BTreeSet::new();
    let looks = Arc::new(Semaphore::new(LOOKS_MAX));
    let mut wanted: Vec<TargetName> = view.borrow().targets.keys().cloned().collect();
    loop {
        for name in wanted {
            if under_way.insert(name.clone()) {
                tasks.spawn(settle_one(Arc::clone(&leader), Arc::clone(&looks), name));
            }
        }
        tokio::select! {
            changed = view.changed() => if changed.is_err() { return },
            Some(ended) = tasks.join_next() => {
                if let Ok(name) = ended {
                    under_way.remove(&name);
                }
            }
        }
        wanted = leader.targets_without_gate();
    }
}

/// Tries until the target is settled or no longer declared. While a rollout works on it, that looks after the gate.
async fn settle_one(leader: Arc<Leader>, looks: Arc<Semaphore>, name: TargetName) -> TargetName {
    let mut pause = RETRY.0;
    while let Some(spec) = leader.idle_spec(&name).await {
        let look = looks.acquire().await;
        let settled = settle(&leader, &spec).await;
        drop(look);
        match settled {
            Ok(()) => break,
            Err(error) => {
                warn!(target = %name, %error, "cannot settle the target's gate, trying again");
                leader
                    .waits
                    .next(&name, "compare the target's database with the store", None);
                leader.waits.set(
                    &name,
                    vec![("database".to_owned(), name.to_string(), error.to_string())],
                );
            }
        }
        tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(RETRY.1);
    }
    leader.wait_for_view(&name).await;
    if !leader.is_active(&name) {
        leader.waits.clear(&name);
    }
    name
}

/// Takes the target once, which gives its gate the epoch table: writers then carry an epoch from the first grant on.
async fn arm(leader: &Leader, database: &dyn Database) -> Result<(), TakeError> {
    let claim = Claim::Leader {
        epoch: leader.writer.epoch(),
        id: leader.id,
    };
    let hand = database.take(&claim, ARM_PATIENCE, &Silent).await?;
    Ok(hand.release().await?)
}

/// Looks at the target, and makes its gate what the target says where the store does not know better.
async fn settle(leader: &Leader, spec: &TargetSpec) -> Result<(), AdoptError> {
    let failed = |text: String| AdoptError::Target(text);
    let database = leader
        .world
        .targets
        .database(spec)
        .await
        .map_err(|e| failed(e.to_string()))?;
    let inspection = database.inspect().await.map_err(|e| failed(e.to_string()))?;
    // Read after the look: a rollout closes the store's gate before the target's.
    let stored = leader.gate(&spec.name);
    match (leader.recall(&spec.name, inspection.gate_row.as_ref()), &stored) {
        (Recall::Ahead(seen), _) => Err(failed(format!("the target has seen {seen}"))),
        (Recall::Known, Some(_)) => Ok(()),
        (Recall::Known, None) | (Recall::Forgotten, _) => {
            adopt(leader, spec, database.as_ref(), inspection, stored).await
        }
    }
}

/// Where a target stands, and how that was seen.
struct Standing {
    version: Option<SchemaVersion>,
    order: VersionOrder,
    checked: String,
}

async fn stands_by_files(
    leader: &Leader,
    spec: &TargetSpec,
    database: &dyn Database,
    inspection: &Inspection,
) -> Result<Standing, AdoptError> {
    let failed = |text: String| AdoptError::Target(text);
    engine::refuse_other_ledgers(inspection).map_err(|e| failed(e.to_string()))?;
    let migrations = leader.world.targets.migrations(spec, database).await;
    let set = migrations.map_err(|e| failed(e.to_string()))?.set;
    let planned = plan::plan(&set, &inspection.ledger, &plan::Goal::Latest);
    let version = planned.map_err(|e| failed(e.to_string()))?.from;
    plan::verify(&set, &inspection.ledger, version.as_ref()).map_err(|e| failed(e.to_string()))?;
    let entries = inspection.ledger.len();
    Ok(Standing {
        version,
        order: set.order,
        checked: format!("ledger of {entries} entries equals the directory"),
    })
}

async fn stands_by_status(
    leader: &Leader,
    spec: &TargetSpec,
    database: &dyn Database,
) -> Result<Standing, AdoptError> {
    let external = leader.world.targets.external(spec, database).await;
    let external = external.map_err(|e| AdoptError::Target(e.to_string()))?;
    let status = external.status(&Versions::default()).await;
    Ok(Standing {
        version: status.map_err(AdoptError::Target)?.version,
        // The least that an order can mean; a migrator with ids in no order has ranges of one version.
        order: VersionOrder::Lexical,
        checked: "the external migrator's status command says so".to_owned(),
    })
}

async fn adopt(
    leader: &Leader,
    spec: &TargetSpec,
    database: &dyn Database,
    inspection: Inspection,
    stored: Option<Stored<Gate>>,
) -> Result<(), AdoptError> {
    let failed = |text: String| AdoptError::Target(text);
    let standing = match spec.migrations {
        MigrationsSpec::Directory(_) => stands_by_files(leader, spec, database, &inspection).await?,
        MigrationsSpec::External(_) => stands_by_status(leader, spec, database).await?,
    };
    if let Some(row) = &inspection.gate_row
        && row.is_closed()
    {
        let by = row
            .rollout
            .clone()
            .unwrap_or_else(|| "an unknown rollout".to_owned());
        return Err(failed(format!(
            "the target's own gate row is closed at {} by {by}: another fleet or an earlier store works on it",
            row.gate_epoch
        )));
    }
    if spec.strength.has_epoch() {
        arm(leader, database).await.map_err(|e| failed(e.to_string()))?;
    }
    let in_target = inspection.gate_row.map_or(GateEpoch::ZERO, |row| row.gate_epoch);
    // A target of this name that was removed: agents that have heard its gate epochs ignore lower ones.
    let retired = leader
        .view
        .borrow()
        .retired
        .get(&spec.name)
        .map_or(GateEpoch::ZERO, |r| r.record);
    let epoch = in_target.max(retired);
    let verified = Verification {
        version: standing.version,
        checked: standing.checked,
        at: leader.wall(),
    };
    let gate = Gate::first(epoch, standing.order, leader.writer.epoch(), verified);
    leader
        .writer
        .commit(vec![change(key::gate(&spec.name), stored.as_ref(), &gate)], &[])
        .await?;
    info!(target = %spec.name, gate_epoch = %gate.epoch, version = ?gate.version().map(ToString::to_string), "adopted");
    Ok(())
}

fn change(key: String, stored: Option<&Stored<Gate>>, gate: &Gate) -> RecordChange {
    match stored {
        Some(stored) => RecordChange::gate(key, stored, gate),
        None => RecordChange::create(key, gate),
    }
}
