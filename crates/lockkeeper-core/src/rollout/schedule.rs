//! Which targets go when: waves in order, some at a time within a wave.

use std::time::Duration;

use super::{OnFailure, State, Steering};
use crate::spec::Share;
use crate::time::WallTime;

/// What the schedule needs to know of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetInWave {
    /// Index of its wave.
    pub wave: usize,
    /// Where it stands.
    pub state: State,
    /// Since when.
    pub since: WallTime,
}

/// What a wave asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WaveTerms {
    /// How many of its targets may be under way at a time; 0: all.
    pub parallel: usize,
    /// How long to look at it before it is done.
    pub bake: Duration,
    /// Whether a person must approve it before it starts.
    pub approve: bool,
}

/// What the schedule goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The waves.
    pub waves: Vec<WaveTerms>,
    /// What a failure leads to.
    pub on_failure: OnFailure,
    /// Most targets that may be under way at a time, over all waves.
    pub max_fenced: Option<Share>,
}

impl Plan {
    fn terms(&self, wave: usize) -> WaveTerms {
        self.waves.get(wave).copied().unwrap_or_default()
    }
}

/// Whether targets may start at this time of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    /// They may.
    Open,
    /// Not now.
    Shut {
        /// When they may again; `None`: not within the time that was looked ahead.
        opens: Option<WallTime>,
    },
}

/// What keeps targets from starting though their turn has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wait {
    /// An operator has paused the rollout.
    Paused,
    /// A wave is being looked at.
    Bake {
        /// Index of the wave that is looked at.
        wave: usize,
        /// When that is over.
        until: WallTime,
    },
    /// A person must approve the next wave.
    Approval {
        /// Its index.
        wave: usize,
    },
    /// Not within the window.
    Window {
        /// When it opens.
        opens: Option<WallTime>,
    },
}

/// What is to happen to the targets that have not started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// These start, as indexes.
    Start(Vec<usize>),
    /// They wait.
    Wait(Wait),
    /// These were looked at for long enough. Whether their conditions hold, others know.
    Baked {
        /// Index of their wave.
        wave: usize,
        /// Since when it is long enough.
        since: WallTime,
        /// Indexes of the targets.
        targets: Vec<usize>,
    },
    /// None starts any more, because of the target with this index.
    StopTheRest(usize),
    /// It is nobody's turn.
    Nobody,
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

/// Whose turn it is, and whether they may.
///
/// A pause is said first, since nothing else matters until it is over; the window last, because it shuts again while
/// a person thinks about an approval.
#[must_use]
pub fn turn(
    targets: &[TargetInWave],
    plan: &Plan,
    steering: &Steering,
    window: Window,
    now: WallTime,
) -> Turn {
    let pending = targets.iter().any(|t| t.state == State::Pending);
    if let Some(failed) = stop_the_rest(targets, plan.on_failure).filter(|_| pending) {
        return Turn::StopTheRest(failed);
    }
    if let Some(turn) = baking(targets, plan, now) {
        return turn;
    }
    let due = to_start(targets, plan);
    let Some(wave) = due.first().map(|&first| targets[first].wave) else {
        return Turn::Nobody;
    };
    if steering.paused {
        return Turn::Wait(Wait::Paused);
    }
    let begun = |t: &TargetInWave| t.wave == wave && !matches!(t.state, State::Pending | State::Skipped);
    let approved = !plan.terms(wave).approve || steering.approved.contains(&wave);
    if !approved && !targets.iter().any(begun) {
        return Turn::Wait(Wait::Approval { wave });
    }
    match window {
        Window::Open => Turn::Start(due),
        Window::Shut { opens } => Turn::Wait(Wait::Window { opens }),
    }
}

/// The wave that is under way, if all of it is at its end or being looked at.
fn baking(targets: &[TargetInWave], plan: &Plan, now: WallTime) -> Option<Turn> {
    let wave = current_wave(targets)?;
    let in_wave = || targets.iter().enumerate().filter(|(_, t)| t.wave == wave);
    if !in_wave().all(|(_, t)| t.state.is_final() || t.state == State::Baking) {
        return None;
    }
    let baking = || in_wave().filter(|(_, t)| t.state == State::Baking);
    let last = baking().map(|(_, t)| t.since).max()?;
    let bake = i64::try_from(plan.terms(wave).bake.as_millis()).unwrap_or(i64::MAX);
    let until = WallTime(last.0.saturating_add(bake));
    Some(match now < until {
        true => Turn::Wait(Wait::Bake { wave, until }),
        false => Turn::Baked {
            wave,
            since: until,
            targets: baking().map(|(i, _)| i).collect(),
        },
    })
}

