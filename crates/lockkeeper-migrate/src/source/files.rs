//! Bounded walking and reading of migration directories.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::SourceError;

/// Largest migration file, in bytes. Larger ones are data loads, which belong into a loader.
pub(super) const FILE_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Most files in all directories together: ten times the largest real set known.
const FILES_MAX: usize = 100_000;

/// Deepest folder below a migration directory.
const DEPTH_MAX: usize = 16;

/// The folder of verification scripts, which hold no migration.
pub(super) const VERIFY_FOLDER: &str = "verify";

/// A file below a migration directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    /// Its name; bytes that are not UTF-8 are replaced, so that such a name matches no layout.
    pub(super) name: String,
    /// The folders between it and the migration directory.
    pub(super) depth: usize,
}

/// The files below the migration directories, by path within each directory.
#[derive(Debug, Default)]
pub struct Listing {
    pub(super) dirs: Vec<PathBuf>,
    pub(super) entries: Vec<Entry>,
}

impl Listing {
    /// Lists the files that lie directly in `dirs`.
    pub(super) fn flat(dirs: &[PathBuf]) -> Result<Self, SourceError> {
        Self::walk(dirs, 0)
    }

    /// Lists all files below `dirs`, but not those in their `verify` folders.
    pub(super) fn recursive(dirs: &[PathBuf]) -> Result<Self, SourceError> {
        Self::walk(dirs, DEPTH_MAX)
    }

    fn walk(dirs: &[PathBuf], depth: usize) -> Result<Self, SourceError> {
        let mut listing = Self {
            dirs: dirs.to_vec(),
            entries: Vec::new(),
        };
        let mut seen = Vec::new();
        for dir in dirs {
            let real = real_directory(dir)?;
            if !seen.contains(&real) {
                listing.add(dir, &mut vec![real.clone()], depth)?;
                seen.push(real);
            }
        }
        Ok(listing)
    }

    /// Adds what lies in `dir`; `above` holds the real paths of `dir` and of the folders it lies in.
    fn add(&mut self, dir: &Path, above: &mut Vec<PathBuf>, depth_max: usize) -> Result<(), SourceError> {
        let depth = above.len() - 1;
        for (path, name) in sorted_children(dir)? {
            if !is_directory(&path) {
                self.entries.push(Entry { path, name, depth });
                self.check_count(dir)?;
            } else if depth_max > 0 && !(depth == 0 && name == VERIFY_FOLDER) {
                self.descend(&path, above, depth_max)?;
            }
        }
        Ok(())
    }

    fn descend(
        &mut self,
        path: &Path,
        above: &mut Vec<PathBuf>,
        depth_max: usize,
    ) -> Result<(), SourceError> {
        let real = fs::canonicalize(path).map_err(|source| io_error(path, source))?;
        if above.contains(&real) {
            return Err(SourceError::SymlinkLoop {
                path: path.to_owned(),
            });
        }
        if above.len() > depth_max {
            let problem = format!("its folders are more than {depth_max} deep");
            return Err(SourceError::TooMuch {
                path: path.to_owned(),
                problem,
            });
        }
        above.push(real);
        self.add(path, above, depth_max)?;
        above.pop();
        Ok(())
    }

    fn check_count(&self, dir: &Path) -> Result<(), SourceError> {
        if self.entries.len() > FILES_MAX {
            let problem = format!("it holds more than {FILES_MAX} files");
            return Err(SourceError::TooMuch {
                path: dir.to_owned(),
                problem,
            });
        }
        Ok(())
    }
}

fn io_error(path: &Path, source: io::Error) -> SourceError {
    SourceError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Checks that `dir` is a directory, and gives its real path.
pub(super) fn real_directory(dir: &Path) -> Result<PathBuf, SourceError> {
    let problem = |problem| SourceError::Directory {
        path: dir.to_owned(),
        problem,
    };
    match fs::metadata(dir) {
        Ok(found) if found.is_dir() => fs::canonicalize(dir).map_err(|source| io_error(dir, source)),
        Ok(_) => Err(problem("it is not a directory")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(problem("there is no such directory")),
        Err(source) => Err(io_error(dir, source)),
    }
}

/// What lies directly in `dir`, by name.
pub(super) fn sorted_children(dir: &Path) -> Result<Vec<(PathBuf, String)>, SourceError> {
    let mut children = Vec::new();
    for child in fs::read_dir(dir).map_err(|source| io_error(dir, source))? {
        let child = child.map_err(|source| io_error(dir, source))?;
        children.push((child.path(), child.file_name().to_string_lossy().into_owned()));
    }
    children.sort();
    Ok(children)
}

fn is_directory(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_dir())
}

/// Reads a migration file; a byte order mark is left out.
pub(super) fn read_text(path: &Path) -> Result<String, SourceError> {
    let found = fs::metadata(path).map_err(|source| io_error(path, source))?;
    // Checked before opening: opening a named pipe waits for its writer.
    if !found.is_file() {
        return Err(SourceError::NotAFile {
            path: path.to_owned(),
        });
    }
    let too_large = |bytes| SourceError::TooLarge {
        path: path.to_owned(),
        bytes,
        limit: FILE_MAX_BYTES,
    };
    if found.len() > FILE_MAX_BYTES {
        return Err(too_large(found.len()));
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|source| io_error(path, source))?;
    // A file may grow after it was measured.
    file.take(FILE_MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| io_error(path, source))?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        return Err(too_large(bytes.len() as u64));
    }
    decode(path, bytes)
}

fn decode(path: &Path, bytes: Vec<u8>) -> Result<String, SourceError> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(match text.strip_prefix('\u{feff}') {
            Some(rest) => rest.to_owned(),
            None => text,
        }),
        Err(error) => {
            let offset = error.utf8_error().valid_up_to();
            let line = line_of(&error.as_bytes()[..offset]);
            Err(SourceError::NotUtf8 {
                path: path.to_owned(),
                line,
                offset,
            })
        }
    }
}

/// The line, counted from 1, that follows `before`.
pub(super) fn line_of(before: &[u8]) -> u32 {
    let newlines = before.iter().filter(|b| **b == b'\n').count();
    u32::try_from(newlines).unwrap_or(u32::MAX).saturating_add(1)
}
