//! The adapter for sqlx (feature `sqlx`): PostgreSQL, MySQL and MariaDB, SQLite.
//!
//! [`Agent::begin`] and [`Agent::transaction`] take a permit, begin a transaction that carries the permit's gate epoch
//! where the target has strength EPOCH, and wait for the gate when the database refuses:
//!
//! ```no_run
//! # use lockkeeper_agent::{Agent, WriteError};
//! # async fn example(agent: Agent, pool: sqlx::PgPool) -> Result<(), WriteError<sqlx::Error>> {
//! agent.transaction("shop/local", &pool, |tx| Box::pin(async move {
//!     sqlx::query("UPDATE stock SET left_over = left_over - 1 WHERE item = $1")
//!         .bind(17).execute(&mut *tx).await
//! })).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What a transaction carries
//!
//! | database | first message | at strength EPOCH the database refuses an old epoch by |
//! |---|---|---|
//! | PostgreSQL | `SELECT FROM lockkeeper_g7; BEGIN` | the table is gone (42P01) |
//! | MySQL, MariaDB | ``BEGIN; SELECT 1 FROM `lockkeeper_g7` LIMIT 0`` | the table is gone (1146) |
//! | SQLite | `BEGIN IMMEDIATE`, then the gate row is read | the row says another epoch |
//!
//! No extra round trip on the servers, nothing that outlives the transaction: it works through a pooler in
//! transaction mode. Which table it is, and in which schema, is read from the gate row once per gate epoch. A single
//! statement on PostgreSQL carries its epoch without a transaction: [`Agent::execute`].
//!
//! # At the lease's end
//!
//! Where only leases bind writers (strength COOPERATIVE), [`Agent::transaction`] drops the work at the permit's
//! deadline and closes the connection, and [`Transaction::commit`] refuses. A COMMIT that is in flight at that moment
//! cannot be called back: that is what COOPERATIVE does not promise.

mod dialect;
mod refused;
mod statement;
mod transaction;
mod work;

pub use dialect::{Begun, Gated};
pub use refused::{FENCED, SUPERSEDED, refusal};
pub use statement::carry;
pub use transaction::{BeginError, Transaction};
pub use work::Work;

#[cfg(doc)]
use crate::Agent;
