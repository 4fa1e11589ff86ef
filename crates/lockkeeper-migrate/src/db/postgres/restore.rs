//! What stands around an archive's script when it is brought back, in one transaction with it.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::Postgres;
use super::identity::identity;
use super::schema::{self, Names, TABLES_SQL};
use super::session::{db_error, quote};
use super::upkeep::{BACKUP_SQL, has_records};
use crate::db::{BackupRecord, DbError, ExecutorId, RestoreFrame};
use crate::ledger::LedgerChoice;
use crate::ledger::format::{FORMAT, MADE_BY};

/// Schemas that are the user's.
const USER_SCHEMA: &str = "n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'";

impl Postgres {
    /// For a target that `executor` has taken.
    pub(crate) async fn restore_frame(
        &self,
        executor: &ExecutorId,
        record: &BackupRecord,
        reason: &str,
    ) -> Result<RestoreFrame, DbError> {
        let mut session = self.connector.connect().await?;
        let lock_timeout_ms = self.connector.settings.lock_timeout.as_millis().max(1);
        let frame = frame(&mut session.conn, executor, record, reason, lock_timeout_ms).await;
        session.close().await;
        frame
    }
}

async fn frame(
    conn: &mut PgConnection,
    executor: &ExecutorId,
    record: &BackupRecord,
    reason: &str,
    lock_timeout_ms: u128,
) -> Result<RestoreFrame, DbError> {
    let Some(names) = schema::find(conn, LedgerChoice::Own).await? else {
        return Err(DbError::Superseded {
            by: "somebody who dropped lockkeeper's tables".to_owned(),
        });
    };
    let extensions = texts(conn, "SELECT extname::text FROM pg_extension".to_owned()).await?;
    let schemas = texts(conn, kept_schemas()).await?;
    let records = has_records(conn, &names).await?;
    let identity = identity(conn).await?;
    let before = [
        format!(
            "BEGIN;\nSET LOCAL client_min_messages = warning;\nSET LOCAL lock_timeout = {lock_timeout_ms};\n"
        ),
        guard(&names, executor),
        keep(&names, records),
        drop_schemas(&schemas),
        DROP_ALL.replace("{USER_SCHEMA}", USER_SCHEMA),
    ];
    let after = [
        "SET LOCAL client_min_messages = warning;\n".to_owned(),
        own_tables(&names),
        settle(&names, &identity.0, reason),
        bring_records(&names, record, records),
        "COMMIT;\n".to_owned(),
    ];
    Ok(RestoreFrame {
        before: before.concat(),
        after: after.concat(),
        extensions,
        schemas,
    })
}

async fn texts(conn: &mut PgConnection, query: String) -> Result<BTreeSet<String>, DbError> {
    let rows = sqlx::query(AssertSqlSafe(query))
        .fetch_all(conn)
        .await
        .map_err(db_error)?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// `public`, and what holds an extension or something of one.
fn kept_schemas() -> String {
    format!(
        "SELECT n.nspname::text FROM pg_namespace n WHERE {USER_SCHEMA} AND (n.nspname = 'public' \
         OR n.oid IN (SELECT extnamespace FROM pg_extension))"
    )
}

/// The gate row, locked until the end: it names this restore's hand, and no rollout has closed the gate.
fn guard(names: &Names, executor: &ExecutorId) -> String {
    format!(
        "DO $lockkeeper$ DECLARE g record; BEGIN\n\
         SELECT * INTO STRICT g FROM {} FOR UPDATE;\n\
         IF g.executor_session IS DISTINCT FROM {} OR g.executor_started IS DISTINCT FROM {} OR g.opened < g.gate_epoch THEN\n\
         RAISE EXCEPTION 'the target was taken by another executor meanwhile' USING ERRCODE = 'LK002';\n\
         END IF; END $lockkeeper$;\n",
        names.gate,
        literal(&executor.session),
        literal(&executor.started),
    )
}

fn keep(names: &Names, records: bool) -> String {
    let mut sql = format!(
        "CREATE TEMP TABLE lockkeeper_before ON COMMIT DROP AS SELECT * FROM {};\n",
        names.gate
    );
    if records {
        sql += &format!(
            "CREATE TEMP TABLE lockkeeper_records ON COMMIT DROP AS SELECT * FROM {};\n",
            names.own("lockkeeper_backup")
        );
    }
    sql
}

/// All other schemas of the user go with everything in them.
fn drop_schemas(kept: &BTreeSet<String>) -> String {
    let kept: Vec<String> = kept.iter().map(|name| literal(name)).collect();
    format!(
        "DO $lockkeeper$ DECLARE o record; BEGIN\n\
         FOR o IN SELECT n.nspname AS s FROM pg_namespace n WHERE {USER_SCHEMA} AND n.nspname <> ALL (ARRAY[{}]::name[]) LOOP\n\
         EXECUTE format('DROP SCHEMA IF EXISTS %I CASCADE', o.s);\n\
         END LOOP; END $lockkeeper$;\n",
        kept.join(", ")
    )
}

/// What is left in the schemas that stay: everything but members of extensions, and the table of the gate's own epoch,
/// which running writers touch.
const DROP_ALL: &str = r"DO $lockkeeper$ DECLARE o record; BEGIN
FOR o IN
    SELECT n.nspname AS s, c.relname AS r, CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
        WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS k
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE {USER_SCHEMA} AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relname !~ '^lockkeeper_g[0-9]+$'
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
    -- A sequence goes with the column that it belongs to, and does not go before it.
    ORDER BY c.relkind = 'S'
LOOP
    IF EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = o.s AND c.relname = o.r) THEN
        EXECUTE format('DROP %s IF EXISTS %I.%I CASCADE', o.k, o.s, o.r);
    END IF;
