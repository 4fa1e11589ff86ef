//! May this column be added while writers go on?

use super::Verdict;
use super::clause::Clause;
use crate::sql::words::{Word, WordKind};

/// Types of the servers' own. Another name can be a domain, whose checks would have every row rewritten.
const TYPES: &[&str] = &[
    "BIGINT",
    "BINARY",
    "BIT",
    "BLOB",
    "BOOL",
    "BOOLEAN",
    "BYTEA",
    "CHAR",
    "CHARACTER",
    "CIDR",
    "DATE",
    "DATETIME",
    "DEC",
    "DECIMAL",
    "DOUBLE",
    "FLOAT",
    "FLOAT4",
    "FLOAT8",
    "INET",
    "INT",
    "INT2",
    "INT4",
    "INT8",
    "INTEGER",
    "INTERVAL",
    "JSON",
    "JSONB",
    "LONGBLOB",
    "LONGTEXT",
    "MEDIUMBLOB",
    "MEDIUMINT",
    "MEDIUMTEXT",
    "NUMERIC",
    "REAL",
    "SMALLINT",
    "TEXT",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMPTZ",
    "TIMETZ",
    "TINYBLOB",
    "TINYINT",
    "TINYTEXT",
    "TSVECTOR",
    "UUID",
    "VARBINARY",
    "VARCHAR",
    "XML",
];

/// Words that may follow a type and change nothing of the verdict.
const TYPE_WORDS: &[&str] = &[
    "PRECISION",
    "VARYING",
    "WITH",
    "WITHOUT",
    "TIME",
    "ZONE",
    "UNSIGNED",
    "SIGNED",
    "LARGE",
    "OBJECT",
];

/// Judges what follows `ADD COLUMN`, on a table that others use.
pub(super) fn judge(mut column: Clause) -> Verdict {
    let _ = column.eat("IF NOT EXISTS");
    let name = column.name();
    let kind = column.next();
    let kind = kind.filter(|word| word.kind == WordKind::Bare && TYPES.contains(&word.text.as_str()));
    let Some(_) = kind else {
        return Err(format!(
            "column {name} is of a type that may be a domain, with checks on every row"
        ));
    };
    let mut has_default = false;
    let mut is_required = false;
    while !column.is_empty() {
        if changes_nothing(&mut column) {
            continue;
        }
        if column.eat("NOT NULL") {
            is_required = true;
        } else if column.eat("DEFAULT") {
            constant(&mut column).ok_or_else(|| format!("the default of column {name} is no constant"))?;
            has_default = true;
        } else {
            return Err(format!(
                "column {name} is more than a type and a constant default"
            ));
        }
    }
    match is_required && !has_default {
        true => Err(format!(
            "column {name} is NOT NULL without a default: rows that the old release writes fail"
        )),
        false => Ok(()),
    }
}

/// Takes what belongs to the type, or says what is so anyway.
fn changes_nothing(column: &mut Clause) -> bool {
    if column.eat("COMMENT") {
        return column.next().is_some();
    }
    column.parenthesis().is_some()
        || column.eat("[ ]")
        || column.eat("NULL")
        || column.eat_one(TYPE_WORDS).is_some()
}

/// Takes a default that is the same for every row.
fn constant(column: &mut Clause) -> Option<()> {
    const WORDS: &[&str] = &["NULL", "TRUE", "FALSE", "CURRENT_TIMESTAMP", "CURRENT_DATE"];
    if column.eat("NOW (") {
        return column.eat(")").then_some(());
    }
    let signed = column.eat("-");
    let value = column.next()?;
    let plain = match value {
        Word {
            kind: WordKind::Number,
            ..
        } => true,
        Word {
            kind: WordKind::Text, ..
        } => !signed,
        Word {
            kind: WordKind::Bare,
            text,
        } => !signed && WORDS.contains(&text.as_str()),
        Word { .. } => false,
    };
    if plain && column.eat(": :") {
        // A cast of a constant is a constant for the servers' own types only.
        let kind = column.next().filter(|word| TYPES.contains(&word.text.as_str()));
        kind?;
    }
    plain.then_some(())
}
