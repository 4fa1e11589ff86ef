//! The journal: which statements of a non-transactional migration have taken effect.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::gate::{number, signed, text};
use super::run::line;
use super::session::Session;
use crate::db::{ApplyError, DbError, LedgerWrite};
use crate::source::Script;
use crate::sql::Statement;

/// The statements that an earlier try of a migration has run: position from 0, and the hash of the text.
pub(super) struct Journal {
    done: HashMap<usize, String>,
}

impl Journal {
    pub(super) fn has(&self, at: usize) -> bool {
        self.done.contains_key(&at)
    }

    pub(super) fn len(&self) -> usize {
        self.done.len()
    }

    /// Refuses to go on with a file that was edited in between: positions would mean other statements.
    pub(super) fn check(&self, script: &Script) -> Result<(), ApplyError> {
        let mut done: Vec<_> = self.done.iter().collect();
        done.sort_unstable();
        for (at, recorded) in done {
            let statement = script.statements.get(*at);
            if statement.is_none_or(|statement| hash(statement) != *recorded) {
                return Err(ApplyError::InDoubt {
                    line: statement.map_or(1, line),
                    index: at + 1,
                    seen: "an earlier, interrupted try ran another text here; put the file back as it was, \
                           or finish by hand and clear lockkeeper_journal"
                        .to_owned(),
                });
            }
        }
        Ok(())
    }
}

pub(super) async fn read(session: &Session, write: &LedgerWrite) -> Result<Journal, DbError> {
    let sql = "SELECT position, hash FROM lockkeeper_journal WHERE version = ? AND direction = ? AND state = 'done'";
    let query = sqlx::query(sql)
        .bind(write.version.0.clone())
        .bind(write.direction.to_string());
    let mut done = HashMap::new();
    for row in session.rows(query).await? {
        let position = usize::try_from(number(&row, "position")?).unwrap_or(usize::MAX);
        done.insert(position.saturating_sub(1), text(&row, "hash")?);
    }
    Ok(Journal { done })
}

/// Records statement `at` as done. The caller commits it together with the statement.
pub(super) async fn record(
    session: &Session,
    write: &LedgerWrite,
    at: usize,
    statement: &Statement,
) -> Result<(), DbError> {
    let sql = "INSERT INTO lockkeeper_journal (version, direction, position, hash, state, finished_at) \
               VALUES (?, ?, ?, ?, 'done', strftime('%Y-%m-%d %H:%M:%f', 'now'))";
    let position = u64::try_from(at + 1).unwrap_or(u64::MAX);
    let query = sqlx::query(sql)
        .bind(write.version.0.clone())
        .bind(write.direction.to_string())
        .bind(signed(position)?)
        .bind(hash(statement));
    session.rows(query).await.map(|_| ())
}

pub(super) async fn clear(session: &Session, write: &LedgerWrite) -> Result<(), DbError> {
    let sql = "DELETE FROM lockkeeper_journal WHERE version = ? AND direction = ?";
    let query = sqlx::query(sql)
        .bind(write.version.0.clone())
        .bind(write.direction.to_string());
    session.rows(query).await.map(|_| ())
}

fn hash(statement: &Statement) -> String {
    hex::encode(Sha256::digest(&statement.text))
}
