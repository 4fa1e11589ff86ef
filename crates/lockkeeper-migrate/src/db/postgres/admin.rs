//! An administrator's session, for what is no migration.

use sqlx::{AssertSqlSafe, Executor};

use super::session::{self, Connector, Session};
use crate::db::{DatabaseOptions, DbError};
use crate::dsn::Dsn;

pub(in crate::db) struct PostgresAdmin {
    session: Session,
}

impl PostgresAdmin {
    pub(in crate::db) async fn connect(dsn: &Dsn, options: DatabaseOptions) -> Result<Self, DbError> {
        let session = Connector::new(dsn, options).connect().await?;
        Ok(Self { session })
    }

    /// Whether the question answers a row.
    pub(in crate::db) async fn any(&mut self, question: &str) -> Result<bool, DbError> {
        let question = sqlx::raw_sql(AssertSqlSafe(question.to_owned()));
        let row = self.session.conn.fetch_optional(question).await;
        Ok(row.map_err(session::db_error)?.is_some())
    }

    pub(in crate::db) async fn run(&mut self, sql: &str) -> Result<(), DbError> {
        session::run(&mut self.session.conn, sql).await
    }

    pub(in crate::db) async fn close(self) {
        self.session.close().await;
    }
}
