//! What a migration takes away from those who use the old schema.

use std::collections::BTreeSet;

use serde::Serialize;

use super::clause::Clause;
use crate::dialect::Dialect;
use crate::sql::Statement;

/// Something that is no longer there, or no longer called so, afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Taken {
    /// The statement's line, counted from 1.
    pub line: u32,
    /// What, for people: `drops column users.name`.
    pub what: String,
}

/// Objects whose users fail without them. An index is not among them: it is missed, but nobody fails.
const OBJECTS: &[&str] = &[
    "TABLE",
    "MATERIALIZED VIEW",
    "VIEW",
    "TYPE",
    "DOMAIN",
    "SEQUENCE",
    "SCHEMA",
    "FUNCTION",
    "PROCEDURE",
    "DATABASE",
];

/// What these statements of one script take away. A table that it makes itself, or that it drops and puts another in the place of, is not
/// taken from anybody.
#[must_use]
pub fn contracts(dialect: Dialect, statements: &[Statement]) -> Vec<Taken> {
    let clauses: Vec<(u32, Clause)> = statements
        .iter()
        .map(|statement| (statement.line, Clause::of(dialect, &statement.text)))
        .collect();
    let own = own_tables(&clauses);
    let taken = clauses.into_iter().flat_map(|(line, clause)| {
        let what = taken(clause, &own).into_iter();
        what.map(move |what| Taken { line, what })
    });
    taken.collect()
}

/// Tables that are made here, under any name that they get.
fn own_tables(clauses: &[(u32, Clause)]) -> BTreeSet<String> {
    let mut own = BTreeSet::new();
    for (_, clause) in clauses {
        let mut clause = clause.clone();
        if clause.eat("CREATE TABLE")
            || clause.eat("CREATE TEMPORARY TABLE")
            || clause.eat("CREATE TEMP TABLE")
        {
            let _ = clause.eat("IF NOT EXISTS");
            own.insert(clause.name());
        } else if clause.eat("ALTER TABLE") {
            let from = clause.name();
            if clause.eat("RENAME TO") && own.contains(&from) {
                own.insert(clause.name());
            }
        }
    }
    own
}

fn taken(mut clause: Clause, own: &BTreeSet<String>) -> Vec<String> {
    if clause.eat("DROP") {
        return dropped(clause, own);
    }
    if clause.eat("RENAME TABLE") {
        return clause
            .parts()
            .into_iter()
            .map(|mut part| format!("renames table {}", part.name()))
            .collect();
    }
    if !clause.eat("ALTER TABLE") {
        return Vec::new();
    }
    let _ = clause.eat("IF EXISTS");
    let _ = clause.eat("ONLY");
    let table = clause.name();
    if own.contains(&table) {
        return Vec::new();
    }
    clause
        .parts()
        .into_iter()
        .filter_map(|part| altered(part, &table))
        .collect()
}

fn dropped(mut clause: Clause, own: &BTreeSet<String>) -> Vec<String> {
    let Some(object) = clause.eat_one(OBJECTS) else {
        return Vec::new();
    };
    let _ = clause.eat("IF EXISTS");
    let names = clause.parts().into_iter().map(|mut part| part.name());
    let taken = names.filter(|name| !own.contains(name));
    taken
        .map(|name| format!("drops {} {name}", object.to_lowercase()))
        .collect()
}

/// One action of an ALTER TABLE.
fn altered(mut action: Clause, table: &str) -> Option<String> {
    const NOT_COLUMNS: &[&str] = &[
        "CONSTRAINT",
        "INDEX",
        "KEY",
        "PRIMARY KEY",
        "FOREIGN KEY",
        "CHECK",
        "PARTITION",
        "SYSTEM",
        "PERIOD",
    ];
    if action.eat("DROP") {
        if action.eat_one(NOT_COLUMNS).is_some() {
            return None;
        }
        let _ = action.eat("COLUMN");
        let _ = action.eat("IF EXISTS");
        return Some(format!("drops column {table}.{}", action.name()));
    }
    if action.eat("RENAME") {
        if action.eat_one(&["INDEX", "KEY", "CONSTRAINT"]).is_some() {
            return None;
        }
        if action.eat("TO") || action.eat("AS") {
            return Some(format!("renames table {table}"));
        }
        let _ = action.eat("COLUMN");
        return Some(format!("renames column {table}.{}", action.name()));
    }
    if action.eat("ALTER") {
        let _ = action.eat("COLUMN");
        let column = action.name();
        let changes = action.eat("TYPE") || action.eat("SET DATA TYPE");
        return changes.then(|| format!("changes the type of column {table}.{column}"));
    }
    if action.eat("CHANGE") {
        let _ = action.eat("COLUMN");
        let (from, to) = (action.name(), action.name());
        return (from != to).then(|| format!("renames column {table}.{from}"));
    }
    None
}
