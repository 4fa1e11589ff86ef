//! Which statements can lose data that no down migration brings back.
//!
//! Told by leading words, outside of quotes and comments, and rather too often than too seldom: a statement that is
//! named here only asks for a backup. An UPDATE of all rows is not: filling a column is what most of them do.

use std::fmt;

use serde::Serialize;

use crate::plan::Plan;
use crate::source::Direction;
use crate::sql::Statement;

/// One statement that can lose data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// The migration's version.
    pub version: String,
    /// Which way.
    pub direction: Direction,
    /// The line in its file.
    pub line: u32,
    /// What sort of statement it is: `DROP TABLE`.
    pub what: &'static str,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} line {}: {}",
            self.direction, self.version, self.line, self.what
        )
    }
}

/// The statements of a plan that can lose data.
#[must_use]
pub fn losses(plan: &Plan) -> Vec<Loss> {
    let mut found = Vec::new();
    for step in &plan.steps {
        let Some(script) = step.migration.script(step.direction) else {
            continue;
        };
        found.extend(script.statements.iter().filter_map(|statement| {
            Some(Loss {
                version: step.migration.version.to_string(),
                direction: step.direction,
                line: statement.line,
                what: loss(statement)?,
            })
        }));
    }
    found
}

/// What a statement can lose data by.
fn loss(statement: &Statement) -> Option<&'static str> {
    let words = words(&statement.text);
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    let has = |wanted: &str| words.iter().any(|word| word == wanted);
    let follows =
        |first: &str, second: &str| words.windows(2).any(|pair| pair[0] == first && pair[1] == second);
    match (word(0), word(1)) {
        ("DROP", "TEMPORARY") => None,
        ("DROP", "TABLE") => Some("DROP TABLE"),
        ("DROP", "SCHEMA" | "DATABASE") => Some("DROP SCHEMA"),
        ("DROP", "OWNED") => Some("DROP OWNED"),
        ("DROP", "TYPE" | "DOMAIN" | "EXTENSION" | "SEQUENCE") if has("CASCADE") => Some("DROP … CASCADE"),
        ("TRUNCATE", _) => Some("TRUNCATE"),
        ("DELETE", _) if !has("WHERE") => Some("DELETE without WHERE"),
        ("CREATE", "OR") if word(2) == "REPLACE" && word(3) == "TABLE" => Some("CREATE OR REPLACE TABLE"),
        ("ALTER", "TABLE") => altered(&words, &follows),
        _ => None,
    }
}

fn altered(words: &[String], follows: &dyn Fn(&str, &str) -> bool) -> Option<&'static str> {
    if follows("DROP", "COLUMN") || drops_a_bare_name(words) {
        return Some("DROP COLUMN");
    }
    if follows("DROP", "PARTITION") || follows("TRUNCATE", "PARTITION") {
        return Some("DROP PARTITION");
    }
    let retypes = words.iter().any(|word| word == "MODIFY" || word == "CHANGE")
        || (words.iter().any(|word| word == "ALTER") && words.iter().any(|word| word == "TYPE"));
    retypes.then_some("column changed in place")
}

/// `ALTER TABLE t DROP c`: COLUMN may be left out.
fn drops_a_bare_name(words: &[String]) -> bool {
    const OTHERS: [&str; 14] = [
        "CONSTRAINT",
        "INDEX",
        "KEY",
        "PRIMARY",
        "FOREIGN",
        "CHECK",
        "DEFAULT",
        "NOT",
        "IDENTITY",
        "EXPRESSION",
        "PARTITION",
        "SYSTEM",
        "PERIOD",
        "COLUMN",
    ];
    words
        .windows(2)
        .skip(2)
        .any(|pair| pair[0] == "DROP" && !OTHERS.contains(&pair[1].as_str()))
}

/// The bare words in upper case, and `NAME` for a quoted one. Comments and texts are left out; what stands in
/// MySQL's `/*! */` counts.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '-' if rest.starts_with("--") => to_line_end(rest),
            '#' => to_line_end(rest),
            '/' if rest.starts_with("/*") && !rest.starts_with("/*!") => {
                rest.find("*/").map_or(rest.len(), |end| end + 2)
            }
            '\'' => quoted(rest, '\''),
            '"' | '`' => {
                words.push("NAME".to_owned());
                quoted(rest, first)
            }
            _ if is_word(first) => {
                let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                words.push(rest[..length].to_uppercase());
                length
            }
            other => other.len_utf8(),
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    words
}

fn to_line_end(rest: &str) -> usize {
    rest.find('\n').map_or(rest.len(), |end| end + 1)
}

fn quoted(rest: &str, quote: char) -> usize {
    rest[1..].find(quote).map_or(rest.len(), |end| end + 2)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Dialect;

    fn of(text: &str) -> Option<&'static str> {
        let statements = crate::sql::split(Dialect::Postgres, text).unwrap();
        loss(&statements[0])
    }

    #[test]
    fn what_can_lose_data_is_told() {
        let cases = [
            ("drop table if exists t", Some("DROP TABLE")),
            ("DROP /* x */ TABLE t", Some("DROP TABLE")),
            ("DROP INDEX t", None),
            ("DROP TYPE t", None),
            ("DROP TYPE t CASCADE", Some("DROP … CASCADE")),
            ("DROP VIEW v", None),
            ("TRUNCATE t", Some("TRUNCATE")),
            ("DELETE FROM t", Some("DELETE without WHERE")),
            ("DELETE FROM t WHERE a = 1", None),
            ("DELETE FROM t -- WHERE a", Some("DELETE without WHERE")),
            ("DELETE FROM \"where\"", Some("DELETE without WHERE")),
            ("UPDATE t SET a = 1", None),
            ("UPDATE t SET a = 1 WHERE a IS NULL", None),
            ("ALTER TABLE t DROP COLUMN c", Some("DROP COLUMN")),
            ("ALTER TABLE t ADD a int, DROP c", Some("DROP COLUMN")),
            ("ALTER TABLE t DROP CONSTRAINT c", None),
            ("ALTER TABLE t ALTER COLUMN c DROP DEFAULT", None),
            ("ALTER TABLE t ALTER COLUMN c DROP NOT NULL", None),
            (
                "ALTER TABLE t ALTER COLUMN c TYPE int",
                Some("column changed in place"),
            ),
            ("ALTER TABLE t DROP PARTITION p", Some("DROP PARTITION")),
            ("ALTER TABLE t ADD COLUMN c int", None),
            ("INSERT INTO t VALUES ('DROP TABLE t')", None),
            ("CREATE TABLE t (a int)", None),
        ];
        for (text, expected) in cases {
            assert_eq!(of(text), expected, "{text}");
        }
    }
}
