//! What a replica writes down about its writes: in memory, or as lines of a file that the demo reads.
//!
//! The ack is written down after the database has acknowledged, so a replica that dies in between leaves a row that
//! nobody claims, never a claim without a row.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// One note of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// The schema fits and the gate is open.
    Ready,
    /// The database acknowledged this write at this time of the machine's boot clock, in milliseconds.
    Acked { number: i64, at_ms: u64 },
    /// The database refused the write because its gate is closed; it is tried again.
    Refused { number: i64 },
    /// The write failed before it could be committed.
    Failed { number: i64, why: String },
    /// Whether the write was committed is not known.
    Unknown { number: i64, why: String },
    /// The replica does not fit the schema any more, and is told why.
    Unfit { why: String },
    /// The replica cannot go on.
    Died { why: String },
}

impl Entry {
    fn line(&self) -> String {
        // A note is one line whatever a server's message holds.
        let flat = |why: &str| why.split_whitespace().collect::<Vec<_>>().join(" ");
        match self {
            Self::Ready => "ready\n".to_owned(),
            Self::Acked { number, at_ms } => format!("acked {number} {at_ms}\n"),
            Self::Refused { number } => format!("refused {number}\n"),
            Self::Failed { number, why } => format!("failed {number} {}\n", flat(why)),
            Self::Unknown { number, why } => format!("unknown {number} {}\n", flat(why)),
            Self::Unfit { why } => format!("unfit {}\n", flat(why)),
            Self::Died { why } => format!("died {}\n", flat(why)),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (first, why) = rest.split_once(' ').unwrap_or((rest, ""));
        let number = || first.parse().ok();
        Some(match kind {
            "ready" => Self::Ready,
            "acked" => Self::Acked {
                number: number()?,
                at_ms: why.parse().ok()?,
            },
            "refused" => Self::Refused { number: number()? },
            "failed" => Self::Failed {
                number: number()?,
                why: why.to_owned(),
            },
            "unknown" => Self::Unknown {
                number: number()?,
                why: why.to_owned(),
            },
            "unfit" => Self::Unfit { why: rest.to_owned() },
            "died" => Self::Died { why: rest.to_owned() },
            _ => return None,
        })
    }
}

/// Where a replica writes its notes.
#[derive(Debug, Clone)]
pub(super) enum Journal {
    /// Into memory that the demo shares.
    Memory(Arc<Mutex<Vec<Entry>>>),
    /// Into a file that the demo reads.
    File(Arc<File>),
}

impl Journal {
    pub(super) fn note(&self, entry: Entry) -> io::Result<()> {
        match self {
            Self::Memory(entries) => {
                entries.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
                Ok(())
            }
            // One call per line: what was noted survives the process.
            Self::File(file) => (&**file).write_all(entry.line().as_bytes()),
        }
    }
}

/// The demo's side of a journal.
#[derive(Debug)]
pub(super) enum Notes {
    Memory(Arc<Mutex<Vec<Entry>>>),
    File(Tail),
}

impl Notes {
    /// A journal in memory, and its other side.
    pub(super) fn in_memory() -> (Journal, Self) {
        let entries = Arc::default();
        (Journal::Memory(Arc::clone(&entries)), Self::Memory(entries))
    }

    /// Follows a file that need not exist yet.
    pub(super) fn of_file(path: &Path) -> Self {
        Self::File(Tail {
            path: path.to_owned(),
            file: None,
            rest: String::new(),
        })
    }

    /// What was noted since the last call.
    pub(super) fn take(&mut self) -> io::Result<Vec<Entry>> {
        match self {
            Self::Memory(entries) => Ok(std::mem::take(
                &mut *entries.lock().unwrap_or_else(PoisonError::into_inner),
            )),
            Self::File(tail) => tail.take(),
        }
    }
}

/// Reads the lines of a growing file.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    file: Option<File>,
    rest: String,
}

impl Tail {
    fn take(&mut self) -> io::Result<Vec<Entry>> {
        if self.file.is_none() {
            match File::open(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(error),
            }
        }
        if let Some(file) = &mut self.file {
            file.read_to_string(&mut self.rest)?;
        }
        let whole = self.rest.rfind('\n').map_or(0, |end| end + 1);
        let lines: String = self.rest.drain(..whole).collect();
        let bad = |line: &str| io::Error::other(format!("{}: {line:?} is no note", self.path.display()));
        lines
            .lines()
            .map(|line| Entry::parse(line).ok_or_else(|| bad(line)))
            .collect()
    }
}

/// Everything that one replica noted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) ready: bool,
    /// Acknowledged writes, and when.
    pub(super) acked: Vec<(i64, u64)>,
    pub(super) refused: u64,
    pub(super) failed: Vec<(i64, String)>,
    pub(super) unknown: Vec<(i64, String)>,
    pub(super) unfit: Option<String>,
    pub(super) died: Option<String>,
}

impl Tally {
    pub(super) fn add(&mut self, entry: Entry) {
        match entry {
            Entry::Ready => self.ready = true,
            Entry::Acked { number, at_ms } => self.acked.push((number, at_ms)),
            Entry::Refused { .. } => self.refused += 1,
            Entry::Failed { number, why } => self.failed.push((number, why)),
            Entry::Unknown { number, why } => self.unknown.push((number, why)),
            Entry::Unfit { why } => self.unfit = Some(why),
            Entry::Died { why } => self.died = Some(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_survives_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes");
        let mut notes = Notes::of_file(&path);
        assert_eq!(notes.take().unwrap(), []);
        let journal = Journal::File(Arc::new(File::create(&path).unwrap()));
        let entries = [
            Entry::Ready,
            Entry::Acked {
                number: 1_000_000_001,
                at_ms: 77,
            },
            Entry::Refused { number: 3 },
            Entry::Failed {
                number: 4,
                why: "no such table: orders".to_owned(),
            },
            Entry::Unknown {
                number: 5,
                why: "broken pipe".to_owned(),
            },
            Entry::Unfit {
                why: "schema too new".to_owned(),
            },
            Entry::Died {
                why: "superseded".to_owned(),
            },
        ];
        for entry in &entries {
            journal.note(entry.clone()).unwrap();
        }
        assert_eq!(notes.take().unwrap(), entries);
        assert_eq!(notes.take().unwrap(), []);
    }

    #[test]
    fn half_a_line_waits_for_its_rest_and_nonsense_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes");
        let mut file = File::create(&path).unwrap();
        let mut notes = Notes::of_file(&path);
        file.write_all(b"acked 12 3").unwrap();
        assert_eq!(notes.take().unwrap(), []);
        file.write_all(b"4\n").unwrap();
        assert_eq!(
            notes.take().unwrap(),
            [Entry::Acked {
                number: 12,
                at_ms: 34
            }]
        );
        file.write_all(b"acked twelve 3\n").unwrap();
        assert!(notes.take().unwrap_err().to_string().contains("is no note"));
    }

    #[test]
    fn a_message_of_several_lines_stays_one_note() {
        let entry = Entry::Failed {
            number: 1,
            why: "a\nb".to_owned(),
        };
        assert_eq!(entry.line(), "failed 1 a b\n");
    }
}
