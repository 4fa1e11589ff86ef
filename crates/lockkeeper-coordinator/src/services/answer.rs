//! Records as messages.

use std::collections::BTreeMap;
use std::time::Duration;

use lockkeeper_core::gate::Position;
use lockkeeper_core::id::{RolloutId, SessionId, TargetName};
use lockkeeper_core::rollout::{Overall, Ruling, TargetInWave, Turn, Wait as Waiting, overall, turn};
use lockkeeper_core::time::WallTime;
use lockkeeper_proto::convert::{duration_message, timestamp, version_text};
use lockkeeper_proto::v1;

use crate::agents::{AgentRow, AgentStanding};
use crate::leader::waits::{Doing, Wait};
use crate::leader::window::window;
use crate::records::{HistoryRecord, ProgressRecord, RolloutRecord, SessionRecord, Stored};
use crate::view::FleetView;

/// A rollout with its targets, as it stands now.
#[must_use]
pub fn rollout(view: &FleetView, id: &RolloutId, now: WallTime) -> Option<v1::Rollout> {
    let record = &view.rollouts.get(id)?.record;
    let of_rollout = view.progress.iter().filter(|((rollout, _), _)| rollout == id);
    let progress: BTreeMap<&TargetName, &ProgressRecord> =
        of_rollout.map(|((_, target), p)| (target, &p.record)).collect();
    let order = record.waves.iter().flatten();
    let targets = order
        .filter_map(|name| Some(rollout_target(name, progress.get(name)?)))
        .collect();
    let states: Vec<TargetInWave> = progress.values().map(|p| in_wave(p)).collect();
    let waiting = waiting(record, &states, now);
    Some(v1::Rollout {
        id: id.to_string(),
        spec: Some(record.spec.clone().into()),
        state: state(record, &states, waiting.as_ref()).into(),
        waiting,
        targets,
        created_at: Some(timestamp(record.created_at)),
        ended_at: record.ended_at.map(timestamp),
        revision: view.revision,
        created_by: record.created_by.clone(),
    })
}

fn in_wave(progress: &ProgressRecord) -> TargetInWave {
    TargetInWave {
        wave: progress.wave,
        state: progress.target.state,
        since: progress.since,
    }
}

/// The state of the whole: a wait shows once nothing is under way any more.
fn state(
    record: &RolloutRecord,
    targets: &[TargetInWave],
    waiting: Option<&v1::RolloutWait>,
) -> v1::RolloutState {
    let overall = overall(targets, &record.spec.plan());
    let rests = targets.iter().all(|t| t.state.is_resting());
    match (overall, waiting) {
        (Overall::Running, Some(waiting)) if rests => waiting.kind(),
        (overall, _) => overall.into(),
    }
}

/// What keeps a rollout's targets from starting.
fn waiting(record: &RolloutRecord, targets: &[TargetInWave], now: WallTime) -> Option<v1::RolloutWait> {
    if targets.iter().all(|t| t.state.is_final()) {
        return None;
    }
    if record.steering.paused {
        return Some(wait_message(record, Waiting::Paused));
    }
    let window = window(record.spec.window.as_ref(), now);
    match turn(targets, &record.spec.plan(), &record.steering, window, now) {
        Turn::Wait(wait) => Some(wait_message(record, wait)),
        Turn::Baked { wave, since, .. } => Some(wait_message(record, Waiting::Bake { wave, until: since })),
        Turn::Start(_) | Turn::StopTheRest(_) | Turn::Nobody => None,
    }
}

