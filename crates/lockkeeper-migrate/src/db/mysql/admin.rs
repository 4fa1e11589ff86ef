//! An administrator's session, for what is no migration.

use super::failure::Failure;
use super::session::Session;
use super::target::Target;
use crate::db::{DatabaseOptions, DbError};
use crate::dsn::Dsn;

pub(in crate::db) struct MySqlAdmin {
    session: Session,
}

impl MySqlAdmin {
    pub(in crate::db) async fn connect(dsn: &Dsn, options: DatabaseOptions) -> Result<Self, DbError> {
        let mut session = Target::new(dsn, options).connect().await?;
        // Literals are written for a server where backslashes escape.
        session.run("SET SESSION sql_mode = ''").await.map_err(told)?;
        Ok(Self { session })
    }

    /// Whether the question answers a row.
    pub(in crate::db) async fn any(&mut self, question: &str) -> Result<bool, DbError> {
        self.session.any(question).await.map_err(told)
    }

    pub(in crate::db) async fn run(&mut self, sql: &str) -> Result<(), DbError> {
        self.session.run(sql).await.map(|_| ()).map_err(told)
    }

    pub(in crate::db) async fn close(self) {
        self.session.close().await;
    }
}

/// The server's error number as code: its SQLSTATE is the same for most of what an administrator runs into.
fn told(failure: Failure) -> DbError {
    match failure {
        Failure::Server { number, message, .. } => DbError::Server {
            code: number.to_string(),
            message,
        },
        other @ (Failure::Cancelled(_) | Failure::Lost(_)) => other.into(),
    }
}
