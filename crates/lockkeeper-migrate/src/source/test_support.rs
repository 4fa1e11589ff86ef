//! Migration directories for tests.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

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
