//! What is left of a rollout whose creation was cut off: marks and records of its targets, without a record of its own.
//! Nobody runs it, and its marks would keep its targets from every other rollout.

use std::collections::BTreeMap;

use lockkeeper_core::id::RolloutId;
use tokio::sync::MutexGuard;
use tracing::warn;

use crate::leader::run::Leader;
use crate::leader::writer::{RecordChange, WriteError};
use crate::records::key;
use crate::view::FleetView;

/// Most records that one commit removes; see the limit of a store's transaction.
const REMOVED_MAX: usize = 100;

/// That no rollout is being created meanwhile.
#[derive(Debug)]
pub struct Creation;

/// Removes what is left. Each removal is guarded by there being no such rollout, since the view may be behind.
///
/// # Errors
/// Leadership is lost, or the store did not answer.
pub async fn remove(leader: &Leader, _: &MutexGuard<'_, Creation>) -> Result<(), WriteError> {
    let left = left(&leader.view.borrow());
    for (id, removals) in left {
        warn!(rollout = %id, records = removals.len(), "removing what is left of a rollout that was not created");
        for removals in removals.chunks(REMOVED_MAX) {
            let mut changes = removals.to_vec();
            changes.push(RecordChange::absent(key::rollout(&id)));
            match leader.writer.commit(changes, &[]).await {
                Ok(written) => leader.view_at(written.revision).await,
                // It was created after all.
                Err(WriteError::Conflict(_)) => break,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Records of targets by rollout, of those that have none of their own.
fn left(view: &FleetView) -> BTreeMap<RolloutId, Vec<RecordChange>> {
    let mut left = BTreeMap::<RolloutId, Vec<RecordChange>>::new();
    let mut add = |id: &RolloutId, removal: RecordChange| {
        if !view.rollouts.contains_key(id) {
            left.entry(id.clone()).or_default().push(removal);
        }
    };
    for ((id, target), stored) in &view.progress {
        add(id, RecordChange::delete(key::progress(id, target), stored));
    }
    for (target, stored) in &view.active {
        add(&stored.record, RecordChange::delete(key::active(target), stored));
    }
    left
}
