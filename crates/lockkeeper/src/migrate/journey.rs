//! The way that a change goes: its steps, and the version after each of them.

use std::cmp::Ordering;

use lockkeeper_core::version::{SchemaVersion, VersionOrder};
use lockkeeper_migrate::plan::{Plan, Step};
use lockkeeper_migrate::source::Direction;
use serde::Serialize;

/// Which way a change goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Course {
    Up,
    Down,
    /// Down, and up again to where it was.
    Redo,
}

/// A plan, and where it leads on the way.
#[derive(Debug)]
pub(super) struct Journey {
    pub(super) course: Course,
    pub(super) plan: Plan,
    /// The version after the last step down.
    lowest: Option<SchemaVersion>,
    /// The order of the layout's versions.
    order: VersionOrder,
}

impl Journey {
    /// The way up or down that was planned.
    pub(super) fn straight(course: Course, plan: Plan, order: VersionOrder) -> Self {
        let lowest = plan.to.clone();
        Self {
            course,
            plan,
            lowest,
            order,
        }
    }

    /// The way down that was planned, and the same way back up.
    pub(super) fn there_and_back(down: Plan, order: VersionOrder) -> Self {
        let up = down.steps.iter().rev().map(|step| Step {
            direction: Direction::Up,
            migration: step.migration.clone(),
        });
        let steps = down.steps.iter().cloned().chain(up).collect();
        let plan = Plan {
            steps,
            to: down.from.clone(),
            from: down.from,
            amendments: down.amendments,
        };
        Self {
            course: Course::Redo,
            plan,
            lowest: down.to,
            order,
        }
    }

    /// How many migrations it concerns: going there and back is one.
    pub(super) fn migrations(&self) -> usize {
        match self.course {
            Course::Up | Course::Down => self.plan.steps.len(),
            Course::Redo => self.plan.steps.len() / 2,
        }
    }

    /// The version when this many steps are done.
    pub(super) fn after(&self, done: usize) -> Option<&SchemaVersion> {
        let Some(last) = done.checked_sub(1).and_then(|last| self.plan.steps.get(last)) else {
            return self.plan.from.as_ref();
        };
        match (last.direction, self.plan.steps.get(done)) {
            (Direction::Up, _) => self.highest(done),
            // Going down, the next step's version is the one that still stands.
            (Direction::Down, Some(next)) if next.direction == Direction::Down => {
                Some(&next.migration.version)
            }
            (Direction::Down, _) => self.lowest.as_ref(),
        }
    }

    /// The highest version that stands when this many steps are done, the last of them upwards. Repeatable
    /// migrations change no version, and late ones lie below it.
    fn highest(&self, done: usize) -> Option<&SchemaVersion> {
        let start = match self.course {
            Course::Up => self.plan.from.as_ref(),
            Course::Down | Course::Redo => self.lowest.as_ref(),
        };
        let ups = self.plan.steps[..done]
            .iter()
            .filter(|step| step.direction == Direction::Up && !step.migration.kind.is_repeatable());
        ups.map(|step| &step.migration.version)
            .fold(start, |highest, version| match highest {
                Some(highest) if self.order.compare(highest, version) == Some(Ordering::Greater) => {
                    Some(highest)
                }
                Some(_) | None => Some(version),
            })
    }
}
