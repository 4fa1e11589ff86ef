//! Asks and makes.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use serde::Serialize;

use super::setup::{NewUser, Setup};
use super::steps::{Place, Secret, Step, escaped_literal, literal, steps};
use crate::db::mysql::MySqlAdmin;
use crate::db::postgres::PostgresAdmin;
use crate::db::{DatabaseOptions, DbError};
use crate::dialect::Dialect;
use crate::dsn::Dsn;

/// What became of one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Done {
    /// What was to be made, for people.
    pub what: String,
    /// Whether it was.
    pub outcome: Outcome,
}

/// Whether something was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Now.
    Made,
    /// It was there before, and stays as it is.
    Already,
    /// It would be made: nothing was to be changed.
    Missing,
}

/// Whether anything is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It is.
    Make,
    /// Only what is missing is told.
    Look,
}

/// The administrator's session: in a database of the server's own, or in the one that is made.
enum Admin {
    Postgres(PostgresAdmin),
    MySql(MySqlAdmin),
}

/// Makes what is missing of `setup`, with the login of `dsn`, which must name the same database.
///
/// # Errors
///
/// When the server cannot be reached or refuses. What was made before stays; call it again.
pub async fn create(
    dsn: &Dsn,
    options: DatabaseOptions,
    setup: &Setup,
    maintenance_database: &str,
    effect: Effect,
) -> Result<Vec<Done>, DbError> {
    if dsn.dialect() == Dialect::Sqlite {
        return file(dsn, effect);
    }
    let mut admin = Admin::connect(&dsn.with_database(maintenance_database), &options).await?;
    let mut place = Place::Server;
    let mut done: Vec<Done> = Vec::new();
    for step in steps(dsn.dialect(), setup) {
        // Nothing can be asked inside a database that is not there yet.
        let elsewhere = step.place != place;
        if elsewhere && effect == Effect::Make {
            admin.close().await;
            admin = Admin::connect(dsn, &options).await?;
            place = step.place;
        }
        let outcome = admin.take(&step, setup.user.as_ref(), effect).await?;
        done.push(Done {
            what: step.what,
            outcome,
        });
    }
    admin.close().await;
    Ok(done)
}

impl Admin {
    async fn connect(dsn: &Dsn, options: &DatabaseOptions) -> Result<Self, DbError> {
        Ok(match dsn.dialect() {
            Dialect::Postgres => Self::Postgres(PostgresAdmin::connect(dsn, options.clone()).await?),
            // A file has no administrator, and was made above.
            Dialect::MySql | Dialect::Sqlite => Self::MySql(MySqlAdmin::connect(dsn, options.clone()).await?),
        })
    }

    async fn take(
        &mut self,
        step: &Step,
        user: Option<&NewUser>,
        effect: Effect,
    ) -> Result<Outcome, DbError> {
        let there = match &step.there {
            Some(question) => self.any(question).await?,
            None => false,
        };
        match (there, effect) {
            (true, _) => Ok(Outcome::Already),
            (false, Effect::Look) => Ok(Outcome::Missing),
            (false, Effect::Make) => match self.run(&self.statement(step, user)).await {
                Ok(()) => Ok(Outcome::Made),
                // Somebody else was faster.
                Err(DbError::Server { code, .. }) if is_duplicate(&code) => Ok(Outcome::Already),
                Err(error) => Err(error),
            },
        }
    }

    fn statement(&self, step: &Step, user: Option<&NewUser>) -> String {
        let password = user.and_then(|user| user.password.as_ref());
        match (step.secret, password) {
            (Secret::None, _) | (Secret::Password, None) => step.sql.clone(),
            (Secret::Password, Some(password)) => {
                let literal = match self {
                    Self::Postgres(_) => literal(password.reveal()),
                    Self::MySql(_) => escaped_literal(password.reveal()),
                };
                format!("{}{literal}", step.sql)
            }
        }
    }

    async fn any(&mut self, question: &str) -> Result<bool, DbError> {
        match self {
            Self::Postgres(admin) => admin.any(question).await,
            Self::MySql(admin) => admin.any(question).await,
        }
    }

    async fn run(&mut self, sql: &str) -> Result<(), DbError> {
        match self {
            Self::Postgres(admin) => admin.run(sql).await,
            Self::MySql(admin) => admin.run(sql).await,
        }
    }

    async fn close(self) {
        match self {
            Self::Postgres(admin) => admin.close().await,
            Self::MySql(admin) => admin.close().await,
        }
    }
}

/// Database or role exists (PostgreSQL, also as a race on its catalogues), or database exists or user cannot be made
/// twice (MariaDB, MySQL).
fn is_duplicate(code: &str) -> bool {
    matches!(code, "42P04" | "42710" | "23505" | "1007" | "1396")
}

/// An empty file is an empty SQLite database.
fn file(dsn: &Dsn, effect: Effect) -> Result<Vec<Done>, DbError> {
    let path = dsn.path().unwrap_or(Path::new(""));
    let unreachable = |reason: String| DbError::Unreachable {
        place: dsn.place(),
        reason,
    };
    let outcome = match (path.exists(), effect) {
        (true, _) if !path.is_file() => return Err(unreachable("it is not a file".to_owned())),
        (true, _) => Outcome::Already,
        (false, Effect::Look) => Outcome::Missing,
        (false, Effect::Make) => match OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(_) => Outcome::Made,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Outcome::Already,
            Err(error) => return Err(unreachable(error.to_string())),
        },
    };
    let what = format!("file {}", path.display());
    Ok(vec![Done { what, outcome }])
}
