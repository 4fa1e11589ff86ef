//! What each target waits for right now, for people. In the leader's memory only: it is always about this moment.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use lockkeeper_core::id::TargetName;
use lockkeeper_core::time::WallTime;
use lockkeeper_migrate::db::{Blocker, Event, Notice, Observer};
use lockkeeper_migrate::engine::Progress;
use lockkeeper_migrate::plan::Step;
use tracing::{info, warn};

use crate::clock::wall_now;

/// One thing that is being waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// `agent`, `coordinator`, `session`, `prepared transaction`, `lock` or `database`.
    pub kind: String,
    /// Who.
    pub who: String,
    /// Since when, as far as this leader saw.
    pub since: WallTime,
    /// Everything known about it.
    pub detail: String,
}

/// What a target is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Doing {
    /// What it waits for.
    pub waits: Vec<Wait>,
    /// What happens next.
    pub next: String,
    /// When at the latest.
    pub at: Option<WallTime>,
    /// The migration that runs: its version.
    pub migration: Option<String>,
    /// The statement that runs.
    pub statement: Option<String>,
}

/// What all targets are doing.
#[derive(Debug, Clone, Default)]
pub struct Waits(Arc<Mutex<BTreeMap<TargetName, Doing>>>);

impl Waits {
    fn edit<R>(&self, target: &TargetName, edit: impl FnOnce(&mut Doing) -> R) -> R {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        edit(all.entry(target.clone()).or_default())
    }

    /// What a target is doing.
    #[must_use]
    pub fn of(&self, target: &TargetName) -> Doing {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(target)
            .cloned()
            .unwrap_or_default()
    }

    /// A new step begins: nothing is waited for yet.
    pub fn next(&self, target: &TargetName, next: impl Into<String>, at: Option<WallTime>) {
        self.edit(target, |doing| {
            *doing = Doing {
                next: next.into(),
                at,
                ..Doing::default()
            }
        });
    }

    /// Replaces what is waited for; what was there already keeps its `since`.
    pub fn set(&self, target: &TargetName, waits: Vec<(String, String, String)>) {
        self.edit(target, |doing| {
            let since = |kind: &str, who: &str| {
                let known = doing.waits.iter().find(|w| w.kind == kind && w.who == who);
                known.map_or_else(wall_now, |w| w.since)
            };
            doing.waits = waits
                .into_iter()
                .map(|(kind, who, detail)| Wait {
                    since: since(&kind, &who),
                    kind,
                    who,
                    detail,
                })
                .collect();
        });
    }

    /// The target is at rest.
    pub fn clear(&self, target: &TargetName) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(target);
    }
}

/// Feeds the database port's progress into [`Waits`] and the log, and keeps the server's notices.
#[derive(Debug)]
pub struct TargetObserver {
    target: TargetName,
    waits: Waits,
    notices: Mutex<Vec<Notice>>,
}

impl TargetObserver {
    /// An observer for one target.
    #[must_use]
    pub fn new(target: TargetName, waits: Waits) -> Self {
        Self {
            target,
            waits,
            notices: Mutex::default(),
        }
    }

    /// The notices so far; forgets them.
    pub fn take_notices(&self) -> Vec<Notice> {
        std::mem::take(&mut *self.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl TargetObserver {
    /// A line that an external migrator has printed.
    pub fn output(&self, line: &str) {
        info!(target = %self.target, line, "external migrator");
        self.waits.edit(&self.target, |doing| {
            doing.statement = Some(format!("external migrator: {line}"))
        });
    }
}

impl Observer for TargetObserver {
    fn event(&self, event: Event) {
        match event {
            Event::Statement { index, total, text } => {
                info!(target = %self.target, index, total, statement = text, "statement");
                self.waits.edit(&self.target, |doing| {
                    doing.waits.clear();
                    doing.statement = Some(format!("statement {index} of {total}: {text}"));
                });
            }
            Event::Waiting { what, blockers } => self.waits.set(&self.target, described(&what, &blockers)),
            Event::Ended(blocker) => warn!(target = %self.target, session = %blocker, "ended a session"),
            // Only rehearsals ask for it.
            Event::Measured(_) => {}
            Event::Notice(notice) => {
                info!(target = %self.target, severity = notice.severity, message = notice.message, "server notice");
                self.notices
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(notice);
            }
        }
    }
}

impl Progress for TargetObserver {
    fn started(&self, step: &Step, index: usize, total: usize) {
        let version = step.migration.version.to_string();
        info!(target = %self.target, version, direction = %step.direction, index, total, "migration");
        self.waits
            .edit(&self.target, |doing| doing.migration = Some(version));
    }
}

fn described(what: &str, blockers: &[Blocker]) -> Vec<(String, String, String)> {
    if blockers.is_empty() {
        return vec![(
            "lock".to_owned(),
            what.to_owned(),
            "nobody could be seen in the way".to_owned(),
        )];
    }
    let one = |b: &Blocker| (b.kind.clone(), b.id.clone(), format!("{what}: {b}"));
    blockers.iter().map(one).collect()
}
