//! The decision table: one arm per reaction, each with its reason.

use super::{AbortWay, Bake, Damage, Event, Goal, HeldAt, OnFailure, State, Target};
use crate::mutation::{Mutation, mutated};

/// An event that makes no sense in the state it met. Operators' requests can be rejected; for the driver's own
/// events it is a bug.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event} makes no sense while the target is {state:?}")]
pub struct Rejected {
    /// Where the target stood.
    pub state: State,
    /// What came.
    pub event: &'static str,
}

/// The target after `event`. Its next command is [`Target::command`].
///
/// # Errors
/// [`Rejected`] when the event makes no sense in this state; the target stays as it was.
pub fn step(target: &Target, event: Event) -> Result<Target, Rejected> {
    use State::{
        Aborted, Baking, Done, Fencing, Held, Migrating, Opening, Pending, Preflight, RolledBack,
        RollingBack, Skipped, Verifying,
    };
    let to = |state: State| {
        Ok(Target {
            state,
            ..target.clone()
        })
    };
    let because = |state: State, reason: String| {
        Ok(Target {
            state,
            reason,
            ..target.clone()
        })
    };
    let rejected = |event| {
        Err(Rejected {
            state: target.state,
            event,
        })
    };
    let hold = |reason: String| because(Held(held_at(target)), reason);

    match (target.state, event) {
        (Pending, Event::Start) => to(Preflight),
        // A new leader looks again; the gate was not touched.
        (_, Event::Start) => rejected("start"),

        // Already there: no reason to close a gate.
        (Preflight, Event::PreflightPassed { from, to, pending: 0 }) => Ok(Target {
            state: Done,
            from,
            to,
            ..target.clone()
        }),
        (Preflight, Event::PreflightPassed { from, to, .. }) => Ok(Target {
            state: Fencing,
            from,
            to,
            ..target.clone()
        }),
        (_, Event::PreflightPassed { .. }) => rejected("a passed preflight"),
        // Nothing was touched, so there is nothing to undo, whatever the policy.
        (Preflight, Event::PreflightRefused(reason)) => because(Aborted, reason),
        (_, Event::PreflightRefused(_)) => rejected("a refused preflight"),

        (Fencing, Event::Fenced) => to(Migrating),
        (_, Event::Fenced) => rejected("a raised fence"),
        // No statement ran: writers get their gate back.
        (Fencing, Event::FenceFailed(reason)) => because(Verifying(Goal::Unchanged), reason),
        // The fence could not be raised again after a loss; the barrier may still stand, so a person looks.
        (Migrating | Verifying(_) | Opening(_) | RollingBack, Event::FenceFailed(reason)) => hold(reason),
        (_, Event::FenceFailed(_)) => rejected("a failed fence"),

        (Migrating, Event::Migrated) if mutated(Mutation::OpenWithoutVerification) => to(Opening(Goal::New)),
        (Migrating, Event::Migrated) => to(Verifying(Goal::New)),
        (_, Event::Migrated) => rejected("applied migrations"),
        // Half a migration cannot be reverted by a script that expects a whole one.
        (
            Migrating,
            Event::MigrationFailed {
                damage: Damage::Unclear,
                reason,
            },
        ) => hold(reason),
        (
            Migrating,
            Event::MigrationFailed {
                damage: Damage::Clean,
                reason,
            },
        ) => match target.on_failure {
            OnFailure::Hold => hold(reason),
            OnFailure::Rollback | OnFailure::Continue => because(RollingBack, reason),
        },
        (_, Event::MigrationFailed { .. }) => rejected("a failed migration"),

        (Verifying(goal), Event::Verified) => to(Opening(goal)),
        (_, Event::Verified) => rejected("a passed verification"),
        (Verifying(Goal::New), Event::VerificationFailed(reason)) => match target.on_failure {
            OnFailure::Hold => hold(reason),
            OnFailure::Rollback | OnFailure::Continue => because(RollingBack, reason),
        },
        // Not even the old version is what it should be: no gate opens on that.
        (Verifying(Goal::Unchanged | Goal::Restored), Event::VerificationFailed(reason)) => hold(reason),
        (_, Event::VerificationFailed(_)) => rejected("a failed verification"),

        (Opening(Goal::New), Event::Opened) => match target.bake {
            Bake::No => to(Done),
            Bake::AsTheWave => to(Baking),
        },
        (Opening(Goal::Unchanged), Event::Opened) => to(Aborted),
        (Opening(Goal::Restored), Event::Opened) => to(RolledBack),
        (_, Event::Opened) => rejected("an opening"),

        (Baking, Event::Baked) => to(Done),
        (_, Event::Baked) => rejected("the end of a bake"),
        // Another fence, under a new epoch, and the way back: the gate has been open since.
        (Baking, Event::BakeFailed(reason)) => match target.on_failure {
            OnFailure::Hold => because(Held(HeldAt::Opened), reason),
            OnFailure::Rollback | OnFailure::Continue => Ok(fenced_again(target, reason)),
        },
        (_, Event::BakeFailed(_)) => rejected("a condition that did not hold"),

        // What was verified may not be true any more (SQLite loses the whole fence with its session): go back to
        // the step that establishes it; where it still holds, that step does nothing.
        (Migrating | Verifying(Goal::New) | Opening(Goal::New), Event::FenceRenewed) => to(Migrating),
        (RollingBack | Verifying(Goal::Restored) | Opening(Goal::Restored), Event::FenceRenewed) => {
            to(RollingBack)
        }
        (Verifying(Goal::Unchanged) | Opening(Goal::Unchanged), Event::FenceRenewed) => {
            to(Verifying(Goal::Unchanged))
        }
        (_, Event::FenceRenewed) => rejected("a renewed fence"),

        // Writers may have written since: nothing here may be continued without a person.
        (
            Fencing | Migrating | Verifying(_) | Opening(_) | RollingBack | Held(HeldAt::Fenced),
            Event::GateFoundOpen(reason),
        ) => because(Held(HeldAt::ReleasedByHand), reason),
        (_, Event::GateFoundOpen(_)) => rejected("an open gate row"),

        (RollingBack, Event::Reverted) => to(Verifying(Goal::Restored)),
        (_, Event::Reverted) => rejected("a reverted migration"),
        (RollingBack, Event::RevertFailed(reason)) => hold(reason),
        (_, Event::RevertFailed(_)) => rejected("a failed revert"),

        (
            Preflight | Fencing | Migrating | Verifying(_) | Opening(_) | RollingBack,
            Event::NeedsPerson(reason),
        ) => hold(reason),
        (_, Event::NeedsPerson(_)) => rejected("a hold"),

        (Pending | Preflight | Held(HeldAt::BeforeFence), Event::AbortRequested { reason, .. }) => {
            because(Aborted, reason)
        }
        // An abort must not be what closes the gate.
        (Fencing, Event::AbortRequested { reason, .. }) if !target.is_fenced() => because(Aborted, reason),
        (
            Fencing | Migrating | Verifying(Goal::New),
            Event::AbortRequested {
                way: AbortWay::Hold,
                reason,
            },
        ) => hold(reason),
        (
            Held(HeldAt::Fenced),
            Event::AbortRequested {
                way: AbortWay::Hold, ..
            },
        ) => rejected("an abort that holds"),
        (Fencing, Event::AbortRequested { reason, .. }) => because(Verifying(Goal::Unchanged), reason),
        // The ledger says whether anything took effect: what did is held by the verification.
        (
            Migrating | Verifying(Goal::New) | Held(HeldAt::Fenced),
            Event::AbortRequested {
                way: AbortWay::Reopen,
                reason,
            },
        ) => because(Verifying(Goal::Unchanged), reason),
        // Whatever is committed by now is found in the ledger and reverted.
        (
            Migrating | Verifying(Goal::New) | Held(HeldAt::Fenced),
            Event::AbortRequested {
                way: AbortWay::RollBack,
                reason,
            },
        ) => because(RollingBack, reason),
        // The verified new version is being opened: that is a matter of milliseconds and cannot be taken back.
        (Opening(_), Event::AbortRequested { .. }) => rejected("an abort"),
        // It is on its way back already.
        (RollingBack | Verifying(Goal::Unchanged | Goal::Restored), Event::AbortRequested { .. }) => {
            Ok(target.clone())
        }
        // A person opened the gate and answers for the schema as it is; only a retry fences it again.
        (Held(HeldAt::ReleasedByHand), Event::AbortRequested { reason, .. }) => because(Aborted, reason),
        (
            Baking | Held(HeldAt::Opened),
            Event::AbortRequested {
                way: AbortWay::RollBack,
                reason,
            },
        ) => Ok(fenced_again(target, reason)),
        // It is at the new version, and nothing shall be reverted.
        (
            Baking | Held(HeldAt::Opened),
            Event::AbortRequested {
                way: AbortWay::Reopen | AbortWay::Hold,
                reason,
            },
        ) => because(Done, reason),
        (Done | Aborted | RolledBack | Skipped, Event::AbortRequested { .. }) => rejected("an abort"),

        // The last safe point before the gate closes: what was seen is looked at again when it goes on.
        (Preflight, Event::PauseRequested) => to(Pending),
        // A closed gate refuses writes: it is opened, or held, before anything rests.
        (_, Event::PauseRequested) => rejected("a pause"),

        (Pending | Held(HeldAt::BeforeFence | HeldAt::ReleasedByHand), Event::SkipRequested(reason)) => {
            because(Skipped, reason)
        }
        // Nobody else would ever open its gate.
        (_, Event::SkipRequested(_)) => rejected("a skip"),

        (Held(HeldAt::Fenced), Event::RetryRequested) => because(Migrating, String::new()),
        // Another fence, under a new epoch.
        (Held(HeldAt::BeforeFence | HeldAt::ReleasedByHand), Event::RetryRequested) => Ok(Target {
            state: Preflight,
            reason: String::new(),
            gate_epoch: None,
            ..target.clone()
        }),
        // The conditions are asked again.
        (Held(HeldAt::Opened), Event::RetryRequested) => because(Baking, String::new()),
        (_, Event::RetryRequested) => rejected("a retry"),
    }
}

