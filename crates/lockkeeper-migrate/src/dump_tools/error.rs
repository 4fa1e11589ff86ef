//! What can go wrong with a program, each naming it.

use std::path::PathBuf;
use std::time::Duration;

use super::find::Program;
use super::release::Release;

/// A program that could not be had, or that failed. Texts hold no secret: programs get none as an argument.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// No such program on this machine.
    #[error(
        "find {program}: it is not on this machine; install {}, or name its directory in {}",
        program.package(),
        super::find::DIRECTORIES_VARIABLE
    )]
    Missing {
        /// Which one.
        program: Program,
    },
    /// There are some, and all are older than the server.
    #[error(
        "use {program} {newest} ({}) with a server of release {server}: it must be {server} or newer; install \
         {} {}, or name its directory in {}",
        path.display(),
        program.package(),
        server.major,
        super::find::DIRECTORIES_VARIABLE
    )]
    TooOld {
        /// Which one.
        program: Program,
        /// The newest that was found.
        newest: Release,
        /// Where that is.
        path: PathBuf,
        /// The server's.
        server: Release,
    },
    /// It could not be started, or its pipes broke.
    #[error("run {program}: {error}")]
    Io {
        /// Which one.
        program: String,
        /// The system's words.
        error: std::io::Error,
    },
    /// It said that it failed.
    #[error("run {program}: {status}{}", said(words))]
    Failed {
        /// Which one.
        program: String,
        /// `exit code 1`, `ended by signal 9`.
        status: String,
        /// Its last words, oldest first.
        words: Vec<String>,
    },
    /// It took longer than it was given, and was killed with its children.
    #[error("run {program}: it did not end within {} s and was killed{}", limit.as_secs(), said(words))]
    TimedOut {
        /// Which one.
        program: String,
        /// How long it was given.
        limit: Duration,
        /// Its last words, oldest first.
        words: Vec<String>,
    },
    /// SQLite's online copy failed; the destination is as it was.
    #[error("copy {} to {}: {reason}", from.display(), to.display())]
    Copy {
        /// The source.
        from: PathBuf,
        /// The destination.
        to: PathBuf,
        /// SQLite's words.
        reason: String,
    },
    /// The DSN names no database of the sort that the program is for.
    #[error("run {program}: {place} is not a database for it")]
    WrongDialect {
        /// Which one.
        program: Program,
        /// Scheme, host and database.
        place: String,
    },
}

fn said(words: &[String]) -> String {
    if words.is_empty() {
        String::new()
    } else {
        format!(": {}", words.join(" / "))
    }
}
