//! pop, as Kratos uses it: `20150100000001000000_networks.postgres.autocommit.up.sql`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use lockkeeper_core::version::SchemaVersion;
use regex::Regex;

use super::files::{Entry, line_of, read_text};
use super::migration::{MigrationKind, Script};
use super::transaction::FileRule;
use super::{
    Context, Direction, Found, Layout, Listing, Migration, Reach, Reader, Skipped, SourceError, go_template,
};
use crate::dialect::Dialect;

static FILE_NAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^([0-9]+)_([^.]+)(\.[a-z0-9]+)?(\.autocommit)?\.(up|down)\.(sql)$")
        .expect("the pattern is a constant")
});

static FIZZ_NAME: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^([0-9]+)_([^.]+)\.(up|down)\.fizz$").expect("the pattern is a constant"));

/// Reads pop's directories.
#[derive(Debug, Clone, Copy)]
pub(super) struct PopReader;

/// For which databases a file is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// For all that have no file of their own.
    Any,
    /// For one dialect that lockkeeper speaks.
    Dialect(Dialect),
    /// For another database, or for nothing that pop knows.
    Other(String),
}

/// Whether the file asks to be run outside of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Autocommit {
    No,
    Yes,
}

/// What a file's name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileName {
    pub(super) version: String,
    pub(super) name: String,
    pub(super) scope: Scope,
    pub(super) autocommit: Autocommit,
    pub(super) direction: Direction,
}

fn direction(text: &str) -> Direction {
    if text == "up" {
        Direction::Up
    } else {
        Direction::Down
    }
}

pub(super) fn parse(file_name: &str) -> Option<FileName> {
    let parts = FILE_NAME.captures(file_name)?;
    let part = |at: usize| parts.get(at).map_or("", |m| m.as_str());
    // Without a dialect the pattern reads `.autocommit` as one.
    let (suffix, flag) = match (part(3), part(4)) {
        (".autocommit", "") => ("", ".autocommit"),
        other => other,
    };
    Some(FileName {
        version: part(1).to_owned(),
        name: part(2).to_owned(),
        scope: scope(suffix),
        autocommit: if flag.is_empty() {
            Autocommit::No
        } else {
            Autocommit::Yes
        },
        direction: direction(part(5)),
    })
}

/// pop's names and synonyms of the databases it speaks.
fn scope(suffix: &str) -> Scope {
    match suffix.trim_start_matches('.') {
        "" => Scope::Any,
        "postgres" | "postgresql" | "pg" => Scope::Dialect(Dialect::Postgres),
        "mysql" | "mariadb" => Scope::Dialect(Dialect::MySql),
        "sqlite" | "sqlite3" => Scope::Dialect(Dialect::Sqlite),
        other => Scope::Other(other.to_owned()),
    }
}

/// The database names of pop that lockkeeper does not speak.
pub(super) fn is_other_database(suffix: &str) -> bool {
    matches!(suffix, "cockroach" | "cockroachdb" | "crdb")
}

#[derive(Debug, Clone)]
struct File {
    path: PathBuf,
    name: FileName,
}

/// The files of one version and direction that are for the dialect.
#[derive(Debug, Default)]
struct Variants {
    any: Option<File>,
    own: Option<File>,
}

impl Variants {
    fn has_file(&self) -> bool {
        self.any.is_some() || self.own.is_some()
    }
}

/// The names of one version, over all dialects and directions.
#[derive(Debug, Default)]
struct Version {
    up: Variants,
    down: Variants,
    /// A down file exists for some database, which is all that pop asks for.
    has_some_down: bool,
}

impl Reader for PopReader {
    fn layout(&self) -> Layout {
        Layout::Pop
    }

    fn reach(&self) -> Reach {
        Reach::All
    }

    fn read(&self, listing: &Listing, context: &Context<'_>) -> Result<Found, SourceError> {
        let dialect = context.dialect;
        let mut versions = BTreeMap::<String, Version>::new();
        let mut found = Found::default();
        for entry in &listing.entries {
            match parse(&entry.name) {
                Some(name) => found
                    .skipped
                    .extend(sort_in(&mut versions, entry, name, dialect)?),
                None if FIZZ_NAME.is_match(&entry.name) => {}
                None => found
                    .skipped
                    .push(Skipped::new(&entry.path, "its name is not of pop's form")),
            }
        }
        check_fizz(listing, &versions, &mut found.skipped)?;
        for (version, files) in versions {
            found
                .migrations
                .extend(migration(version, files, dialect, &mut found.skipped)?);
        }
        Ok(found)
    }
}

