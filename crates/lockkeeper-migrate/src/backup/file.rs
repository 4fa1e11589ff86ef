//! Names, hashes and private files.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use lockkeeper_core::version::SchemaVersion;
use sha2::{Digest, Sha256};

use super::error::BackupError;
use crate::dialect::Dialect;

/// Length and hash of what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) size: u64,
    pub(super) sha256: String,
}

/// `shop-20261125T071409Z-v42.dump`: sorts by time, and says what it is of.
pub(super) fn name(database: &str, dialect: Dialect, version: Option<&SchemaVersion>) -> String {
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let version = version.map_or("none".to_owned(), |version| plain(&version.0));
    let ending = match dialect {
        Dialect::Postgres => "dump",
        Dialect::MySql => "sql",
        Dialect::Sqlite => "db",
    };
    format!("{}-{now}-v{version}.{ending}", plain(database))
}

fn plain(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') {
                c
            } else {
                '_'
            }
        })
        .take(80)
        .collect()
}

/// A file that gets its name only once it is whole. Removed when it is dropped before.
#[derive(Debug)]
pub(super) struct Unfinished {
    path: PathBuf,
    partial: PathBuf,
    kept: bool,
}

impl Unfinished {
    /// Makes the directory if it is missing: for its owner alone, as the backups in it are.
    pub(super) fn in_directory(directory: &Path, name: &str) -> Result<Self, BackupError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed("make directory", directory))?;
        Ok(Self {
            path: directory.join(name),
            partial: directory.join(format!("{name}.partial")),
            kept: false,
        })
    }

    pub(super) fn partial(&self) -> &Path {
        &self.partial
    }

    /// Opens it for a program to write to.
    pub(super) fn create(&self) -> Result<File, BackupError> {
        create_private(&self.partial).map_err(failed("write", &self.partial))
    }

    /// Makes sure that it is on the disk, and gives it its name.
    pub(super) fn finish(mut self) -> Result<PathBuf, BackupError> {
        let sync = || -> io::Result<()> {
            File::open(&self.partial)?.sync_all()?;
            std::fs::rename(&self.partial, &self.path)?;
            match self.path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                Some(parent) => File::open(parent)?.sync_all(),
                None => Ok(()),
            }
        };
        sync().map_err(failed("write", &self.path))?;
        self.kept = true;
        Ok(self.path.clone())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.kept {
            // One that was never made is no error.
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}

/// Opens a new file that only its owner can read; one that is there already is an error.
pub(super) fn create_private(path: &Path) -> io::Result<File> {
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Reads a file to its end. Never for a database that this process may have open: closing it would drop locks.
pub(super) async fn content(path: &Path) -> Result<Content, BackupError> {
    let path = path.to_path_buf();
    let reading = {
        let path = path.clone();
        tokio::task::spawn_blocking(move || hash(&path))
    };
    reading
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(failed("read", &path))
}

fn hash(path: &Path) -> io::Result<Content> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut size = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(Content {
                size,
                sha256: hex::encode(hasher.finalize()),
            });
        }
        hasher.update(&buffer[..read]);
        size += read as u64;
    }
}

pub(super) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_path_buf();
    move |error| BackupError::File { what, path, error }
}

/// The host that a file is on, for people who look for it from elsewhere.
pub(super) fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_nothing_that_leads_elsewhere() {
        let name = name("../a b", Dialect::Postgres, Some(&SchemaVersion::from("1/2")));
        assert!(
            name.starts_with(".._a_b-2") && name.ends_with("Z-v1_2.dump"),
            "{name}"
        );
    }

    #[test]
    fn an_unfinished_file_goes_away() {
        let folder = tempfile::tempdir().unwrap();
        let unfinished = Unfinished::in_directory(&folder.path().join("new"), "x").unwrap();
        drop(unfinished.create().unwrap());
        assert!(folder.path().join("new/x.partial").exists());
        drop(unfinished);
        assert!(!folder.path().join("new/x.partial").exists());
        let unfinished = Unfinished::in_directory(folder.path(), "y").unwrap();
        drop(unfinished.create().unwrap());
        assert_eq!(unfinished.finish().unwrap(), folder.path().join("y"));
        assert!(folder.path().join("y").exists());
    }
}
