//! The parts of a script that are run and journalled as one each.

use crate::sql::{Statement, StatementKind, TransactionVerb};

/// How a unit runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnitKind<'a> {
    /// In a transaction together with its journal row; with the file's own BEGIN, where that asks for a mode.
    Transaction(Option<&'a str>),
    /// By itself: the server refuses it in a transaction.
    Bare,
    /// It only sets up the session, so it is not journalled and runs again after a crash.
    Session,
}

/// One or more statements that take effect together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unit<'a> {
    pub(super) kind: UnitKind<'a>,
    /// Index of its first statement in the script, from 0.
    pub(super) first: usize,
    /// Never empty.
    pub(super) statements: &'a [Statement],
}

impl<'a> Unit<'a> {
    pub(super) fn last(&self) -> &'a Statement {
        &self.statements[self.statements.len() - 1]
    }

    pub(super) fn line(&self) -> usize {
        self.statements[0].line as usize
    }
}

/// Splits a script. What lies between a BEGIN and a COMMIT of the file's own is one unit; a COMMIT without BEGIN
/// does nothing where each statement commits by itself. Everything else that ends a transaction is refused, since
/// its effect would depend on how the file is run.
pub(super) fn units(statements: &[Statement]) -> Result<Vec<Unit<'_>>, String> {
    let mut units = Vec::new();
    let mut at = 0;
    while let Some(statement) = statements.get(at) {
        match &statement.kind {
            StatementKind::TransactionControl(TransactionVerb::Begin | TransactionVerb::BeginWithMode) => {
                let length = statements[at + 1..]
                    .iter()
                    .position(|s| matches!(s.kind, StatementKind::TransactionControl(_)))
                    .ok_or_else(|| format!("line {}: this transaction has no COMMIT", statement.line))?;
                let end = at + 1 + length;
                if statements[end].kind != StatementKind::TransactionControl(TransactionVerb::Commit) {
                    return Err(refusal(&statements[end]));
                }
                if length > 0 {
                    let mode = (statement.kind
                        == StatementKind::TransactionControl(TransactionVerb::BeginWithMode))
                    .then_some(statement.text.as_str());
                    units.push(Unit {
                        kind: UnitKind::Transaction(mode),
                        first: at + 1,
                        statements: &statements[at + 1..end],
                    });
                }
                at = end + 1;
                continue;
            }
            StatementKind::TransactionControl(TransactionVerb::Commit) => {}
            StatementKind::TransactionControl(_) => return Err(refusal(statement)),
            kind => units.push(Unit {
                kind: single(kind, &statement.text),
                first: at,
                statements: &statements[at..=at],
            }),
        }
        at += 1;
    }
    Ok(units)
}

fn single(kind: &StatementKind, text: &str) -> UnitKind<'static> {
    match kind {
        StatementKind::NonTransactional { .. } => UnitKind::Bare,
        StatementKind::Session => UnitKind::Session,
        // pg_dump sets its search path with a query.
        StatementKind::Query if text.contains("set_config(") => UnitKind::Session,
        _ => UnitKind::Transaction(None),
    }
}

fn refusal(statement: &Statement) -> String {
    let word = statement
        .text
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_ascii_uppercase();
    format!(
        "line {}: {word} cannot be run safely here; keep to BEGIN … COMMIT",
        statement.line
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Dialect;
    use crate::sql::split;

    fn shape(text: &str) -> Result<Vec<(String, usize, usize)>, String> {
        let statements = split(Dialect::Postgres, text).unwrap();
        let kind = |unit: &Unit<'_>| match unit.kind {
            UnitKind::Transaction(None) => "tx".to_owned(),
            UnitKind::Transaction(Some(begin)) => begin.to_owned(),
            UnitKind::Bare => "bare".to_owned(),
            UnitKind::Session => "session".to_owned(),
        };
        Ok(units(&statements)?
            .iter()
            .map(|u| (kind(u), u.first, u.statements.len()))
            .collect())
    }

    #[test]
    fn a_files_own_transactions_stay_together() {
        let text = "SET search_path = a; BEGIN; INSERT INTO t VALUES (1); DELETE FROM t; COMMIT; \
                    CREATE INDEX CONCURRENTLY i ON t (a); COMMIT; SELECT 1";
        assert_eq!(
            shape(text).unwrap(),
            [
                ("session".to_owned(), 0, 1),
                ("tx".to_owned(), 2, 2),
                ("bare".to_owned(), 5, 1),
                ("tx".to_owned(), 7, 1)
            ]
        );
    }

    #[test]
    fn what_cannot_be_journalled_is_refused_with_its_line() {
        for text in [
            "SELECT 1;\nROLLBACK",
            "SELECT 1;\nBEGIN; SELECT 2",
            "BEGIN;\nROLLBACK",
        ] {
            assert!(shape(text).unwrap_err().starts_with("line 2: "), "{text}");
        }
    }
}
