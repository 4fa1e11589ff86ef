//! Up and down files of one version.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lockkeeper_core::version::SchemaVersion;

use super::files::Entry;
use super::{Direction, Layout, SourceError};

/// A file, and the name that it gives its migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) path: PathBuf,
    pub(super) name: String,
}

/// The files of one version; at least one of them is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Pair {
    pub(super) up: Option<Named>,
    pub(super) down: Option<Named>,
}

/// The files of all versions, none of which is there twice.
#[derive(Debug)]
pub(super) struct Pairs<V>(BTreeMap<V, Pair>);

impl<V: Ord + ToString> Pairs<V> {
    pub(super) fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Puts a file to its version.
    pub(super) fn add(
        &mut self,
        version: V,
        direction: Direction,
        entry: &Entry,
        name: &str,
    ) -> Result<(), SourceError> {
        let text = version.to_string();
        let pair = self.0.entry(version).or_default();
        let place = match direction {
            Direction::Up => &mut pair.up,
            Direction::Down => &mut pair.down,
        };
        if let Some(first) = place {
            return Err(SourceError::DuplicateVersion {
                version: text.into(),
                direction,
                first: first.path.clone(),
                second: entry.path.clone(),
            });
        }
        *place = Some(Named {
            path: entry.path.clone(),
            name: name.to_owned(),
        });
        Ok(())
    }

    pub(super) fn into_iter(self) -> impl Iterator<Item = (SchemaVersion, Pair)> {
        self.0
            .into_iter()
            .map(|(version, pair)| (version.to_string().into(), pair))
    }
}

/// The version of a layout that counts with 64 bits.
pub(super) fn number<V: std::str::FromStr>(
    digits: &str,
    entry: &Entry,
    layout: Layout,
) -> Result<V, SourceError> {
    let path = entry.path.clone();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        let problem = format!("{digits:?} is not a whole number");
        return Err(SourceError::BadVersion {
            path,
            layout,
            problem,
        });
    }
    let version = digits.to_owned();
    digits.parse().map_err(|_| SourceError::VersionTooLarge {
        path,
        version,
        layout,
    })
}
