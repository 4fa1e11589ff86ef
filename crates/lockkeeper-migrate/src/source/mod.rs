//! Migration directories, read unchanged: which files there are, in which order, and how each may run.
//!
//! | module | what it holds |
//! |---|---|
//! | [`layout`] | the names of the layouts |
//! | [`migration`] | what a directory becomes: set, migration, script |
//! | [`checksum`] | the checksum that line ends and a byte order mark do not change |
//! | [`transaction`] | whether a script runs in one transaction, and if not, why |
//! | [`pop`], [`golang_migrate`] | one reader per layout, behind [`Reader`] |
//! | [`verify_scripts`] | the scripts in `verify/` |
//! | [`error`] | what can be wrong with a directory |
//! | `detect` | `--layout auto`: decides only when one layout alone could be meant |
//! | `files` | bounded walking and reading |
//!
//! Readers know file names and contents, never a database. Nothing that looks like a migration is left out in
//! silence: what a layout ignores is listed in [`MigrationSet::skipped`], and what another layout would run is
//! an error.

pub mod checksum;
mod detect;
pub mod error;
mod files;
pub mod golang_migrate;
pub mod layout;
pub mod migration;
pub mod pop;
#[cfg(test)]
mod test_support;
pub mod transaction;
pub mod verify_scripts;

use std::path::PathBuf;
use std::sync::Arc;

pub use checksum::Checksum;
pub use error::SourceError;
pub use files::Listing;
pub use layout::{Layout, LayoutError};
pub use migration::{Direction, Migration, MigrationSet, Script, Skipped};
pub use transaction::TransactionMode;
pub use verify_scripts::{VerifyScript, load_verify};

use crate::dialect::Dialect;

/// Reads the directories of one layout.
pub trait Reader {
    /// The layout that this reader reads.
    fn layout(&self) -> Layout;

    /// Makes migrations of the listed files, in any order.
    ///
    /// # Errors
    ///
    /// The first file or version that the layout, or lockkeeper, cannot take.
    fn read(&self, listing: &Listing, dialect: Dialect) -> Result<Found, SourceError>;
}

/// What a [`Reader`] found.
#[derive(Debug, Default)]
pub struct Found {
    /// The migrations, in any order.
    pub migrations: Vec<Migration>,
    /// The files that are none, or are for another dialect.
    pub skipped: Vec<Skipped>,
}

/// Loads all migrations of `dirs` for `dialect`; `None` as layout means `auto`.
///
/// # Errors
///
/// Anything that makes the set doubtful: see [`SourceError`]. Nothing is returned in part.
pub fn load(dirs: &[PathBuf], layout: Option<Layout>, dialect: Dialect) -> Result<MigrationSet, SourceError> {
    let listing = match layout {
        Some(Layout::GolangMigrate) => Listing::flat(dirs)?,
        Some(Layout::Pop) | None => Listing::recursive(dirs)?,
    };
    let layout = match layout {
        Some(layout) => layout,
        None => detect::detect(&listing)?,
    };
    let found = layout.reader().read(&listing, dialect)?;
    detect::refuse_other_layouts(&listing, layout)?;
    if found.migrations.is_empty() {
        return Err(SourceError::Nothing {
            dirs: dirs.to_vec(),
            layout,
            dialect,
            skipped: found.skipped.len(),
        });
    }
    Ok(in_order(layout, found))
}

fn in_order(layout: Layout, found: Found) -> MigrationSet {
    let order = layout.order();
    let Found {
        mut migrations,
        mut skipped,
    } = found;
    // Readers admit only versions of their order's form, so that every comparison has an answer.
    migrations.sort_by(|a, b| {
        order
            .compare(&a.version, &b.version)
            .unwrap_or_else(|| a.version.cmp(&b.version))
    });
    skipped.sort_by(|a, b| a.path.cmp(&b.path));
    MigrationSet {
        layout,
        order,
        migrations: migrations.into_iter().map(Arc::new).collect(),
        skipped,
    }
}

#[cfg(test)]
mod tests;
