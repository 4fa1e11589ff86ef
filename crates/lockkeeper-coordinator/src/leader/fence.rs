//! Closing a gate: the store's record, the target's row, the agents, and last the database's own barrier.

use std::sync::Arc;
use std::time::Duration;

use lockkeeper_core::drain::{DrainWatch, Pending, must_report};
use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_core::gate::{Gate, Position};
use lockkeeper_core::id::{SessionId, TargetName};
use lockkeeper_core::strength::Strength;
use lockkeeper_core::time::Instant;

use crate::leader::run::Leader;
use crate::records::{Stored, key};
use crate::store::Listing;
use crate::view::FleetView;

/// How often the leader's clock is looked at while waiting; changes of the store wake it at once.
const TICK: Duration = Duration::from_millis(100);

/// A watch over a closing that listed these sessions.
#[must_use]
pub fn watch(leader: &Leader, gate_epoch: GateEpoch, listed: Vec<SessionId>) -> DrainWatch {
    let (gone, since) = leader.departures();
    DrainWatch::new(gate_epoch, leader.settings.after_vanishing(), listed, gone, since)
}

/// Waits until every session has drained, or until `patience` has passed. Gives who was still out then; nobody:
/// drained.
pub async fn drain(
    leader: &Arc<Leader>,
    target: &TargetName,
    watch: &mut DrainWatch,
    strength: Strength,
    patience: Duration,
) -> Vec<Pending> {
    let listed = watch.sessions();
    let mut view = leader.view.clone();
    let deadline = leader.world.clock.now() + patience;
    loop {
        let now = leader.world.clock.now();
        observe(watch, &view.borrow_and_update(), target, &listed, now);
        let pending = watch.awaited(strength, now);
        leader
            .waits
            .set(target, pending.iter().flat_map(|p| described(p, now)).collect());
        if pending.is_empty() || now >= deadline {
            return pending;
        }
        tokio::select! {
            changed = view.changed() => if changed.is_err() { return pending },
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

fn observe(
    watch: &mut DrainWatch,
    view: &FleetView,
    target: &TargetName,
    listed: &[SessionId],
    now: Instant,
) {
    for session in listed {
        if let Some(report) = view.drains.get(&(target.clone(), session.clone())) {
            watch.report(session, report);
        }
        if view.left.contains_key(session) {
            watch.left(session);
        } else if !view.sessions.contains_key(session) {
            watch.vanish(session, now);
        }
    }
}

/// A pending session in words: kind, who, detail.
#[must_use]
pub fn described(pending: &Pending, now: Instant) -> Vec<(String, String, String)> {
    let seconds = |until: Instant| format!("{:.1} s", until.since(now).as_secs_f64());
    match pending {
        Pending::Silent(session) => {
            let detail = "has not reported on this fence: stopped, cut off, or about to".to_owned();
            vec![("coordinator".to_owned(), session.to_string(), detail)]
        }
        Pending::Vanished(session, until) => {
            let detail = format!(
                "its session is gone: leases that it granted may live for {}",
                seconds(*until)
            );
            vec![("coordinator".to_owned(), session.to_string(), detail)]
        }
        Pending::NewLeader(until) => {
            let detail = format!(
                "leases of coordinators it has not seen may live for {}",
                seconds(*until)
            );
            vec![("leader".to_owned(), "this leader is new".to_owned(), detail)]
        }
        Pending::Stragglers(session, stragglers) => stragglers
            .iter()
            .map(|s| {
                let who = format!("{} ({})", s.holder.agent, s.holder.incarnation);
                let label = s
                    .label
                    .as_ref()
                    .map(|l| format!(", oldest {l:?}"))
                    .unwrap_or_default();
                let left = Duration::from_millis(s.lease_left_ms).as_secs_f64();
                let detail = format!(
                    "region {}, {} permits{label}, lease ends within {left:.1} s, at coordinator {}",
                    s.region, s.permits, session.coordinator
                );
                ("agent".to_owned(), who, detail)
            })
            .collect(),
    }
}

/// The sessions in a listing of `sessions/`.
#[must_use]
pub fn sessions_of(listing: &Listing) -> Vec<SessionId> {
    let ids = listing
        .entries
        .iter()
        .filter_map(|e| e.key.strip_prefix(key::SESSIONS));
    ids.filter_map(|id| id.parse().ok()).collect()
}

/// The sessions that a leader who did not close the gate itself has to wait for.
#[must_use]
pub fn sessions_before(listing: &Listing, closed: &Stored<Gate>) -> Vec<SessionId> {
    let older = listing
        .entries
        .iter()
        .filter(|e| must_report(e.create_revision, closed.mod_revision))
        .cloned()
        .collect();
    sessions_of(&Listing {
        entries: older,
        revision: listing.revision,
    })
}

/// Whether `gate` was closed by this rollout under this epoch.
#[must_use]
pub fn is_closed_by(gate: &Gate, rollout: &lockkeeper_core::id::RolloutId, epoch: Option<GateEpoch>) -> bool {
    matches!(&gate.position, Position::Closed { rollout: by, .. } if by == rollout)
        && epoch == Some(gate.epoch)
}
