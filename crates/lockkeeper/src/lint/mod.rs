//! What is worth a second look in a migration, before it runs.
//!
//! | module | what it holds |
//! |---|---|
//! | `finding` | a finding, its rule and how bad it is |
//! | `own` | the rules that only a fleet's migrator can know |
//! | `budget` | is it over the fence budget, by the rehearsal's times? |
//! | `postgres` | PostgreSQL's rules, from the library squawk |
//! | `silence` | rules that the file itself silences, with a reason |
//!
//! Pure: migrations in, findings out.

mod budget;
mod finding;
mod own;
mod postgres;
mod silence;
#[cfg(test)]
mod tests;

pub(crate) use budget::{Budget, Rehearsed};
pub(crate) use finding::{Finding, Level, Rule};

use lockkeeper_core::version::SchemaVersion;
use lockkeeper_migrate::dialect::Dialect;
use lockkeeper_migrate::source::{Migration, MigrationSet};

use self::silence::Silences;

/// What the findings depend on beside the files.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// The schema version that the oldest release in use was written for; `None`: not told.
    pub(crate) oldest_in_use: Option<SchemaVersion>,
    pub(crate) budget: Option<Budget>,
}

/// Everything found in `migrations`, which are of `set`, by file and line.
pub(crate) fn lint(
    set: &MigrationSet,
    dialect: Dialect,
    migrations: &[&Migration],
    options: &Options,
) -> Vec<Finding> {
    let of_one = |migration: &&Migration| {
        let mut found = own::findings(set, dialect, migration, options);
        if dialect == Dialect::Postgres {
            found.extend(postgres::findings(&migration.up));
        }
        if let Some(budget) = &options.budget {
            found.extend(budget.finding(dialect, migration));
        }
        let mut found = Silences::of(dialect, &migration.up).apply(found);
        found.sort_by_key(|finding| finding.line);
        found
    };
    let mut found: Vec<Finding> = migrations.iter().flat_map(of_one).collect();
    if let Some(budget) = &options.budget {
        found.extend(budget.total(dialect, migrations));
    }
    found
}
