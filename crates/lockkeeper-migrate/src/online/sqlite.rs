//! What is online on SQLite: what takes the one write lock for an instant.

use super::clause::Clause;
use super::made::Made;
use super::{Verdict, column};

pub(super) fn judge(mut clause: Clause, made: &mut Made) -> Verdict {
    let head = clause.head();
    match clause.eat_one(&[
        "CREATE TABLE",
        "CREATE VIEW",
        "CREATE INDEX",
        "CREATE UNIQUE INDEX",
        "ALTER TABLE",
    ]) {
        Some("CREATE TABLE") => table(clause, made),
        Some("CREATE VIEW") => Ok(()),
        Some("CREATE INDEX" | "CREATE UNIQUE INDEX") => index(clause, made),
        Some("ALTER TABLE") => alter_table(clause, made),
        Some(_) | None => Err(format!("{head} is not known to be online")),
    }
}

/// A foreign key locks nothing here: there is one lock for all.
fn table(mut clause: Clause, made: &mut Made) -> Verdict {
    let _ = clause.eat("IF NOT EXISTS");
    let name = clause.name();
    if clause.has("SELECT") {
        return Err(format!(
            "table {name} is filled from rows that others may be changing"
        ));
    }
    made.add(name);
    Ok(())
}

fn index(mut clause: Clause, made: &Made) -> Verdict {
    while !clause.is_empty() && !clause.eat("ON") {
        clause.next();
    }
    let table = clause.name();
    match made.has(&table) {
        true => Ok(()),
        false => Err(format!("building the index on {table} keeps all writers out")),
    }
}

fn alter_table(mut clause: Clause, made: &Made) -> Verdict {
    let table = clause.name();
    if made.has(&table) {
        return Ok(());
    }
    let head = clause.head();
    match clause.eat("ADD COLUMN") || clause.eat("ADD") {
        true => column::judge(clause),
        false => Err(format!("ALTER TABLE … {head} is not known to be online")),
    }
}
