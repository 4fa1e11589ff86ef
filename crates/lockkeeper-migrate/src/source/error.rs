//! What can be wrong with a migration directory.

use std::io;
use std::path::PathBuf;

use lockkeeper_core::version::SchemaVersion;

use super::{Direction, Layout};
use crate::dialect::Dialect;
use crate::sql::SplitProblem;

/// A migration source that cannot be used. Reads after "failed to"; names the file, and the line where it has one.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The directory does not exist, or is none.
    #[error("read migrations from {}: {problem}", path.display())]
    Directory {
        /// The directory as it was given.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A file or directory cannot be read; the source says why.
    #[error("read {}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A directory contains itself through a symbolic link.
    #[error("read migrations from {}: the symbolic link leads back to a directory that contains it", path.display())]
    SymlinkLoop {
        /// The link.
        path: PathBuf,
    },
    /// More files or deeper folders than any migration directory has.
    #[error("read migrations from {}: {problem}; is it the right directory?", path.display())]
    TooMuch {
        /// The directory.
        path: PathBuf,
        /// Which limit was passed.
        problem: String,
    },
    /// A pipe, socket, device or directory with a migration's name.
    #[error("read {}: it is not a regular file", path.display())]
    NotAFile {
        /// Its path.
        path: PathBuf,
    },
    /// The file is larger than any migration may be.
    #[error("read {}: it has {bytes} bytes, more than the {limit} that a migration may have", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The largest size.
        limit: u64,
    },
    /// The file is not UTF-8.
    #[error("read {}:{line}: byte {offset} of the file is not UTF-8; convert the file to UTF-8", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The line of the first bad byte, counted from 1.
        line: u32,
        /// The place of the first bad byte, counted from 0.
        offset: usize,
    },
    /// The file cannot be split into statements.
    #[error("read {}:{line}: {problem}", path.display())]
    Statement {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u32,
        /// What is wrong there.
        problem: SplitProblem,
    },
    /// A directive or setting that its layout does not allow there.
    #[error("read {}:{line}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u32,
        /// What is wrong there, and what to do.
        problem: String,
    },
    /// A placeholder without a value.
    #[error("read {}:{line}: placeholder ${{{name}}} has no value; give it with --placeholder {name}=VALUE", path.display())]
    Placeholder {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u32,
        /// Its name.
        name: String,
    },
    /// The file is not SQL.
    #[error("run {}: migrations in {language} are not supported; write it as SQL", path.display())]
    NotSql {
        /// The file.
        path: PathBuf,
        /// What it is written in.
        language: String,
    },
    /// Only the origin tool can run it.
    #[error("run {}: {what} is not supported; write it as an SQL migration, or leave it out with --skip-programs", path.display())]
    Program {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: String,
    },
    /// Two files claim one version.
    #[error("order migrations: version {version} ({direction}) is there twice: {} and {}", first.display(), second.display())]
    DuplicateVersion {
        /// The version.
        version: SchemaVersion,
        /// Which of its directions.
        direction: Direction,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A version that the layout's number does not hold.
    #[error("read {}: version {version} does not fit the 64-bit number that {layout} uses", path.display())]
    VersionTooLarge {
        /// The file.
        path: PathBuf,
        /// The version.
        version: String,
        /// The layout.
        layout: Layout,
    },
    /// A migration's name without a version that the layout can read.
    #[error("read {}: its name gives no version that {layout} can read: {problem}", path.display())]
    BadVersion {
        /// The file.
        path: PathBuf,
        /// The layout.
        layout: Layout,
        /// What is wrong with the version.
        problem: String,
    },
    /// The origin's order cannot be told from the versions alone.
    #[error(
        "order migrations: {layout} runs {} before {} by their names, although their versions say the opposite; \
         give both versions the same number of digits",
        first.display(), second.display()
    )]
    AmbiguousOrder {
        /// The layout.
        layout: Layout,
        /// What the tool runs first.
        first: PathBuf,
        /// What the tool runs then.
        second: PathBuf,
    },
    /// A version's folder without a file to go up.
    #[error("read {}: it has no up.sql, without which {layout} stops", path.display())]
    MissingUp {
        /// The folder.
        path: PathBuf,
        /// The layout.
        layout: Layout,
    },
    /// The layout wants a down for every up.
    #[error("read {}: version {version} has no down migration, which {layout} requires for every up", path.display())]
    MissingDown {
        /// The up file.
        path: PathBuf,
        /// Its version.
        version: SchemaVersion,
        /// The layout.
        layout: Layout,
    },
    /// A file of another layout lies among them, and would never run.
    #[error("read migrations as {layout}: {} belongs to layout {other}; a directory holds one layout", path.display())]
    MixedLayouts {
        /// The layout that was asked for.
        layout: Layout,
        /// The other layout's file.
        path: PathBuf,
        /// The other layout.
        other: String,
    },
    /// `auto` cannot tell.
    #[error("tell the layout of {place}: {problem}; saw {saw}; say which it is with --layout")]
    Undecided {
        /// The directories.
        place: String,
        /// What stands in the way.
        problem: String,
        /// What was seen, with examples.
        saw: String,
    },
    /// No migration at all.
    #[error(
        "find migrations in {}: no file of layout {layout} for {dialect} ({skipped} other files skipped)",
        dirs.iter().map(|d| d.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    Nothing {
        /// The directories.
        dirs: Vec<PathBuf>,
        /// The layout.
        layout: Layout,
        /// The dialect.
        dialect: Dialect,
        /// How many files were skipped.
        skipped: usize,
    },
}
