//! The barrier: one function per fence, and on every user table one trigger that calls it.
//!
//! The function refuses *unless the row's `opened` has reached the fence that it was made for*. A snapshot that is
//! too old can only show a lower number, so it refuses; a trigger that is left over is inert by itself. It reads
//! the row without a lock, so that a writer that is refused holds nothing that the opening would wait for. Only
//! the session that seems to be the executor confirms that with a locking read: a hand that was superseded and
//! looks at an old snapshot gets an error instead of a pass.

use lockkeeper_core::epoch::GateEpoch;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::schema::Names;
use super::session::{db_error, quote, run};
use crate::db::DbError;

const SETTINGS: &str = "search_path=pg_catalog, pg_temp";

/// BEFORE (2) STATEMENT (no 1) INSERT (4) DELETE (8) UPDATE (16) TRUNCATE (32), as pg_trigger.tgtype has it.
const TRIGGER_TYPE: i16 = 2 + 4 + 8 + 16 + 32;

/// The barrier of one fence: its function, made by this role.
#[derive(Debug, Clone)]
pub(super) struct Barrier {
    epoch: GateEpoch,
    source: String,
    function: String,
}

/// A user table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) schema: String,
    pub(super) name: String,
    /// Whether a trigger of the barrier stands on it, of the right kind and always enabled.
    pub(super) barred: bool,
    /// Whether this role may make a trigger on it and enable it always.
    pub(super) owned: bool,
}

impl Table {
    /// For messages and reports.
    pub(super) fn display(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// For statements.
    pub(super) fn quoted(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.name))
    }
}

/// Which relations the barrier is for: ordinary and partitioned tables of every schema but the server's own;
/// no temporary ones, since nobody else sees them; not lockkeeper's own; and of an extension's tables only those
/// that this role owns.
pub(super) const USER_TABLES: &str = "c.relkind IN ('r', 'p') AND c.relpersistence <> 't' \
     AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' \
     AND NOT (n.nspname = $1 AND c.relname LIKE 'lockkeeper\\_%') \
     AND (pg_has_role(c.relowner, 'USAGE') OR NOT EXISTS ( \
         SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'))";

impl Barrier {
    /// The fence's function: the one that is there, or a new one.
    pub(super) async fn prepare(
        tx: &mut PgConnection,
        names: &Names,
        epoch: GateEpoch,
    ) -> Result<Self, DbError> {
        let source = source(names, epoch);
        let found = sqlx::query(
            "SELECT p.proname::text FROM pg_proc p \
             JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_roles r ON r.oid = p.proowner \
             WHERE n.nspname = $1 AND p.proname LIKE $2 AND p.prosrc = $3 AND p.prosecdef \
               AND p.proconfig = ARRAY[$4] AND r.rolname = current_user LIMIT 1",
        )
        .bind(&names.schema)
        .bind(pattern(epoch))
        .bind(&source)
        .bind(SETTINGS)
        .fetch_optional(&mut *tx)
        .await
        .map_err(db_error)?;
        let function = match found {
            Some(row) => row.get(0),
            None => {
                let function = new_name(epoch);
                let create = format!(
                    "CREATE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER \
                     SET search_path = pg_catalog, pg_temp AS $lockkeeper${source}$lockkeeper$",
                    names.own(&function)
                );
                run(tx, create).await?;
                function
            }
        };
        Ok(Self {
            epoch,
            source,
            function,
        })
    }

    /// Every user table and whether it is barred, as this statement's snapshot shows it, by schema and name.
    pub(super) async fn tables(&self, conn: &mut PgConnection, names: &Names) -> Result<Vec<Table>, DbError> {
        let query = format!(
            "SELECT n.nspname::text, c.relname::text, pg_has_role(c.relowner, 'USAGE'), EXISTS ( \
                 SELECT FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_roles r ON r.oid = p.proowner \
                 WHERE t.tgrelid = c.oid AND t.tgname LIKE $2 AND t.tgenabled = 'A' AND t.tgtype = $3 \
                   AND t.tgqual IS NULL AND cardinality(t.tgattr::int2[]) = 0 \
                   AND p.prosrc = $4 AND p.prosecdef AND p.proconfig = ARRAY[$5] AND r.rolname = current_user) \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE {USER_TABLES} ORDER BY 1, 2"
        );
        let rows = sqlx::query(AssertSqlSafe(query))
            .bind(&names.schema)
            .bind(pattern(self.epoch))
            .bind(TRIGGER_TYPE)
            .bind(&self.source)
            .bind(SETTINGS)
            .fetch_all(conn)
            .await
            .map_err(db_error)?;
        let table = |row: &sqlx::postgres::PgRow| Table {
            schema: row.get(0),
            name: row.get(1),
            owned: row.get(2),
            barred: row.get(3),
        };
        Ok(rows.iter().map(table).collect())
    }

