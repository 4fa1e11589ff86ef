//! Migration directories for tests.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{Layout, MigrationSet, Script, load};
use crate::dialect::Dialect;

/// A directory that goes away with the test.
pub(super) struct Dir(TempDir);

impl Dir {
    /// Makes a directory of `(path, content)`.
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let dir = Self(TempDir::new().unwrap());
        for (name, content) in files {
            dir.write(name, content.as_bytes());
        }
        dir
    }

    /// Makes a directory of files whose content does not matter.
    pub(super) fn named(names: &[&str]) -> Self {
        Self::of(
            &names
                .iter()
                .map(|name| (*name, "SELECT 1;\n"))
                .collect::<Vec<_>>(),
        )
    }

    pub(super) fn write(&self, name: &str, content: &[u8]) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn dirs(&self) -> Vec<PathBuf> {
        vec![self.path().to_owned()]
    }

    /// The text without this directory's random path.
    pub(super) fn plain(&self, text: &str) -> String {
        text.replace(&self.path().display().to_string(), "DIR")
    }
}

pub(super) fn versions(set: &MigrationSet) -> Vec<&str> {
    set.migrations.iter().map(|m| m.version.as_str()).collect()
}

pub(super) fn file(script: &Script) -> String {
    script.path.file_name().unwrap().to_string_lossy().into_owned()
}

/// The statements, each behind its line.
pub(super) fn lines(script: &Script) -> Vec<String> {
    script
        .statements
        .iter()
        .map(|s| format!("{}: {}", s.line, s.text))
        .collect()
}

/// Why it is not run in one transaction; empty when it is.
pub(super) fn why(script: &Script) -> &str {
    match &script.transaction {
        super::TransactionMode::Transactional => "",
        super::TransactionMode::NonTransactional { why } => why,
    }
}

#[track_caller]
pub(super) fn loaded(dir: &Dir, layout: Layout, dialect: Dialect) -> MigrationSet {
    load(&dir.dirs(), Some(layout), dialect).unwrap_or_else(|e| panic!("{e}"))
}

#[track_caller]
pub(super) fn refused(dir: &Dir, layout: Option<Layout>, dialect: Dialect) -> String {
    dir.plain(&load(&dir.dirs(), layout, dialect).unwrap_err().to_string())
}
