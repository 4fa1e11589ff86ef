//! Running a transaction until the database takes it.

use std::future::Future;
use std::pin::Pin;

use ::sqlx::{Database, Error, Pool};

use super::dialect::Gated;
use super::transaction::Transaction;
use crate::agent::Agent;
use crate::refusal::{Patience, Refusal, Refused, WriteError, deadline};

/// What one try of a transaction does.
pub type Work<'c, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>>;

impl Agent {
    /// Takes a permit and begins a transaction that carries its gate epoch, waiting while the target is fenced. No
    /// connection of the pool is held while it waits.
    ///
    /// What happens inside is the caller's: a statement that the database refuses later (`LK001`) is an error here.
    /// [`Agent::transaction`] runs it again.
    ///
    /// # Errors
    ///
    /// See [`WriteError`].
    pub async fn begin<DB: Gated>(
        &self,
        target: &str,
        pool: &Pool<DB>,
    ) -> Result<Transaction<DB>, WriteError<Error>> {
        let mut patience = Patience::default();
        loop {
            let conn = pool.acquire().await.map_err(WriteError::Write)?;
            let Ok(permit) = self.try_write(target) else {
                drop(conn);
                drop(self.write(target).await.map_err(WriteError::Agent)?);
                continue;
            };
            let gate_epoch = permit.gate_epoch();
            let refused = match Transaction::begin_on(permit, conn).await {
                Ok(transaction) => return Ok(transaction),
                Err(error) => error,
            };
            if refused.refusal() != Some(Refusal::Fenced) {
                return Err(WriteError::Write(refused.into()));
            }
            let Some(pause) = patience.refused(gate_epoch) else {
                return Err(WriteError::Write(refused.into()));
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Runs `work` in a transaction as [`Agent::begin`] makes it, and commits. When the database refuses it as fenced,
    /// it is rolled back, the gate is waited for, and `work` runs again: so it must do nothing outside of the
    /// transaction that may not be done twice. At the permit's deadline it is dropped and its connection closed.
    ///
    /// # Errors
    ///
    /// See [`WriteError`]. A newer leader's refusal (`LK002`) is not tried again.
    pub async fn transaction<DB, T, E, W>(
        &self,
        target: &str,
        pool: &Pool<DB>,
        mut work: W,
    ) -> Result<T, WriteError<E>>
    where
        DB: Gated,
        E: From<Error> + Refused,
        W: for<'c> FnMut(&'c mut <DB as Database>::Connection) -> Work<'c, T, E>,
    {
        let mut patience = Patience::default();
        loop {
            let mut transaction = self.begin(target, pool).await.map_err(own)?;
            let gate_epoch = transaction.permit().gate_epoch();
            let (conn, permit) = transaction.parts();
            let outcome = tokio::select! {
                biased;
                () = deadline(permit) => None,
                outcome = work(conn) => Some(outcome),
            };
            let error = match outcome {
                None => {
                    transaction.disconnect();
                    return Err(WriteError::DeadlinePassed);
                }
                Some(Ok(value)) => match transaction.commit().await {
                    Ok(()) => return Ok(value),
                    Err(WriteError::Write(error)) => E::from(error),
                    Err(other) => return Err(own(other)),
                },
                Some(Err(error)) => {
                    // Before the wait: what is left open would keep its locks, and be ended by the migration.
                    // A connection that cannot roll back is broken, and has none.
                    let _ = transaction.rollback().await;
                    error
                }
            };
            if error.refusal() != Some(Refusal::Fenced) {
                return Err(WriteError::Write(error));
            }
            let Some(pause) = patience.refused(gate_epoch) else {
                return Err(WriteError::Write(error));
            };
            tokio::time::sleep(pause).await;
        }
    }
}

/// The same error in the caller's type.
pub(super) fn own<E: From<Error>>(error: WriteError<Error>) -> WriteError<E> {
    match error {
        WriteError::Agent(error) => WriteError::Agent(error),
        WriteError::DeadlinePassed => WriteError::DeadlinePassed,
        WriteError::Write(error) => WriteError::Write(E::from(error)),
    }
}
