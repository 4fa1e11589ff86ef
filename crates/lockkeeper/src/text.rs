//! Messages in words.

use jiff::Timestamp;
use lockkeeper_proto::v1;

/// An enum value's name without its prefix, in lower case with dashes: `STRENGTH_BARRIER` is `barrier`.
pub(crate) fn plain(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix)
        .unwrap_or(name)
        .to_lowercase()
        .replace('_', "-")
}

/// A gate's state.
pub(crate) fn gate(state: v1::GateState) -> String {
    match state {
        v1::GateState::Unspecified => "unknown".to_owned(),
        v1::GateState::Open | v1::GateState::Closed => plain(state.as_str_name(), "GATE_STATE_"),
    }
}

/// A target's state in a rollout, as the state diagram writes it; `-` outside of one.
pub(crate) fn target_state(state: v1::TargetState) -> String {
    match state {
        v1::TargetState::Unspecified => "-".to_owned(),
        state => state.as_str_name().trim_start_matches("TARGET_STATE_").to_owned(),
    }
}

/// A rollout's state.
pub(crate) fn rollout_state(state: v1::RolloutState) -> String {
    state
        .as_str_name()
        .trim_start_matches("ROLLOUT_STATE_")
        .to_owned()
}

fn instant(time: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    let time = time?;
    Timestamp::new(time.seconds, time.nanos).ok()
}

/// A time in RFC 3339, UTC; empty: none.
pub(crate) fn time(time: Option<prost_types::Timestamp>) -> String {
    instant(time).map(|t| t.to_string()).unwrap_or_default()
}

/// How long ago, in words.
pub(crate) fn ago(time: Option<prost_types::Timestamp>) -> String {
    match instant(time) {
        Some(time) => format!(
            "for {:.1} s",
            Timestamp::now().duration_since(time).as_secs_f64().max(0.0)
        ),
        None => "since an unknown time".to_owned(),
    }
}

/// A duration in whole milliseconds; `None`: not measured.
pub(crate) fn millis(duration: Option<prost_types::Duration>) -> Option<i64> {
    duration.map(|d| d.seconds * 1000 + i64::from(d.nanos) / 1_000_000)
}
