//! Verification scripts: does the last query say yes?

use std::time::Duration;

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, TypeInfo, ValueRef};

use super::session::Session;
use crate::db::{DbError, VerifyOutcome};
use crate::sql::{Statement, StatementKind};

/// Runs a verification script; whoever calls it undoes what it did.
pub(super) async fn run(
    session: &Session,
    statements: &[Statement],
    limit: Option<Duration>,
) -> Result<VerifyOutcome, DbError> {
    let mut last = None;
    for statement in statements {
        if let StatementKind::TransactionControl(_) = statement.kind {
            // Under a barrier a COMMIT would open the gate.
            return Ok(failed(statement, "it must not begin or end a transaction"));
        }
        match session.answer(&statement.text, limit).await {
            Ok(Some(rows)) => last = Some((statement, rows)),
            Ok(None) => {}
            Err(DbError::Server { code, message }) if code != "SQLITE_BUSY" => {
                return Ok(VerifyOutcome::Failed(format!(
                    "line {}: {message} ({code})",
                    statement.line
                )));
            }
            // A look may change nothing.
            Err(DbError::Permission { what, .. }) => return Ok(failed(statement, &what)),
            Err(error) => return Err(error),
        }
    }
    Ok(match last {
        Some((statement, rows)) => judge(statement, rows.first()),
        None => VerifyOutcome::Passed,
    })
}

fn judge(statement: &Statement, row: Option<&SqliteRow>) -> VerifyOutcome {
    let said = match row.map(first_column) {
        None => return failed(statement, "the query answered no row"),
        Some(Err(error)) => return failed(statement, &error.to_string()),
        Some(Ok(said)) => said,
    };
    match said.as_deref() {
        None => failed(statement, "the query answered NULL"),
        Some(text) if ["0", "0.0", "false", "f"].contains(&text.to_ascii_lowercase().as_str()) => {
            failed(statement, &format!("the query answered {text}, which is false"))
        }
        Some(_) => VerifyOutcome::Passed,
    }
}

fn failed(statement: &Statement, what: &str) -> VerifyOutcome {
    VerifyOutcome::Failed(format!("line {}: {what}", statement.line))
}

/// The first column as text, whatever SQLite stores in it.
pub(super) fn first_column(row: &SqliteRow) -> Result<Option<String>, DbError> {
    let unreadable = |error: sqlx::Error| DbError::Server {
        code: "driver".to_owned(),
        message: error.to_string(),
    };
    let value = row.try_get_raw(0).map_err(unreadable)?;
    if value.is_null() {
        return Ok(None);
    }
    let stored = value.type_info().name().to_owned();
    Ok(Some(match stored.as_str() {
        "INTEGER" => row
            .try_get_unchecked::<i64, _>(0)
            .map_err(unreadable)?
            .to_string(),
        "REAL" => row
            .try_get_unchecked::<f64, _>(0)
            .map_err(unreadable)?
            .to_string(),
        "BLOB" => hex::encode(row.try_get_unchecked::<Vec<u8>, _>(0).map_err(unreadable)?),
        _ => row.try_get_unchecked::<String, _>(0).map_err(unreadable)?,
    }))
}
