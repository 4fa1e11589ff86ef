//! What is online on PostgreSQL.

use super::clause::Clause;
use super::made::Made;
use super::{Verdict, column};

pub(super) fn judge(mut clause: Clause, made: &mut Made) -> Verdict {
    let head = clause.head();
    match clause.eat_one(&["CREATE", "ALTER TABLE", "ALTER TYPE", "COMMENT ON", "GRANT"]) {
        Some("CREATE") => create(clause, made),
        Some("ALTER TABLE") => alter_table(clause, made),
        Some("ALTER TYPE") if clause.has("ADD") && clause.has("VALUE") => Ok(()),
        // Neither is seen by a writer.
        Some("COMMENT ON" | "GRANT") => Ok(()),
        Some(_) | None => Err(format!("{head} is not known to be online")),
    }
}

fn create(mut clause: Clause, made: &mut Made) -> Verdict {
    const NEW: &[&str] = &["SCHEMA", "SEQUENCE", "TYPE", "DOMAIN", "VIEW"];
    let _ = clause.eat_one(&["TEMPORARY", "TEMP", "UNLOGGED"]);
    if clause.eat("TABLE") {
        return table(clause, made);
    }
    if clause.eat("UNIQUE INDEX") {
        return index(clause, made, Unique::Yes);
    }
    if clause.eat("INDEX") {
        return index(clause, made, Unique::No);
    }
    match clause.eat_one(NEW) {
        Some(_) => Ok(()),
        None => Err(format!("CREATE {} is not known to be online", clause.head())),
    }
}

/// A new table is nobody's. It still locks the tables that it points to, or is a part of.
pub(super) fn table(mut clause: Clause, made: &mut Made) -> Verdict {
    let _ = clause.eat("IF NOT EXISTS");
    let name = clause.name();
    if clause.clone().eat("PARTITION OF") {
        return Err(format!(
            "table {name} becomes a part of another, which is locked for it"
        ));
    }
    let mut after = clause.clone();
    let columns = after.parenthesis();
    if after.has("AS") || after.has("SELECT") || columns.is_some_and(|columns| columns.has("SELECT")) {
        return Err(format!(
            "table {name} is filled from rows that others may be changing"
        ));
    }
    if after.has("INHERITS") {
        return Err(format!(
            "table {name} becomes a part of another, which is locked for it"
        ));
    }
    references(clause.clone(), made, &name)?;
    made.add(name);
    Ok(())
}

/// Every table that a foreign key points to is locked against writers for it.
pub(super) fn references(mut clause: Clause, made: &Made, own: &str) -> Verdict {
    while !clause.is_empty() {
        if clause.eat("REFERENCES") {
            let other = clause.name();
            if other != own && !made.has(&other) {
                return Err(format!("the foreign key locks table {other} against writers"));
            }
        } else {
            clause.next();
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unique {
    Yes,
    No,
}

fn index(mut clause: Clause, made: &Made, unique: Unique) -> Verdict {
    let concurrently = clause.eat("CONCURRENTLY");
    let mut target = clause.clone();
    while !target.is_empty() && !target.eat("ON") {
        target.next();
    }
    let _ = target.eat("ONLY");
    let table = target.name();
    if made.has(&table) {
        return Ok(());
    }
    if !concurrently {
        return Err(format!(
            "building the index keeps writers of {table} out; use CONCURRENTLY"
        ));
    }
    if unique == Unique::Yes {
        return Err(format!(
            "a unique index refuses rows of {table} that the old release may write"
        ));
    }
    let _ = target.eat("USING") && !target.name().is_empty();
    let columns = target.parenthesis();
    match columns.is_none_or(|columns| columns.has("(")) || target.has("WHERE") {
        true => Err(format!(
            "the index's expression can fail on rows that the old release writes to {table}"
        )),
        false => Ok(()),
    }
}

fn alter_table(mut clause: Clause, made: &Made) -> Verdict {
    let _ = clause.eat("IF EXISTS");
    let _ = clause.eat("ONLY");
    let table = clause.name();
    if made.has(&table) {
        return references(clause, made, &table);
    }
    clause.parts().into_iter().try_for_each(action)
}

/// One action on a table that others use.
fn action(mut action: Clause) -> Verdict {
    let head = action.head();
    if action.eat("VALIDATE CONSTRAINT") {
        return Ok(());
    }
    let constraint = [
        "ADD CONSTRAINT",
        "ADD PRIMARY",
        "ADD UNIQUE",
        "ADD FOREIGN",
        "ADD CHECK",
        "ADD EXCLUDE",
    ];
    if constraint.iter().any(|words| action.clone().eat(words)) {
        return Err(format!("{head} refuses rows that the old release may write"));
    }
    if action.eat("ADD COLUMN") || action.eat("ADD") {
        return column::judge(action);
    }
    Err(format!("ALTER TABLE … {head} is not known to be online"))
}
