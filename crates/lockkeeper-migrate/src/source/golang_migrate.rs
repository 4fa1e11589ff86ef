//! golang-migrate: `000001_create_users.up.sql`, versions as unsigned 64-bit numbers, either direction may lack.

use std::sync::LazyLock;

use lockkeeper_core::version::SchemaVersion;
use regex::Regex;

use super::migration::{MigrationKind, Script};
use super::pairs::{Named, Pair, Pairs, number};
use super::transaction::FileRule;
use super::{Context, Direction, Found, Layout, Listing, Migration, Reach, Reader, Skipped, SourceError};

/// The tool's own pattern. It takes any extension, so a left-over `1_x.up.sql.orig` is a second version 1 there
/// as well as here.
static FILE_NAME: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^([0-9]+)_(.*)\.(down|up)\.(.*)$").expect("the pattern is a constant"));

/// Reads golang-migrate's directories.
#[derive(Debug, Clone, Copy)]
pub(super) struct GolangMigrateReader;

/// What a file's name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileName {
    pub(super) version: String,
    pub(super) name: String,
    pub(super) direction: Direction,
    pub(super) extension: String,
}

pub(super) fn parse(file_name: &str) -> Option<FileName> {
    let parts = FILE_NAME.captures(file_name)?;
    Some(FileName {
        version: parts[1].to_owned(),
        name: parts[2].to_owned(),
        direction: if &parts[3] == "up" {
            Direction::Up
        } else {
            Direction::Down
        },
        extension: parts[4].to_owned(),
    })
}

impl Reader for GolangMigrateReader {
    fn layout(&self) -> Layout {
        Layout::GolangMigrate
    }

    fn reach(&self) -> Reach {
        Reach::Directory
    }

    fn read(&self, listing: &Listing, context: &Context<'_>) -> Result<Found, SourceError> {
        let mut pairs = Pairs::<u64>::new();
        let mut found = Found::default();
        for entry in listing.entries.iter().filter(|e| self.reach().holds(e.depth)) {
            match parse(&entry.name) {
                Some(name) => {
                    let version = number(&name.version, entry, self.layout())?;
                    pairs.add(version, name.direction, entry, &name.name)?;
                }
                None => found.skipped.push(Skipped::new(
                    &entry.path,
                    "its name is not of the form 1_name.up.sql",
                )),
            }
        }
        for (version, pair) in pairs.into_iter() {
            found.migrations.extend(migration(version, &pair, context)?);
        }
        Ok(found)
    }
}

fn migration(
    version: SchemaVersion,
    pair: &Pair,
    context: &Context<'_>,
) -> Result<Option<Migration>, SourceError> {
    let Some(known) = pair.up.as_ref().or(pair.down.as_ref()) else {
        return Ok(None);
    };
    let dialect = context.dialect;
    let rule = FileRule::by_dialect(dialect);
    let read = |file: &Named| Script::read(&file.path, dialect, &rule);
    let up = match &pair.up {
        Some(up) => read(up)?,
        None => Script::absent(&known.path),
    };
    let migration = Migration::new(version, known.name.clone(), MigrationKind::Versioned, up);
    migration.with_down(pair.down.as_ref().map(read)).map(Some)
}