/// On its way back from an open gate: the fence gets its epoch when the gate closes.
fn fenced_again(target: &Target, reason: String) -> Target {
    Target {
        state: State::RollingBack,
        reason,
        gate_epoch: None,
        ..target.clone()
    }
}

fn held_at(target: &Target) -> HeldAt {
    match target.state {
        _ if target.is_fenced() => HeldAt::Fenced,
        // Not fenced yet on its way back.
        State::RollingBack => HeldAt::Opened,
        _ => HeldAt::BeforeFence,
    }
}

#[cfg(test)]
pub(in crate::rollout) mod tests {
    use super::*;
    use crate::epoch::GateEpoch;
    use crate::invariant;

    pub(in crate::rollout) const STATES: [State; 20] = [
        State::Pending,
        State::Preflight,
        State::Fencing,
        State::Migrating,
        State::Verifying(Goal::New),
        State::Verifying(Goal::Unchanged),
        State::Verifying(Goal::Restored),
        State::Opening(Goal::New),
        State::Opening(Goal::Unchanged),
        State::Opening(Goal::Restored),
        State::RollingBack,
        State::Held(HeldAt::BeforeFence),
        State::Held(HeldAt::Fenced),
        State::Held(HeldAt::ReleasedByHand),
        State::Held(HeldAt::Opened),
        State::Baking,
        State::Done,
        State::Aborted,
        State::RolledBack,
        State::Skipped,
    ];

