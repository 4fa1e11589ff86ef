//! Migration directories, read unchanged: which files there are, in which order, and how each may run.
//!
//! | module | what it holds |
//! |---|---|
//! | [`layout`] | the names of the layouts |
//! | [`migration`] | what a directory becomes: set, migration, script |
//! | [`checksum`] | the checksum that line ends and a byte order mark do not change |
//! | [`transaction`] | whether a script runs in one transaction, and if not, why |
//! | [`options`] | what is asked of a source beside its directories |
//! | `pop`, `golang_migrate`, `goose`, `dbmate`, `sqlx`, `refinery`, `flyway`, `diesel` | one reader per layout, behind [`Reader`] |
//! | `flyway_conf`, `placeholders`, `interpolate` | Flyway's sidecars and placeholders; goose's variables |
//! | `go_template` | pop's templates, as far as they follow from the dialect |
//! | `pairs` | up and down files of one version |
//! | `section` | the part of a file that is one direction's script |
//! | `substitution` | values that are run where names are shown |
//! | `programs` | migrations that only the origin tool can run |
//! | [`verify_scripts`] | the scripts in `verify/` |
//! | [`error`] | what can be wrong with a directory |
//! | `allow_list` | which applied files may have been changed since |
//! | `detect` | `--layout auto`: decides only when one layout alone could be meant |
//! | `files` | bounded walking and reading |
//!
//! Readers know file names and contents, never a database. Nothing that looks like a migration is left out in
//! silence: what a layout ignores is listed in [`MigrationSet::skipped`], and what another layout would run is
//! an error.

mod allow_list;
pub mod checksum;
mod dbmate;
mod detect;
mod diesel;
pub mod error;
mod files;
mod flyway;
mod flyway_conf;
mod go_template;
mod golang_migrate;
mod goose;
mod interpolate;
pub mod layout;
pub mod migration;
pub mod options;
mod pairs;
mod placeholders;
mod pop;
mod programs;
mod refinery;
mod section;
mod sqlx;
mod substitution;
#[cfg(test)]
mod test_support;
pub mod transaction;
pub mod verify_scripts;

use std::path::PathBuf;
use std::sync::Arc;

pub use checksum::Checksum;
pub use error::SourceError;
pub use files::{Listing, Reach};
pub use layout::{Layout, LayoutError};
pub use migration::{Direction, Migration, MigrationKind, MigrationSet, Script, Skipped};
pub use options::{Environment, OutOfOrder, Programs, SourceOptions};
pub use transaction::TransactionMode;
pub use verify_scripts::{VerifyScript, load_verify};

use crate::dialect::Dialect;

/// Reads the directories of one layout.
pub trait Reader {
    /// The layout that this reader reads.
    fn layout(&self) -> Layout;

    /// How far below a directory its files lie.
    fn reach(&self) -> Reach;

    /// Makes migrations of the listed files, in any order.
    ///
    /// # Errors
    ///
    /// The first file or version that the layout, or lockkeeper, cannot take.
    fn read(&self, listing: &Listing, context: &Context<'_>) -> Result<Found, SourceError>;
}

/// What a [`Reader`] is told beside the files.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The dialect of the target.
    pub dialect: Dialect,
    /// What was asked of the source.
    pub options: &'a SourceOptions,
}

/// What a [`Reader`] found.
#[derive(Debug, Default)]
pub struct Found {
    /// The migrations, in any order.
    pub migrations: Vec<Migration>,
    /// Migrations that stand for all versions up to theirs, on a database without any.
    pub baselines: Vec<Migration>,
    /// The files that are none, or are for another dialect.
    pub skipped: Vec<Skipped>,
}

/// Loads all migrations of `dirs` for `dialect`; `None` as layout means `auto`.
///
/// # Errors
///
/// Anything that makes the set doubtful: see [`SourceError`]. Nothing is returned in part.
pub fn load(dirs: &[PathBuf], layout: Option<Layout>, dialect: Dialect) -> Result<MigrationSet, SourceError> {
    let options = SourceOptions {
        layout,
        ..SourceOptions::default()
    };
    load_with(dirs, &options, dialect)
}

/// The same, with everything that can be asked of a source.
///
/// # Errors
///
/// As for [`load`].
pub fn load_with(
    dirs: &[PathBuf],
    options: &SourceOptions,
    dialect: Dialect,
) -> Result<MigrationSet, SourceError> {
    let reach = options
        .layout
        .map_or(Reach::All, |layout| layout.reader().reach());
    let mut listing = Listing::of(dirs, reach)?;
    let layout = match options.layout {
        Some(layout) => layout,
        None => detect::detect(&listing)?,
    };
    let programs = programs::take_out(&mut listing, layout, options.programs)?;
    let mut found = layout.reader().read(&listing, &Context { dialect, options })?;
    detect::refuse_other_layouts(&listing, layout)?;
    found.skipped.extend(programs);
    if found.migrations.is_empty() && found.baselines.is_empty() {
        return Err(SourceError::Nothing {
            dirs: dirs.to_vec(),
            layout,
            dialect,
            skipped: found.skipped.len(),
        });
    }
    let set = in_order(layout, found, options.out_of_order);
    Ok(MigrationSet {
        accepted: allow_list::read(dirs)?,
        ..set
    })
}

fn in_order(layout: Layout, found: Found, out_of_order: OutOfOrder) -> MigrationSet {
    let order = layout.order();
    // Readers admit only versions of their order's form, so that every comparison has an answer.
    let sorted = |mut migrations: Vec<Migration>| {
        migrations.sort_by(|a, b| {
            order
                .compare(&a.version, &b.version)
                .unwrap_or_else(|| a.version.cmp(&b.version))
        });
        migrations.into_iter().map(Arc::new).collect::<Vec<_>>()
    };
    let mut skipped = found.skipped;
    skipped.sort_by(|a, b| a.path.cmp(&b.path));
    MigrationSet {
        layout,
        order,
        migrations: sorted(found.migrations),
        baselines: sorted(found.baselines),
        out_of_order,
        skipped,
        accepted: Vec::new(),
    }
}

#[cfg(test)]
mod bad_input_tests;
#[cfg(test)]
mod tests;
