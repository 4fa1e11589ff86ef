//! Flyway: `V1.2__create_users.sql`, `U1.2__create_users.sql` that undoes it, `R__views.sql` that runs again when
//! it changed, and `B3__all.sql` that stands for everything up to version 3 on an empty database.

use std::collections::{BTreeMap, btree_map as map};
use std::path::PathBuf;
use std::sync::LazyLock;

use lockkeeper_core::version::SchemaVersion;
use regex::Regex;

use super::files::{Entry, read_text};
use super::flyway_conf::{Execution, Placeholders, Sidecar, Transaction};
use super::migration::{MigrationKind, Script};
use super::transaction::FileRule;
use super::{
    Context, Direction, Found, Layout, Listing, Migration, Programs, Reach, Reader, Skipped, SourceError,
    placeholders,
};
use crate::dialect::Dialect;

static VERSIONED_NAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^([VUB])([0-9]+(?:[._][0-9]+)*)(?:__(.*))?\.sql$").expect("the pattern is a constant")
});

static REPEATABLE_NAME: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^R__(.*)\.sql$").expect("the pattern is a constant"));

/// The events of Flyway that a file can be named after. Those of other commands than `migrate` and `undo` do
/// not matter here.
static CALLBACK_NAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"^(?:before|after)(?:Each)?(?:Migrate|Undo|Versioned|Repeatables|Connect)(?:Applied|Operation|Statement)?(?:Error)?(?:__.*)?\.sql$|^(?:before)?[cC]reateSchema(?:__.*)?\.sql$",
    )
    .expect("the pattern is a constant")
});

/// Reads Flyway's directories.
#[derive(Debug, Clone, Copy)]
pub(super) struct FlywayReader;

/// What a migration's prefix says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prefix {
    Versioned,
    Undo,
    Repeatable,
    Baseline,
}

/// What a file's name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileName {
    pub(super) prefix: Prefix,
    pub(super) version: SchemaVersion,
    pub(super) name: String,
}

pub(super) fn parse(file_name: &str) -> Option<FileName> {
    if let Some(parts) = REPEATABLE_NAME.captures(file_name) {
        return Some(FileName {
            prefix: Prefix::Repeatable,
            version: SchemaVersion::repeatable(&parts[1]),
            name: parts[1].to_owned(),
        });
    }
    let parts = VERSIONED_NAME.captures(file_name)?;
    Some(FileName {
        prefix: match &parts[1] {
            "V" => Prefix::Versioned,
            "U" => Prefix::Undo,
            _ => Prefix::Baseline,
        },
        // Flyway takes an underscore inside a version for a dot.
        version: parts[2].replace('_', ".").into(),
        name: parts.get(3).map_or("", |m| m.as_str()).to_owned(),
    })
}

/// Whether Flyway runs the file around migrations.
pub(super) fn is_callback(file_name: &str) -> bool {
    CALLBACK_NAME.is_match(file_name)
}

impl Reader for FlywayReader {
    fn layout(&self) -> Layout {
        Layout::Flyway
    }

    fn reach(&self) -> Reach {
        Reach::All
    }

    fn read(&self, listing: &Listing, context: &Context<'_>) -> Result<Found, SourceError> {
        let mut files = Files::default();
        let mut found = Found::default();
        for entry in &listing.entries {
            match parse(&entry.name) {
                Some(name) => found.skipped.extend(files.add(entry, name)?),
                None => found.skipped.extend(other(entry, context)?),
            }
        }
        files.into_migrations(context.dialect, context, &mut found)?;
        Ok(found)
    }
}

/// A file that is no migration.
fn other(entry: &Entry, context: &Context<'_>) -> Result<Option<Skipped>, SourceError> {
    if is_callback(&entry.name) {
        return match context.options.programs {
            Programs::Refuse => Err(SourceError::Program {
                path: entry.path.clone(),
                what: "a callback of Flyway".to_owned(),
            }),
            Programs::Skip => Ok(Some(Skipped::new(&entry.path, "it is a callback"))),
        };
    }
    // A sidecar is read with its migration.
    Ok((!entry.name.ends_with(".sql.conf"))
        .then(|| Skipped::new(&entry.path, "its name is not of the form V1__name.sql")))
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    name: FileName,
    sidecar: Sidecar,
}

