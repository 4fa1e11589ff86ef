//! Taking the file: the claim against the gate row, the end of an older executor, and the registration.

use std::path::Path;
use std::time::Duration;

use super::gate;
use super::hand::{SqliteHand, who};
use super::ledger::Book;
use super::lock::{self, Wait};
use super::session::{self, Mode, Session};
use super::witness;
use crate::db::{Blocker, Claim, DatabaseOptions, DbError, ExecutorId, GateRow, Observer, TakeError};
use crate::failpoint::{self, reach};
use crate::ledger::LedgerChoice;

pub(super) async fn take(
    path: &Path,
    options: &DatabaseOptions,
    claim: &Claim,
    patience: Duration,
    observer: &dyn Observer,
) -> Result<SqliteHand, TakeError> {
    let mode = if options.create_if_missing {
        Mode::Create
    } else {
        Mode::Change
    };
    let session = Session::open(path, mode, options.connect_timeout.min(patience)).await?;
    let path = session::canonical(path)?;
    let mut wait = Wait::new(&path, "another migrator", patience, observer);
    let (row, book) = loop {
        match try_once(&session, &path, options, claim, &mut wait).await {
            Ok(Some(taken)) => break taken,
            Ok(None) => {}
            Err(TakeError::Db(error)) if session::is_busy(&error) => {}
            Err(error) => return Err(error),
        }
        wait.again().await?;
    };
    reach(failpoint::TAKE_REGISTERED);
    Ok(SqliteHand::new(
        session,
        path,
        options.clone(),
        claim.clone(),
        row,
        book,
    ))
}

/// One look, and one try to register. `None` when somebody is in the way.
async fn try_once(
    session: &Session,
    path: &Path,
    options: &DatabaseOptions,
    claim: &Claim,
    wait: &mut Wait<'_>,
) -> Result<Option<(GateRow, Book)>, TakeError> {
    // Looked at before the lock is asked for: readers go on while an old executor holds it, and whoever has no
    // right to the target must hear that instead of a time-out.
    if let Some(row) = gate::read(session).await? {
        gate::check_claim(&row, claim)?;
        if let Some(executor) = &row.executor {
            wait.name(Some(registered(path, executor)));
            if let Some(who) = gate::executor_who(session).await? {
                wait.what(format!("another migrator, {who}"));
            }
            match claim {
                Claim::Leader { .. } => {
                    // Another process's executor cannot be ended from here. If it holds the lock we wait for
                    // it; if not, the row that we are about to write stops it at its next step.
                    session::end(&executor.session, Some(&who(claim)), wait.left()).await?;
                }
                Claim::Standalone { .. } if witness::lives(path, &executor.session) => return Ok(None),
                Claim::Standalone { .. } => {}
            }
        }
    }
    session.execute("BEGIN IMMEDIATE").await?;
    let registered = register(session, path, options.ledger, claim).await;
    match registered {
        Ok(Some(taken)) => {
            lock::commit(session, wait).await?;
            Ok(Some(taken))
        }
        Ok(None) => {
            session.execute("ROLLBACK").await?;
            Ok(None)
        }
        Err(error) => {
            // The first error says more than one of a rollback that SQLite may have done by itself.
            let _ = session.execute("ROLLBACK").await;
            Err(error)
        }
    }
}

/// Writes the claim and this session into the gate row, under the write lock. `None` when a standalone claim met a
/// live executor.
async fn register(
    session: &Session,
    path: &Path,
    ledger: LedgerChoice,
    claim: &Claim,
) -> Result<Option<(GateRow, Book)>, TakeError> {
    let identity = gate::identity(path)?;
    let book = Book::open(session, ledger).await?;
    gate::ensure_row(session, &identity).await?;
    let mut row = gate::read_row(session).await?;
    gate::check_claim(&row, claim)?;
    if row.identity != identity {
        if row.is_closed() {
            return Err(DbError::IdentityChanged {
                recorded: row.identity,
                seen: identity,
            }
            .into());
        }
        // A copy, a restored backup, a move to another disk: the file brings its whole history with it, and
        // nothing is fenced in it. From here on it is a target of its own.
        row.identity = identity;
    }
    match claim {
        Claim::Leader { epoch, id } => {
            row.leader_epoch = *epoch;
            row.leader_id = Some(*id);
        }
        Claim::Standalone { .. } => {
            if row
                .executor
                .as_ref()
                .is_some_and(|executor| witness::lives(path, &executor.session))
            {
                return Ok(None);
            }
        }
    }
    row.executor = Some(session.id().clone());
    gate::write(session, &row, Some(&who(claim))).await?;
    Ok(Some((row, book)))
}

/// The registered executor, as somebody who is waited for.
pub(super) fn registered(path: &Path, executor: &ExecutorId) -> Blocker {
    let state = if witness::lives(path, &executor.session) {
        "alive"
    } else {
        "ended"
    };
    Blocker {
        kind: "session".to_owned(),
        id: executor.session.clone(),
        user: None,
        application: Some(format!(
            "registered executor, process {}, {state}",
            executor.started
        )),
        query: None,
        age_ms: 0,
    }
}
