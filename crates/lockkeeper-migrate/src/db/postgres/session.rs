//! One session: how it is opened, what its errors mean.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgRow, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};
use tokio::time::timeout;

use crate::db::{DatabaseOptions, DbError, ExecutorId};
use crate::dsn::{Address, Dsn, Locality};

/// The setting that shows whether the session is ours alone: a pooler drops or refuses it at start.
const MARK: &str = "lockkeeper.session";

/// Opens sessions to one database.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    /// Or what is wrong with the DSN's parameters, told at the first session.
    options: Result<PgConnectOptions, String>,
    pub(super) place: String,
    pub(super) settings: DatabaseOptions,
    pub(super) locality: Locality,
}

impl Connector {
    pub(super) fn new(dsn: &Dsn, settings: DatabaseOptions) -> Self {
        Self {
            options: connect_options(dsn),
            place: dsn.place(),
            settings,
            locality: dsn.locality(),
        }
    }

    /// A new session, checked to be a direct one.
    pub(super) async fn connect(&self) -> Result<Session, DbError> {
        let mark = format!("{:016x}", fastrand::u64(..));
        let options = self
            .options
            .clone()
            .map_err(DbError::Unsupported)?
            .options([(MARK, mark.as_str())]);
        let limit = self.settings.connect_timeout;
        let mut conn = match timeout(limit, PgConnection::connect_with(&options)).await {
            Ok(Ok(conn)) => conn,
            Ok(Err(error)) if refuses_settings(&error) => return Err(pooled()),
            Ok(Err(error)) => return Err(self.unreachable(&error)),
            Err(_) => {
                let reason = format!("no answer within {:.1} s", limit.as_secs_f64());
                return Err(DbError::Unreachable {
                    place: self.place.clone(),
                    reason,
                });
            }
        };
        let setup = timeout(limit, describe(&mut conn, &mark)).await;
        let id = setup.map_err(|_| DbError::ConnectionLost("no answer to the first query".to_owned()))??;
        Ok(Session { conn, id })
    }

    fn unreachable(&self, error: &sqlx::Error) -> DbError {
        let reason = match error {
            sqlx::Error::Database(error) => match error.code() {
                Some(code) => format!("{} ({code}){}", error.message(), login_hint(&code)),
                None => error.message().to_owned(),
            },
            sqlx::Error::Io(error) => error.to_string(),
            other => other.to_string(),
        };
        DbError::Unreachable {
            place: self.place.clone(),
            reason,
        }
    }
}

/// A server takes the setting that marks the session; a pooler that does not know it refuses the client.
fn refuses_settings(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.message().contains("unsupported startup parameter"))
}

fn pooled() -> DbError {
    DbError::Unsupported(
        "this DSN leads through a connection pooler, which can hand one session to several clients; \
         give a DSN that reaches the server directly"
            .to_owned(),
    )
}

fn login_hint(code: &str) -> &'static str {
    match code {
        "28P01" | "28000" => "; check user and password of the DSN",
        "3D000" => "; create the database first",
        _ => "",
    }
}

fn connect_options(dsn: &Dsn) -> Result<PgConnectOptions, String> {
    let mut options = PgConnectOptions::new()
        .application_name("lockkeeper")
        // Migrations change the tables under cached plans.
        .statement_cache_capacity(0)
        .disable_statement_logging();
    options = match dsn.address() {
        Some(Address::Tcp(host, port)) => options.host(host).port(*port),
        Some(Address::Unix(path)) => options.socket(path),
        None => return Err(format!("{} is no PostgreSQL server", dsn.place())),
    };
    if let Some(user) = dsn.user() {
        options = options.username(user);
    }
    if let Some(password) = dsn.password().or_else(|| dsn.parameter("password")) {
        options = options.password(password);
    }
    if let Some(database) = dsn.database() {
        options = options.database(database);
    }
    if let Some(mode) = dsn.parameter("sslmode") {
        let mode: PgSslMode = mode.parse().map_err(|_| {
            format!(
                "sslmode {mode:?} is unknown; expected disable, allow, prefer, require, verify-ca or verify-full"
            )
        })?;
        options = options.ssl_mode(mode);
    }
    if let Some(path) = dsn.parameter("sslrootcert") {
        options = options.ssl_root_cert(path);
    }
    if let (Some(cert), Some(key)) = (dsn.parameter("sslcert"), dsn.parameter("sslkey")) {
        options = options.ssl_client_cert(cert).ssl_client_key(key);
    }
    if let Some(path) = dsn.parameter("search_path") {
        options = options.options([("search_path", path)]);
    }
    if let Some(text) = dsn.parameter("options") {
        for (key, value) in startup_settings(text) {
            options = options.options([(key, value)]);
        }
    }
    Ok(options)
}

/// The `-c name=value` settings of libpq's `options` parameter; other switches are for servers, not sessions.
fn startup_settings(text: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("-c") {
            Some("") => words.next(),
            Some(rest) => Some(rest),
            None => word.strip_prefix("--"),
        };
        found.extend(setting.and_then(|s| s.split_once('=')));
    }
    found
}

/// An open session and its two identifiers.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) conn: PgConnection,
    pub(super) id: ExecutorId,
}

