//! What would stop a fence or a migration, found without changing anything.

use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_core::strength::Strength;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::barrier::USER_TABLES;
use super::epoch_table;
use super::gate::{self, Lock};
use super::identity::identity;
use super::schema;
use super::session::{code, db_error, quote};
use crate::db::types::no_epoch_table;
use crate::db::{DbError, Finding, FindingLevel};
use crate::ledger::LedgerChoice;

/// A transaction that has been writing for longer than this will be ended by most budgets.
const LONG_TRANSACTION_S: f64 = 30.0;

/// At most this many findings of one kind are spelled out.
const NAMED_MAX: usize = 20;

/// `EXECUTE FUNCTION`, `pg_control_system` and partitioned tables' triggers are all there from this release on.
const OLDEST_SERVER: i32 = 110_000;

pub(super) async fn preflight(conn: &mut PgConnection, strength: Strength) -> Result<Vec<Finding>, DbError> {
    let (standby, version, role) = server(conn).await?;
    let mut findings = Vec::new();
    if version < OLDEST_SERVER {
        findings.push(finding(
            FindingLevel::Error,
            "old-server",
            format!("the server's release number is {version}"),
            "use PostgreSQL 11 or newer".to_owned(),
        ));
        return Ok(findings);
    }
    if standby {
        findings.push(finding(
            FindingLevel::Error,
            "standby",
            "the server is a standby and accepts no change".to_owned(),
            "give the primary's DSN".to_owned(),
        ));
    }
    let names = gate_findings(conn, &mut findings).await?;
    if names.is_none() {
        schema_findings(conn, &role, &mut findings).await?;
    }
    if strength.has_epoch() {
        epoch_findings(conn, &mut findings).await?;
    }
    let own_schema = names.unwrap_or_default();
    table_findings(conn, &own_schema, &role, &mut findings).await?;
    foreign_table_findings(conn, &mut findings).await?;
    subscription_findings(conn, &mut findings).await?;
    transaction_findings(conn, &mut findings).await?;
    role_findings(conn, &role, &mut findings).await?;
    Ok(findings)
}

fn finding(level: FindingLevel, code: &str, message: String, remedy: String) -> Finding {
    Finding {
        level,
        code: code.to_owned(),
        message,
        remedy,
    }
}

async fn server(conn: &mut PgConnection) -> Result<(bool, i32, String), DbError> {
    let row = sqlx::query(
        "SELECT pg_is_in_recovery(), current_setting('server_version_num')::int, current_user::text",
    )
    .fetch_one(conn)
    .await
    .map_err(db_error)?;
    Ok((row.get(0), row.get(1), row.get(2)))
}

