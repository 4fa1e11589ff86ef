//! May a migration run while writers go on?
//!
//! | module | what it holds |
//! |---|---|
//! | `clause` | a statement as words, read from the left |
//! | `made` | the tables that the migration itself makes, which nobody uses yet |
//! | `column` | may this column be added? |
//! | `postgres`, `mysql`, `sqlite` | what is known to be online, per dialect |
//! | `contract` | what a statement takes away from those who use the old schema |
//!
//! Online means: it holds no lock that a writer would wait for longer than an instant, it rewrites and scans nothing
//! under such a lock, it changes no row that others may change, and whatever the old release writes stays valid. That
//! is a short list per dialect, and **everything that is not on it needs a fence**: a wrong "needs a fence" costs a
//! pause, a wrong "online" costs data. It rests on writers naming their columns: an `INSERT` without a column list
//! fails on MariaDB, MySQL and SQLite as soon as a column is added.
//!
//! Pure: it knows the statements' words, no database. How large a table is, or how long a lock is waited for, it
//! cannot know; the limit on lock waits bounds that.

mod clause;
mod column;
mod contract;
mod made;
mod mysql;
mod postgres;
mod sqlite;
#[cfg(test)]
mod tests;

pub use contract::{Taken, contracts};

use serde::Serialize;

use self::clause::Clause;
use self::made::Made;
use crate::dialect::Dialect;
use crate::sql::{Statement, StatementKind};

/// Why a migration cannot run online: one statement of it, and what stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Obstacle {
    /// The statement's line, counted from 1.
    pub line: u32,
    /// Why it needs a fence, for people.
    pub why: String,
}

/// Everything that keeps a script of these statements from running while writers go on; nothing: it may.
#[must_use]
pub fn obstacles(dialect: Dialect, statements: &[Statement]) -> Vec<Obstacle> {
    let mut made = Made::default();
    let mut found = Vec::new();
    for statement in statements {
        let clause = Clause::of(dialect, &statement.text);
        if let Err(why) = judge(dialect, statement, clause, &mut made) {
            found.push(Obstacle {
                line: statement.line,
                why,
            });
        }
    }
    found
}

/// A verdict on one statement: online, or why it needs a fence.
type Verdict = Result<(), String>;

fn judge(dialect: Dialect, statement: &Statement, clause: Clause, made: &mut Made) -> Verdict {
    match &statement.kind {
        StatementKind::TransactionControl(_) | StatementKind::Savepoint => Ok(()),
        StatementKind::RowChange => row_change(clause, made),
        StatementKind::Session => session(clause),
        StatementKind::Query => query(clause),
        StatementKind::Pragma { name } => Err(format!("PRAGMA {name} is not known to be online")),
        StatementKind::Other => Err(format!("{} may do anything", clause.head())),
        StatementKind::NonTransactional { .. } | StatementKind::Ddl => match dialect {
            Dialect::Postgres => postgres::judge(clause, made),
            Dialect::MySql => mysql::judge(clause, made),
            Dialect::Sqlite => sqlite::judge(clause, made),
        },
    }
}

/// Rows of a table that nobody knows yet are nobody's.
fn row_change(mut clause: Clause, made: &Made) -> Verdict {
    let head = clause.head();
    if clause.eat("INSERT INTO") {
        let table = clause.name();
        if made.has(&table) && !clause.has("SELECT") && !clause.has("TABLE") {
            return Ok(());
        }
    }
    Err(format!("{head} changes rows that others may be changing"))
}

/// Settings that change how long something may take, and not what it means.
fn session(mut clause: Clause) -> Verdict {
    let harmless = clause.eat("SET") && {
        let _ = clause.eat("LOCAL") || clause.eat("SESSION");
        let name = clause.name().to_ascii_lowercase();
        name.ends_with("timeout") || name == "client_min_messages"
    };
    match harmless {
        true => Ok(()),
        false => Err("a session setting can change what the statements after it mean".to_owned()),
    }
}

/// A question that calls nothing changes nothing.
fn query(clause: Clause) -> Verdict {
    match clause.has("(") || clause.has("INTO") || clause.has("FOR") {
        true => Err("a query can call functions, and those can change anything".to_owned()),
        false => Ok(()),
    }
}