/// The first wave that is not at its end.
fn current_wave(targets: &[TargetInWave]) -> Option<usize> {
    targets
        .iter()
        .filter(|t| !t.state.is_final())
        .map(|t| t.wave)
        .min()
}

fn failed(state: State) -> bool {
    matches!(state, State::Aborted | State::RolledBack)
}

/// The pending targets whose turn has come, as indexes.
#[must_use]
pub fn to_start(targets: &[TargetInWave], plan: &Plan) -> Vec<usize> {
    if stop_the_rest(targets, plan.on_failure).is_some() {
        return Vec::new();
    }
    let Some(wave) = current_wave(targets) else {
        return Vec::new();
    };
    let in_wave = || targets.iter().enumerate().filter(|(_, t)| t.wave == wave);
    // A held target keeps its place: it may still be fenced, and places bound how much of a service is.
    let under_way =
        |t: &TargetInWave| !t.state.is_final() && !matches!(t.state, State::Pending | State::Baking);
    let limit = match plan.terms(wave).parallel {
        0 => usize::MAX,
        limit => limit,
    };
    let of_wave = limit.saturating_sub(in_wave().filter(|(_, t)| under_way(t)).count());
    let all = targets.iter().filter(|t| under_way(t)).count();
    let of_all = plan
        .max_fenced
        .map_or(usize::MAX, |most| most.of(targets.len()).saturating_sub(all));
    let pending = in_wave()
        .filter(|(_, t)| t.state == State::Pending)
        .map(|(i, _)| i);
    pending.take(of_wave.min(of_all)).collect()
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

/// The state of the whole. The plan matters because a held target may keep the place that another waits for.
#[must_use]
pub fn overall(targets: &[TargetInWave], plan: &Plan) -> Overall {
    let any = |wanted: fn(State) -> bool| targets.iter().any(|t| wanted(t.state));
    let moves = any(|s| !s.is_resting());
    let held = any(|s| matches!(s, State::Held(_)));
    let will_start = || !to_start(targets, plan).is_empty();
    if moves || any(|s| s == State::Baking) || (any(|s| s == State::Pending) && (!held || will_start())) {
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
            .map(|&(wave, state)| TargetInWave {
                wave,
                state,
                since: WallTime(1_000),
            })
            .collect()
    }

    fn plan(parallel: &[usize], on_failure: OnFailure) -> Plan {
        let terms = |&parallel: &usize| WaveTerms {
            parallel,
            ..WaveTerms::default()
        };
        Plan {
            waves: parallel.iter().map(terms).collect(),
            on_failure,
            max_fenced: None,
        }
    }

    fn baked(since: i64) -> Turn {
        Turn::Baked {
            wave: 0,
            since: WallTime(since),
            targets: vec![0],
        }
    }

    #[test]
    fn a_wave_waits_for_its_bake_then_the_next_for_its_approval_then_the_window() {
        let baking = targets(&[(0, State::Baking), (0, State::Skipped), (1, State::Pending)]);
        let mut plan = plan(&[0, 0], OnFailure::Rollback);
        plan.waves[0].bake = Duration::from_secs(10);
        plan.waves[1].approve = true;
        let mut steering = Steering::default();
        let opens = Some(WallTime(99_000));
        let shut = Window::Shut { opens };
        let at = |targets: &[TargetInWave], steering: &Steering, window, now| {
            turn(targets, &plan, steering, window, WallTime(now))
        };
        let (wave, until) = (0, WallTime(11_000));
        let bake = Turn::Wait(Wait::Bake { wave, until });
        assert_eq!(at(&baking, &steering, Window::Open, 10_999), bake);
        assert_eq!(at(&baking, &steering, Window::Open, 11_000), baked(11_000));
        assert_eq!(overall(&baking, &plan), Overall::Running);

        let done = targets(&[(0, State::Done), (0, State::Skipped), (1, State::Pending)]);
        let approval = Turn::Wait(Wait::Approval { wave: 1 });
        assert_eq!(at(&done, &steering, shut, 11_000), approval);
        steering.approved.insert(1);
        assert_eq!(
            at(&done, &steering, shut, 11_000),
            Turn::Wait(Wait::Window { opens })
        );
        assert_eq!(at(&done, &steering, Window::Open, 11_000), Turn::Start(vec![2]));
        steering.paused = true;
        assert_eq!(
            at(&done, &steering, Window::Open, 11_000),
            Turn::Wait(Wait::Paused)
        );
    }

    #[test]
    fn what_has_begun_is_not_asked_for_again() {
        let t = targets(&[(0, State::Done), (1, State::Migrating), (1, State::Pending)]);
        let mut plan = plan(&[0, 0], OnFailure::Rollback);
        plan.waves[1].approve = true;
        let turn = turn(&t, &plan, &Steering::default(), Window::Open, WallTime(0));
        assert_eq!(turn, Turn::Start(vec![2]));
    }

    #[test]
    fn a_bake_ends_though_another_target_of_its_wave_failed() {
        let t = targets(&[(0, State::Baking), (0, State::RolledBack)]);
        let turn = turn(
            &t,
            &plan(&[], OnFailure::Rollback),
            &Steering::default(),
            Window::Open,
            WallTime(1_000),
        );
        assert_eq!(turn, baked(1_000));
    }

    #[test]
    fn no_more_are_under_way_than_the_rollout_allows() {
        let held = State::Held(HeldAt::Fenced);
        let t = targets(&[
            (0, held),
            (0, State::Baking),
            (0, State::Pending),
            (0, State::Pending),
        ]);
        let mut plan = plan(&[0], OnFailure::Rollback);
        for (most, started) in [("1", 0), ("2", 1), ("\"50%\"", 1), ("\"99%\"", 2)] {
            plan.max_fenced = Some(serde_json::from_str(most).unwrap());
            assert_eq!(to_start(&t, &plan).len(), started, "{most}");
        }
    }

    #[test]
    fn a_skipped_target_stops_nothing_and_leaves_the_rest_done() {
        let t = targets(&[(0, State::Skipped), (1, State::Pending)]);
        assert_eq!(to_start(&t, &plan(&[], OnFailure::Rollback)), vec![1]);
        let t = targets(&[(0, State::Skipped), (1, State::Done)]);
        assert_eq!(overall(&t, &plan(&[], OnFailure::Rollback)), Overall::Done);
    }

    #[test]
    fn a_wave_starts_only_after_the_one_before() {
        let t = targets(&[(0, State::Migrating), (1, State::Pending)]);
        assert!(to_start(&t, &plan(&[], OnFailure::Rollback)).is_empty());
        let t = targets(&[(0, State::Done), (1, State::Pending), (1, State::Pending)]);
        assert_eq!(to_start(&t, &plan(&[0, 1], OnFailure::Rollback)), vec![1]);
        assert_eq!(to_start(&t, &plan(&[0, 0], OnFailure::Rollback)), vec![1, 2]);
    }

    #[test]
    fn a_failure_stops_what_has_not_started_unless_told_to_continue() {
        let t = targets(&[(0, State::RolledBack), (0, State::Pending), (1, State::Pending)]);
        assert!(to_start(&t, &plan(&[], OnFailure::Rollback)).is_empty());
        assert_eq!(stop_the_rest(&t, OnFailure::Rollback), Some(0));
        assert_eq!(to_start(&t, &plan(&[], OnFailure::Continue)), vec![1]);
    }

    #[test]
    fn a_held_target_that_keeps_the_only_place_holds_the_rollout() {
        let t = targets(&[(0, State::Held(HeldAt::Fenced)), (0, State::Pending)]);
        assert!(to_start(&t, &plan(&[1], OnFailure::Rollback)).is_empty());
        assert_eq!(overall(&t, &plan(&[1], OnFailure::Rollback)), Overall::Held);
        assert_eq!(overall(&t, &plan(&[2], OnFailure::Rollback)), Overall::Running);
    }

    #[test]
    fn a_held_target_holds_the_rollout_when_nothing_else_can_move() {
        let held = State::Held(HeldAt::Fenced);
        let t = targets(&[(0, held), (1, State::Pending)]);
        assert_eq!(overall(&t, &plan(&[], OnFailure::Rollback)), Overall::Held);
        let t = targets(&[(0, held), (0, State::Migrating)]);
        assert_eq!(overall(&t, &plan(&[], OnFailure::Rollback)), Overall::Running);
        let t = targets(&[(0, State::Done), (1, State::Done)]);
        assert_eq!(overall(&t, &plan(&[], OnFailure::Rollback)), Overall::Done);
        let t = targets(&[(0, State::Done), (1, State::RolledBack), (1, State::Aborted)]);
        assert_eq!(overall(&t, &plan(&[], OnFailure::Rollback)), Overall::RolledBack);
    }
}
