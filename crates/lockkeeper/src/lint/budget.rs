//! Is it over the fence budget, by the rehearsal's times?

use std::collections::BTreeMap;
use std::time::Duration;

use lockkeeper_core::version::SchemaVersion;
use lockkeeper_migrate::dialect::Dialect;
use lockkeeper_migrate::online;
use lockkeeper_migrate::source::Migration;

use super::{Finding, Level, Rule};

/// How long each migration's way up took in a rehearsal, by its version and its up file's checksum: a file that was
/// edited since was not rehearsed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rehearsed(pub(crate) BTreeMap<(SchemaVersion, String), Duration>);

impl Rehearsed {
    fn time_of(&self, migration: &Migration) -> Option<Duration> {
        let key = (migration.version.clone(), migration.up.checksum.0.clone());
        self.0.get(&key).copied()
    }
}

/// How long writes may be refused, and what a rehearsal says of it.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    pub(crate) limit: Duration,
    pub(crate) rehearsed: Rehearsed,
}

impl Budget {
    /// What one migration alone costs. What runs online costs nothing.
    pub(super) fn finding(&self, dialect: Dialect, migration: &Migration) -> Option<Finding> {
        if !needs_fence(dialect, migration) {
            return None;
        }
        match self.rehearsed.time_of(migration) {
            None => Some(finding(
                migration,
                Level::Note,
                Rule::NotRehearsed,
                format!(
                    "the rehearsal does not know version {} as its file is now",
                    migration.version
                ),
                "rehearse it, so that its time is known",
            )),
            Some(took) if took > self.limit => Some(finding(
                migration,
                Level::Error,
                Rule::OverBudget,
                format!(
                    "took {} ms in the rehearsal, over the fence budget of {} ms",
                    took.as_millis(),
                    self.limit.as_millis()
                ),
                HELP,
            )),
            Some(_) => None,
        }
    }

    /// What all of them cost, behind one fence. Said when no single one is over the budget.
    pub(super) fn total(&self, dialect: Dialect, migrations: &[&Migration]) -> Option<Finding> {
        let fenced = migrations
            .iter()
            .filter(|migration| needs_fence(dialect, migration));
        let times: Vec<Duration> = fenced
            .filter_map(|migration| self.rehearsed.time_of(migration))
            .collect();
        let total: Duration = times.iter().sum();
        let last = migrations.last()?;
        if total <= self.limit || times.iter().any(|took| *took > self.limit) {
            return None;
        }
        Some(finding(
            last,
            Level::Error,
            Rule::OverBudget,
            format!(
                "all that need a fence took {} ms together in the rehearsal, over the fence budget of {} ms",
                total.as_millis(),
                self.limit.as_millis()
            ),
            HELP,
        ))
    }
}

const HELP: &str =
    "make it in smaller steps or online, roll out to fewer versions at once, or raise the budget";

fn needs_fence(dialect: Dialect, migration: &Migration) -> bool {
    !online::obstacles(dialect, &migration.up.statements).is_empty()
}

fn finding(migration: &Migration, level: Level, rule: Rule, message: String, help: &str) -> Finding {
    Finding {
        path: migration.up.path.clone(),
        line: 1,
        level,
        rule,
        message,
        help: Some(help.to_owned()),
        silenced: None,
    }
}
