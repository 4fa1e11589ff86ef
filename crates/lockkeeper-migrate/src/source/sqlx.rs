//! sqlx: `1_create_users.sql`, or `1_create_users.up.sql` with `1_create_users.down.sql`.

use std::path::Path;
use std::sync::LazyLock;

use lockkeeper_core::version::SchemaVersion;
use regex::Regex;

use super::files::{Entry, FileText, read_with_directives};
use super::migration::{MigrationKind, Script};
use super::pairs::{Pair, Pairs, number};
use super::transaction::FileRule;
use super::{Context, Direction, Found, Layout, Listing, Migration, Reach, Reader, Skipped, SourceError};
use crate::dialect::Dialect;

/// The tool takes it for a directive as the file's first bytes only; in any other place it is a comment.
const NO_TRANSACTION: &str = "-- no-transaction";

static DIRECTIVE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("^-- no-transaction").expect("the pattern is a constant"));

/// Reads sqlx' directories.
#[derive(Debug, Clone, Copy)]
pub(super) struct SqlxReader;

/// What a file's name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileName<'a> {
    /// What stands before the first `_`; the tool stops at one that is no number.
    pub(super) version: &'a str,
    pub(super) name: &'a str,
    pub(super) direction: Direction,
}

pub(super) fn parse(file_name: &str) -> Option<FileName<'_>> {
    let (version, rest) = file_name.split_once('_')?;
    let stem = rest.strip_suffix(".sql")?;
    let (name, direction) = match stem.strip_suffix(".down") {
        Some(name) => (name, Direction::Down),
        None => (stem.strip_suffix(".up").unwrap_or(stem), Direction::Up),
    };
    Some(FileName {
        version,
        name,
        direction,
    })
}

impl Reader for SqlxReader {
    fn layout(&self) -> Layout {
        Layout::Sqlx
    }

    fn reach(&self) -> Reach {
        Reach::Directory
    }

    fn read(&self, listing: &Listing, context: &Context<'_>) -> Result<Found, SourceError> {
        let mut pairs = Pairs::<u64>::new();
        let mut found = Found::default();
        for entry in listing.entries.iter().filter(|e| self.reach().holds(e.depth)) {
            match parse(&entry.name) {
                Some(name) => pairs.add(version(&name, entry)?, name.direction, entry, name.name)?,
                None => found.skipped.push(Skipped::new(
                    &entry.path,
                    "its name is not of the form 1_name.sql",
                )),
            }
        }
        for (version, pair) in pairs.into_iter() {
            match migration(version, &pair, context)? {
                Some(migration) => found.migrations.push(migration),
                None => found.skipped.extend(
                    pair.down
                        .map(|down| Skipped::new(&down.path, "its version has no up migration")),
                ),
            }
        }
        Ok(found)
    }
}

/// The version, which the tool keeps in a signed number.
fn version(name: &FileName<'_>, entry: &Entry) -> Result<u64, SourceError> {
    number::<i64>(name.version, entry, Layout::Sqlx).map(i64::unsigned_abs)
}

fn migration(
    version: SchemaVersion,
    pair: &Pair,
    context: &Context<'_>,
) -> Result<Option<Migration>, SourceError> {
    let Some(up) = &pair.up else { return Ok(None) };
    let down = pair.down.as_ref().map(|down| read(&down.path, context.dialect));
    let script = read(&up.path, context.dialect)?;
    let migration = Migration::new(version, up.name.clone(), MigrationKind::Versioned, script);
    migration.with_down(down).map(Some)
}

fn read(path: &Path, dialect: Dialect) -> Result<Script, SourceError> {
    let FileText { text, mark } = read_with_directives(path, &DIRECTIVE)?;
    let asks = text.starts_with(NO_TRANSACTION);
    let rule = match dialect {
        // The tool's driver for MySQL does not look at the directive.
        Dialect::MySql => FileRule::by_dialect(dialect),
        Dialect::Postgres | Dialect::Sqlite if asks => FileRule::AskedForNone {
            how: "its first line says no-transaction",
        },
        Dialect::Postgres | Dialect::Sqlite => FileRule::by_dialect(dialect),
    };
    Ok(Script::of(path, text, dialect, &rule)?.marked(mark))
}

#[cfg(test)]
mod tests;