END LOOP;
FOR o IN
    SELECT p.oid AS id, CASE p.prokind WHEN 'p' THEN 'PROCEDURE' WHEN 'a' THEN 'AGGREGATE' ELSE 'FUNCTION' END AS k
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE {USER_SCHEMA}
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
LOOP
    IF EXISTS (SELECT FROM pg_proc WHERE oid = o.id) THEN
        EXECUTE format('DROP %s %s CASCADE', o.k, o.id::regprocedure);
    END IF;
END LOOP;
FOR o IN
    SELECT n.nspname AS s, t.typname AS r FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE {USER_SCHEMA} AND (t.typtype IN ('e', 'd', 'r')
        OR (t.typtype = 'c' AND EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c')))
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e')
LOOP
    EXECUTE format('DROP TYPE IF EXISTS %I.%I CASCADE', o.s, o.r);
END LOOP;
END $lockkeeper$;
";

/// Makes own tables that the backup does not hold. Where it holds a ledger without a format, that is the oldest one,
/// and the next who takes the target brings it up to date.
fn own_tables(names: &Names) -> String {
    let (ledger, kept) = (literal(&names.ledger), names.kept.as_str());
    format!(
        "SET LOCAL search_path = {};\n\
         SELECT to_regclass({ledger}) IS NULL AS lockkeeper_fresh \\gset\n\
         {TABLES_SQL}\n{BACKUP_SQL}\n\
         \\if :lockkeeper_fresh\n\
         INSERT INTO lockkeeper_meta (format, made_by, ledger) VALUES ({FORMAT}, {}, {}) ON CONFLICT DO NOTHING;\n\
         \\endif\n",
        quote(&names.schema),
        literal(MADE_BY),
        literal(kept),
    )
}

/// The row becomes this server's again, open, with no executor, and with the larger one of each pair of epochs.
fn settle(names: &Names, identity: &str, reason: &str) -> String {
    let (gate, ledger) = (&names.gate, &names.ledger);
    let (identity, reason) = (literal(identity), literal(reason));
    format!(
        "INSERT INTO {gate} (identity) SELECT {identity} WHERE NOT EXISTS (SELECT FROM {gate});\n\
         UPDATE {gate} g SET identity = {identity}, \
         (generation, revision, leader_id) = (SELECT x.generation, x.revision, x.leader_id FROM ( \
         SELECT 1 AS n, generation, revision, leader_id FROM pg_temp.lockkeeper_before UNION ALL \
         SELECT 2, generation, revision, leader_id FROM {gate}) x ORDER BY x.generation DESC, x.revision DESC, x.n LIMIT 1), \
         gate_epoch = greatest(g.gate_epoch, b.gate_epoch), opened = greatest(g.gate_epoch, b.gate_epoch), \
         version = (SELECT l.version FROM {ledger} l ORDER BY l.applied_at DESC, l.version DESC LIMIT 1), \
         executor_session = NULL, executor_started = NULL, executor_who = NULL, rollout = {reason}, changed_at = now() \
         FROM pg_temp.lockkeeper_before b;\n"
    )
}

fn bring_records(names: &Names, record: &BackupRecord, kept: bool) -> String {
    let table = names.own("lockkeeper_backup");
    let mut sql = String::new();
    if kept {
        sql += &format!(
            "INSERT INTO {table} SELECT * FROM pg_temp.lockkeeper_records ON CONFLICT DO NOTHING;\n"
        );
    }
    let version = format!(
        "(SELECT l.version FROM {} l ORDER BY l.applied_at DESC, l.version DESC LIMIT 1)",
        names.ledger
    );
    sql + &format!(
        "INSERT INTO {table} (id, kind, taken_at, place, size, sha256, version, identity, tool, verified, made_by) \
         VALUES ({}, {}, clock_timestamp(), {}, {}, {}, {version}, {}, {}, {}, {});\n",
        literal(&record.id),
        literal(record.kind.as_str()),
        literal(&record.place),
        record.size,
        literal(&record.sha256),
        literal(&record.identity.0),
        literal(&record.tool),
        literal(record.verified.as_str()),
        literal(&record.made_by),
    )
}

/// A text literal, whatever `standard_conforming_strings` says.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}
