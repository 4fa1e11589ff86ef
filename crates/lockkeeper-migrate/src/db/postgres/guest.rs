//! Logins for external migrators: processes that lockkeeper does not hold, so their sessions must be recognised, and be
//! ended, by their role alone.
//!
//! Each fence gets a role of its own, made and registered in one transaction under the gate row. The barrier lets a
//! session pass whose `session_user` is that role, and only while the gate row still has the epoch that the role was
//! registered under. Ending goes in this order: no new session (NOLOGIN, committed), end those that are there, look
//! until none is left, drop the role.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use tokio::time::{Instant, sleep};

use super::hand::PgHand;
use super::schema::Names;
use super::session::{code, db_error, quote, run};
use super::take::signed;
use crate::db::{DbError, Finding, FindingLevel, Guest};

const TABLE_SQL: &str = include_str!("../../../../../migrations/lockkeeper/postgres-guests.sql");

/// Pause between two looks at sessions that are being ended.
const POLL: Duration = Duration::from_millis(20);

/// From this release on a role cannot give membership in itself away.
const STRICT_MEMBERSHIP: i32 = 160_000;

impl PgHand {
    /// Makes the role and registers it, under the gate row: a hand that was superseded can make none.
    pub(super) async fn make_guest(&mut self) -> Result<Guest, DbError> {
        let epoch = self.row.gate_epoch;
        let wait = self.connector.settings.lock_timeout;
        let role = format!("lockkeeper_{epoch}_{:016x}", fastrand::u64(..));
        let password = uuid::Uuid::new_v4().simple().to_string();
        let mut tx = self.session.conn.begin().await.map_err(db_error)?;
        let row = self.terms.hold(&mut tx, &self.names, wait).await?;
        run(
            &mut tx,
            format!(
                "SET LOCAL search_path = {}; {TABLE_SQL}",
                quote(&self.names.schema)
            ),
        )
        .await?;
        let owner: String = sqlx::query_scalar("SELECT current_user::text")
            .fetch_one(&mut *tx)
            .await
            .map_err(db_error)?;
        let (guest, owner) = (quote(&role), quote(&owner));
        let make = format!(
            "CREATE ROLE {guest} LOGIN PASSWORD '{password}' IN ROLE {owner}; \
             ALTER ROLE {guest} SET role = {owner}"
        );
        match run(&mut tx, make).await {
            Err(error) if code(&error) == Some("42501") => return Err(no_right_to_make(&error)),
            other => other?,
        }
        let insert = format!(
            "INSERT INTO {} (role, gate_epoch, generation, revision, leader_id) VALUES ($1, $2, $3, $4, $5)",
            self.names.guests
        );
        sqlx::query(AssertSqlSafe(insert))
            .bind(&role)
            .bind(signed(epoch.0))
            .bind(signed(row.leader_epoch.generation))
            .bind(signed(row.leader_epoch.revision))
            .bind(row.leader_id.map(|id| id.to_string()))
            .execute(&mut *tx)
            .await
            .map_err(db_error)?;
        tx.commit().await.map_err(db_error)?;
        Ok(Guest { user: role, password })
    }
}

/// Ends every registered guest. Gives the sessions that were ended, in words.
pub(super) async fn end_all(
    conn: &mut PgConnection,
    names: &Names,
    deadline: Instant,
) -> Result<Vec<String>, DbError> {
    let mut ended = Vec::new();
    for role in registered(conn, names).await? {
        ended.extend(end(conn, names, &role, deadline).await?);
    }
    Ok(ended)
}

/// The roles in the register, if there is one.
async fn registered(conn: &mut PgConnection, names: &Names) -> Result<Vec<String>, DbError> {
    let there: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(&names.guests)
        .fetch_one(&mut *conn)
        .await
        .map_err(db_error)?;
    if !there {
        return Ok(Vec::new());
    }
    sqlx::query_scalar(AssertSqlSafe(format!(
        "SELECT role FROM {} ORDER BY 1",
        names.guests
    )))
    .fetch_all(conn)
    .await
    .map_err(db_error)
}

/// The sessions of registered guests that are there, in words.
pub(super) async fn living(conn: &mut PgConnection, names: &Names) -> Result<Vec<String>, DbError> {
    let roles = registered(conn, names).await?;
    sqlx::query_scalar(
        "SELECT format('session %s of %s', a.pid, r.rolname) FROM pg_stat_activity a \
         JOIN pg_roles r ON r.oid = a.usesysid WHERE r.rolname = ANY ($1)",
    )
    .bind(roles)
    .fetch_all(conn)
    .await
    .map_err(db_error)
}

