//! A write transaction and its permit in one value.

use std::fmt;
use std::ops::{Deref, DerefMut};

use ::sqlx::pool::PoolConnection;
use ::sqlx::{Database, Error, Pool};
use sqlx_core::transaction::TransactionManager;

use super::dialect::{Begun, Gated};
use crate::gate_row::{Carried, GateRow};
use crate::permit::Permit;
use crate::refusal::WriteError;

/// Why no transaction began. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The permit's gate epoch is over: take another permit.
    #[error("the gate epoch of this permit is over")]
    Fenced,
    /// The database failed, or refused in its own words.
    #[error(transparent)]
    Database(#[from] Error),
}

impl From<BeginError> for Error {
    fn from(error: BeginError) -> Self {
        match error {
            BeginError::Fenced => Self::Protocol(error.to_string()),
            BeginError::Database(error) => error,
        }
    }
}

/// An open write transaction that holds its permit. Dropping it rolls back.
pub struct Transaction<DB: Database> {
    conn: PoolConnection<DB>,
    permit: Permit,
    open: bool,
}

impl<DB: Gated> Transaction<DB> {
    /// Begins on a connection of the pool, under a permit that the caller has. [`Agent::begin`](crate::Agent::begin)
    /// does both, and waits instead of failing.
    ///
    /// # Errors
    ///
    /// [`BeginError`]; nothing was written.
    pub async fn begin_under(permit: Permit, pool: &Pool<DB>) -> Result<Self, BeginError> {
        let conn = pool.acquire().await?;
        Self::begin_on(permit, conn).await
    }

    pub(super) async fn begin_on(permit: Permit, conn: PoolConnection<DB>) -> Result<Self, BeginError> {
        // A beginning that is dropped midway leaves it open whether a transaction is open: the connection is closed.
        let mut beginning = Beginning(Some(conn));
        let begun = begin::<DB>(beginning.get()?, &permit).await;
        let mut conn = beginning.done()?;
        match begun {
            Ok(Begun::Open) => Ok(Self {
                conn,
                permit,
                open: true,
            }),
            Ok(Begun::Fenced) => Err(BeginError::Fenced),
            Err(error) => {
                // What the database refused may have come after a BEGIN.
                if roll_back::<DB>(&mut conn).await.is_err() {
                    conn.close_on_drop();
                }
                Err(error.into())
            }
        }
    }

    /// The connection, and the permit that bounds its use.
    pub(super) fn parts(&mut self) -> (&mut DB::Connection, &Permit) {
        (&mut self.conn, &self.permit)
    }

    /// The permit that it runs under.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// Commits, unless the permit's deadline has passed: then the connection is closed, which rolls back.
    ///
    /// # Errors
    ///
    /// [`WriteError::DeadlinePassed`], or what the database said.
    pub async fn commit(mut self) -> Result<(), WriteError<Error>> {
        if self.permit.expired() {
            self.disconnect();
            return Err(WriteError::DeadlinePassed);
        }
        DB::TransactionManager::commit(&mut self.conn)
            .await
            .map_err(WriteError::Write)?;
        self.open = false;
        Ok(())
    }

    /// Rolls back.
    ///
    /// # Errors
    ///
    /// What the database said.
    pub async fn rollback(mut self) -> Result<(), Error> {
        DB::TransactionManager::rollback(&mut self.conn).await?;
        self.open = false;
        Ok(())
    }

    /// Closes the connection instead of rolling back: the server does that, whatever it was doing.
    pub fn disconnect(mut self) {
        self.open = false;
        self.conn.close_on_drop();
    }
}

async fn begin<DB: Gated>(conn: &mut DB::Connection, permit: &Permit) -> Result<Begun, Error> {
    let carried = match permit.carried() {
        Some(carried) => carried,
        None => match learn::<DB>(conn, permit).await? {
            Some(carried) => carried,
            None => return Ok(Begun::Fenced),
        },
    };
    DB::begin(conn, &carried).await
}

/// What writes of the permit's gate epoch carry, asked once per epoch. `None`: the row has moved on, or the gate is
/// closed. The row may lie behind the permit (a target that was removed and declared again), never before it: then
/// it speaks of a later gate than the one that admitted this write.
pub(super) async fn learn<DB: Gated>(
    conn: &mut DB::Connection,
    permit: &Permit,
) -> Result<Option<Carried>, Error> {
    let carried = match DB::look(conn).await? {
        None => Carried::Nothing,
        Some(row) if !row.is_open() || row.opened > permit.gate_epoch() => return Ok(None),
        Some(GateRow { carried, .. }) => carried,
    };
    permit.learned(&carried);
    Ok(Some(carried))
}

async fn roll_back<DB: Gated>(conn: &mut PoolConnection<DB>) -> Result<(), Error> {
    if DB::TransactionManager::get_transaction_depth(conn) > 0 {
        return DB::TransactionManager::rollback(conn).await;
    }
    DB::end_refused(conn).await
}

/// A connection that is closed unless beginning came to an end.
struct Beginning<DB: Database>(Option<PoolConnection<DB>>);

impl<DB: Database> Beginning<DB> {
    fn get(&mut self) -> Result<&mut DB::Connection, Error> {
        self.0.as_deref_mut().ok_or(Error::PoolClosed)
    }

    fn done(&mut self) -> Result<PoolConnection<DB>, Error> {
        self.0.take().ok_or(Error::PoolClosed)
    }
}

impl<DB: Database> Drop for Beginning<DB> {
    fn drop(&mut self) {
        if let Some(mut conn) = self.0.take() {
            conn.close_on_drop();
        }
    }
}

impl<DB: Database> Deref for Transaction<DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &DB::Connection {
        &self.conn
    }
}

impl<DB: Database> DerefMut for Transaction<DB> {
    fn deref_mut(&mut self) -> &mut DB::Connection {
        &mut self.conn
    }
}

impl<DB: Database> Drop for Transaction<DB> {
    fn drop(&mut self) {
        if self.open {
            DB::TransactionManager::start_rollback(&mut self.conn);
        }
    }
}

impl<DB: Database> fmt::Debug for Transaction<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("permit", &self.permit)
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}
