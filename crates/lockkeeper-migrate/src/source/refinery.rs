//! refinery: `V1__create_users.sql`, up only. `U2__late.sql` is no undo but a migration that may come late.

use std::sync::LazyLock;

use regex::Regex;

use super::files::{Entry, FileText, read_with_directives};
use super::migration::{MigrationKind, Script};
use super::pairs::{Pairs, number};
use super::transaction::FileRule;
use super::{Context, Direction, Found, Layout, Listing, Migration, Reach, Reader, Skipped, SourceError};
use crate::dialect::Dialect;

static FILE_NAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^([UV])([0-9]+(?:\.[0-9]+)?)__(\w+)\.(?:sql|rs)$").expect("the pattern is a constant")
});

/// Newer releases of the tool know it, on any line.
static NO_TRANSACTION: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^-{2,}\s?refinery:noTransaction$").expect("the pattern is a constant"));

/// Reads refinery's directories.
#[derive(Debug, Clone, Copy)]
pub(super) struct RefineryReader;

/// Whether refinery would run the file.
pub(super) fn is_name(file_name: &str) -> bool {
    FILE_NAME.is_match(file_name)
}

impl Reader for RefineryReader {
    fn layout(&self) -> Layout {
        Layout::Refinery
    }

    fn reach(&self) -> Reach {
        Reach::All
    }

    fn read(&self, listing: &Listing, context: &Context<'_>) -> Result<Found, SourceError> {
        let mut pairs = Pairs::<u64>::new();
        let mut found = Found::default();
        for entry in &listing.entries {
            match FILE_NAME.captures(&entry.name) {
                Some(parts) => {
                    let version = number::<i64>(&parts[2], entry, self.layout())?.unsigned_abs();
                    pairs.add(version, Direction::Up, entry, &parts[3])?;
                    found.migrations.push(migration(
                        version,
                        &parts[3],
                        kind(&parts[1]),
                        entry,
                        context.dialect,
                    )?);
                }
                None => found.skipped.push(Skipped::new(
                    &entry.path,
                    "its name is not of the form V1__name.sql",
                )),
            }
        }
        Ok(found)
    }
}

fn kind(prefix: &str) -> MigrationKind {
    if prefix == "U" {
        MigrationKind::Late
    } else {
        MigrationKind::Versioned
    }
}

fn migration(
    version: u64,
    name: &str,
    kind: MigrationKind,
    entry: &Entry,
    dialect: Dialect,
) -> Result<Migration, SourceError> {
    let FileText { text, mark } = read_with_directives(&entry.path, &NO_TRANSACTION)?;
    let rule = if text.lines().any(|line| NO_TRANSACTION.is_match(line)) {
        FileRule::AskedForNone {
            how: "it says refinery:noTransaction",
        }
    } else {
        FileRule::by_dialect(dialect)
    };
    let up = Script::of(&entry.path, text, dialect, &rule)?.marked(mark);
    Ok(Migration::new(
        version.to_string().into(),
        name.to_owned(),
        kind,
        up,
    ))
}

#[cfg(test)]
mod tests;
