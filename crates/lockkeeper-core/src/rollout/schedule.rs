//! Which targets go when: waves in order, some at a time within a wave.

use super::{OnFailure, State};

/// What the schedule needs to know of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetInWave {
    /// Index of its wave.
    pub wave: usize,
    /// Where it stands.
    pub state: State,
}

/// The state of a whole rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Overall {
    /// Something moves, or will.
    Running,
    /// A target is held and nothing else moves.
    Held,
    /// Every target is done.
    Done,
    /// At least one target was aborted, none rolled back.
    Aborted,
    /// At least one target was rolled back.
    RolledBack,
}

fn failed(state: State) -> bool {
    matches!(state, State::Aborted | State::RolledBack)
}

/// The pending targets whose turn has come, as indexes. `parallel[w]` is how many of wave `w` may be under way at
/// a time; 0 is no limit.
#[must_use]
pub fn to_start(targets: &[TargetInWave], parallel: &[usize], on_failure: OnFailure) -> Vec<usize> {
    if stop_the_rest(targets, on_failure).is_some() {
        return Vec::new();
    }
    let Some(wave) = targets
        .iter()
        .filter(|t| !t.state.is_final())
        .map(|t| t.wave)
        .min()
    else {
        return Vec::new();
    };
    let in_wave = || targets.iter().enumerate().filter(|(_, t)| t.wave == wave);
    // A held target keeps its place: it may still be fenced, and places bound how much of a service is.
    let under_way = in_wave()
        .filter(|(_, t)| !t.state.is_final() && t.state != State::Pending)
        .count();
    let limit = match parallel.get(wave).copied().unwrap_or(0) {
        0 => usize::MAX,
        limit => limit,
    };
    let pending = in_wave()
        .filter(|(_, t)| t.state == State::Pending)
        .map(|(i, _)| i);
    pending.take(limit.saturating_sub(under_way)).collect()
}

/// Whether the targets that have not started are not to start any more: the index of the target whose failure
/// says so.
#[must_use]
pub fn stop_the_rest(targets: &[TargetInWave], on_failure: OnFailure) -> Option<usize> {
    match on_failure {
        OnFailure::Continue => None,
        OnFailure::Rollback | OnFailure::Hold => targets.iter().position(|t| failed(t.state)),
    }
}

/// The state of the whole. `parallel` as for [`to_start`]: a held target may keep the place that another waits for.
#[must_use]
pub fn overall(targets: &[TargetInWave], parallel: &[usize], on_failure: OnFailure) -> Overall {
    let any = |wanted: fn(State) -> bool| targets.iter().any(|t| wanted(t.state));
    let moves = any(|s| !s.is_resting());
    let held = any(|s| matches!(s, State::Held(_)));
    let will_start = || !to_start(targets, parallel, on_failure).is_empty();
    if moves || (any(|s| s == State::Pending) && (!held || will_start())) {
        Overall::Running
    } else if held {
        Overall::Held
    } else if any(|s| s == State::RolledBack) {
        Overall::RolledBack
    } else if any(|s| s == State::Aborted) {
        Overall::Aborted
    } else {
        Overall::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::HeldAt;

    fn targets(states: &[(usize, State)]) -> Vec<TargetInWave> {
        states
            .iter()
            .map(|&(wave, state)| TargetInWave { wave, state })
            .collect()
    }

    #[test]
    fn a_wave_starts_only_after_the_one_before() {
        let t = targets(&[(0, State::Migrating), (1, State::Pending)]);
        assert!(to_start(&t, &[], OnFailure::Rollback).is_empty());
        let t = targets(&[(0, State::Done), (1, State::Pending), (1, State::Pending)]);
        assert_eq!(to_start(&t, &[0, 1], OnFailure::Rollback), vec![1]);
        assert_eq!(to_start(&t, &[0, 0], OnFailure::Rollback), vec![1, 2]);
    }

    #[test]
    fn a_failure_stops_what_has_not_started_unless_told_to_continue() {
        let t = targets(&[(0, State::RolledBack), (0, State::Pending), (1, State::Pending)]);
        assert!(to_start(&t, &[], OnFailure::Rollback).is_empty());
        assert_eq!(stop_the_rest(&t, OnFailure::Rollback), Some(0));
        assert_eq!(to_start(&t, &[], OnFailure::Continue), vec![1]);
    }

    #[test]
    fn a_held_target_that_keeps_the_only_place_holds_the_rollout() {
        let t = targets(&[(0, State::Held(HeldAt::Fenced)), (0, State::Pending)]);
        assert!(to_start(&t, &[1], OnFailure::Rollback).is_empty());
        assert_eq!(overall(&t, &[1], OnFailure::Rollback), Overall::Held);
        assert_eq!(overall(&t, &[2], OnFailure::Rollback), Overall::Running);
    }

    #[test]
    fn a_held_target_holds_the_rollout_when_nothing_else_can_move() {
        let held = State::Held(HeldAt::Fenced);
        let t = targets(&[(0, held), (1, State::Pending)]);
        assert_eq!(overall(&t, &[], OnFailure::Rollback), Overall::Held);
        let t = targets(&[(0, held), (0, State::Migrating)]);
        assert_eq!(overall(&t, &[], OnFailure::Rollback), Overall::Running);
        let t = targets(&[(0, State::Done), (1, State::Done)]);
        assert_eq!(overall(&t, &[], OnFailure::Rollback), Overall::Done);
        let t = targets(&[(0, State::Done), (1, State::RolledBack), (1, State::Aborted)]);
        assert_eq!(overall(&t, &[], OnFailure::Rollback), Overall::RolledBack);
    }
}
