//! Which server this is.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::session::{ask, code};
use crate::db::{DbError, ServerIdentity};

const SYSTEM: &str = "(SELECT system_identifier::text FROM pg_control_system())";

/// The file name of the current WAL position begins with the timeline; a standby has no such position.
const TIMELINE: &str = "CASE WHEN pg_is_in_recovery() THEN NULL \
     ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END";

/// How a session asks which server it talks to: not every role may ask for everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question(String);

impl Question {
    /// Finds out what this session may ask.
    pub(super) async fn find(conn: &mut PgConnection) -> Result<Self, DbError> {
        let whole = Self::whole();
        match allowed(conn, &whole.0).await? {
            Some(_) => Ok(whole),
            None => Self::of_what_is_allowed(conn).await,
        }
    }

    async fn of_what_is_allowed(conn: &mut PgConnection) -> Result<Self, DbError> {
        let mut parts = [SYSTEM, TIMELINE];
        for part in &mut parts {
            if allowed(conn, &format!("SELECT {part}")).await?.is_none() {
                *part = "NULL";
            }
        }
        Ok(Self::of(parts[0], parts[1]))
    }

    fn whole() -> Self {
        Self::of(SYSTEM, TIMELINE)
    }

    fn of(system: &str, timeline: &str) -> Self {
        Self(format!(
            "SELECT {system}, {timeline}, \
             (SELECT oid::text || ' (' || datname || ')' FROM pg_database WHERE datname = current_database())"
        ))
    }

    /// A query that answers one row, for [`answer`](Self::answer).
    pub(super) fn sql(&self) -> &str {
        &self.0
    }

    /// System identifier, database and timeline: a restored dump differs in the first two, a promoted standby in
    /// the third, a renamed database in its name. Where the role may not read the system identifier, `unknown` stands for it and only the database's
    /// oid and the timeline tell copies apart.
    pub(super) fn answer(row: &PgRow) -> ServerIdentity {
        let timeline = row
            .get::<Option<String>, _>(1)
            .and_then(|digits| u32::from_str_radix(&digits, 16).ok());
        let system = row
            .get::<Option<String>, _>(0)
            .unwrap_or_else(|| "unknown".to_owned());
        let timeline = timeline.map_or_else(|| "unknown".to_owned(), |t| t.to_string());
        let database: String = row.get(2);
        ServerIdentity(format!(
            "postgresql system {system} database {database} timeline {timeline}"
        ))
    }
}

/// The server's identity, asked from scratch.
pub(super) async fn identity(conn: &mut PgConnection) -> Result<ServerIdentity, DbError> {
    let rows = match allowed(conn, Question::whole().sql()).await? {
        Some(rows) => rows,
        None => {
            let question = Question::of_what_is_allowed(conn).await?;
            ask(conn, question.sql()).await?
        }
    };
    rows.first()
        .map(Question::answer)
        .ok_or_else(|| DbError::ConnectionLost("the server does not say which database this is".to_owned()))
}

/// The answer; `None` where the role may not ask, or the server does not know the function.
async fn allowed(conn: &mut PgConnection, query: &str) -> Result<Option<Vec<PgRow>>, DbError> {
    match ask(conn, query).await {
        Ok(rows) => Ok(Some(rows)),
        Err(error) if matches!(code(&error), Some("42501" | "42883" | "0A000" | "55000")) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Product and release for people.
pub(super) async fn server(conn: &mut PgConnection) -> Result<String, DbError> {
    let rows = ask(conn, "SHOW server_version").await?;
    let version: String = rows.first().map(|row| row.get(0)).unwrap_or_default();
    Ok(format!(
        "PostgreSQL {}",
        version.split_whitespace().next().unwrap_or(&version)
    ))
}
