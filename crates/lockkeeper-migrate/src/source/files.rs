//! Bounded walking and reading of migration directories.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use regex::Regex;

use super::SourceError;

/// Largest migration file, in bytes. Larger ones are data loads, which belong into a loader.
pub(super) const FILE_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Most files in all directories together: ten times the largest real set known.
const FILES_MAX: usize = 100_000;

/// Deepest folder below a migration directory.
const DEPTH_MAX: usize = 16;

/// How far below a directory the files of a layout lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// In the directory itself.
    Directory,
    /// In the folders of the directory.
    Folders,
    /// Anywhere below it.
    All,
}

impl Reach {
    /// Whether a file with this many folders above it is one of the layout's.
    pub(super) fn holds(self, depth: usize) -> bool {
        match self {
            Self::Directory => depth == 0,
            Self::Folders => depth == 1,
            Self::All => true,
        }
    }

    /// Whether a folder that lies below `depth` others is looked into.
    fn enters(self, depth: usize) -> bool {
        match self {
            Self::Directory => false,
            Self::Folders => depth == 0,
            Self::All => true,
        }
    }
}

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
    /// Lists the files below `dirs`, but not those in their `verify` folders.
    pub(super) fn of(dirs: &[PathBuf], reach: Reach) -> Result<Self, SourceError> {
        let mut listing = Self {
            dirs: dirs.to_vec(),
            entries: Vec::new(),
        };
        let mut seen = Vec::new();
        for dir in dirs {
            let real = real_directory(dir)?;
            if !seen.contains(&real) {
                listing.add(dir, &mut vec![real.clone()], reach)?;
                seen.push(real);
            }
        }
        Ok(listing)
    }

    /// Adds what lies in `dir`; `above` holds the real paths of `dir` and of the folders it lies in.
    fn add(&mut self, dir: &Path, above: &mut Vec<PathBuf>, reach: Reach) -> Result<(), SourceError> {
        let depth = above.len() - 1;
        for (path, name) in sorted_children(dir)? {
            if !is_directory(&path) {
                self.entries.push(Entry { path, name, depth });
                self.check_count(dir)?;
            } else if reach.enters(depth) && !(depth == 0 && name == VERIFY_FOLDER) {
                self.descend(&path, above, reach)?;
            }
        }
        Ok(())
    }

    fn descend(&mut self, path: &Path, above: &mut Vec<PathBuf>, reach: Reach) -> Result<(), SourceError> {
        let real = fs::canonicalize(path).map_err(|source| io_error(path, source))?;
        if above.contains(&real) {
            return Err(SourceError::SymlinkLoop {
                path: path.to_owned(),
            });
        }
        if above.len() > DEPTH_MAX {
            let problem = format!("its folders are more than {DEPTH_MAX} deep");
            return Err(SourceError::TooMuch {
                path: path.to_owned(),
                problem,
            });
        }
        above.push(real);
        self.add(path, above, reach)?;
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

/// The text of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileText {
    /// Without a byte order mark; line ends untouched.
    pub(super) text: String,
    /// Whether a byte order mark stood before it.
    pub(super) mark: ByteOrderMark,
}

/// Whether a file begins with a byte order mark, before which no tool sees its directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ByteOrderMark {
    Absent,
    Present,
}

/// Reads a migration file; a byte order mark is left out.
pub(super) fn read_text(path: &Path) -> Result<String, SourceError> {
    read_file(path).map(|file| file.text)
}

/// Reads a migration file whose directives must stand where its tool sees them: not behind a byte order mark.
pub(super) fn read_with_directives(path: &Path, directive: &Regex) -> Result<FileText, SourceError> {
    let file = read_file(path)?;
    let first_line = file.text.lines().next().unwrap_or_default();
    if file.mark == ByteOrderMark::Present && directive.is_match(first_line) {
        return Err(SourceError::Content {
            path: path.to_owned(),
            line: 1,
            problem: format!(
                "the byte order mark before {first_line:?} hides it from the tool; remove the mark"
            ),
        });
    }
    Ok(file)
}

pub(super) fn read_file(path: &Path) -> Result<FileText, SourceError> {
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

fn decode(path: &Path, bytes: Vec<u8>) -> Result<FileText, SourceError> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(match text.strip_prefix('\u{feff}') {
            Some(rest) => FileText {
                text: rest.to_owned(),
                mark: ByteOrderMark::Present,
            },
            None => FileText {
                text,
                mark: ByteOrderMark::Absent,
            },
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
