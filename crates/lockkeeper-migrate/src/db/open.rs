//! From a DSN to the implementation of its dialect.

use std::path::Path;

use super::mysql::MySqlDatabase;
use super::postgres::Postgres;
use super::sqlite::SqliteDatabase;
use super::{Database, DatabaseOptions};
use crate::dialect::Dialect;
use crate::dsn::Dsn;

/// The target that `dsn` names. Opens no session yet.
#[must_use]
pub fn open(dsn: &Dsn, options: DatabaseOptions) -> Box<dyn Database> {
    match dsn.dialect() {
        Dialect::Postgres => Box::new(Postgres::new(dsn, options)),
        // A DSN of this dialect always has a path.
        Dialect::Sqlite => Box::new(SqliteDatabase::new(dsn.path().unwrap_or(Path::new("")), options)),
        Dialect::MySql => Box::new(MySqlDatabase::new(dsn, options)),
    }
}
