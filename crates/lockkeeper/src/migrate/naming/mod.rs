//! What the next migration of a directory is called, as its own tool would call it.
//!
//! | module | what it holds |
//! |---|---|
//! | `habits` | what each layout's tool does: numbering, digits, files and their first lines |
//! | `next` | the next version, from the names that are there |
//! | `files` | the files of a version, and what stands in them |
//!
//! Pure: file names and a time in, file names and texts out.

mod files;
mod habits;
mod next;
#[cfg(test)]
mod tests;

pub(super) use files::{NewFile, files};
pub(super) use next::{NamingError, next_version};

/// How a directory numbers its migrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbering {
    Sequential,
    Timestamp,
}