fn wait_message(record: &RolloutRecord, wait: Waiting) -> v1::RolloutWait {
    let id = &record.id;
    let (kind, wave, until, detail) = match wait {
        Waiting::Paused => {
            let pause = record.history.iter().rev().find(|h| h.ruling == Ruling::Pause);
            let why = pause.map_or_else(String::new, |p| {
                format!(" by {}: {}", p.decision.by, p.decision.reason)
            });
            let detail = format!("paused{why}; `lockkeeper rollout resume {id}` goes on");
            (v1::RolloutState::Paused, 0, None, detail)
        }
        Waiting::Approval { wave } => (
            v1::RolloutState::Approval,
            wave,
            None,
            format!("wave {wave} waits for `lockkeeper rollout approve {id}`"),
        ),
        Waiting::Bake { wave, until } => (
            v1::RolloutState::Bake,
            wave,
            Some(until),
            format!("wave {wave} is open at the new version, and being looked at"),
        ),
        Waiting::Window { opens } => (
            v1::RolloutState::Window,
            0,
            opens,
            match (&record.spec.window, opens) {
                (Some(window), None) => format!(
                    "the rollout's window ({}) does not open within a year, or its time zone is not known here",
                    window.time_zone
                ),
                (_, _) => "the rollout's window is shut".to_owned(),
            },
        ),
    };
    v1::RolloutWait {
        kind: kind.into(),
        wave: u32::try_from(wave).unwrap_or(u32::MAX),
        until: until.map(timestamp),
        detail,
    }
}

/// What a target that has not started waits for, and what happens next.
#[must_use]
pub fn pending(progress: &ProgressRecord, rollout: &v1::Rollout) -> (v1::WaitingOn, Option<v1::NextStep>) {
    let waiting_on = |kind: &str, detail: String| v1::WaitingOn {
        kind: kind.to_owned(),
        who: format!("wave {} of rollout {}", progress.wave, rollout.id),
        since: Some(timestamp(progress.since)),
        detail,
    };
    let Some(wait) = &rollout.waiting else {
        let detail = "starts when the targets before it are done".to_owned();
        return (waiting_on("wave", detail), None);
    };
    let next = wait.until.map(|until| v1::NextStep {
        action: "look whether the target may start".to_owned(),
        at: Some(until),
    });
    let kind = wait.kind().as_str_name().trim_start_matches("ROLLOUT_STATE_");
    (waiting_on(&kind.to_lowercase(), wait.detail.clone()), next)
}

/// One ruling.
#[must_use]
pub fn history_entry(entry: &HistoryRecord) -> v1::HistoryEntry {
    v1::HistoryEntry {
        at: Some(timestamp(entry.decision.at)),
        by: entry.decision.by.clone(),
        from: entry.from.clone(),
        ruling: Some(entry.ruling.clone().into()),
        text: entry.ruling.to_string(),
        reason: entry.decision.reason.clone(),
        note: entry.note.clone(),
        request_id: entry.request_id.clone(),
        leader_epoch: entry.leader_epoch.clone(),
    }
}

fn rollout_target(name: &TargetName, record: &ProgressRecord) -> v1::RolloutTarget {
    let time = |d: Option<Duration>| d.map(duration_message);
    v1::RolloutTarget {
        name: name.to_string(),
        wave: u32::try_from(record.wave).unwrap_or(u32::MAX),
        state: v1::TargetState::from(record.target.state).into(),
        reason: record.target.reason.clone(),
        from: version_text(record.target.from.as_ref()),
        to: version_text(record.target.to.as_ref()),
        gate_epoch: record.target.gate_epoch.map_or(0, |g| g.0),
        fence_time: time(record.fence_time),
        migrate_time: time(record.migrate_time),
        verify_time: time(record.verify_time),
        total_time: time(record.total_time),
        invariants: record
            .invariants
            .iter()
            .map(|i| v1::RowInvariantResult {
                name: i.name.clone(),
                before: i.before.clone().unwrap_or_default(),
                after: i.after.clone().unwrap_or_default(),
            })
            .collect(),
        ended_sessions: record.ended_sessions.clone(),
        warnings: u32::try_from(record.warnings_count).unwrap_or(u32::MAX),
        current: record.current.clone().unwrap_or_default(),
        since: Some(timestamp(record.since)),
    }
}