    /// The tables that still need the barrier. One that this role may not bar is an error.
    pub(super) async fn missing(
        &self,
        conn: &mut PgConnection,
        names: &Names,
    ) -> Result<Vec<Table>, DbError> {
        let missing: Vec<Table> = self
            .tables(conn, names)
            .await?
            .into_iter()
            .filter(|table| !table.barred)
            .collect();
        match missing.iter().find(|table| !table.owned) {
            None => Ok(missing),
            Some(table) => Err(not_owned(conn, table).await),
        }
    }

    /// Puts the barrier on `tables`, inside the caller's transaction. Waits for their writers, not for readers.
    pub(super) async fn install(
        &self,
        tx: &mut PgConnection,
        names: &Names,
        tables: &[Table],
    ) -> Result<(), DbError> {
        let mut sql = String::new();
        for table in tables {
            // A name of its own for each, so that a left-over, weakened one is never in the way.
            let (trigger, on) = (new_name(self.epoch), table.quoted());
            sql.push_str(&format!(
                "CREATE TRIGGER {trigger} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {on} \
                 FOR EACH STATEMENT EXECUTE FUNCTION {}(); \
                 ALTER TABLE ONLY {on} ENABLE ALWAYS TRIGGER {trigger}; ",
                names.own(&self.function)
            ));
        }
        run(tx, sql).await
    }

    /// Puts the barrier on every table that lacks it, inside a migration's transaction and before it commits:
    /// swaps, rebuilds, new tables and new partitions have lost it or never had it.
    pub(super) async fn reassert(&self, tx: &mut PgConnection, names: &Names) -> Result<(), DbError> {
        let missing = self.missing(tx, names).await?;
        if missing.is_empty() {
            return Ok(());
        }
        // ALTER TABLE refuses a table that has deferred trigger events waiting.
        run(tx, "SET CONSTRAINTS ALL IMMEDIATE").await?;
        self.install(tx, names, &missing).await
    }
}

async fn not_owned(conn: &mut PgConnection, table: &Table) -> DbError {
    let role = sqlx::query("SELECT current_user::text")
        .fetch_one(conn)
        .await
        .map(|row| row.get::<String, _>(0));
    let role = role.map_or_else(|_| "ROLE".to_owned(), |role| quote(&role));
    DbError::Permission {
        what: format!("bar {}", table.display()),
        remedy: format!("ALTER TABLE {} OWNER TO {role}", table.quoted()),
    }
}

fn new_name(epoch: GateEpoch) -> String {
    format!("lockkeeper_{epoch}_{:08x}", fastrand::u32(..))
}

fn pattern(epoch: GateEpoch) -> String {
    format!("lockkeeper\\_{epoch}\\_%")
}

fn source(names: &Names, epoch: GateEpoch) -> String {
    let (gate, guests) = (&names.gate, &names.guests);
    let number = epoch.0;
    format!(
        r"
DECLARE
    gate record;
    me text;
    since text;
BEGIN
    SELECT * INTO gate FROM {gate};
    IF gate.opened >= {number} THEN
        RETURN NULL;
    END IF;
    me := pg_backend_pid()::text;
    IF gate.executor_session = me THEN
        SELECT (extract(epoch FROM a.backend_start) * 1000000)::bigint::text INTO since
            FROM pg_stat_get_activity(pg_backend_pid()) a;
        IF gate.executor_started = since THEN
            SELECT * INTO gate FROM {gate} FOR SHARE;
            IF gate.executor_session = me AND gate.executor_started = since THEN
                RETURN NULL;
            END IF;
            RAISE EXCEPTION USING ERRCODE = 'LK002',
                MESSAGE = format('lockkeeper: this session is no longer the executor, the target was taken under e%s.%s',
                    gate.generation, gate.revision),
                HINT = 'Do not retry: a newer leader has taken over.';
        END IF;
    END IF;
    IF session_user ~ '^lockkeeper_{epoch}_[0-9a-f]{{16}}$' THEN
        SELECT * INTO gate FROM {gate} FOR SHARE;
        IF EXISTS (SELECT FROM {guests} g WHERE g.role = session_user AND g.gate_epoch = {number}
                AND g.generation = gate.generation AND g.revision = gate.revision
                AND g.leader_id IS NOT DISTINCT FROM gate.leader_id) THEN
            RETURN NULL;
        END IF;
        RAISE EXCEPTION USING ERRCODE = 'LK002',
            MESSAGE = format('lockkeeper: this migrator was let in by a leader that is none any more, the target was taken under e%s.%s',
                gate.generation, gate.revision),
            HINT = 'Do not retry: a newer leader has taken over.';
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'LK001',
        MESSAGE = format('lockkeeper: %I.%I is fenced at g%s by rollout %s',
            TG_TABLE_SCHEMA, TG_TABLE_NAME, gate.gate_epoch, coalesce(gate.rollout, '(not named)')),
        HINT = 'The schema is being changed. Roll back, wait until the gate is open, then retry.';
END
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_their_fence_and_fit_an_identifier() {
        let name = new_name(GateEpoch(u64::MAX));
        assert!(name.starts_with("lockkeeper_g18446744073709551615_"));
        assert!(name.len() < 64);
        assert_eq!(pattern(GateEpoch(8)), "lockkeeper\\_g8\\_%");
    }
}