async fn end(
    conn: &mut PgConnection,
    names: &Names,
    role: &str,
    deadline: Instant,
) -> Result<Vec<String>, DbError> {
    // Our names only, whatever somebody wrote into the table.
    if !role.starts_with("lockkeeper_g") {
        return Err(DbError::ForeignTable {
            table: names.guests.clone(),
            detail: format!("{role} is no role of lockkeeper's"),
        });
    }
    let there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)")
        .bind(role)
        .fetch_one(&mut *conn)
        .await
        .map_err(db_error)?;
    let mut ended = Vec::new();
    if there {
        run(conn, format!("ALTER ROLE {} NOLOGIN", quote(role))).await?;
        ended = end_sessions(conn, role, deadline).await?;
        match run(conn, format!("DROP ROLE {}", quote(role))).await {
            // 2BP01: it came to own something. It can log in no more, which is what counts.
            Err(error) if code(&error) == Some("2BP01") => {}
            other => other?,
        }
    }
    let forget = format!("DELETE FROM {} WHERE role = $1", names.guests);
    sqlx::query(AssertSqlSafe(forget))
        .bind(role)
        .execute(conn)
        .await
        .map_err(db_error)?;
    Ok(ended)
}

/// Ends the role's sessions, in whatever database, and looks until the server lists none and no transaction that they
/// prepared is left.
async fn end_sessions(
    conn: &mut PgConnection,
    role: &str,
    deadline: Instant,
) -> Result<Vec<String>, DbError> {
    let mut ended = Vec::new();
    loop {
        let rows = sqlx::query(
            "SELECT a.pid, pg_terminate_backend(a.pid) FROM pg_stat_activity a \
             JOIN pg_roles r ON r.oid = a.usesysid WHERE r.rolname = $1",
        )
        .bind(role)
        .fetch_all(&mut *conn)
        .await
        .map_err(|error| no_right_to_end(db_error(error), role))?;
        let prepared = prepared_by(conn, role).await?;
        if rows.is_empty() && prepared.is_empty() {
            return Ok(ended);
        }
        for row in &rows {
            let session = format!("session {} of {role}", row.get::<i32, _>(0));
            if !ended.contains(&session) {
                ended.push(session);
            }
        }
        if Instant::now() >= deadline {
            let what = match prepared.as_slice() {
                [] => format!(
                    "the end of the external migrator's sessions, {}",
                    ended.join(", ")
                ),
                gids => format!(
                    "the end of what the external migrator has prepared; ROLLBACK PREPARED each of {}",
                    gids.join(", ")
                ),
            };
            return Err(DbError::TimedOut {
                what,
                blockers: Vec::new(),
            });
        }
        sleep(POLL).await;
    }
}

/// Transactions that sessions of the role have prepared: they outlive their sessions.
async fn prepared_by(conn: &mut PgConnection, role: &str) -> Result<Vec<String>, DbError> {
    sqlx::query_scalar("SELECT quote_literal(gid) FROM pg_prepared_xacts WHERE owner = $1 ORDER BY 1")
        .bind(role)
        .fetch_all(conn)
        .await
        .map_err(db_error)
}

fn no_right_to_make(error: &DbError) -> DbError {
    DbError::Permission {
        what: format!("make a role for the external migrator ({error})"),
        remedy: "ALTER ROLE <the role that lockkeeper logs in as> CREATEROLE".to_owned(),
    }
}

fn no_right_to_end(error: DbError, role: &str) -> DbError {
    match code(&error) {
        Some("42501") => DbError::Permission {
            what: format!("end the sessions of {role}"),
            remedy: "GRANT pg_signal_backend TO <the role that lockkeeper logs in as>".to_owned(),
        },
        _ => error,
    }
}

/// What keeps this login from making and ending guests.
pub(super) async fn findings(conn: &mut PgConnection) -> Result<Vec<Finding>, DbError> {
    let row = sqlx::query(
        "SELECT current_setting('server_version_num')::int, current_user::text, r.rolsuper, r.rolcreaterole, \
                pg_has_role(current_user, 'pg_signal_backend', 'USAGE'), \
                pg_has_role(session_user, current_user, 'MEMBER WITH ADMIN OPTION') \
                    AND session_user <> current_user, \
                session_user::text \
         FROM pg_roles r WHERE r.rolname = current_user",
    )
    .fetch_one(conn)
    .await
    .map_err(db_error)?;
    let (version, owner, login): (i32, String, String) = (row.get(0), row.get(1), row.get(6));
    if row.get(2) {
        return Ok(Vec::new());
    }
    let error = |code: &str, message: String, remedy: String| Finding {
        level: FindingLevel::Error,
        code: code.to_owned(),
        message,
        remedy,
    };
    let mut findings = Vec::new();
    if !row.get::<bool, _>(3) {
        findings.push(error(
            "external-no-createrole",
            format!("role {owner} may not make the role that an external migrator logs in as"),
            format!("ALTER ROLE {} CREATEROLE", quote(&owner)),
        ));
    }
    if !row.get::<bool, _>(4) {
        findings.push(error(
            "external-no-signal",
            format!("role {owner} may not end the sessions of an external migrator"),
            format!("GRANT pg_signal_backend TO {}", quote(&owner)),
        ));
    }
    if version >= STRICT_MEMBERSHIP && !row.get::<bool, _>(5) {
        findings.push(error(
            "external-no-admin",
            format!("role {login} may not let another role act as {owner}, who owns what a migrator makes"),
            "let a role without login own the schema, GRANT it to lockkeeper's login WITH ADMIN OPTION, and add \
             options=-c role=OWNER to the DSN"
                .to_owned(),
        ));
    }
    Ok(findings)
}
