//! What the targets have seen, and a generation that is larger than all of it.

use std::time::Duration;

use futures::StreamExt;
use lockkeeper_core::epoch::LeaderEpoch;
use lockkeeper_core::id::TargetName;
use lockkeeper_core::spec::TargetSpec;

use crate::leader::recall::Recall;
use crate::leader::run::Leader;
use crate::leader::writer::{RecordChange, WriteError};
use crate::records::{AdoptionRecord, Decision, key};

/// How many targets are looked at at once: each costs a database session.
const AT_ONCE: usize = 16;

/// How long one target may take to answer.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// A target with the newest leader that it has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surveyed {
    /// Its name.
    pub name: TargetName,
    /// The epoch in its gate row, or why that could not be read. `None`: no leader has been there.
    pub recorded: Result<Option<LeaderEpoch>, String>,
    /// Whether this leader cannot take it.
    pub ahead: bool,
}

/// Looks at every declared target.
pub async fn survey(leader: &Leader) -> Vec<Surveyed> {
    let specs: Vec<TargetSpec> = {
        let view = leader.view.borrow();
        view.targets
            .values()
            .map(|target| target.record.clone())
            .collect()
    };
    let looks = specs.into_iter().map(|spec| look(leader, spec));
    let mut seen: Vec<Surveyed> = futures::stream::iter(looks)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    seen.sort_by(|a, b| a.name.cmp(&b.name));
    seen
}

async fn look(leader: &Leader, spec: TargetSpec) -> Surveyed {
    let row = async {
        let database = leader
            .world
            .targets
            .database(&spec)
            .await
            .map_err(|e| e.to_string())?;
        let inspection = database.inspect().await.map_err(|e| e.to_string())?;
        Ok::<_, String>(inspection.gate_row)
    };
    let row = tokio::time::timeout(LOOK_TIMEOUT, row)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} s", LOOK_TIMEOUT.as_secs())));
    let recall = |row| leader.recall(&spec.name, row);
    Surveyed {
        ahead: row
            .as_ref()
            .is_ok_and(|row| matches!(recall(row.as_ref()), Recall::Ahead(_))),
        recorded: row.map(|row| {
            row.map(|row| row.leader_epoch)
                .filter(|epoch| *epoch != LeaderEpoch::NONE)
        }),
        name: spec.name,
    }
}

/// Raises the generation above the store's and every target's, and records who wanted it. This leader's term ends
/// with it; whoever leads next does so under the new generation.
///
/// # Errors
/// Leadership is lost, the generation was changed meanwhile, or the store did not answer.
pub async fn raise(leader: &Leader, survey: &[Surveyed], decision: Decision) -> Result<u64, WriteError> {
    let (previous, stored) = {
        let view = leader.view.borrow();
        (view.generation(), view.generation.clone())
    };
    let seen = survey
        .iter()
        .filter_map(|target| target.recorded.as_ref().ok().copied().flatten());
    let raised = seen.map(|epoch| epoch.generation).fold(previous, u64::max) + 1;
    let record = AdoptionRecord {
        previous,
        decision,
        ahead: survey
            .iter()
            .filter(|target| target.ahead)
            .map(|target| target.name.clone())
            .collect(),
    };
    let generation = match &stored {
        Some(stored) => RecordChange::update(key::GENERATION.to_owned(), stored, &raised),
        None => RecordChange::create(key::GENERATION.to_owned(), &raised),
    };
    let changes = vec![generation, RecordChange::create(key::adoption(raised), &record)];
    leader.writer.commit(changes, &[]).await?;
    Ok(raised)
}
