//! A rollout for people and for programs.

use lockkeeper_proto::v1;
use serde_json::{Value, json};

use crate::output;
use crate::text::{millis, rollout_state, target_state, time};

/// One rollout as JSON.
pub(super) fn json(rollout: &v1::Rollout) -> Value {
    let invariant =
        |i: &v1::RowInvariantResult| json!({"name": i.name, "before": i.before, "after": i.after});
    let target = |t: &v1::RolloutTarget| {
        json!({
            "name": t.name, "wave": t.wave, "state": target_state(t.state()), "reason": t.reason,
            "from": t.from, "to": t.to, "gate_epoch": t.gate_epoch,
            "fence_ms": millis(t.fence_time), "migrate_ms": millis(t.migrate_time),
            "verify_ms": millis(t.verify_time), "total_ms": millis(t.total_time),
            "invariants": t.invariants.iter().map(invariant).collect::<Vec<_>>(),
            "ended_sessions": t.ended_sessions, "warnings": t.warnings, "since": time(t.since),
        })
    };
    let spec = rollout.spec.clone().unwrap_or_default();
    json!({
        "id": rollout.id, "service": spec.service, "release": spec.release, "to": spec.to,
        "state": rollout_state(rollout.state()), "created_at": time(rollout.created_at),
        "created_by": rollout.created_by, "ended_at": rollout.ended_at.map(|t| time(Some(t))),
        "revision": rollout.revision,
        "waiting": rollout.waiting.as_ref().map(waiting_json),
        "targets": rollout.targets.iter().map(target).collect::<Vec<_>>(),
    })
}

fn waiting_json(wait: &v1::RolloutWait) -> Value {
    json!({
        "kind": rollout_state(wait.kind()), "wave": wait.wave,
        "until": wait.until.map(|t| time(Some(t))), "detail": wait.detail,
    })
}

/// What keeps targets from starting, in words.
pub(super) fn waiting(wait: &v1::RolloutWait) -> String {
    let until = wait
        .until
        .map(|t| format!(", until {}", time(Some(t))))
        .unwrap_or_default();
    format!("waiting: {}{until}", wait.detail)
}

/// One rollout in words.
pub(super) fn text(rollout: &v1::Rollout) -> String {
    let spec = rollout.spec.clone().unwrap_or_default();
    let mut text = format!(
        "rollout {} of {} to {}: {}\n",
        rollout.id,
        spec.service,
        spec.to,
        rollout_state(rollout.state())
    );
    if let Some(wait) = &rollout.waiting {
        text += &format!("{}\n", waiting(wait));
    }
    let ms =
        |d: Option<prost_types::Duration>| millis(d).map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
    let row = |t: &v1::RolloutTarget| {
        let versions = format!("{} -> {}", or_none(&t.from), or_none(&t.to));
        vec![
            t.wave.to_string(),
            t.name.clone(),
            target_state(t.state()),
            versions,
            ms(t.fence_time),
            ms(t.migrate_time),
            ms(t.total_time),
        ]
    };
    let header = ["WAVE", "TARGET", "STATE", "VERSION", "FENCE", "MIGRATE", "TOTAL"];
    text += &output::table(&header, &rollout.targets.iter().map(row).collect::<Vec<_>>());
    for target in rollout.targets.iter().filter(|t| !t.reason.is_empty()) {
        text += &format!("{}: {}\n", target.name, target.reason);
    }
    text
}

fn or_none(version: &str) -> &str {
    if version.is_empty() { "none" } else { version }
}

/// Rollouts in columns.
pub(super) fn list(rollouts: &[v1::Rollout]) -> String {
    let row = |r: &v1::Rollout| {
        let spec = r.spec.clone().unwrap_or_default();
        vec![
            r.id.clone(),
            spec.service,
            spec.to,
            rollout_state(r.state()),
            r.targets.len().to_string(),
            time(r.created_at),
        ]
    };
    output::table(
        &["ID", "SERVICE", "TO", "STATE", "TARGETS", "CREATED"],
        &rollouts.iter().map(row).collect::<Vec<_>>(),
    )
}
