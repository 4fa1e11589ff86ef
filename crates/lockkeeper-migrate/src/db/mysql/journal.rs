//! The journal of a migration whose statements commit one by one.

use std::collections::BTreeMap;

use lockkeeper_core::version::SchemaVersion;
use sha2::{Digest, Sha256};

use super::failure::Failure;
use super::session::Session;
use super::target::{Target, number};
use super::text::literal;
use crate::source::Direction;
use crate::sql::Statement;

/// How far a statement has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It was about to run.
    Started,
    /// It took effect.
    Done,
    /// It was looked at, and nobody could tell.
    InDoubt,
}

/// What is recorded of one statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// SHA-256 of its text, in hex.
    pub(super) hash: String,
    pub(super) step: Step,
}

/// The rows of one version.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    /// By the statement's position, from 1.
    pub(super) entries: BTreeMap<usize, Entry>,
    /// Whether the other direction of this version was interrupted.
    pub(super) opposite_is_open: bool,
}

/// SHA-256 of a statement's text, with CRLF read as LF, in hex.
pub(super) fn hash(statement: &Statement) -> String {
    hex::encode(Sha256::digest(statement.text.replace("\r\n", "\n")))
}

/// The journal of one version and direction.
#[derive(Debug, Clone)]
pub(super) struct Journal {
    table: String,
    version: String,
    direction: Direction,
}

impl Journal {
    pub(super) fn new(target: &Target, version: &SchemaVersion, direction: Direction) -> Self {
        Self {
            table: target.own("lockkeeper_journal"),
            version: literal(version.as_str()),
            direction,
        }
    }

    /// What is recorded of this direction, and whether the other one was interrupted.
    pub(super) async fn read(&self, session: &mut Session) -> Result<Recorded, Failure> {
        let rows = session
            .rows(&format!(
                "SELECT direction, `position`, hash, state FROM {} WHERE version = {}",
                self.table, self.version
            ))
            .await?;
        let mut recorded = Recorded::default();
        for row in rows {
            let [Some(direction), Some(position), Some(hash), Some(state)] =
                <[_; 4]>::try_from(row).unwrap_or_default()
            else {
                continue;
            };
            if direction != self.direction.to_string() {
                recorded.opposite_is_open = true;
                continue;
            }
            let step = match state.as_str() {
                "done" => Step::Done,
                "in doubt" => Step::InDoubt,
                _ => Step::Started,
            };
            let position = usize::try_from(number(&position)).unwrap_or(usize::MAX);
            recorded.entries.insert(position, Entry { hash, step });
        }
        Ok(recorded)
    }

    /// Statement `position` is about to run.
    pub(super) fn start(&self, position: usize, hash: &str) -> String {
        format!(
            "INSERT INTO {} (version, direction, `position`, hash, state, started_at) \
             VALUES ({}, '{}', {position}, '{hash}', 'started', UTC_TIMESTAMP(6)) \
             ON DUPLICATE KEY UPDATE hash = VALUES(hash), state = 'started', started_at = VALUES(started_at)",
            self.table, self.version, self.direction
        )
    }

    /// Statement `position` took effect.
    pub(super) fn done(&self, position: usize, hash: &str) -> String {
        format!(
            "INSERT INTO {} (version, direction, `position`, hash, state, started_at, finished_at) \
             VALUES ({}, '{}', {position}, '{hash}', 'done', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6)) \
             ON DUPLICATE KEY UPDATE state = 'done', finished_at = VALUES(finished_at)",
            self.table, self.version, self.direction
        )
    }

    /// Nobody can tell what became of statement `position`.
    pub(super) fn doubt(&self, position: usize) -> String {
        format!(
            "UPDATE {} SET state = 'in doubt' WHERE version = {} AND direction = '{}' AND `position` = {position}",
            self.table, self.version, self.direction
        )
    }

    /// Statement `position` failed and left nothing.
    pub(super) fn forget(&self, position: usize) -> String {
        format!(
            "DELETE FROM {} WHERE version = {} AND direction = '{}' AND `position` = {position}",
            self.table, self.version, self.direction
        )
    }

    /// The migration is complete.
    pub(super) fn clear(&self) -> String {
        format!("DELETE FROM {} WHERE version = {}", self.table, self.version)
    }
}
