//! Dropping what is left of barriers whose fence has been opened.

use std::time::Duration;

use lockkeeper_core::epoch::GateEpoch;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::epoch_table;
use super::gate::{self, Lock, Terms};
use super::schema::Names;
use super::session::{code, db_error, is_lock_failure, quote, run, set_lock_timeout};
use crate::db::DbError;

/// DROP TRIGGER needs the strongest lock, and new readers queue behind a waiting one: so it waits for almost no
/// time, and what is not had is left for the next call.
const LOCK_WAIT: Duration = Duration::from_millis(50);

/// Gives how many triggers, functions and epoch tables are left.
pub(super) async fn clean_up(
    conn: &mut PgConnection,
    names: &Names,
    terms: &Terms,
) -> Result<usize, DbError> {
    let found = gate::read(conn, names, Lock::None).await?;
    terms.check(&found)?;
    drop_opened(conn, names, found.row.opened).await
}

/// The same without a hand, for an opened gate whose barrier refuses nobody any more.
pub(super) async fn drop_opened(
    conn: &mut PgConnection,
    names: &Names,
    opened: GateEpoch,
) -> Result<usize, DbError> {
    let mut left = 0;
    for sql in triggers(conn, names, opened.0).await? {
        left += usize::from(!drop(conn, &sql).await?);
    }
    for sql in functions(conn, names, opened.0).await? {
        left += usize::from(!drop(conn, &sql).await?);
    }
    for epoch in epoch_table::all(conn, names).await? {
        if epoch < opened {
            left += usize::from(!drop(conn, &epoch_table::drop_statement(names, &[epoch])).await?);
        }
    }
    Ok(left)
}

async fn drop(conn: &mut PgConnection, sql: &str) -> Result<bool, DbError> {
    let mut tx = conn.begin().await.map_err(db_error)?;
    set_lock_timeout(&mut tx, LOCK_WAIT).await?;
    match run(&mut tx, sql).await {
        Ok(()) => {
            tx.commit().await.map_err(db_error)?;
            Ok(true)
        }
        // 2BP01: triggers that could not be dropped still need the function. 42501: an older role's.
        Err(error) if is_lock_failure(&error) || matches!(code(&error), Some("2BP01" | "42501")) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The barrier's triggers and functions that are there.
pub(super) async fn objects(conn: &mut PgConnection, names: &Names) -> Result<Vec<String>, DbError> {
    sqlx::query_scalar(
        "SELECT format('trigger %s on %I.%I', t.tgname, n.nspname, c.relname) \
         FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace pn ON pn.oid = p.pronamespace \
         WHERE NOT t.tgisinternal AND pn.nspname = $1 AND p.proname ~ '^lockkeeper_g[0-9]+_[0-9a-f]{8}$' \
         UNION ALL \
         SELECT format('function %s', p.proname) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace \
         WHERE n.nspname = $1 AND p.proname ~ '^lockkeeper_g[0-9]+_[0-9a-f]{8}$' AND p.pronargs = 0 ORDER BY 1",
    )
    .bind(&names.schema)
    .fetch_all(conn)
    .await
    .map_err(db_error)
}

async fn triggers(conn: &mut PgConnection, names: &Names, opened: u64) -> Result<Vec<String>, DbError> {
    // A trigger is ours when its function is: the name alone is not enough.
    let rows = sqlx::query(
        "SELECT t.tgname::text, n.nspname::text, c.relname::text \
         FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace pn ON pn.oid = p.pronamespace \
         WHERE NOT t.tgisinternal AND pn.nspname = $1 AND p.proname ~ '^lockkeeper_g[0-9]+_[0-9a-f]{8}$' \
         ORDER BY 2, 3",
    )
    .bind(&names.schema)
    .fetch_all(conn)
    .await
    .map_err(db_error)?;
    let statement = |row: &sqlx::postgres::PgRow| {
        let (trigger, schema, table): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        (fence_of(&trigger)? <= opened).then(|| {
            format!(
                "DROP TRIGGER IF EXISTS {} ON {}.{}",
                quote(&trigger),
                quote(&schema),
                quote(&table)
            )
        })
    };
    Ok(rows.iter().filter_map(statement).collect())
}

async fn functions(conn: &mut PgConnection, names: &Names, opened: u64) -> Result<Vec<String>, DbError> {
    let rows = sqlx::query(AssertSqlSafe(
        "SELECT p.proname::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace \
         WHERE n.nspname = $1 AND p.proname ~ '^lockkeeper_g[0-9]+_[0-9a-f]{8}$' AND p.pronargs = 0",
    ))
    .bind(&names.schema)
    .fetch_all(conn)
    .await
    .map_err(db_error)?;
    let statement = |row: &sqlx::postgres::PgRow| {
        let function: String = row.get(0);
        (fence_of(&function)? <= opened)
            .then(|| format!("DROP FUNCTION IF EXISTS {}()", names.own(&function)))
    };
    Ok(rows.iter().filter_map(statement).collect())
}

/// The fence in the name of a trigger or function of ours.
fn fence_of(name: &str) -> Option<u64> {
    name.strip_prefix("lockkeeper_g")?.split('_').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fence_is_read_from_the_name() {
        assert_eq!(fence_of("lockkeeper_g12_00ff00ff"), Some(12));
        assert_eq!(fence_of("lockkeeper_gate"), None);
        assert_eq!(fence_of("audit"), None);
    }
}
