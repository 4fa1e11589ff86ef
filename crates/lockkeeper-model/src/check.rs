//! One run: a configuration, perhaps with a seeded bug, through stateright.

use std::fmt;

use lockkeeper_core::mutation::{Mutation, seed};
use lockkeeper_core::rollout::State;
use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::config::{Config, Time};
use crate::fleet::observe::Promise;
use crate::fleet::{Action, Fleet};

/// What stateright explores.
#[derive(Debug, Clone)]
pub struct Check {
    /// The run.
    pub config: Config,
    /// The seeded bug.
    pub mutation: Option<Mutation>,
}

/// What a run found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Different states.
    pub states: usize,
    /// Longest way to one that was tried first.
    pub depth: usize,
    /// The first promise that did not hold.
    pub violation: Option<Violation>,
}

/// A promise that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub promise: Promise,
    /// What was seen.
    pub seen: String,
    /// How it came to it.
    pub trace: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, after {} steps:", self.seen, self.trace.len())?;
        for (number, step) in self.trace.iter().enumerate() {
            writeln!(f, "  {:>3}  {step}", number + 1)?;
        }
        Ok(())
    }
}

impl Model for Check {
    type State = Fleet;
    type Action = Action;

    fn init_states(&self) -> Vec<Fleet> {
        seed(self.mutation);
        vec![Fleet::new(&self.config)]
    }

    fn actions(&self, fleet: &Fleet, actions: &mut Vec<Action>) {
        seed(self.mutation);
        if fleet.broken.is_none() {
            fleet.actions(&self.config, actions);
        }
    }

    fn next_state(&self, fleet: &Fleet, action: Action) -> Option<Fleet> {
        seed(self.mutation);
        Some(fleet.after(action, &self.config))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn holds(fleet: &Fleet, promise: Promise) -> bool {
            fleet
                .broken
                .as_ref()
                .is_none_or(|broken| broken.promise != promise)
        }
        vec![
            Property::always(Promise::Quiet.name(), |_, fleet| holds(fleet, Promise::Quiet)),
            Property::always(Promise::OneHand.name(), |_, fleet| holds(fleet, Promise::OneHand)),
            Property::always(Promise::Verified.name(), |_, fleet| {
                holds(fleet, Promise::Verified)
            }),
            Property::always(Promise::Once.name(), |_, fleet| holds(fleet, Promise::Once)),
            Property::always(Promise::Progress.name(), |check: &Self, fleet| {
                holds(fleet, Promise::Progress) && check.comes_to_rest(fleet)
            }),
            Property::always(Promise::NoSinglePoint.name(), |_, fleet| {
                holds(fleet, Promise::NoSinglePoint)
            }),
        ]
    }
}

impl Check {
    /// I5, where time does not count and so nothing is cut off by the end of it: when nothing can happen any more, the
    /// rollout has ended, or rests where a person decides, or no coordinator is left that could go on.
    fn comes_to_rest(&self, fleet: &Fleet) -> bool {
        let rests = fleet.progress().is_some_and(|target| target.state.is_resting());
        if rests || self.config.time != Time::Free || fleet.broken.is_some() {
            return true;
        }
        if fleet
            .coordinators
            .iter()
            .all(|coordinator| coordinator.session.is_none())
        {
            return true;
        }
        let mut actions = Vec::new();
        self.actions(fleet, &mut actions);
        !actions.is_empty()
    }

    /// Explores everything, or up to the first promise that does not hold.
    #[must_use]
    pub fn run(self, threads: usize) -> Found {
        let checker = self
            .checker()
            .threads(threads)
            .finish_when(HasDiscoveries::AnyFailures)
            .spawn_bfs()
            .join();
        let violation = checker.discoveries().into_iter().next().map(|(name, path)| {
            let last = path.last_state().clone();
            let stuck = || {
                let state: Option<State> = last.progress().map(|target| target.state);
                (
                    Promise::Progress,
                    format!("{name}: nothing can happen any more in {state:?}"),
                )
            };
            let broken = last
                .broken
                .as_ref()
                .map(|broken| (broken.promise, broken.seen.clone()));
            let (promise, seen) = broken.unwrap_or_else(stuck);
            let trace = path
                .into_actions()
                .iter()
                .map(|action| format!("{action:?}"))
                .collect();
            Violation { promise, seen, trace }
        });
        Found {
            states: checker.unique_state_count(),
            depth: checker.max_depth(),
            violation,
        }
    }
}
