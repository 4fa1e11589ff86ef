//! One session, spoken to in the text protocol only.
//!
//! Nothing is prepared: some statements cannot be, a migration file must run as its author's client would send it,
//! and values that are texts in every case need one way of reading them.

use std::time::Duration;

use futures::TryStreamExt;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Either, Executor, Row as _};

use super::failure::Failure;

/// One row, each value as the server prints it.
pub(super) type Row = Vec<Option<String>>;

/// An open session. Never reconnects.
#[derive(Debug)]
pub(super) struct Session {
    connection: MySqlConnection,
}

/// What one statement (or one `CALL`) answered.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Rows found, inserted, deleted, as the server counts them.
    pub(super) affected: u64,
    /// The last result set.
    pub(super) rows: Vec<Row>,
}

impl Session {
    pub(super) async fn open(options: &MySqlConnectOptions, limit: Duration) -> Result<Self, Failure> {
        let connecting = tokio::time::timeout(limit, options.connect());
        match connecting.await {
            Ok(Ok(connection)) => Ok(Self { connection }),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Failure::Lost(format!(
                "no answer within {} ms",
                limit.as_millis()
            ))),
        }
    }

    /// Runs SQL and gives the number of rows that it affected.
    pub(super) async fn run(&mut self, sql: &str) -> Result<u64, Failure> {
        let result = self
            .connection
            .execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())))
            .await?;
        Ok(result.rows_affected())
    }

    /// Runs SQL and gives all rows of its last result set.
    pub(super) async fn ask(&mut self, sql: &str) -> Result<Answer, Failure> {
        let mut stream = self
            .connection
            .fetch_many(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())));
        let mut answer = Answer::default();
        let mut rows = Vec::new();
        while let Some(part) = stream.try_next().await? {
            match part {
                Either::Left(done) => {
                    answer.affected = done.rows_affected();
                    // A CALL ends with an OK packet that has no rows: it must not hide the last result set.
                    if !rows.is_empty() {
                        answer.rows = std::mem::take(&mut rows);
                    }
                }
                Either::Right(row) => rows.push(texts(&row)),
            }
        }
        Ok(answer)
    }

    /// Runs SQL and gives its rows.
    pub(super) async fn rows(&mut self, sql: &str) -> Result<Vec<Row>, Failure> {
        Ok(self.ask(sql).await?.rows)
    }

    /// Runs SQL and gives its first row.
    pub(super) async fn row(&mut self, sql: &str) -> Result<Option<Row>, Failure> {
        Ok(self.rows(sql).await?.into_iter().next())
    }

    /// Runs SQL and gives the first column of its first row.
    pub(super) async fn value(&mut self, sql: &str) -> Result<Option<String>, Failure> {
        Ok(self
            .row(sql)
            .await?
            .and_then(|row| row.into_iter().next().flatten()))
    }

    /// Whether the query answers a row.
    pub(super) async fn any(&mut self, sql: &str) -> Result<bool, Failure> {
        Ok(self.row(sql).await?.is_some())
    }

    /// Says good-bye. A session that is already gone is closed as well.
    pub(super) async fn close(self) {
        let _ = tokio::time::timeout(CLOSE_LIMIT, self.connection.close()).await;
    }
}

/// Closing sends one packet and waits for nothing of worth.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

fn texts(row: &MySqlRow) -> Row {
    (0..row.len()).map(|column| text(row, column)).collect()
}

fn text(row: &MySqlRow, column: usize) -> Option<String> {
    let bytes = row
        .try_get_unchecked::<Option<Vec<u8>>, _>(column)
        .ok()
        .flatten()?;
    Some(
        String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
    )
}
