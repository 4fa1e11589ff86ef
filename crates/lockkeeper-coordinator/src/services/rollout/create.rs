//! New rollouts. A store limits the size of a transaction, so the targets of a large rollout are recorded in several, and
//! the rollout's own record in the last: until then nobody runs it, and what is there of it is removed by whoever comes
//! next (see [`unfinished`]).

use lockkeeper_core::id::{RolloutId, TargetName};
use lockkeeper_core::rollout::{Bake, Steering, Target};
use lockkeeper_core::spec::{RolloutSpec, TargetSpec};
use lockkeeper_core::time::WallTime;
use lockkeeper_proto::convert::{FieldError, name};
use lockkeeper_proto::v1;
use tonic::Status;
use tracing::{info, warn};

use super::found;
use crate::leader::run::Leader;
use crate::leader::unfinished;
use crate::leader::window::known_time_zone;
use crate::leader::writer::{RecordChange, WriteError};
use crate::records::{ProgressRecord, RolloutRecord, key};
use crate::services::fleet::write_error;
use crate::telemetry;
use crate::view::FleetView;

/// How long a new rollout waits for the gates of targets that were declared a moment ago.
const GATES_PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// Most changes that one commit makes: stores limit a transaction to 128 comparisons and 128 writes, and the leader's key
/// and the rollout's record need one each.
const CHANGES_MAX: usize = 100;

/// Records a rollout, once: the same id with the same content again only answers.
pub(super) async fn create(
    leader: &Leader,
    message: v1::CreateRolloutRequest,
) -> Result<v1::Rollout, Status> {
    let id: RolloutId = name("id", message.id)?;
    let spec = message
        .spec
        .ok_or_else(|| FieldError::new("spec", "is missing"))?;
    let spec: RolloutSpec = spec.try_into().map_err(|e: FieldError| e.within("spec"))?;
    if let Some(window) = &spec.window {
        known_time_zone(window).map_err(|e| FieldError::new("spec.window.time_zone", e))?;
    }
    wait_for_gates(leader, &spec).await;
    // One at a time, so that what another one has recorded so far is not taken for left over.
    let creation = leader.creation.lock().await;
    unfinished::remove(leader, &creation).await.map_err(write_error)?;
    let (record, changes) = {
        let view = leader.view.borrow();
        if let Some(known) = view.rollouts.get(&id) {
            return match known.record.spec == spec {
                true => found(&view, &id, leader.wall()),
                false => Err(Status::already_exists(format!(
                    "rollout {id} exists with another content"
                ))),
            };
        }
        created(&view, &id, spec, message.requested_by, leader.wall())?
    };
    if let Err(error) = record_all(leader, &record, changes).await {
        if let Err(left) = unfinished::remove(leader, &creation).await {
            warn!(rollout = %id, %left, "a part of a rollout that was not created is left for the next leader");
        }
        return Err(write_error(error));
    }
    info!(rollout = %id, "rollout created");
    found(&leader.view.borrow(), &id, leader.wall())
}

async fn record_all(
    leader: &Leader,
    record: &RolloutRecord,
    mut changes: Vec<RecordChange>,
) -> Result<(), WriteError> {
    let last = changes.split_off(changes.len().saturating_sub(1) / CHANGES_MAX * CHANGES_MAX);
    let mut commits: Vec<Vec<RecordChange>> = changes.chunks(CHANGES_MAX).map(<[_]>::to_vec).collect();
    commits.push(last);
    if let Some(last) = commits.last_mut() {
        last.push(RecordChange::create(key::rollout(&record.id), record));
    }
    for changes in commits {
        let written = leader.writer.commit(changes, &[]).await?;
        leader.view_at(written.revision).await;
    }
    Ok(())
}

/// A target that was declared a moment ago gets its gate as soon as the leader has looked at its database: waits for
/// that, so that a script may declare and roll out in two lines. A target that cannot be reached is told about later.
async fn wait_for_gates(leader: &Leader, spec: &RolloutSpec) {
    let mut view = leader.view.clone();
    let have_gates = |view: &FleetView| {
        let declared: Vec<TargetSpec> = view.targets.values().map(|t| t.record.clone()).collect();
        let selected = spec.select(&declared).unwrap_or_default();
        selected
            .iter()
            .flatten()
            .all(|target| view.gates.contains_key(target))
    };
    // What is missing after the wait is told by name.
    let _ = tokio::time::timeout(GATES_PATIENCE, view.wait_for(have_gates)).await;
}

/// The records of a new rollout, if its targets are free.
fn created(
    view: &FleetView,
    id: &RolloutId,
    spec: RolloutSpec,
    created_by: String,
    now: WallTime,
) -> Result<(RolloutRecord, Vec<RecordChange>), Status> {
    let declared: Vec<TargetSpec> = view.targets.values().map(|t| t.record.clone()).collect();
    spec.check()
        .map_err(|e| Status::invalid_argument(e.to_string()))?;
    let waves = spec
        .select(&declared)
        .map_err(|e| Status::not_found(e.to_string()))?;
    let mut changes = Vec::new();
    for (wave, targets) in waves.iter().enumerate() {
        let bake = match spec.waves[wave].bake.is_zero() {
            true => Bake::No,
            false => Bake::AsTheWave,
        };
        for target in targets {
            free(view, target)?;
            let fresh = Target {
                bake,
                ..Target::new(spec.on_failure)
            };
            let progress = ProgressRecord::new(wave, fresh, now);
            changes.push(RecordChange::create(key::active(target), id));
            changes.push(RecordChange::create(key::progress(id, target), &progress));
        }
    }
    let record = RolloutRecord {
        id: id.clone(),
        spec,
        waves,
        created_at: now,
        created_by,
        abort: None,
        steering: Steering::default(),
        history: Vec::new(),
        ended_at: None,
        traceparent: telemetry::traceparent(),
    };
    Ok((record, changes))
}

fn free(view: &FleetView, target: &TargetName) -> Result<(), Status> {
    if let Some(active) = view.active.get(target) {
        let other = &active.record;
        return Err(Status::failed_precondition(format!(
            "rollout {other} is working on target {target}: wait for it or abort it; nothing was changed"
        )));
    }
    if !view.gates.contains_key(target) {
        return Err(Status::failed_precondition(format!(
            "target {target} has no gate yet: no leader has reached its database; see `lockkeeper fleet explain {target}`"
        )));
    }
    Ok(())
}
