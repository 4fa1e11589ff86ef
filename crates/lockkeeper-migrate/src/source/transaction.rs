//! Whether a script runs in one transaction.

use std::ops::Range;

use serde::Serialize;

use crate::dialect::Dialect;
use crate::sql::{Statement, StatementKind, TransactionVerb};

/// How a script's statements are run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "mode")]
pub enum TransactionMode {
    /// All of them, and the ledger's row, in one transaction.
    Transactional,
    /// One by one, each recorded in the journal.
    NonTransactional {
        /// Why, for people: names the line where the file itself is the reason.
        why: String,
    },
}

impl TransactionMode {
    /// Whether all statements run in one transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        matches!(self, Self::Transactional)
    }
}

/// What a layout says about transactions for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FileRule {
    /// The layout runs the file in one transaction on this dialect.
    PerFile,
    /// The layout runs it without, because this dialect's DDL commits anyway.
    DialectHasNone,
    /// The file itself asks to be run without.
    AskedForNone { how: &'static str },
}

impl FileRule {
    /// The rule that all layouts share unless a file says otherwise: it follows from what the dialects can do.
    pub(super) fn by_dialect(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Postgres | Dialect::Sqlite => Self::PerFile,
            Dialect::MySql => Self::DialectHasNone,
        }
    }
}

type Decision = (TransactionMode, Vec<Statement>, Option<[Range<usize>; 2]>);

/// Decides on the mode. Also takes a BEGIN … COMMIT around all statements off: inside our transaction that
/// COMMIT would end ours before the ledger is written, and ours does what the file asks for.
pub(super) fn decide(rule: &FileRule, dialect: Dialect, statements: Vec<Statement>) -> Decision {
    if let Some((begin, commit)) = own_transaction(&statements) {
        let inner = without(&statements, [begin, commit]);
        if obstacle(&inner).is_none() && (dialect != Dialect::MySql || only_row_changes(&inner)) {
            let ranges = [statements[begin].range.clone(), statements[commit].range.clone()];
            return (TransactionMode::Transactional, inner, Some(ranges));
        }
    }
    let why = match rule {
        FileRule::AskedForNone { how } => Some((*how).to_owned()),
        FileRule::PerFile => obstacle(&statements),
        FileRule::DialectHasNone => obstacle(&statements).or_else(|| {
            let why = "mysql commits before and after each DDL statement";
            (!only_row_changes(&statements)).then(|| why.to_owned())
        }),
    };
    let mode = why.map_or(TransactionMode::Transactional, |why| {
        TransactionMode::NonTransactional { why }
    });
    (mode, statements, None)
}

/// The places of a BEGIN and COMMIT that enclose everything but PRAGMA foreign_keys, which SQLite's files keep
/// outside of the transaction.
fn own_transaction(statements: &[Statement]) -> Option<(usize, usize)> {
    let outside = |s: &Statement| s.kind.is_foreign_keys_pragma();
    let first = statements.iter().position(|s| !outside(s))?;
    let last = statements.iter().rposition(|s| !outside(s))?;
    let is = |at: usize, verb| statements[at].kind == StatementKind::TransactionControl(verb);
    (is(first, TransactionVerb::Begin) && is(last, TransactionVerb::Commit)).then_some((first, last))
}

fn without(statements: &[Statement], places: [usize; 2]) -> Vec<Statement> {
    let kept = statements
        .iter()
        .enumerate()
        .filter(|(at, _)| !places.contains(at));
    kept.map(|(_, statement)| statement.clone()).collect()
}

/// The first statement that no transaction of ours can hold.
fn obstacle(statements: &[Statement]) -> Option<String> {
    statements.iter().find_map(|s| match &s.kind {
        StatementKind::TransactionControl(_) => {
            let verb = s
                .text
                .split_whitespace()
                .next()
                .unwrap_or_default()
                .to_ascii_uppercase();
            Some(format!(
                "line {}: {verb} controls a transaction of the file's own",
                s.line
            ))
        }
        StatementKind::NonTransactional { what } => {
            Some(format!("line {}: {what} cannot run in a transaction", s.line))
        }
        _ => None,
    })
}

