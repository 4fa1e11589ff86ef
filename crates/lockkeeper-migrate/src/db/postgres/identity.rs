//! Which server this is.

use sqlx::{PgConnection, Row};

use super::session::{code, db_error};
use crate::db::{DbError, ServerIdentity};

/// System identifier, database and timeline: a restored dump differs in the first two, a promoted standby in
/// the third. Where the role may not read the system identifier, `unknown` stands for it and only the database's
/// oid and the timeline tell copies apart.
pub(super) async fn identity(conn: &mut PgConnection) -> Result<ServerIdentity, DbError> {
    let system = optional(conn, "SELECT system_identifier::text FROM pg_control_system()").await?;
    // The file name of the current WAL position begins with the timeline; a standby has no such position.
    let timeline = optional(
        conn,
        "SELECT CASE WHEN pg_is_in_recovery() THEN NULL \
                ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END",
    )
    .await?;
    let timeline = timeline.and_then(|digits| u32::from_str_radix(&digits, 16).ok());
    let database = sqlx::query("SELECT oid::bigint FROM pg_database WHERE datname = current_database()")
        .fetch_one(&mut *conn)
        .await
        .map_err(db_error)?
        .get::<i64, _>(0);
    let system = system.as_deref().unwrap_or("unknown");
    let timeline = timeline.map_or_else(|| "unknown".to_owned(), |t| t.to_string());
    Ok(ServerIdentity(format!(
        "postgresql system {system} database {database} timeline {timeline}"
    )))
}

/// One text, or `None` where the role may not ask or the server does not know the function.
async fn optional(conn: &mut PgConnection, query: &'static str) -> Result<Option<String>, DbError> {
    match sqlx::query(query).fetch_optional(conn).await.map_err(db_error) {
        Ok(row) => Ok(row.and_then(|row| row.get(0))),
        Err(error) if matches!(code(&error), Some("42501" | "42883" | "0A000" | "55000")) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Product and release for people.
pub(super) async fn server(conn: &mut PgConnection) -> Result<String, DbError> {
    let row = sqlx::query("SELECT current_setting('server_version')")
        .fetch_one(conn)
        .await
        .map_err(db_error)?;
    let version: String = row.get(0);
    Ok(format!(
        "PostgreSQL {}",
        version.split_whitespace().next().unwrap_or(&version)
    ))
}
