//! The first gate of a declared target: open at the version that its own ledger proves.

use std::sync::Arc;
use std::time::Duration;

use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_core::gate::{Gate, Verification};
use lockkeeper_core::id::TargetName;
use lockkeeper_core::spec::TargetSpec;
use lockkeeper_migrate::{engine, plan};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::clock::wall_now;
use crate::leader::access;
use crate::leader::run::Leader;
use crate::leader::writer::{RecordChange, WriteError};
use crate::records::key;

/// First and longest pause between two tries to reach a declared target.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// Why a declared target has no gate yet.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// Its database or migrations cannot be had, or are not in order.
    #[error("{0}")]
    Target(String),
    /// The gate could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Adopts every declared target that has no gate, each in a task of its own so that one that cannot be reached
/// holds up no other. Runs until the leader stops.
pub async fn run(leader: Arc<Leader>) {
    let mut view = leader.view.clone();
    let mut tasks = JoinSet::new();
    let mut under_way = std::collections::BTreeSet::new();
    loop {
        let missing: Vec<TargetSpec> = {
            let view = view.borrow_and_update();
            let without = view
                .targets
                .iter()
                .filter(|(name, _)| !view.gates.contains_key(name));
            without.map(|(_, spec)| spec.record.clone()).collect()
        };
        for spec in missing {
            if under_way.insert(spec.name.clone()) {
                tasks.spawn(adopt_one(Arc::clone(&leader), spec.name));
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
    }
}

/// Tries until the target has a gate or is no longer declared.
async fn adopt_one(leader: Arc<Leader>, name: TargetName) -> TargetName {
    let mut pause = RETRY.0;
    while let Some(spec) = leader.spec_without_gate(&name) {
        match adopt(&leader, &spec).await {
            Ok(()) => break,
            Err(error) => {
                warn!(target = %name, %error, "cannot adopt the target, trying again");
                leader.waits.next(&name, "reach the target's database", None);
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
    leader.waits.clear(&name);
    name
}

async fn adopt(leader: &Leader, spec: &TargetSpec) -> Result<(), AdoptError> {
    let failed = |text: String| AdoptError::Target(text);
    let database = access::database(spec).await.map_err(|e| failed(e.to_string()))?;
    let inspection = database.inspect().await.map_err(|e| failed(e.to_string()))?;
    engine::refuse_other_ledgers(&inspection).map_err(|e| failed(e.to_string()))?;
    let migrations = access::migrations(spec, database.as_ref())
        .await
        .map_err(|e| failed(e.to_string()))?;
    let planned = plan::plan(&migrations.set, &inspection.ledger, &plan::Goal::Latest);
    let version = planned.map_err(|e| failed(e.to_string()))?.from;
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
    plan::verify(&migrations.set, &inspection.ledger, version.as_ref()).map_err(|e| failed(e.to_string()))?;
    let in_target = inspection.gate_row.map_or(GateEpoch::ZERO, |row| row.gate_epoch);
    // A target of this name that was removed: agents that have heard its gate epochs ignore lower ones.
    let retired = leader
        .view
        .borrow()
        .retired
        .get(&spec.name)
        .map_or(GateEpoch::ZERO, |r| r.record);
    let epoch = in_target.max(retired);
    let checked = format!(
        "ledger of {} entries equals the directory",
        inspection.ledger.len()
    );
    let verified = Verification {
        version,
        checked,
        at: wall_now(),
    };
    let gate = Gate::first(epoch, migrations.set.order, leader.writer.epoch(), verified);
    leader
        .writer
        .commit(vec![RecordChange::create(key::gate(&spec.name), &gate)], &[])
        .await?;
    info!(target = %spec.name, gate_epoch = %gate.epoch, version = ?gate.version().map(ToString::to_string), "adopted");
    Ok(())
}
