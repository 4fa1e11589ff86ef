//! Statements that would reach beyond the clone: they change the server, or another database.

use std::fmt;
use std::path::PathBuf;

use crate::db::mysql::names;
use crate::dialect::Dialect;
use crate::plan::Plan;
use crate::source::Direction;
use crate::sql::{Statement, pieces};

/// A statement that would, and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beyond {
    /// The file.
    pub path: PathBuf,
    /// Its line, from 1.
    pub line: u32,
    /// What it would change: `CREATE ROLE`, `a table of database app`.
    pub what: String,
}

impl fmt::Display for Beyond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} ({})", self.path.display(), self.line, self.what)
    }
}

/// What of the plan, in both directions, would. `database` is the rehearsed one.
pub(super) fn beyond(plan: &Plan, dialect: Dialect, database: &str) -> Vec<Beyond> {
    let scripts = plan.steps.iter().flat_map(|step| {
        let both = [Direction::Up, Direction::Down];
        both.into_iter()
            .filter_map(|direction| step.migration.script(direction))
    });
    let found = scripts.flat_map(|script| {
        script.statements.iter().filter_map(|statement| {
            Some(Beyond {
                path: script.path.clone(),
                line: statement.line,
                what: reaches(statement, dialect, database)?,
            })
        })
    });
    found.collect()
}

fn reaches(statement: &Statement, dialect: Dialect, database: &str) -> Option<String> {
    let words: Vec<String> = pieces(dialect, &statement.text)
        .into_iter()
        .take(4)
        .map(str::to_ascii_uppercase)
        .collect();
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    let found = match dialect {
        Dialect::Postgres => postgres(&word, &statement.text),
        Dialect::MySql => mysql(&word),
        Dialect::Sqlite => (word(0) == "ATTACH").then(|| "ATTACH".to_owned()),
    };
    found.or_else(|| {
        let names_it = dialect == Dialect::MySql && names(&statement.text, database);
        names_it.then(|| format!("it names database {database}, which is the original"))
    })
}

fn postgres<'a>(word: &impl Fn(usize) -> &'a str, text: &str) -> Option<String> {
    let what = match (word(0), word(1)) {
        (
            "CREATE" | "ALTER" | "DROP",
            object @ ("ROLE" | "USER" | "GROUP" | "DATABASE" | "TABLESPACE" | "SUBSCRIPTION"),
        ) if word(2) != "MAPPING" => object,
        ("ALTER", object @ "SYSTEM") => object,
        ("COMMENT", "ON") if matches!(word(2), "ROLE" | "DATABASE" | "TABLESPACE") => "ON SHARED OBJECT",
        ("REASSIGN" | "DROP", object @ "OWNED") => object,
        // Membership of a role; privileges on objects have an ON.
        ("GRANT" | "REVOKE", _) if !has_word(text, "ON") => "ROLE MEMBERSHIP",
        ("GRANT" | "REVOKE", _) if has_word(text, "DATABASE") || has_word(text, "TABLESPACE") => {
            "ON SHARED OBJECT"
        }
        _ => return None,
    };
    Some(format!("{} {what}", word(0)))
}

fn has_word(text: &str, wanted: &str) -> bool {
    pieces(Dialect::Postgres, text)
        .iter()
        .any(|piece| piece.eq_ignore_ascii_case(wanted))
}

fn mysql<'a>(word: &impl Fn(usize) -> &'a str) -> Option<String> {
    let object = match (word(0), word(1)) {
        (
            "CREATE" | "ALTER" | "DROP" | "RENAME",
            object @ ("USER" | "ROLE" | "DATABASE" | "SCHEMA" | "SERVER"),
        ) => object,
        ("CREATE", "OR") if matches!(word(3), "USER" | "ROLE" | "DATABASE" | "SCHEMA" | "SERVER") => word(3),
        ("SET", object @ ("GLOBAL" | "PERSIST" | "PERSIST_ONLY" | "PASSWORD" | "DEFAULT")) => object,
        ("GRANT" | "REVOKE" | "USE" | "FLUSH" | "RESET" | "PURGE" | "KILL" | "SHUTDOWN", _) => "",
        ("INSTALL" | "UNINSTALL" | "CHANGE" | "START" | "STOP", object)
            if matches!(
                object,
                "PLUGIN" | "SONAME" | "MASTER" | "REPLICA" | "SLAVE" | "COMPONENT" | "REPLICATION"
            ) =>
        {
            object
        }
        _ => return None,
    };
    Some(format!("{} {object}", word(0)).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::split;

    fn found(dialect: Dialect, text: &str) -> Option<String> {
        reaches(&split(dialect, text).unwrap()[0], dialect, "app")
    }

    #[test]
    fn what_changes_the_server_is_found() {
        for (text, what) in [
            ("CREATE ROLE r", "CREATE ROLE"),
            ("/* x */ alter system set a = 1", "ALTER SYSTEM"),
            ("CREATE DATABASE d", "CREATE DATABASE"),
            ("GRANT a TO b", "GRANT ROLE MEMBERSHIP"),
            ("GRANT CONNECT ON DATABASE d TO b", "GRANT ON SHARED OBJECT"),
            ("DROP OWNED BY a", "DROP OWNED"),
            (
                "CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p",
                "CREATE SUBSCRIPTION",
            ),
        ] {
            assert_eq!(found(Dialect::Postgres, text).as_deref(), Some(what), "{text}");
        }
        for (text, what) in [
            ("CREATE USER u", "CREATE USER"),
            ("CREATE OR REPLACE ROLE u", "CREATE ROLE"),
            ("SET GLOBAL a = 1", "SET GLOBAL"),
            ("USE other", "USE"),
            ("GRANT ALL ON *.* TO u", "GRANT"),
            (
                "ALTER TABLE app.t ADD a int",
                "it names database app, which is the original",
            ),
        ] {
            assert_eq!(found(Dialect::MySql, text).as_deref(), Some(what), "{text}");
        }
        assert!(found(Dialect::Sqlite, "ATTACH 'x' AS y").is_some());
    }

    #[test]
    fn what_stays_in_the_database_is_not() {
        for text in [
            "CREATE TABLE role (a int)",
            "GRANT SELECT ON t TO b",
            "CREATE USER MAPPING FOR a SERVER s",
            "COMMENT ON TABLE database IS ''",
            "SET search_path = a",
        ] {
            assert_eq!(found(Dialect::Postgres, text), None, "{text}");
        }
        for text in [
            "SET NAMES utf8mb4",
            "ALTER TABLE t ADD a int",
            "START TRANSACTION",
        ] {
            assert_eq!(found(Dialect::MySql, text), None, "{text}");
        }
    }
}
