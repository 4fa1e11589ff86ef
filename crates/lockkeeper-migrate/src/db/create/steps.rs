//! The statements, per dialect.

use super::setup::{NewUser, Setup};
use crate::dialect::Dialect;

/// Where a statement runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Anywhere on the server.
    Server,
    /// In the database that is made.
    Database,
}

/// One thing to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// What, for people.
    pub(super) what: String,
    pub(super) place: Place,
    /// Answers a row when it is there already; `None` is harmless to repeat.
    pub(super) there: Option<String>,
    /// The statement, or what stands before the password.
    pub(super) sql: String,
    /// Whether the password follows.
    pub(super) secret: Secret,
}

/// Whether a statement ends with the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Secret {
    None,
    Password,
}

impl Step {
    fn new(what: impl Into<String>, place: Place, sql: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            place,
            there: None,
            sql: sql.into(),
            secret: Secret::None,
        }
    }

    fn unless(mut self, there: String) -> Self {
        self.there = Some(there);
        self
    }

    fn with_password(mut self) -> Self {
        self.secret = Secret::Password;
        self
    }
}

/// Everything to make, in order. SQLite's file is made by opening it.
pub(super) fn steps(dialect: Dialect, setup: &Setup) -> Vec<Step> {
    match dialect {
        Dialect::Postgres => postgres(setup),
        Dialect::MySql => mysql(setup),
        Dialect::Sqlite => Vec::new(),
    }
}

/// The statements as a script for the server's own client. The password is a variable of psql's, or a placeholder.
#[must_use]
pub fn script(dialect: Dialect, setup: &Setup) -> String {
    let head = match dialect {
        Dialect::Postgres => "-- psql -v ON_ERROR_STOP=1 -v password=\"$PASSWORD\" -d postgres\n",
        Dialect::MySql => "-- mariadb; put the password in place of the asterisks\n",
        Dialect::Sqlite => "-- sqlite3: opening the file makes it\n",
    };
    let mut place = Place::Server;
    let mut text = head.to_owned();
    for step in steps(dialect, setup) {
        if step.place != place {
            place = step.place;
            text.push_str(&format!("\\connect {}\n", double_quoted(&setup.database)));
        }
        let password = match (step.secret, dialect) {
            (Secret::None, _) => "",
            (Secret::Password, Dialect::Postgres) => ":'password'",
            (Secret::Password, Dialect::MySql | Dialect::Sqlite) => "'********'",
        };
        text.push_str(&format!("{}{password};\n", step.sql));
    }
    text
}

fn postgres(setup: &Setup) -> Vec<Step> {
    let database = double_quoted(&setup.database);
    let there = format!(
        "SELECT 1 FROM pg_database WHERE datname = {}",
        literal(&setup.database)
    );
    let make = Step::new(
        format!("database {}", setup.database),
        Place::Server,
        format!("CREATE DATABASE {database}"),
    );
    let mut steps = vec![make.unless(there)];
    let Some(NewUser { name, .. }) = &setup.user else {
        return steps;
    };
    let role = double_quoted(name);
    let there = format!("SELECT 1 FROM pg_roles WHERE rolname = {}", literal(name));
    let make = Step::new(
        format!("user {name}"),
        Place::Server,
        format!("CREATE ROLE {role} LOGIN PASSWORD "),
    );
    steps.push(make.unless(there).with_password());
    steps.push(Step::new(
        format!("all privileges on database {} for {name}", setup.database),
        Place::Server,
        format!("GRANT ALL PRIVILEGES ON DATABASE {database} TO {role}"),
    ));
    // Since PostgreSQL 15 the right to a database no longer holds the right to make tables in it.
    steps.push(Step::new(
        format!("all privileges on schema public for {name}"),
        Place::Database,
        format!("GRANT ALL PRIVILEGES ON SCHEMA public TO {role}"),
    ));
    steps
}

fn mysql(setup: &Setup) -> Vec<Step> {
    let there = format!(
        "SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {}",
        literal(&setup.database)
    );
    let make = Step::new(
        format!("database {}", setup.database),
        Place::Server,
        format!(
            "CREATE DATABASE {} CHARACTER SET utf8mb4",
            backquoted(&setup.database)
        ),
    );
    let mut steps = vec![make.unless(there)];
    let Some(NewUser { name, host, .. }) = &setup.user else {
        return steps;
    };
    let user = format!("{}@{}", backquoted(name), backquoted(host));
    let there = format!(
        "SELECT 1 FROM mysql.user WHERE User = {} AND Host = {}",
        literal(name),
        literal(host)
    );
    let make = Step::new(
        format!("user {name}@{host}"),
        Place::Server,
        format!("CREATE USER {user} IDENTIFIED BY "),
    );
    steps.push(make.unless(there).with_password());
    // In a grant's database name these two are wildcards.
    let database = setup.database.replace('_', "\\_").replace('%', "\\%");
    steps.push(Step::new(
        format!("all privileges on database {} for {name}@{host}", setup.database),
        Place::Server,
        format!("GRANT ALL PRIVILEGES ON {}.* TO {user}", backquoted(&database)),
    ));
    steps
}

/// A text literal that means the same with and without backslash escapes, as long as the text has none.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A text literal where backslashes escape.
pub(super) fn escaped_literal(text: &str) -> String {
    literal(&text.replace('\\', "\\\\"))
}

fn double_quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn backquoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup() -> Setup {
        Setup {
            database: "kra_tos".to_owned(),
            user: Some(NewUser {
                name: "o'ry".to_owned(),
                host: "%".to_owned(),
                password: Some(crate::db::create::Password::new("geheim")),
            }),
        }
    }

    #[test]
    fn the_script_holds_no_password_and_quotes_every_name() {
        assert_eq!(
            script(Dialect::Postgres, &setup()),
            "-- psql -v ON_ERROR_STOP=1 -v password=\"$PASSWORD\" -d postgres\n\
             CREATE DATABASE \"kra_tos\";\n\
             CREATE ROLE \"o'ry\" LOGIN PASSWORD :'password';\n\
             GRANT ALL PRIVILEGES ON DATABASE \"kra_tos\" TO \"o'ry\";\n\
             \\connect \"kra_tos\"\n\
             GRANT ALL PRIVILEGES ON SCHEMA public TO \"o'ry\";\n"
        );
        assert_eq!(
            script(Dialect::MySql, &setup()),
            "-- mariadb; put the password in place of the asterisks\n\
             CREATE DATABASE `kra_tos` CHARACTER SET utf8mb4;\n\
             CREATE USER `o'ry`@`%` IDENTIFIED BY '********';\n\
             GRANT ALL PRIVILEGES ON `kra\\_tos`.* TO `o'ry`@`%`;\n"
        );
        assert!(!format!("{:?}", setup()).contains("geheim"));
    }

    #[test]
    fn a_password_cannot_end_its_literal() {
        assert_eq!(escaped_literal(r"a'\"), r"'a''\\'");
        assert_eq!(literal("a'b"), "'a''b'");
    }
}