    fn abort(way: AbortWay) -> Event {
        Event::AbortRequested {
            way,
            reason: "why".to_owned(),
        }
    }

    fn events() -> Vec<Event> {
        let r = || "why".to_owned();
        vec![
            Event::Start,
            Event::PreflightPassed {
                from: None,
                to: Some("2".into()),
                pending: 1,
            },
            Event::PreflightPassed {
                from: None,
                to: Some("2".into()),
                pending: 0,
            },
            Event::PreflightRefused(r()),
            Event::Fenced,
            Event::FenceFailed(r()),
            Event::Migrated,
            Event::MigrationFailed {
                damage: Damage::Clean,
                reason: r(),
            },
            Event::MigrationFailed {
                damage: Damage::Unclear,
                reason: r(),
            },
            Event::Verified,
            Event::VerificationFailed(r()),
            Event::Opened,
            Event::FenceRenewed,
            Event::GateFoundOpen(r()),
            Event::Reverted,
            Event::RevertFailed(r()),
            Event::NeedsPerson(r()),
            Event::Baked,
            Event::BakeFailed(r()),
            abort(AbortWay::RollBack),
            abort(AbortWay::Reopen),
            abort(AbortWay::Hold),
            Event::PauseRequested,
            Event::SkipRequested(r()),
            Event::RetryRequested,
        ]
    }

