//! How a migration runs.

use std::time::Duration;

use lockkeeper_core::version::SchemaVersion;
use lockkeeper_migrate::db::{Applied, ApplyError, DbError, LedgerWrite};
use lockkeeper_migrate::ledger::{EntryState, Extent, How, LedgerEntry};
use lockkeeper_migrate::source::{Checksum, Direction};

use super::Running;
use super::hand::Own;
use super::state::{Journal, State};
use crate::checker::STATEMENTS;

/// Runs one direction of one migration, and records it.
pub(super) async fn apply(own: &Own, write: &LedgerWrite) -> Result<Applied, ApplyError> {
    match own.server.0.running {
        Running::InOneTransaction => in_one_transaction(own, write).await,
        Running::Journalled => journalled(own, write).await,
    }
}

async fn in_one_transaction(own: &Own, write: &LedgerWrite) -> Result<Applied, ApplyError> {
    own.lock().await?;
    let done = transaction(own, write).await;
    // Committed or rolled back: the lock goes either way.
    own.server.unlock_row(own.pid);
    done
}

async fn transaction(own: &Own, write: &LedgerWrite) -> Result<Applied, ApplyError> {
    let server = &own.server;
    own.stands(&server.state())?;
    if is_recorded(&server.state(), write) {
        return Ok(Applied::Already);
    }
    let begun = tokio::time::Instant::now();
    for statement in 0..STATEMENTS {
        own.works(statement_time(own)).await?;
        if server.0.chance.percent(server.0.fails) {
            return Err(ApplyError::RolledBack {
                line: statement + 1,
                message: "simulated failure".to_owned(),
            });
        }
    }
    server.change(|state| {
        if !state.lives(own.pid) {
            return Err(super::session::lost("the session has ended"));
        }
        own.stands(state)?;
        for statement in in_order(write.direction) {
            server.0.checker.effect(
                server.name(),
                &write.version,
                write.direction,
                statement,
                &own.by(),
            );
        }
        record(state, write);
        Ok(())
    })?;
    Ok(ran(begun.elapsed()))
}

async fn journalled(own: &Own, write: &LedgerWrite) -> Result<Applied, ApplyError> {
    let begun = tokio::time::Instant::now();
    let own_journal = Journal {
        version: write.version.clone(),
        direction: write.direction,
        done: 0,
        begun: false,
    };
    let journal = own
        .under_lock(|state| {
            if is_recorded(state, write) {
                return Ok(None);
            }
            let journal = state.journal.get_or_insert(own_journal);
            Ok(Some(journal.clone()))
        })
        .await?;
    let Some(journal) = journal else {
        return Ok(Applied::Already);
    };
    if journal.version != write.version || journal.direction != write.direction {
        return Err(ApplyError::Db(DbError::Unsupported(format!(
            "version {} is applied in part",
            journal.version
        ))));
    }
    let statements: Vec<usize> = in_order(write.direction).collect();
    for at in journal.done..STATEMENTS {
        run(own, write, &statements, at).await?;
    }
    own.under_lock(|state| {
        state.journal = None;
        record(state, write);
        Ok(())
    })
    .await?;
    Ok(ran(begun.elapsed()))
}

/// One statement: the mark before it, the statement, which commits by itself, and the mark after it.
async fn run(own: &Own, write: &LedgerWrite, statements: &[usize], at: usize) -> Result<(), ApplyError> {
    let server = &own.server;
    let (version, statement) = (&write.version, statements[at]);
    let was_begun = own
        .under_lock(|state| {
            Ok(state
                .journal
                .as_mut()
                .is_some_and(|j| std::mem::replace(&mut j.begun, true)))
        })
        .await?;
    // It was begun by an earlier hand: the database tells whether it took effect.
    let done = was_begun && is_done(own, version, write.direction, statement);
    if !done {
        own.works(statement_time(own)).await?;
        if server.0.chance.percent(server.0.fails) {
            own.under_lock(|state| {
                if at == 0 {
                    state.journal = None;
                } else if let Some(journal) = &mut state.journal {
                    journal.begun = false;
                }
                Ok(())
            })
            .await?;
            return Err(failed(at));
        }
        // What the barrier's trigger and the server ask: whether the session lives.
        let took_effect = server.change(|state| {
            let lives = state.lives(own.pid);
            if lives {
                server
                    .0
                    .checker
                    .effect(server.name(), version, write.direction, statement, &own.by());
            }
            lives
        });
        if !took_effect {
            return Err(super::session::lost("the session has ended").into());
        }
        own.works(server.0.chance.millis(1, 30)).await?;
    }
    own.under_lock(|state| {
        if let Some(journal) = &mut state.journal {
            journal.done = at + 1;
            journal.begun = false;
        }
        Ok(())
    })
    .await?;
    Ok(())
}

fn failed(at: usize) -> ApplyError {
    let message = "simulated failure".to_owned();
    match at {
        0 => ApplyError::RolledBack { line: 1, message },
        done => ApplyError::Partial {
            line: at + 1,
            message,
            done,
            total: STATEMENTS,
        },
    }
}

fn is_done(own: &Own, version: &SchemaVersion, direction: Direction, statement: usize) -> bool {
    let there = own
        .server
        .0
        .checker
        .is_there(own.server.name(), version, statement);
    match direction {
        Direction::Up => there,
        Direction::Down => !there,
    }
}

/// What was made last goes first.
fn in_order(direction: Direction) -> Box<dyn Iterator<Item = usize> + Send> {
    match direction {
        Direction::Up => Box::new(0..STATEMENTS),
        Direction::Down => Box::new((0..STATEMENTS).rev()),
    }
}

fn statement_time(own: &Own) -> Duration {
    own.server.0.chance.millis(1, 1200)
}

fn ran(duration: Duration) -> Applied {
    Applied::Ran {
        duration,
        notices: Vec::new(),
    }
}

fn is_recorded(state: &State, write: &LedgerWrite) -> bool {
    let there = state.ledger.iter().any(|entry| entry.version == write.version);
    match write.direction {
        Direction::Up => there,
        Direction::Down => !there,
    }
}

fn record(state: &mut State, write: &LedgerWrite) {
    match write.direction {
        Direction::Up => state.ledger.push(LedgerEntry {
            version: write.version.clone(),
            name: write.name.clone(),
            checksum_up: Checksum(write.checksum.clone()).into(),
            applied_at_unix_ms: 0,
            duration_ms: 0,
            applied_by: write.applied_by.clone(),
            leader_epoch: None,
            layout: write.layout.clone(),
            warnings: 0,
            state: EntryState::Applied,
            how: How::Ran,
            extent: Extent::One,
        }),
        Direction::Down => state.ledger.retain(|entry| entry.version != write.version),
    }
}
