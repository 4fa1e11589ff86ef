//! Verification scripts, and single values.

use std::time::Duration;

use futures::TryStreamExt;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, Either, PgConnection, Row, ValueRef};

use super::session::{code, db_error, run};
use crate::db::{DbError, VerifyOutcome};
use crate::sql::{Statement, StatementKind};

/// One row of one column as text.
pub(super) async fn scalar(conn: &mut PgConnection, query: &str) -> Result<Option<String>, DbError> {
    let rows = rows(conn, query).await?;
    rows.first().map_or(Ok(None), first_column)
}

/// Runs the statements in a transaction that is rolled back whatever they say.
pub(super) async fn verify(
    conn: &mut PgConnection,
    statements: &[Statement],
    limit: Option<Duration>,
) -> Result<VerifyOutcome, DbError> {
    let mut tx = conn.begin().await.map_err(db_error)?;
    if let Some(limit) = limit {
        run(
            &mut tx,
            format!("SET LOCAL statement_timeout = {}", limit.as_millis().max(1)),
        )
        .await?;
    }
    let outcome = judge(&mut tx, statements).await;
    // After a lost session there is nothing to roll back.
    let rolled_back = tx.rollback().await.map_err(db_error);
    let outcome = outcome?;
    rolled_back?;
    Ok(outcome)
}

async fn judge(tx: &mut PgConnection, statements: &[Statement]) -> Result<VerifyOutcome, DbError> {
    let last_query = statements
        .iter()
        .rposition(|statement| statement.kind == StatementKind::Query);
    for (index, statement) in statements.iter().enumerate() {
        if let StatementKind::TransactionControl(_) = statement.kind {
            return Ok(failed(
                statement,
                "a verification script must not begin or end a transaction",
            ));
        }
        let rows = match rows(tx, &statement.text).await {
            Ok(rows) => rows,
            Err(error @ DbError::ConnectionLost(_)) => return Err(error),
            Err(error) => {
                let code = code(&error).unwrap_or("error").to_owned();
                return Ok(failed(statement, &format!("{code}: {}", words(&error))));
            }
        };
        if Some(index) == last_query {
            let value = match rows.first() {
                Some(row) => first_column(row)?,
                None => return Ok(failed(statement, "it answered no row")),
            };
            match value.as_deref() {
                None => return Ok(failed(statement, "it answered NULL")),
                Some("f" | "false" | "0") => return Ok(failed(statement, "it answered false")),
                Some(_) => {}
            }
        }
    }
    Ok(VerifyOutcome::Passed)
}

fn words(error: &DbError) -> String {
    match error {
        DbError::Server { message, .. } => message.clone(),
        other => other.to_string(),
    }
}

fn failed(statement: &Statement, why: &str) -> VerifyOutcome {
    let first_line = statement.shown().lines().next().unwrap_or_default();
    VerifyOutcome::Failed(format!("line {}: {why}: {first_line}", statement.line))
}

async fn rows(conn: &mut PgConnection, query: &str) -> Result<Vec<PgRow>, DbError> {
    let query = sqlx::raw_sql(AssertSqlSafe(query.to_owned()));
    let mut stream = query.fetch_many(conn);
    let mut rows = Vec::new();
    // The first row is all that anybody looks at, but the statement must run to its end.
    while let Some(item) = stream.try_next().await.map_err(db_error)? {
        if let Either::Right(row) = item
            && rows.is_empty()
        {
            rows.push(row);
        }
    }
    Ok(rows)
}

/// Simple queries answer in text whatever the column's type is.
fn first_column(row: &PgRow) -> Result<Option<String>, DbError> {
    if row.is_empty() {
        return Ok(None);
    }
    let value = row.try_get_raw(0).map_err(db_error)?;
    if value.is_null() {
        return Ok(None);
    }
    let text = value.as_str().map_err(|error| DbError::Server {
        code: "22021".to_owned(),
        message: error.to_string(),
    })?;
    Ok(Some(text.to_owned()))
}