    fn at(state: State, on_failure: OnFailure) -> Target {
        Target {
            state,
            ..Target::new(on_failure)
        }
    }

    #[test]
    fn every_state_meets_every_event_and_no_leader_stops_between() {
        for on_failure in [OnFailure::Rollback, OnFailure::Hold, OnFailure::Continue] {
            for state in STATES {
                for (event, gate_epoch) in events()
                    .into_iter()
                    .flat_map(|e| [(e.clone(), None), (e, Some(GateEpoch(8)))])
                {
                    let before = Target {
                        gate_epoch,
                        ..at(state, on_failure)
                    };
                    if let Ok(after) = step(&before, event.clone()) {
                        assert_eq!(invariant::progress(&after), Ok(()), "{state:?} + {event:?}");
                        assert_eq!(
                            invariant::opens_verified(&before, &after),
                            Ok(()),
                            "{state:?} + {event:?}"
                        );
                        assert!(!state.is_final(), "{state:?} is final but {event:?} moved it");
                    }
                }
            }
        }
    }

    #[test]
    fn the_happy_path() {
        let mut target = Target::new(OnFailure::Rollback);
        for event in [
            Event::Start,
            Event::PreflightPassed {
                from: Some("1".into()),
                to: Some("5".into()),
                pending: 4,
            },
            Event::Fenced,
            Event::Migrated,
            Event::Verified,
            Event::Opened,
        ] {
            target = step(&target, event).unwrap();
        }
        assert_eq!(target.state, State::Done);
        assert_eq!(target.command(), None);
    }

    #[test]
    fn a_half_applied_migration_is_held_whatever_the_policy() {
        for on_failure in [OnFailure::Rollback, OnFailure::Hold, OnFailure::Continue] {
            let failed = Event::MigrationFailed {
                damage: Damage::Unclear,
                reason: "x".into(),
            };
            let held = step(&at(State::Migrating, on_failure), failed).unwrap();
            assert_eq!(held.state, State::Held(HeldAt::Fenced));
            assert_eq!(held.reason, "x");
        }
    }

    #[test]
    fn a_gate_that_was_never_closed_stays_open_in_a_hold_and_in_an_abort() {
        let before = at(State::Fencing, OnFailure::Rollback);
        let held = step(&before, Event::NeedsPerson("cannot take the target".into())).unwrap();
        assert_eq!(held.state, State::Held(HeldAt::BeforeFence));
        let aborted = step(&before, abort(AbortWay::RollBack)).unwrap();
        assert_eq!(aborted.state, State::Aborted);

        let closed = Target {
            gate_epoch: Some(GateEpoch(8)),
            ..before
        };
        let held = step(&closed, Event::NeedsPerson("x".into())).unwrap();
        assert_eq!(held.state, State::Held(HeldAt::Fenced));
        let aborted = step(&closed, abort(AbortWay::RollBack)).unwrap();
        assert_eq!(aborted.state, State::Verifying(Goal::Unchanged));
    }

