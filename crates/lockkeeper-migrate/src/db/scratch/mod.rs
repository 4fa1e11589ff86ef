//! Databases that live as long as one rehearsal: made, marked as owned, dropped, and swept away when their owner
//! was killed.
//!
//! A second port beside [`Database`](super::Database), small because nothing but a rehearsal needs it. Its rules:
//!
//! * The owner's mark is set before the database is made, and dies with the owner's session (or process). Whoever
//!   sweeps drops only what is old enough *and* has no mark: a clock alone would be wrong about a slow rehearsal.
//! * Names are random and carry the time of making, so that no name is used twice.
//! * The database that is rehearsed for is read, and nothing else.

mod name;

pub(crate) use name::PREFIX;
pub use name::ScratchName;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use super::{DatabaseOptions, DbError};
use crate::dialect::Dialect;
use crate::dsn::Dsn;

/// A server (or, for SQLite, a directory) with room for scratch databases.
#[async_trait]
pub trait ScratchServer: Send + Sync + fmt::Debug {
    /// Drops scratch databases that are older than `age` and that nobody owns any more. Gives their names.
    async fn sweep(&mut self, age: Duration) -> Result<Vec<String>, DbError>;

    /// Marks the name as owned, then makes an empty database with the settings of the rehearsed one.
    async fn create(&mut self, name: &ScratchName, like: &Look) -> Result<(), DbError>;

    /// How the made database is reached.
    fn dsn(&self, name: &ScratchName) -> Result<Dsn, DbError>;

    /// Takes out of a filled scratch database what must not be there: what a barrier left, and ways to other servers.
    /// Refuses one whose programs name the rehearsed database.
    async fn tidy(&mut self, name: &ScratchName, like: &Look) -> Result<(), DbError>;

    /// Ends every session in the database and drops it. One that is gone already is success.
    async fn remove(&mut self, name: &ScratchName) -> Result<(), DbError>;
}

/// What has to be known of the rehearsed database to make another one like it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Look {
    /// Its name, as the server knows it; a path for SQLite.
    pub database: String,
    /// What follows `CREATE DATABASE name`.
    pub options: String,
    /// PostgreSQL: settings of the database (`ALTER DATABASE … SET`), name and value.
    pub settings: Vec<(String, String)>,
    /// Lockkeeper's own tables in it, which are not copied.
    pub own_tables: Vec<String>,
}

/// Where a rehearsal of `dsn` may make its database: on the server (or in the directory) of `place`.
///
/// # Errors
///
/// When the server cannot be reached.
pub async fn scratch_server(
    place: &Dsn,
    options: &DatabaseOptions,
) -> Result<Box<dyn ScratchServer>, DbError> {
    match place.dialect() {
        Dialect::Postgres => super::postgres::scratch_server(place, options).await,
        Dialect::MySql => super::mysql::scratch_server(place, options).await,
        Dialect::Sqlite => super::sqlite::scratch_server(place),
    }
}

/// Reads what a scratch database for `dsn` has to be like.
///
/// # Errors
///
/// When the database cannot be read.
pub async fn look(dsn: &Dsn, options: &DatabaseOptions) -> Result<Look, DbError> {
    match dsn.dialect() {
        Dialect::Postgres => super::postgres::look(dsn, options).await,
        Dialect::MySql => super::mysql::look(dsn, options).await,
        Dialect::Sqlite => Ok(Look {
            database: dsn
                .path()
                .unwrap_or(std::path::Path::new(""))
                .display()
                .to_string(),
            ..Look::default()
        }),
    }
}
