//! The rules that only a fleet's migrator can know.

use std::cmp::Ordering;

use lockkeeper_core::version::SchemaVersion;
use lockkeeper_migrate::dialect::Dialect;
use lockkeeper_migrate::online::{self, Taken};
use lockkeeper_migrate::source::{Migration, MigrationSet};

use super::{Finding, Level, Options, Rule};

pub(super) fn findings(
    set: &MigrationSet,
    dialect: Dialect,
    migration: &Migration,
    options: &Options,
) -> Vec<Finding> {
    let finding = |line, level, rule, message, help: &str| Finding {
        path: migration.up.path.clone(),
        line,
        level,
        rule,
        message,
        help: Some(help.to_owned()),
        silenced: None,
    };
    let mut found = Vec::new();
    if !is_reversible(migration) {
        found.push(finding(
            1,
            Level::Warning,
            Rule::Irreversible,
            format!("version {} cannot be taken back", migration.version),
            "write its down migration, or say why there is none; a rollout that fails can then only be held",
        ));
    }
    for obstacle in online::obstacles(dialect, &migration.up.statements) {
        found.push(finding(
            obstacle.line,
            Level::Note,
            Rule::NeedsFence,
            format!("needs a fence: {}", obstacle.why),
            "stop the writers while it runs, as a rollout does; what else the file holds may run online in a file of its own",
        ));
    }
    for taken in online::contracts(dialect, &migration.up.statements) {
        found.extend(
            contract(set, migration, &taken, options.oldest_in_use.as_ref()).map(|(level, message)| {
                finding(taken.line, level, Rule::ContractStep, message, CONTRACT_HELP)
            }),
        );
    }
    found
}

const CONTRACT_HELP: &str = "first roll out a release that does without it everywhere, then take it away in a \
                             migration of its own";

/// An empty down after an up that does something takes nothing back.
fn is_reversible(migration: &Migration) -> bool {
    match &migration.down {
        Some(down) => !down.statements.is_empty() || migration.up.statements.is_empty(),
        None => false,
    }
}

/// A release knows the schema that it was written for: what a later version takes away, it may still need.
fn contract(
    set: &MigrationSet,
    migration: &Migration,
    taken: &Taken,
    oldest_in_use: Option<&SchemaVersion>,
) -> Option<(Level, String)> {
    let what = &taken.what;
    let Some(oldest) = oldest_in_use else {
        return Some((
            Level::Warning,
            format!("{what}: a release that still needs it fails"),
        ));
    };
    match set.order.compare(&migration.version, oldest) {
        Some(Ordering::Less | Ordering::Equal) => None,
        Some(Ordering::Greater) | None => Some((
            Level::Error,
            format!("{what}: a release written for version {oldest} is in use and may still need it"),
        )),
    }
}
