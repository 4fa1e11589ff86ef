//! Verification scripts: run in a transaction that is rolled back.

use super::failure::Failure;
use super::session::{Row, Session};
use super::target::Target;
use super::variables::Variables;
use crate::db::{DbError, VerifyOutcome};
use crate::sql::{Statement, StatementKind};

pub(super) async fn verify(
    session: &mut Session,
    target: &Target,
    statements: &[Statement],
) -> Result<VerifyOutcome, DbError> {
    if let Some(statement) = statements.iter().find(|statement| commits(&statement.kind)) {
        return Ok(VerifyOutcome::Failed(format!(
            "line {}: a verification script runs in a transaction that is rolled back, and this statement would end it",
            statement.line
        )));
    }
    let variables = Variables::before(session, statements).await?;
    session.run("START TRANSACTION").await?;
    let outcome = run(session, statements).await;
    session.run("ROLLBACK").await?;
    variables.restore(session, target).await?;
    match outcome {
        Ok(outcome) => Ok(outcome),
        Err(failure) if failure.is_lost() => Err(failure.into()),
        Err(failure) => Ok(VerifyOutcome::Failed(failure.to_string())),
    }
}

fn commits(kind: &StatementKind) -> bool {
    match kind {
        StatementKind::TransactionControl(_)
        | StatementKind::NonTransactional { .. }
        | StatementKind::Ddl
        | StatementKind::Pragma { .. } => true,
        StatementKind::Savepoint
        | StatementKind::RowChange
        | StatementKind::Query
        | StatementKind::Session
        | StatementKind::Other => false,
    }
}

async fn run(session: &mut Session, statements: &[Statement]) -> Result<VerifyOutcome, Failure> {
    let mut last_query = None;
    for statement in statements {
        match session.ask(&statement.text).await {
            Ok(answer) if statement.kind == StatementKind::Query => {
                last_query = Some((statement, answer.rows))
            }
            Ok(_) => {}
            Err(failure) if failure.is_lost() => return Err(failure),
            Err(failure) => {
                return Ok(VerifyOutcome::Failed(format!(
                    "line {}: {failure}",
                    statement.line
                )));
            }
        }
    }
    Ok(match last_query {
        None => VerifyOutcome::Passed,
        Some((statement, rows)) => judge(statement, &rows),
    })
}

fn judge(statement: &Statement, rows: &[Row]) -> VerifyOutcome {
    let failed = |what: &str| VerifyOutcome::Failed(format!("line {}: {what}", statement.line));
    match rows.first().map(|row| row.first().and_then(Option::as_deref)) {
        None => failed("the query answered no row"),
        Some(None) => failed("the query answered NULL"),
        Some(Some(value)) if is_false(value) => {
            failed(&format!("the query answered {value:?}, which is false"))
        }
        Some(Some(_)) => VerifyOutcome::Passed,
    }
}

/// As the server itself decides about a text: what begins with no number other than 0 is false, but a word is true.
fn is_false(value: &str) -> bool {
    let value = value.trim();
    value.is_empty()
        || value.eq_ignore_ascii_case("false")
        || value.parse::<f64>().is_ok_and(|number| number == 0.0)
}
