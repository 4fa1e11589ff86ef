//! diesel: a folder for each version, with `up.sql`, `down.sql` and `metadata.toml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lockkeeper_core::version::SchemaVersion;
use serde::Deserialize;

use super::files::{Entry, line_of, read_text};
use super::migration::{MigrationKind, Script};
use super::transaction::FileRule;
use super::{Context, Direction, Found, Layout, Listing, Migration, Reach, Reader, Skipped, SourceError};
use crate::dialect::Dialect;

const UP: &str = "up.sql";
const DOWN: &str = "down.sql";
const METADATA: &str = "metadata.toml";

/// Reads diesel's directories.
#[derive(Debug, Clone, Copy)]
pub(super) struct DieselReader;

/// A version's folder.
#[derive(Debug)]
struct Folder<'a> {
    path: &'a Path,
    files: Vec<&'a Entry>,
}

impl Folder<'_> {
    fn file(&self, name: &str) -> Option<&Path> {
        let entry = self.files.iter().find(|e| e.name == name);
        entry.map(|e| e.path.as_path())
    }
}

/// `metadata.toml`, as far as it matters. A file without the key says no: so does diesel's own reader.
#[derive(Debug, Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    run_in_transaction: bool,
}

/// A folder's version and name: diesel takes the dashes out of what stands before the first `_`.
pub(super) fn parse(folder: &str) -> (SchemaVersion, &str) {
    let (version, name) = folder.split_once('_').unwrap_or((folder, ""));
    (version.replace('-', "").into(), name)
}

impl Reader for DieselReader {
    fn layout(&self) -> Layout {
        Layout::Diesel
    }

    fn reach(&self) -> Reach {
        Reach::Folders
    }

    fn read(&self, listing: &Listing, context: &Context<'_>) -> Result<Found, SourceError> {
        let mut folders = BTreeMap::<&Path, Folder<'_>>::new();
        let mut found = Found::default();
        for entry in &listing.entries {
            match entry.path.parent().filter(|_| self.reach().holds(entry.depth)) {
                Some(path) => folders
                    .entry(path)
                    .or_insert_with(|| Folder {
                        path,
                        files: Vec::new(),
                    })
                    .files
                    .push(entry),
                None => found
                    .skipped
                    .push(Skipped::new(&entry.path, "it lies in no folder of a version")),
            }
        }
        let mut versions = BTreeMap::<SchemaVersion, PathBuf>::new();
        for folder in folders.into_values() {
            let name = folder
                .path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if name.starts_with('.') {
                let hidden = |e: &&Entry| Skipped::new(&e.path, "its folder is hidden");
                found.skipped.extend(folder.files.iter().map(hidden));
                continue;
            }
            let (version, name) = parse(&name);
            if let Some(first) = versions.insert(version.clone(), folder.path.to_owned()) {
                return Err(SourceError::DuplicateVersion {
                    version,
                    direction: Direction::Up,
                    first,
                    second: folder.path.to_owned(),
                });
            }
            found
                .migrations
                .push(migration(version, name, &folder, context.dialect)?);
        }
        Ok(found)
    }
}

fn migration(
    version: SchemaVersion,
    name: &str,
    folder: &Folder<'_>,
    dialect: Dialect,
) -> Result<Migration, SourceError> {
    let rule = match metadata(folder)? {
        Some(Metadata {
            run_in_transaction: false,
        }) => FileRule::AskedForNone {
            how: "its metadata.toml does not say run_in_transaction = true",
        },
        Some(Metadata {
            run_in_transaction: true,
        })
        | None => FileRule::by_dialect(dialect),
    };
    let Some(up) = folder.file(UP) else {
        return Err(SourceError::MissingUp {
            path: folder.path.to_owned(),
            layout: Layout::Diesel,
        });
    };
    let script = |path: &Path| -> Result<Script, SourceError> {
        let text = read_text(path)?;
        if text.is_empty() {
            return Err(SourceError::Content {
                path: path.to_owned(),
                line: 1,
                problem: "it is empty, which diesel refuses to run; write at least a comment".to_owned(),
            });
        }
        Script::of(path, text, dialect, &rule)
    };
    let migration = Migration::new(version, name.to_owned(), MigrationKind::Versioned, script(up)?);
    migration.with_down(folder.file(DOWN).map(script))
}

fn metadata(folder: &Folder<'_>) -> Result<Option<Metadata>, SourceError> {
    let Some(path) = folder.file(METADATA) else {
        return Ok(None);
    };
    let text = read_text(path)?;
    let parsed = toml::from_str(&text).map_err(|error| SourceError::Content {
        path: path.to_owned(),
        line: error
            .span()
            .map_or(1, |span| line_of(&text.as_bytes()[..span.start])),
        problem: error.message().to_owned(),
    });
    parsed.map(Some)
}

#[cfg(test)]
mod tests;