/// Files by what tells their versions apart.
type ByVersion = BTreeMap<Vec<String>, File>;

#[derive(Debug, Default)]
struct Files {
    versioned: ByVersion,
    undos: ByVersion,
    repeatables: ByVersion,
    baselines: ByVersion,
}

impl Files {
    fn add(&mut self, entry: &Entry, name: FileName) -> Result<Option<Skipped>, SourceError> {
        let sidecar = Sidecar::read(&entry.path)?;
        if sidecar.execution == Execution::Skip {
            return Ok(Some(Skipped::new(
                &entry.path,
                "its .conf says shouldExecute=false",
            )));
        }
        let (files, direction) = match name.prefix {
            Prefix::Versioned => (&mut self.versioned, Direction::Up),
            Prefix::Undo => (&mut self.undos, Direction::Down),
            Prefix::Repeatable => (&mut self.repeatables, Direction::Up),
            Prefix::Baseline => (&mut self.baselines, Direction::Up),
        };
        let second = entry.path.clone();
        match files.entry(key(&name.version)) {
            map::Entry::Occupied(first) => Err(SourceError::DuplicateVersion {
                version: first.get().name.version.clone(),
                direction,
                first: first.get().path.clone(),
                second,
            }),
            map::Entry::Vacant(place) => {
                place.insert(File {
                    path: second,
                    name,
                    sidecar,
                });
                Ok(None)
            }
        }
    }

    fn into_migrations(
        mut self,
        dialect: Dialect,
        context: &Context<'_>,
        found: &mut Found,
    ) -> Result<(), SourceError> {
        for (key, file) in self.versioned {
            let undo = self.undos.remove(&key);
            let down = undo.map(|undo| script(&undo, dialect, context));
            found
                .migrations
                .push(migration(file, MigrationKind::Versioned, down, dialect, context)?);
        }
        for file in self.repeatables.into_values() {
            found.migrations.push(migration(
                file,
                MigrationKind::Repeatable,
                None,
                dialect,
                context,
            )?);
        }
        for file in self.baselines.into_values() {
            found
                .baselines
                .push(migration(file, MigrationKind::Baseline, None, dialect, context)?);
        }
        let alone = self.undos.values();
        found
            .skipped
            .extend(alone.map(|undo| Skipped::new(&undo.path, "there is no migration for it to undo")));
        Ok(())
    }
}

/// `1`, `01` and `1.0` are one version.
fn key(version: &SchemaVersion) -> Vec<String> {
    if version.is_repeatable() {
        return vec![version.to_string()];
    }
    let parts = version.as_str().split('.');
    let mut parts = parts
        .map(|part| part.trim_start_matches('0').to_owned())
        .collect::<Vec<_>>();
    while parts.last().is_some_and(String::is_empty) {
        parts.pop();
    }
    parts
}

fn migration(
    file: File,
    kind: MigrationKind,
    down: Option<Result<Script, SourceError>>,
    dialect: Dialect,
    context: &Context<'_>,
) -> Result<Migration, SourceError> {
    let up = script(&file, dialect, context)?;
    Migration::new(file.name.version, file.name.name, kind, up).with_down(down)
}

fn script(file: &File, dialect: Dialect, context: &Context<'_>) -> Result<Script, SourceError> {
    let text = read_text(&file.path)?;
    let rule = match file.sidecar.transaction {
        Transaction::Usual => FileRule::by_dialect(dialect),
        Transaction::None => FileRule::AskedForNone {
            how: "its .conf says executeInTransaction=false",
        },
    };
    let values = &context.options.placeholders;
    match (file.sidecar.placeholders, file.name.prefix) {
        (Placeholders::Keep, _) => Script::of(&file.path, text, dialect, &rule),
        // Another value makes Flyway run it again.
        (Placeholders::Replace, Prefix::Repeatable) => Script::of_values(
            &file.path,
            placeholders::replace(&file.path, &text, values)?,
            dialect,
            &rule,
        ),
        (Placeholders::Replace, Prefix::Versioned | Prefix::Undo | Prefix::Baseline) => {
            Script::with_placeholders(&file.path, &text, dialect, &rule, values)
        }
    }
}

#[cfg(test)]
mod tests;
