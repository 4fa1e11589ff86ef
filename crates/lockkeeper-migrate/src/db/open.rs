//! From a DSN to the implementation of its dialect.

use super::postgres::Postgres;
use super::{Database, DatabaseOptions};
use crate::dialect::Dialect;
use crate::dsn::Dsn;

/// The target that `dsn` names. Opens no session yet.
#[must_use]
pub fn open(dsn: &Dsn, options: DatabaseOptions) -> Box<dyn Database> {
    match dsn.dialect() {
        Dialect::Postgres => Box::new(Postgres::new(dsn, options)),
        #[expect(clippy::todo, reason = "their implementations join as they land")]
        Dialect::MySql | Dialect::Sqlite => todo!(),
    }
}