/// A coordinator that is present.
#[must_use]
pub fn coordinator(session: &SessionId, stored: &Stored<SessionRecord>) -> v1::Coordinator {
    let record = &stored.record;
    v1::Coordinator {
        name: record.coordinator.to_string(),
        session: session.to_string(),
        region: record.region.to_string(),
        address: record.address.clone(),
        release: record.release.clone(),
    }
}

/// A declared target with its gate.
#[must_use]
pub fn target_status(view: &FleetView, name: &TargetName, doing: &Doing) -> Option<v1::TargetStatus> {
    let spec = &view.targets.get(name)?.record;
    let gate = view.gates.get(name).map(|g| &g.record);
    let active = view.active.get(name).map(|a| &a.record);
    let progress = active
        .and_then(|id| view.progress.get(&(id.clone(), name.clone())))
        .map(|p| &p.record);
    let state = match gate.map(|g| &g.position) {
        Some(Position::Open { .. }) => v1::GateState::Open,
        Some(Position::Closed { .. }) => v1::GateState::Closed,
        None => v1::GateState::Unspecified,
    };
    let reason = match (progress, gate) {
        (Some(progress), _) => progress.target.reason.clone(),
        (None, None) => doing.waits.first().map(|w| w.detail.clone()).unwrap_or_default(),
        (None, Some(_)) => String::new(),
    };
    Some(v1::TargetStatus {
        name: name.to_string(),
        gate: state.into(),
        gate_epoch: gate.map_or(0, |g| g.epoch.0),
        version: version_text(gate.and_then(|g| g.version())),
        strength: v1::Strength::from(spec.strength).into(),
        rollout: active.map(ToString::to_string).unwrap_or_default(),
        state: progress
            .map_or(v1::TargetState::Unspecified, |p| p.target.state.into())
            .into(),
        reason,
        service: spec.service.to_string(),
        region: spec.region.to_string(),
        waiting_on: doing.waits.iter().map(waiting_on).collect(),
    })
}

/// One thing that is being waited for.
#[must_use]
pub fn waiting_on(wait: &Wait) -> v1::WaitingOn {
    v1::WaitingOn {
        kind: wait.kind.clone(),
        who: wait.who.clone(),
        since: Some(timestamp(wait.since)),
        detail: wait.detail.clone(),
    }
}

/// An agent on a target.
#[must_use]
pub fn agent(row: &AgentRow, coordinator: &str) -> v1::Agent {
    let state = match row.standing {
        AgentStanding::Open => v1::AgentState::Open,
        AgentStanding::Draining => v1::AgentState::Draining,
        AgentStanding::Fenced => v1::AgentState::Fenced,
        AgentStanding::Waiting => v1::AgentState::Waiting,
        AgentStanding::Lost => v1::AgentState::Lost,
    };
    let who = &row.registration;
    v1::Agent {
        service: who.service.to_string(),
        replica: who.agent.to_string(),
        incarnation: who.incarnation.to_string(),
        region: who.region.to_string(),
        release: who.release.clone(),
        target: row.target.to_string(),
        state: state.into(),
        reason: row.reason.clone(),
        coordinator: coordinator.to_owned(),
        permits: row.held.permits,
        oldest_label: row.held.label.clone().unwrap_or_default(),
        since: Some(timestamp(row.since)),
        lease_left: row.lease_left.map(duration_message),
    }
}

/// Agents counted by state.
#[must_use]
pub fn counts(agents: &[v1::Agent]) -> v1::AgentCounts {
    let mut counts = v1::AgentCounts::default();
    for agent in agents {
        match agent.state() {
            v1::AgentState::Open => counts.open += 1,
            v1::AgentState::Draining => counts.draining += 1,
            v1::AgentState::Fenced => counts.fenced += 1,
            v1::AgentState::Waiting => counts.waiting += 1,
            v1::AgentState::Lost => counts.lost += 1,
            v1::AgentState::Unspecified => {}
        }
    }
    counts
}