/// Looks at the gate row; gives the schema that it is in.
async fn gate_findings(
    conn: &mut PgConnection,
    findings: &mut Vec<Finding>,
) -> Result<Option<String>, DbError> {
    let names = match schema::find(conn, LedgerChoice::Own).await {
        Ok(Some(names)) => names,
        Ok(None) => return Ok(None),
        Err(DbError::ForeignTable { table, detail }) => {
            findings.push(finding(
                FindingLevel::Error,
                "foreign-table-name",
                format!("{table}: {detail}"),
                "rename or drop the table that carries lockkeeper's name".to_owned(),
            ));
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let row = match gate::read(conn, &names, Lock::None).await {
        Ok(found) => found.row,
        Err(error) => {
            let remedy = format!(
                "GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO the role",
                names.gate
            );
            findings.push(finding(
                FindingLevel::Error,
                "gate-row",
                error.to_string(),
                remedy,
            ));
            return Ok(Some(names.schema));
        }
    };
    let seen = identity(conn).await?;
    if row.identity != seen {
        let level = if row.is_closed() {
            FindingLevel::Error
        } else {
            FindingLevel::Warning
        };
        findings.push(finding(
            level,
            "identity-changed",
            format!("the gate row was written on {}, this is {seen}", row.identity),
            "make sure that this is the server you mean; after a restore or a failover its gate and its ledger may \
             be older than what the fleet knows"
                .to_owned(),
        ));
    }
    if row.is_closed() && row.gate_epoch > GateEpoch::ZERO {
        let rollout = row.rollout.unwrap_or_else(|| "(not named)".to_owned());
        findings.push(finding(
            FindingLevel::Info,
            "gate-closed",
            format!("the gate is closed at {} by rollout {rollout}", row.gate_epoch),
            "let that rollout finish, or abort it".to_owned(),
        ));
    }
    Ok(Some(names.schema))
}

async fn schema_findings(
    conn: &mut PgConnection,
    role: &str,
    findings: &mut Vec<Finding>,
) -> Result<(), DbError> {
    let row = sqlx::query(
        "SELECT current_schema()::text, coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)",
    )
    .fetch_one(conn)
    .await
    .map_err(db_error)?;
    let may: bool = row.get(1);
    match row.get::<Option<String>, _>(0) {
        None => findings.push(finding(
            FindingLevel::Error,
            "no-schema",
            "none of the schemas in the role's search_path can be used".to_owned(),
            format!("CREATE SCHEMA AUTHORIZATION {}", quote(role)),
        )),
        Some(schema) if !may => findings.push(finding(
            FindingLevel::Error,
            "no-create",
            format!("{role} may not create tables in schema {schema}"),
            format!("GRANT CREATE ON SCHEMA {} TO {}", quote(&schema), quote(role)),
        )),
        Some(_) => {}
    }
    Ok(())
}

async fn table_findings(
    conn: &mut PgConnection,
    own_schema: &str,
    role: &str,
    findings: &mut Vec<Finding>,
) -> Result<(), DbError> {
    let query = format!(
        "SELECT n.nspname::text, c.relname::text, pg_get_userbyid(c.relowner)::text \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE {USER_TABLES} AND NOT pg_has_role(c.relowner, 'USAGE') ORDER BY 1, 2"
    );
    let rows = sqlx::query(AssertSqlSafe(query))
        .bind(own_schema)
        .fetch_all(conn)
        .await
        .map_err(db_error)?;
    for row in rows.iter().take(NAMED_MAX) {
        let (schema, table, owner): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        findings.push(finding(
            FindingLevel::Error,
            "not-owner",
            format!("{schema}.{table} belongs to {owner}: {role} cannot bar it"),
            format!(
                "GRANT {} TO {role_name}; or ALTER TABLE {}.{} OWNER TO {role_name}",
                quote(&owner),
                quote(&schema),
                quote(&table),
                role_name = quote(role)
            ),
        ));
    }
    more(
        rows.len(),
        FindingLevel::Error,
        "not-owner",
        "tables that belong to other roles",
        findings,
    );
    Ok(())
}

fn more(found: usize, level: FindingLevel, code: &str, what: &str, findings: &mut Vec<Finding>) {
    if found > NAMED_MAX {
        let message = format!("{} more {what}", found - NAMED_MAX);
        findings.push(finding(
            level,
            code,
            message,
            "the same as for the ones named".to_owned(),
        ));
    }
}

async fn foreign_table_findings(conn: &mut PgConnection, findings: &mut Vec<Finding>) -> Result<(), DbError> {
    let rows = sqlx::query(
        "SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind = 'f' ORDER BY 1, 2",
    )
    .fetch_all(conn)
    .await
    .map_err(db_error)?;
    for row in rows.iter().take(NAMED_MAX) {
        let (schema, table): (String, String) = (row.get(0), row.get(1));
        findings.push(finding(
            FindingLevel::Warning,
            "foreign-table",
            format!(
                "{schema}.{table} is a foreign table: its rows are in another database, outside of this fence"
            ),
            "make that database a target of its own, if it matters".to_owned(),
        ));
    }
    more(
        rows.len(),
        FindingLevel::Warning,
        "foreign-table",
        "foreign tables",
        findings,
    );
    Ok(())
}

/// The apply worker of logical replication passes statement triggers.
async fn subscription_findings(conn: &mut PgConnection, findings: &mut Vec<Finding>) -> Result<(), DbError> {
    let rows = sqlx::query(
        "SELECT s.subname::text FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid \
         WHERE d.datname = current_database() AND s.subenabled ORDER BY 1",
    )
    .fetch_all(conn)
    .await
    .map_err(db_error);
    let rows = match rows {
        Ok(rows) => rows,
        Err(error) if code(&error) == Some("42501") => {
            findings.push(finding(
                FindingLevel::Warning,
                "subscriptions-unknown",
                "the role may not see whether logical replication writes to this database".to_owned(),
                "GRANT SELECT (subname, subdbid, subenabled) ON pg_subscription TO the role".to_owned(),
            ));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    for row in rows {
        let name: String = row.get(0);
        findings.push(finding(
            FindingLevel::Error,
            "subscription",
            format!("subscription {name} is enabled: what it replicates passes the barrier"),
            format!("ALTER SUBSCRIPTION {} DISABLE", quote(&name)),
        ));
    }
    Ok(())
}

async fn transaction_findings(conn: &mut PgConnection, findings: &mut Vec<Finding>) -> Result<(), DbError> {
    let rows = sqlx::query(
        "SELECT gid, owner::text FROM pg_prepared_xacts WHERE database = current_database() ORDER BY prepared",
    )
    .fetch_all(&mut *conn)
    .await
    .map_err(db_error)?;
    for row in rows.iter().take(NAMED_MAX) {
        let (gid, owner): (String, String) = (row.get(0), row.get(1));
        findings.push(finding(
            FindingLevel::Warning,
            "prepared-transaction",
            format!(
                "prepared transaction {gid:?} of {owner} is open: a fence waits for it and cannot end it"
            ),
            format!(
                "COMMIT PREPARED '{0}' or ROLLBACK PREPARED '{0}'",
                gid.replace('\'', "''")
            ),
        ));
    }
    let rows = sqlx::query(
        "SELECT pid, coalesce(usename::text, ''), coalesce(application_name, ''), \
                extract(epoch FROM clock_timestamp() - xact_start)::float8 \
         FROM pg_stat_activity \
         WHERE datname = current_database() AND backend_xid IS NOT NULL AND pid <> pg_backend_pid() \
           AND extract(epoch FROM clock_timestamp() - xact_start) > $1 ORDER BY 4 DESC",
    )
    .bind(LONG_TRANSACTION_S)
    .fetch_all(conn)
    .await
    .map_err(db_error)?;
    for row in rows.iter().take(NAMED_MAX) {
        let (pid, user, application, age): (i32, String, String, f64) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        findings.push(finding(
            FindingLevel::Warning,
            "long-transaction",
            format!(
                "session {pid} of {user} ({application}) has been in a writing transaction for {age:.0} s"
            ),
            format!("end it before the fence does: SELECT pg_terminate_backend({pid})"),
        ));
    }
    Ok(())
}

/// Whether writers carry the epoch of the gate that is open now.
async fn epoch_findings(conn: &mut PgConnection, findings: &mut Vec<Finding>) -> Result<(), DbError> {
    let armed = match schema::find(conn, LedgerChoice::Own).await {
        Ok(Some(names)) => {
            let opened = gate::read(conn, &names, Lock::None).await?.row.opened;
            epoch_table::exists(conn, &names, opened).await?
        }
        // Nothing of ours is here, or it is a finding of its own.
        Ok(None) | Err(DbError::ForeignTable { .. }) => false,
        Err(error) => return Err(error),
    };
    if !armed {
        findings.push(no_epoch_table());
    }
    Ok(())
}

/// A fence ends writers that do not finish: it must be allowed to.
async fn role_findings(
    conn: &mut PgConnection,
    role: &str,
    findings: &mut Vec<Finding>,
) -> Result<(), DbError> {
    let rows = sqlx::query(
        "SELECT DISTINCT a.usename::text, coalesce(r.rolsuper, false) FROM pg_stat_activity a \
         LEFT JOIN pg_roles r ON r.oid = a.usesysid \
         WHERE a.datname = current_database() AND a.usename IS NOT NULL AND a.pid <> pg_backend_pid() \
           AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) \
           AND NOT pg_has_role(a.usesysid, 'USAGE') \
           AND (coalesce(r.rolsuper, false) OR NOT pg_has_role('pg_signal_backend', 'USAGE')) \
         ORDER BY 1",
    )
    .fetch_all(conn)
    .await
    .map_err(db_error)?;
    for row in rows.iter().take(NAMED_MAX) {
        let (user, superuser): (String, bool) = (row.get(0), row.get(1));
        let remedy = if superuser {
            "let no application log in as a superuser".to_owned()
        } else {
            format!("GRANT pg_signal_backend TO {}", quote(role))
        };
        let message =
            format!("{role} may not end sessions of {user}: a writer that does not finish stops the fence");
        findings.push(finding(FindingLevel::Warning, "cannot-end", message, remedy));
    }
    Ok(())
}