/// Whether one transaction can hold all of it on MySQL and MariaDB, where any DDL would commit it.
fn only_row_changes(statements: &[Statement]) -> bool {
    statements.iter().all(|s| {
        matches!(
            s.kind,
            StatementKind::RowChange
                | StatementKind::Query
                | StatementKind::Session
                | StatementKind::Savepoint
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::split;
    use Dialect::{MySql, Postgres, Sqlite};

    fn mode(rule: &FileRule, dialect: Dialect, text: &str) -> (String, Vec<String>) {
        let (mode, statements, _) = decide(rule, dialect, split(dialect, text).unwrap());
        let mode = match mode {
            TransactionMode::Transactional => "one".to_owned(),
            TransactionMode::NonTransactional { why } => why,
        };
        (mode, statements.into_iter().map(|s| s.text).collect())
    }

    #[test]
    fn the_mode_follows_layout_dialect_and_statements() {
        for (dialect, text, expected) in [
            (Postgres, "CREATE TABLE t (); INSERT INTO t DEFAULT VALUES", "one"),
            (Postgres, "", "one"),
            (Postgres, "ALTER TYPE t ADD VALUE 'x'", "one"),
            (
                Postgres,
                "SELECT 1;\nCREATE INDEX CONCURRENTLY i ON t (a)",
                "line 2: CREATE INDEX CONCURRENTLY cannot run in a transaction",
            ),
            (
                Postgres,
                "SELECT 1;\nCOMMIT;\nSELECT 2",
                "line 2: COMMIT controls a transaction of the file's own",
            ),
            (
                Postgres,
                "BEGIN; SELECT 1; COMMIT; BEGIN; SELECT 1; COMMIT",
                "line 1: BEGIN controls a transaction of the file's own",
            ),
            (
                Postgres,
                "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1; COMMIT",
                "line 1: BEGIN controls a transaction of the file's own",
            ),
            (
                Postgres,
                "BEGIN; SELECT 1; ROLLBACK",
                "line 1: BEGIN controls a transaction of the file's own",
            ),
            (Sqlite, "CREATE TABLE t (a)", "one"),
            (Sqlite, "VACUUM", "line 1: VACUUM cannot run in a transaction"),
            (
                MySql,
                "INSERT INTO t VALUES (1); SET @a = 1; UPDATE t SET a = @a",
                "one",
            ),
            (
                MySql,
                "INSERT INTO t VALUES (1); ALTER TABLE t ADD b INT",
                "mysql commits before and after each DDL statement",
            ),
            (
                MySql,
                "CALL p()",
                "mysql commits before and after each DDL statement",
            ),
            (
                MySql,
                "BEGIN; ALTER TABLE t ADD b INT; COMMIT",
                "line 1: BEGIN controls a transaction of the file's own",
            ),
        ] {
            assert_eq!(
                mode(&FileRule::by_dialect(dialect), dialect, text).0,
                expected,
                "{dialect}: {text}"
            );
        }
    }

    #[test]
    fn a_file_in_one_transaction_of_its_own_gives_it_up_for_ours() {
        for (dialect, text, kept) in [
            (
                Postgres,
                "BEGIN;\nCREATE TABLE t ();\nSELECT 1;\nCOMMIT;",
                vec!["CREATE TABLE t ()", "SELECT 1"],
            ),
            (
                MySql,
                "START TRANSACTION; DELETE FROM t; COMMIT",
                vec!["DELETE FROM t"],
            ),
            (
                Sqlite,
                "PRAGMA foreign_keys=OFF; BEGIN TRANSACTION; DROP TABLE t; END; PRAGMA foreign_keys=ON;",
                vec![
                    "PRAGMA foreign_keys=OFF",
                    "DROP TABLE t",
                    "PRAGMA foreign_keys=ON",
                ],
            ),
        ] {
            assert_eq!(
                mode(&FileRule::by_dialect(dialect), dialect, text),
                ("one".to_owned(), kept.into_iter().map(str::to_owned).collect())
            );
        }
    }

    #[test]
    fn a_file_that_asks_for_none_gets_none() {
        let rule = FileRule::AskedForNone { how: "asked" };
        assert_eq!(mode(&rule, Postgres, "SELECT 1").0, "asked");
        assert_eq!(mode(&rule, MySql, "DELETE FROM t").0, "asked");
        assert_eq!(mode(&rule, Postgres, "BEGIN; SELECT 1; COMMIT").0, "one");
    }
}
