//! What is online on MariaDB and MySQL: what the statement itself says, so that the server refuses where it is not so.

use super::clause::Clause;
use super::made::Made;
use super::{Verdict, column, postgres};

pub(super) fn judge(mut clause: Clause, made: &mut Made) -> Verdict {
    let head = clause.head();
    match clause.eat_one(&[
        "CREATE TABLE",
        "CREATE VIEW",
        "CREATE INDEX",
        "ALTER TABLE",
        "GRANT",
    ]) {
        Some("CREATE TABLE") => table(clause, made),
        Some("CREATE INDEX") => index(clause, made),
        Some("ALTER TABLE") => alter_table(clause, made),
        Some("CREATE VIEW" | "GRANT") => Ok(()),
        Some(_) | None => Err(format!("{head} is not known to be online")),
    }
}

fn table(clause: Clause, made: &mut Made) -> Verdict {
    postgres::table(clause, made)
}

fn index(mut clause: Clause, made: &Made) -> Verdict {
    let says_so = says_no_lock(&clause);
    while !clause.is_empty() && !clause.eat("ON") {
        clause.next();
    }
    let table = clause.name();
    match made.has(&table) || says_so {
        true => Ok(()),
        false => Err(format!(
            "building the index may keep writers of {table} out; say ALGORITHM=INPLACE LOCK=NONE, and the server \
             refuses where it would"
        )),
    }
}

fn says_no_lock(clause: &Clause) -> bool {
    let parts = ["LOCK = NONE", "LOCK NONE"];
    anywhere(clause, &parts)
        && anywhere(
            clause,
            &["ALGORITHM = INPLACE", "ALGORITHM = NOCOPY", "ALGORITHM INPLACE"],
        )
}

fn says_instant(clause: &Clause) -> bool {
    anywhere(clause, &["ALGORITHM = INSTANT", "ALGORITHM INSTANT"])
}

/// Whether one of these comes somewhere.
fn anywhere(clause: &Clause, expected: &[&str]) -> bool {
    let mut clause = clause.clone();
    while !clause.is_empty() {
        if clause.eat_one(expected).is_some() {
            return true;
        }
        clause.next();
    }
    false
}

fn alter_table(mut clause: Clause, made: &Made) -> Verdict {
    let _ = clause.eat("IF EXISTS");
    let table = clause.name();
    if made.has(&table) {
        return postgres::references(clause, made, &table);
    }
    let (instant, no_lock) = (says_instant(&clause), says_no_lock(&clause));
    clause
        .parts()
        .into_iter()
        .try_for_each(|part| action(part, instant, no_lock))
}

/// What the statement promises about itself.
fn action(mut action: Clause, instant: bool, no_lock: bool) -> Verdict {
    let head = action.head();
    if action.eat_one(&["ALGORITHM", "LOCK"]).is_some() {
        return Ok(());
    }
    if action.eat_one(&["ADD INDEX", "ADD KEY"]).is_some() {
        return match no_lock {
            true => Ok(()),
            false => Err(format!(
                "{head} may keep writers out; say ALGORITHM=INPLACE, LOCK=NONE"
            )),
        };
    }
    let not_a_column = [
        "ADD CONSTRAINT",
        "ADD PRIMARY",
        "ADD UNIQUE",
        "ADD FOREIGN",
        "ADD CHECK",
        "ADD FULLTEXT",
        "ADD SPATIAL",
        "ADD PARTITION",
        "ADD SYSTEM",
        "ADD PERIOD",
    ];
    if not_a_column.iter().any(|words| action.clone().eat(words)) {
        return Err(format!("ALTER TABLE … {head} is not known to be online"));
    }
    if action.eat("ADD COLUMN") || action.eat("ADD") {
        column::judge(action)?;
        return match instant {
            true => Ok(()),
            false => Err(format!(
                "{head} may copy the table; say ALGORITHM=INSTANT, and the server refuses where it would"
            )),
        };
    }
    Err(format!("ALTER TABLE … {head} is not known to be online"))
}