    #[test]
    fn a_condition_that_does_not_hold_leads_back_behind_another_fence() {
        let open = Target {
            gate_epoch: Some(GateEpoch(8)),
            bake: Bake::AsTheWave,
            ..at(State::Opening(Goal::New), OnFailure::Rollback)
        };
        let baking = step(&open, Event::Opened).unwrap();
        assert_eq!(baking.state, State::Baking);
        assert_eq!(step(&baking, Event::Baked).unwrap().state, State::Done);
        let back = step(&baking, Event::BakeFailed("errors".into())).unwrap();
        assert_eq!((back.state, back.gate_epoch), (State::RollingBack, None));
        assert!(!back.is_fenced(), "the gate is open until it is closed");
        let lost = step(&back, Event::NeedsPerson("no database".into())).unwrap();
        assert_eq!(
            lost.state,
            State::Held(HeldAt::Opened),
            "nobody may close the gate of a hold"
        );

        let hold = Target {
            on_failure: OnFailure::Hold,
            ..baking
        };
        let held = step(&hold, Event::BakeFailed("errors".into())).unwrap();
        assert_eq!(held.state, State::Held(HeldAt::Opened));
        assert_eq!(step(&held, Event::RetryRequested).unwrap().state, State::Baking);
        assert_eq!(step(&held, abort(AbortWay::Reopen)).unwrap().state, State::Done);
        assert_eq!(
            step(&held, abort(AbortWay::RollBack)).unwrap().state,
            State::RollingBack
        );
    }

    #[test]
    fn an_abort_does_with_a_closed_gate_what_it_was_told() {
        let (verify_old, held) = (State::Verifying(Goal::Unchanged), State::Held(HeldAt::Fenced));
        for (state, way, then) in [
            (State::Fencing, AbortWay::RollBack, verify_old),
            (State::Fencing, AbortWay::Hold, held),
            (State::Migrating, AbortWay::RollBack, State::RollingBack),
            (State::Migrating, AbortWay::Reopen, verify_old),
            (State::Migrating, AbortWay::Hold, held),
            (State::Verifying(Goal::New), AbortWay::Reopen, verify_old),
            (held, AbortWay::Reopen, verify_old),
        ] {
            let closed = Target {
                gate_epoch: Some(GateEpoch(8)),
                ..at(state, OnFailure::Rollback)
            };
            assert_eq!(
                step(&closed, abort(way)).unwrap().state,
                then,
                "{state:?} {way:?}"
            );
        }
    }

    #[test]
    fn neither_a_pause_nor_a_skip_leaves_a_closed_gate_behind() {
        for state in STATES {
            let before = Target {
                gate_epoch: Some(GateEpoch(8)),
                ..at(state, OnFailure::Rollback)
            };
            for event in [Event::PauseRequested, Event::SkipRequested("x".into())] {
                if let Ok(after) = step(&before, event.clone()) {
                    assert!(!before.is_fenced() && !after.is_fenced(), "{state:?} + {event:?}");
                    assert!(after.state.is_resting(), "{state:?} + {event:?}");
                }
            }
        }
    }

    #[test]
    fn a_release_by_hand_is_respected_while_the_target_is_held() {
        let held = at(State::Held(HeldAt::Fenced), OnFailure::Rollback);
        let released = step(&held, Event::GateFoundOpen("x".into())).unwrap();
        assert_eq!(released.state, State::Held(HeldAt::ReleasedByHand));
    }

    #[test]
    fn a_failed_migration_ends_rolled_back_only_after_verification() {
        let mut target = at(State::Migrating, OnFailure::Rollback);
        let failed = Event::MigrationFailed {
            damage: Damage::Clean,
            reason: "syntax error".into(),
        };
        for (event, state) in [
            (failed, State::RollingBack),
            (Event::Reverted, State::Verifying(Goal::Restored)),
            (Event::Verified, State::Opening(Goal::Restored)),
            (Event::Opened, State::RolledBack),
        ] {
            target = step(&target, event).unwrap();
            assert_eq!(target.state, state);
            assert_eq!(target.reason, "syntax error", "the reason stays to the end");
        }
    }

    #[test]
    fn a_renewed_fence_never_leaves_an_old_verification_standing() {
        for state in STATES {
            if let Ok(after) = step(&at(state, OnFailure::Rollback), Event::FenceRenewed) {
                assert!(!matches!(after.state, State::Opening(_)), "{state:?}");
            }
        }
    }
}
