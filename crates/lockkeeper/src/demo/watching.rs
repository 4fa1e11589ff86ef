//! What the coordinators say about the fleet, as it changes.

use std::collections::HashMap;
use std::time::Duration;

use lockkeeper_proto::v1;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use super::control::Control;

/// How often the fleet's status is asked for: a leader holds on for longer than that, so none is missed.
const STATUS_EVERY: Duration = Duration::from_millis(150);

/// How long an explanation may take: without a leader, the status is more interesting.
const EXPLAIN_WITHIN: Duration = Duration::from_millis(300);

/// Pause before another coordinator is asked to tell of the rollout.
const WATCH_AGAIN: Duration = Duration::from_millis(100);

/// Changes of the rollout that may wait to be drawn.
const CHANGES_MAX: usize = 256;

/// The fleet as it was last seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// The last answer.
    pub(super) status: v1::GetStatusResponse,
    /// Every leader so far: epoch and coordinator.
    pub(super) leaders: Vec<(String, String)>,
    /// What each closed target waits for, as the leader explains it.
    pub(super) waiting: HashMap<String, Vec<String>>,
}

impl Seen {
    fn add(&mut self, status: v1::GetStatusResponse) {
        if let Some(leader) = &status.leader
            && self.leaders.iter().all(|(epoch, _)| *epoch != leader.epoch)
        {
            self.leaders
                .push((leader.epoch.clone(), leader.coordinator.clone()));
        }
        self.status = status;
    }

    /// How often leadership went to another epoch.
    pub(super) fn leader_changes(&self) -> usize {
        self.leaders.len().saturating_sub(1)
    }
}

/// Watches the fleet for as long as it lives.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) seen: watch::Receiver<Seen>,
    _task: AbortOnDropHandle<()>,
}

impl Fleet {
    pub(super) fn watch(control: Control) -> Self {
        let (publish, seen) = watch::channel(Seen::default());
        let task = tokio::spawn(async move {
            loop {
                // Without an answer the picture stays; the story has its own patience.
                if let Ok(status) = control.status().await {
                    let closed = status
                        .targets
                        .iter()
                        .filter(|t| t.gate() == v1::GateState::Closed);
                    let closed: Vec<String> = closed.map(|t| t.name.clone()).collect();
                    publish.send_modify(|seen| seen.add(status));
                    let waiting = explained(&control, closed).await;
                    publish.send_modify(|seen| seen.waiting = waiting);
                }
                tokio::time::sleep(STATUS_EVERY).await;
            }
        });
        Self {
            seen,
            _task: AbortOnDropHandle::new(task),
        }
    }
}

/// Asks the leader, who alone knows; without one, there is nothing to tell.
async fn explained(control: &Control, targets: Vec<String>) -> HashMap<String, Vec<String>> {
    let mut all = HashMap::new();
    for target in targets {
        let answer = tokio::time::timeout(EXPLAIN_WITHIN, control.explain(&target)).await;
        if let Ok(Ok(answer)) = answer {
            let waits = answer
                .waiting_on
                .iter()
                .map(|w| format!("{} {}: {}", w.kind, w.who, w.detail));
            all.insert(target, waits.collect());
        }
    }
    all
}

/// Follows a rollout over losses of the coordinator that tells of it.
#[derive(Debug)]
pub(super) struct Rollout {
    changes: mpsc::Receiver<v1::Rollout>,
    _task: AbortOnDropHandle<()>,
}

impl Rollout {
    pub(super) fn watch(control: Control, id: String) -> Self {
        let (send, changes) = mpsc::channel(CHANGES_MAX);
        let task = tokio::spawn(async move {
            loop {
                if let Ok(mut stream) = control.watch_rollout(&id).await {
                    while let Ok(Some(change)) = stream.message().await {
                        if let Some(rollout) = change.rollout
                            && send.send(rollout).await.is_err()
                        {
                            return;
                        }
                    }
                }
                tokio::time::sleep(WATCH_AGAIN).await;
            }
        });
        Self {
            changes,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// The next change. The watching task lives as long as this, so there is always one to wait for.
    pub(super) async fn changed(&mut self) -> v1::Rollout {
        match self.changes.recv().await {
            Some(rollout) => rollout,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaders_are_told_by_their_epoch() {
        let mut seen = Seen::default();
        let answer = |leader: Option<(&str, &str)>| v1::GetStatusResponse {
            leader: leader.map(|(coordinator, epoch)| v1::Leader {
                coordinator: coordinator.to_owned(),
                epoch: epoch.to_owned(),
                address: String::new(),
            }),
            ..v1::GetStatusResponse::default()
        };
        for leader in [
            Some(("a", "e1.4")),
            Some(("a", "e1.4")),
            None,
            Some(("a", "e1.9")),
            Some(("b", "e1.12")),
        ] {
            seen.add(answer(leader));
        }
        assert_eq!(seen.leader_changes(), 2);
    }
}
