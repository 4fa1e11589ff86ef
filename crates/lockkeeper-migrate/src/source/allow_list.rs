//! The allow list: which applied files may have been changed since, and why.
//!
//! A file `lockkeeper-edits.txt` in a migration directory, a line each: the version, the SHA-256 of the file as it is
//! now (as `status` and the refusal show it), and the reason. `#` begins a comment.

use std::path::{Path, PathBuf};

use super::files::read_text;
use super::{Checksum, SourceError};
use crate::ledger::AcceptedEdit;

/// The file's name.
pub(super) const FILE_NAME: &str = "lockkeeper-edits.txt";

/// Length of a checksum in hex.
const CHECKSUM_DIGITS: usize = 64;

/// Reads the lists of all directories that have one.
pub(super) fn read(dirs: &[PathBuf]) -> Result<Vec<AcceptedEdit>, SourceError> {
    let mut accepted = Vec::new();
    for path in dirs.iter().map(|dir| dir.join(FILE_NAME)) {
        if path.exists() {
            accepted.extend(parse(&path, &read_text(&path)?)?);
        }
    }
    Ok(accepted)
}

fn parse(path: &Path, text: &str) -> Result<Vec<AcceptedEdit>, SourceError> {
    let lines = (1..).zip(text.lines());
    let lines = lines.filter(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    lines
        .map(|(number, line)| {
            edit(line).ok_or_else(|| SourceError::Content {
                path: path.to_owned(),
                line: number,
                problem: "expected a version, a SHA-256 checksum of 64 hex digits, and a reason".to_owned(),
            })
        })
        .collect()
}

fn edit(line: &str) -> Option<AcceptedEdit> {
    let (version, rest) = line.trim().split_once(char::is_whitespace)?;
    let (checksum, reason) = rest.trim_start().split_once(char::is_whitespace)?;
    let hex = checksum.len() == CHECKSUM_DIGITS && checksum.bytes().all(|b| b.is_ascii_hexdigit());
    hex.then(|| AcceptedEdit {
        version: version.into(),
        checksum: Checksum(checksum.to_ascii_lowercase()),
        reason: reason.trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_needs_a_version_a_checksum_and_a_reason() {
        let sum = "0123456789abcdef".repeat(4);
        let text = format!("# shipped with a typing error\n\n  7 {sum}   the index was too slow \n");
        let edits = parse(Path::new("l"), &text).unwrap();
        assert_eq!(edits.len(), 1);
        assert_eq!(
            (edits[0].version.as_str(), edits[0].reason.as_str()),
            ("7", "the index was too slow")
        );
        for line in ["7", "7 abc reason", &format!("7 {sum}"), &format!("7 {sum} ")] {
            let error = parse(Path::new("l"), &format!("\n{line}"))
                .unwrap_err()
                .to_string();
            assert!(error.contains('2'), "{error}");
        }
    }
}