impl Session {
    /// Ends the session in good order; errors do not matter any more.
    pub(super) async fn close(self) {
        let _ = timeout(Duration::from_secs(1), self.conn.close()).await;
    }
}

async fn describe(conn: &mut PgConnection, mark: &str) -> Result<ExecutorId, DbError> {
    // A server-side time-out of the role would end the hand in the middle of a wait that is meant.
    let rows = ask(
        conn,
        "SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
         SELECT pg_backend_pid()::text, (extract(epoch FROM a.backend_start) * 1000000)::bigint::text, \
                coalesce(current_setting('lockkeeper.session', true), '') \
         FROM pg_stat_get_activity(pg_backend_pid()) a",
    )
    .await?;
    let row = rows
        .first()
        .ok_or_else(|| DbError::ConnectionLost("the server does not list this session".to_owned()))?;
    if row.get::<String, _>(2) != mark {
        return Err(pooled());
    }
    Ok(ExecutorId {
        session: row.get(0),
        started: row.get(1),
    })
}

/// Runs text that needs no answer, as one simple query.
pub(super) async fn run(conn: &mut PgConnection, sql: impl Into<String>) -> Result<(), DbError> {
    sqlx::raw_sql(AssertSqlSafe(sql.into()))
        .execute(conn)
        .await
        .map_err(db_error)?;
    Ok(())
}

/// Runs text as one simple query, and gives the rows of all its answers. One round trip, where a prepared statement
/// takes two.
pub(super) async fn ask(conn: &mut PgConnection, sql: impl Into<String>) -> Result<Vec<PgRow>, DbError> {
    sqlx::raw_sql(AssertSqlSafe(sql.into()))
        .fetch_all(conn)
        .await
        .map_err(db_error)
}

/// Sets how long this transaction waits for one lock.
pub(super) async fn set_lock_timeout(conn: &mut PgConnection, limit: Duration) -> Result<(), DbError> {
    run(conn, lock_timeout(limit)).await
}

/// The statement for that.
pub(super) fn lock_timeout(limit: Duration) -> String {
    // 0 would be "for ever".
    let limit_ms = limit.as_millis().clamp(1, 2_000_000_000);
    format!("SET LOCAL lock_timeout = {limit_ms}")
}

/// The SQLSTATE of a server error.
pub(super) fn code(error: &DbError) -> Option<&str> {
    match error {
        DbError::Server { code, .. } => Some(code),
        DbError::Permission { .. } => Some("42501"),
        _ => None,
    }
}

/// Whether a lock was not had in time, or given up for a deadlock: worth another try.
pub(super) fn is_lock_failure(error: &DbError) -> bool {
    matches!(code(error), Some("55P03" | "40P01"))
}

/// The driver's error as ours.
pub(super) fn db_error(error: sqlx::Error) -> DbError {
    match error {
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default().into_owned();
            let message = match error.try_downcast_ref::<PgDatabaseError>() {
                Some(error) => full_message(error),
                None => error.message().to_owned(),
            };
            match code.as_str() {
                "57P01" | "57P02" | "57P03" | "57P05" => DbError::ConnectionLost(message),
                "42501" => DbError::Permission {
                    what: message,
                    remedy: "run lockkeeper as the role that owns the tables, or let an owner grant it"
                        .to_owned(),
                },
                _ => DbError::Server { code, message },
            }
        }
        sqlx::Error::Io(error) => DbError::ConnectionLost(error.to_string()),
        other => DbError::ConnectionLost(other.to_string()),
    }
}

/// Message, detail and hint in one line.
pub(super) fn full_message(error: &PgDatabaseError) -> String {
    let mut message = error.message().to_owned();
    if let Some(detail) = error.detail() {
        message.push_str(": ");
        message.push_str(detail);
    }
    if let Some(hint) = error.hint() {
        message.push_str("; hint: ");
        message.push_str(hint);
    }
    message
}

/// A text as it can stand in a statement whatever a script has set: `standard_conforming_strings` and
/// `client_encoding` change what quotes mean, and how what is beyond ASCII is read.
pub(super) fn literal(text: &str) -> String {
    if text.is_ascii() && !text.contains(['\\', '\0']) {
        return format!("E'{}'", text.replace('\'', "''"));
    }
    format!(
        "pg_catalog.convert_from(pg_catalog.decode('{}', 'hex'), 'UTF8')",
        hex::encode(text)
    )
}

/// An identifier, quoted.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_in_libpq_options_are_found() {
        assert_eq!(
            startup_settings("-c search_path=a,b --work_mem=4MB -cx.y=z -B"),
            [("search_path", "a,b"), ("work_mem", "4MB"), ("x.y", "z")]
        );
    }

    #[test]
    fn texts_mean_the_same_under_every_setting() {
        assert_eq!(literal("it's"), "E'it''s'");
        assert_eq!(
            literal("a\\b"),
            "pg_catalog.convert_from(pg_catalog.decode('615c62', 'hex'), 'UTF8')"
        );
    }

    #[test]
    fn identifiers_are_quoted() {
        assert_eq!(quote("a\"b"), "\"a\"\"b\"");
    }
}
