//! Single statements on PostgreSQL that carry their epoch without a transaction of their own.

use ::sqlx::postgres::{PgArguments, PgPool, PgQueryResult};
use ::sqlx::query::Query;
use ::sqlx::{AssertSqlSafe, Error, Postgres};

use super::transaction::{BeginError, learn};
use crate::agent::Agent;
use crate::gate_row::Carried;
use crate::refusal::{Patience, Refusal, Refused, WriteError, deadline};

/// Name of the common table expression; nothing refers to it, and it locks its table all the same.
const CTE: &str = "lockkeeper_gate_epoch";

/// `statement` (INSERT, UPDATE, DELETE, MERGE, or one of them behind WITH) so that it carries what is `carried`.
#[must_use]
pub fn carry(statement: &str, carried: &Carried) -> String {
    let Carried::Table(table) = carried else {
        return statement.to_owned();
    };
    let own = format!("{CTE} AS (SELECT FROM {table})");
    match split_with(statement) {
        Some((with, rest)) => format!("{with} {own}, {rest}"),
        None => format!("WITH {own} {statement}"),
    }
}

/// `WITH [RECURSIVE]` at the start, and what follows.
fn split_with(statement: &str) -> Option<(&'static str, &str)> {
    let rest = keyword(skip_blank(statement), "WITH")?;
    Some(match keyword(skip_blank(rest), "RECURSIVE") {
        Some(rest) => ("WITH RECURSIVE", rest),
        None => ("WITH", rest),
    })
}

/// What follows `word`, if the text begins with it and it ends there.
fn keyword<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(word.len())?;
    let ends = !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    (head.eq_ignore_ascii_case(word) && ends).then_some(rest)
}

/// The text without leading white space and comments.
fn skip_blank(text: &str) -> &str {
    let mut text = text.trim_start();
    loop {
        text = if let Some(rest) = text.strip_prefix("--") {
            rest.split_once('\n').map_or("", |(_, after)| after)
        } else if let Some(rest) = text.strip_prefix("/*") {
            rest.split_once("*/").map_or("", |(_, after)| after)
        } else {
            return text;
        }
        .trim_start();
    }
}

impl Agent {
    /// Runs one statement that commits by itself, carrying the permit's gate epoch in a common table expression: one
    /// round trip, prepared once per gate epoch. Waits for the gate and tries again as [`Agent::transaction`] does.
    /// `bind` gives it its arguments, anew for each try.
    ///
    /// Where only leases bind writers (strength COOPERATIVE), use a transaction: what commits by itself cannot be
    /// called back at the lease's end. The same goes behind a pooler in transaction mode that does not keep prepared
    /// statements apart (PgBouncer before 1.21).
    ///
    /// # Errors
    ///
    /// See [`WriteError`].
    pub async fn execute<B>(
        &self,
        target: &str,
        pool: &PgPool,
        statement: &str,
        mut bind: B,
    ) -> Result<PgQueryResult, WriteError<Error>>
    where
        B: FnMut(Query<'_, Postgres, PgArguments>) -> Query<'_, Postgres, PgArguments>,
    {
        let mut patience = Patience::default();
        loop {
            let mut conn = pool.acquire().await.map_err(WriteError::Write)?;
            let Ok(permit) = self.try_write(target) else {
                drop(conn);
                drop(self.write(target).await.map_err(WriteError::Agent)?);
                continue;
            };
            let gate_epoch = permit.gate_epoch();
            let carried = match permit.carried() {
                Some(carried) => Some(carried),
                None => learn::<Postgres>(&mut conn, &permit)
                    .await
                    .map_err(WriteError::Write)?,
            };
            let refused = match carried {
                None => BeginError::Fenced.into(),
                Some(carried) => {
                    let query = bind(::sqlx::query(AssertSqlSafe(carry(statement, &carried))));
                    let outcome = tokio::select! {
                        outcome = query.execute(&mut *conn) => outcome,
                        () = deadline(&permit) => return Err(WriteError::DeadlinePassed),
                    };
                    match outcome {
                        Err(error) if error.refusal() == Some(Refusal::Fenced) => error,
                        other => return other.map_err(WriteError::Write),
                    }
                }
            };
            drop((permit, conn));
            let Some(pause) = patience.refused(gate_epoch) else {
                return Err(WriteError::Write(refused));
            };
            tokio::time::sleep(pause).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(statement: &str) -> String {
        carry(statement, &Carried::Table("public.lockkeeper_g7".to_owned()))
    }

    #[test]
    fn a_statement_carries_its_epoch_in_front() {
        assert_eq!(
            carried("UPDATE t SET a = 1"),
            "WITH lockkeeper_gate_epoch AS (SELECT FROM public.lockkeeper_g7) UPDATE t SET a = 1"
        );
        assert_eq!(
            carry("UPDATE t SET a = 1", &Carried::Nothing),
            "UPDATE t SET a = 1"
        );
    }

    #[test]
    fn a_statement_with_expressions_of_its_own_keeps_them() {
        assert_eq!(
            carried("-- why\n with /* x */ recursive a as (select 1) delete from t"),
            "WITH RECURSIVE lockkeeper_gate_epoch AS (SELECT FROM public.lockkeeper_g7),  a as (select 1) delete from t"
        );
        assert!(carried("WITH a AS (SELECT 1) DELETE FROM t").starts_with("WITH lockkeeper_gate_epoch AS"));
        assert!(carried("WITHDRAW").ends_with(" WITHDRAW"));
    }
}
