//! golang-migrate: `000001_create_users.up.sql`, versions as unsigned 64-bit numbers, either direction may lack.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use lockkeeper_core::version::SchemaVersion;
use regex::Regex;

use super::files::Entry;
use super::migration::Script;
use super::transaction::FileRule;
use super::{Direction, Found, Layout, Listing, Migration, Reader, Skipped, SourceError};
use crate::dialect::Dialect;

/// The tool's own pattern. It takes any extension, so a left-over `1_x.up.sql.orig` is a second version 1 there
/// as well as here.
static FILE_NAME: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^([0-9]+)_(.*)\.(down|up)\.(.*)$").expect("the pattern is a constant"));

/// Extensions of programs. The tool would send their text to the server.
const PROGRAMS: [&str; 7] = ["go", "rs", "java", "kt", "py", "js", "ts"];

/// Reads golang-migrate's directories.
#[derive(Debug, Clone, Copy)]
pub struct GolangMigrateReader;

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

#[derive(Debug, Default)]
struct Pair {
    up: Option<(PathBuf, String)>,
    down: Option<(PathBuf, String)>,
}

impl Reader for GolangMigrateReader {
    fn layout(&self) -> Layout {
        Layout::GolangMigrate
    }

    fn read(&self, listing: &Listing, dialect: Dialect) -> Result<Found, SourceError> {
        let mut pairs = BTreeMap::<u64, Pair>::new();
        let mut found = Found::default();
        for entry in listing.entries.iter().filter(|e| e.depth == 0) {
            match parse(&entry.name) {
                Some(name) => add(&mut pairs, entry, name)?,
                None => found.skipped.push(Skipped::new(
                    &entry.path,
                    "its name is not of the form 1_name.up.sql",
                )),
            }
        }
        for (version, pair) in pairs {
            found.migrations.extend(migration(version, pair, dialect)?);
        }
        Ok(found)
    }
}

fn add(pairs: &mut BTreeMap<u64, Pair>, entry: &Entry, name: FileName) -> Result<(), SourceError> {
    let path = entry.path.clone();
    if PROGRAMS.contains(&name.extension.as_str()) {
        return Err(SourceError::NotSql {
            path,
            language: name.extension,
        });
    }
    let Ok(version) = name.version.parse::<u64>() else {
        let (version, layout) = (name.version, Layout::GolangMigrate);
        return Err(SourceError::VersionTooLarge {
            path,
            version,
            layout,
        });
    };
    let pair = pairs.entry(version).or_default();
    let place = match name.direction {
        Direction::Up => &mut pair.up,
        Direction::Down => &mut pair.down,
    };
    if let Some((first, _)) = place {
        return Err(SourceError::DuplicateVersion {
            version: version.to_string().into(),
            direction: name.direction,
            first: first.clone(),
            second: path,
        });
    }
    *place = Some((path, name.name));
    Ok(())
}

fn migration(version: u64, pair: Pair, dialect: Dialect) -> Result<Option<Migration>, SourceError> {
    let Some((known, name)) = pair.up.as_ref().or(pair.down.as_ref()) else {
        return Ok(None);
    };
    let rule = FileRule::by_dialect(dialect);
    let read = |file: &Option<(PathBuf, String)>| {
        file.as_ref()
            .map(|(path, _)| Script::read(path, dialect, &rule))
            .transpose()
    };
    Ok(Some(Migration {
        version: SchemaVersion(version.to_string()),
        name: name.clone(),
        up: read(&pair.up)?.unwrap_or_else(|| Script::absent(known)),
        down: read(&pair.down)?,
    }))
}