/// Puts a file to its version, or says why it is skipped.
fn sort_in(
    versions: &mut BTreeMap<String, Version>,
    entry: &Entry,
    name: FileName,
    dialect: Dialect,
) -> Result<Option<Skipped>, SourceError> {
    let version = versions.entry(name.version.clone()).or_default();
    version.has_some_down |= name.direction == Direction::Down;
    let variants = match name.direction {
        Direction::Up => &mut version.up,
        Direction::Down => &mut version.down,
    };
    let place = match &name.scope {
        Scope::Any => &mut variants.any,
        Scope::Dialect(own) if *own == dialect => &mut variants.own,
        Scope::Dialect(other) => return Ok(Some(Skipped::new(&entry.path, format!("it is for {other}")))),
        Scope::Other(other) => return Ok(Some(Skipped::new(&entry.path, format!("it is for {other}")))),
    };
    if let Some(first) = place {
        return Err(SourceError::DuplicateVersion {
            version: name.version.into(),
            direction: name.direction,
            first: first.path.clone(),
            second: entry.path.clone(),
        });
    }
    *place = Some(File {
        path: entry.path.clone(),
        name,
    });
    Ok(None)
}

/// A fizz file is pop's own language. Where SQL stands beside it, the SQL is what Kratos' pop runs.
fn check_fizz(
    listing: &Listing,
    versions: &BTreeMap<String, Version>,
    skipped: &mut Vec<Skipped>,
) -> Result<(), SourceError> {
    for entry in &listing.entries {
        let Some(parts) = FIZZ_NAME.captures(&entry.name) else {
            continue;
        };
        let has_sql = versions
            .get(&parts[1])
            .is_some_and(|version| match direction(&parts[3]) {
                Direction::Up => version.up.has_file(),
                Direction::Down => version.down.has_file(),
            });
        if !has_sql {
            return Err(SourceError::NotSql {
                path: entry.path.clone(),
                language: "fizz".to_owned(),
            });
        }
        skipped.push(Skipped::new(
            &entry.path,
            "it is fizz, and its version has SQL files",
        ));
    }
    Ok(())
}

fn migration(
    version: String,
    files: Version,
    dialect: Dialect,
    skipped: &mut Vec<Skipped>,
) -> Result<Option<Migration>, SourceError> {
    let version = SchemaVersion(version);
    let down = most_specific(files.down, skipped);
    let Some(up) = most_specific(files.up, skipped) else {
        skipped
            .extend(down.map(|d| Skipped::new(&d.path, "its version has no up migration for this database")));
        return Ok(None);
    };
    if !files.has_some_down {
        return Err(SourceError::MissingDown {
            path: up.path,
            version,
            layout: Layout::Pop,
        });
    }
    let name = up.name.name.clone();
    let migration = Migration::new(version, name, MigrationKind::Versioned, read(&up, dialect)?);
    migration
        .with_down(down.map(|down| read(&down, dialect)))
        .map(Some)
}

fn most_specific(variants: Variants, skipped: &mut Vec<Skipped>) -> Option<File> {
    match (variants.own, variants.any) {
        (Some(own), Some(any)) => {
            skipped.push(Skipped::new(
                &any.path,
                format!("{} is more specific", own.path.display()),
            ));
            Some(own)
        }
        (own, any) => own.or(any),
    }
}

fn read(file: &File, dialect: Dialect) -> Result<Script, SourceError> {
    let text = read_text(&file.path)?;
    let rendered = go_template::render(&text, dialect).map_err(|(at, problem)| SourceError::Content {
        path: file.path.clone(),
        line: line_of(&text.as_bytes()[..at]),
        problem,
    })?;
    let rule = match file.name.autocommit {
        Autocommit::Yes => FileRule::AskedForNone {
            how: "its name says .autocommit",
        },
        Autocommit::No => FileRule::by_dialect(dialect),
    };
    if rendered == text {
        Script::of(&file.path, text, dialect, &rule)
    } else {
        Script::rendered(&file.path, &text, rendered, dialect, &rule)
    }
}
