//! Strength EPOCH: one empty table per gate epoch, `lockkeeper_g7`.
//!
//! A writer touches the table of the epoch that it was admitted under, inside its transaction, and so holds a weak
//! lock on it until it ends. Closing the gate drops it, which waits for exactly those writers; from then on a write
//! of that epoch gets "no such table", in every isolation level, with cached plans and through poolers.
//!
//! The next epoch's table is made in the transaction that drops the old one: nobody carries it before the row says
//! that the gate is open, and the opening stays one update of one row, also when a person makes it.

use std::time::Duration;

use lockkeeper_core::epoch::GateEpoch;
use sqlx::{Connection, PgConnection, Row};
use tokio::time::Instant;

use super::hand::PgHand;
use super::schema::Names;
use super::session::{db_error, is_lock_failure, quote, run, set_lock_timeout};
use super::watch::{Manner, Watch};
use crate::db::DbError;

/// The first wait for the old table's writers; doubles with each try, since one that is shorter than overlapping
/// transactions never wins.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// How long the drop may take after those who hold the table were ended.
const END_GRACE: Duration = Duration::from_secs(5);

/// Name of the table that writers of `epoch` touch.
pub(super) fn name(epoch: GateEpoch) -> String {
    format!("lockkeeper_{epoch}")
}

/// Makes the table of `epoch` where it is missing, readable for whoever may read the gate row.
pub(super) async fn ensure(tx: &mut PgConnection, names: &Names, epoch: GateEpoch) -> Result<(), DbError> {
    if exists(tx, names, epoch).await? {
        return Ok(());
    }
    let table = names.own(&name(epoch));
    run(tx, format!("CREATE TABLE {table} ()")).await?;
    for grantee in readers(tx, names).await? {
        run(tx, format!("GRANT SELECT ON {table} TO {grantee}")).await?;
    }
    Ok(())
}

/// Whether the table of `epoch` is there.
pub(super) async fn exists(
    conn: &mut PgConnection,
    names: &Names,
    epoch: GateEpoch,
) -> Result<bool, DbError> {
    let row = sqlx::query("SELECT to_regclass($1) IS NOT NULL")
        .bind(names.own(&name(epoch)))
        .fetch_one(conn)
        .await
        .map_err(db_error)?;
    Ok(row.get(0))
}

/// Roles that may read the gate row, as GRANT takes them. The owner needs no grant.
async fn readers(conn: &mut PgConnection, names: &Names) -> Result<Vec<String>, DbError> {
    let rows = sqlx::query(
        "SELECT DISTINCT a.grantee, coalesce(r.rolname::text, '') \
         FROM pg_class c CROSS JOIN aclexplode(c.relacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee \
         WHERE c.oid = to_regclass($1) AND a.privilege_type = 'SELECT' AND a.grantee <> c.relowner",
    )
    .bind(&names.gate)
    .fetch_all(conn)
    .await
    .map_err(db_error)?;
    let grantee = |row: &sqlx::postgres::PgRow| match row.get::<String, _>(1) {
        public if public.is_empty() => "PUBLIC".to_owned(),
        role => quote(&role),
    };
    Ok(rows.iter().map(grantee).collect())
}

/// All epoch tables that are there, by their epochs.
pub(super) async fn all(conn: &mut PgConnection, names: &Names) -> Result<Vec<GateEpoch>, DbError> {
    let rows = sqlx::query(
        "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = $1 AND c.relkind = 'r' AND c.relname ~ '^lockkeeper_g[0-9]+$' ORDER BY 1",
    )
    .bind(&names.schema)
    .fetch_all(conn)
    .await
    .map_err(db_error)?;
    Ok(rows
        .iter()
        .filter_map(|row| epoch_of(&row.get::<String, _>(0)))
        .collect())
}

fn epoch_of(table: &str) -> Option<GateEpoch> {
    table.strip_prefix("lockkeeper_g")?.parse().ok().map(GateEpoch)
}

/// The statement that drops the tables of `epochs`.
pub(super) fn drop_statement(names: &Names, epochs: &[GateEpoch]) -> String {
    let tables: Vec<String> = epochs.iter().map(|epoch| names.own(&name(*epoch))).collect();
    format!("DROP TABLE IF EXISTS {}", tables.join(", "))
}

impl PgHand {
    /// Replaces the epoch tables of earlier gates by this fence's. Returns when no writer that carries an earlier
    /// epoch is left: they end by themselves before `deadline`, or are ended after it.
    pub(super) async fn turn_epoch(
        &mut self,
        epoch: GateEpoch,
        deadline: Instant,
        watch: &mut Watch<'_>,
    ) -> Result<(), DbError> {
        let mut wait = FIRST_WAIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            if self.try_turn(epoch, wait.min(left), Manner::Tell, watch).await? {
                return Ok(());
            }
            wait *= 2;
        }
        if self.try_turn(epoch, END_GRACE, Manner::End, watch).await? {
            return Ok(());
        }
        Err(DbError::TimedOut {
            what: WHAT.to_owned(),
            blockers: watch.last_seen(),
        })
    }

    /// One transaction; false when the lock was not had within `wait`.
    async fn try_turn(
        &mut self,
        epoch: GateEpoch,
        wait: Duration,
        manner: Manner,
        watch: &mut Watch<'_>,
    ) -> Result<bool, DbError> {
        let settings = &self.connector.settings;
        let (row_wait, wanted) = (settings.lock_timeout, settings.strength.has_epoch());
        let (terms, names, conn) = (&self.terms, &self.names, &mut self.session.conn);
        let work = async move {
            let mut tx = conn.begin().await.map_err(db_error)?;
            terms.hold(&mut tx, names, row_wait).await?;
            set_lock_timeout(&mut tx, wait).await?;
            let mut old = all(&mut tx, names).await?;
            old.retain(|other| *other != epoch);
            if !old.is_empty() {
                run(&mut tx, drop_statement(names, &old)).await?;
            }
            if wanted {
                ensure(&mut tx, names, epoch).await?;
            }
            tx.commit().await.map_err(db_error)
        };
        match watch.during(work, WHAT, manner).await {
            Ok(()) => Ok(true),
            Err(error) if is_lock_failure(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives an open gate its epoch table: for a target that is new, or was not of strength EPOCH before.
    pub(super) async fn arm(&mut self) -> Result<(), DbError> {
        if !self.connector.settings.strength.has_epoch() || self.row.is_closed() {
            return Ok(());
        }
        let wait = self.connector.settings.lock_timeout;
        let mut tx = self.session.conn.begin().await.map_err(db_error)?;
        let row = self.terms.hold(&mut tx, &self.names, wait).await?;
        ensure(&mut tx, &self.names, row.opened).await?;
        tx.commit().await.map_err(db_error)
    }
}

const WHAT: &str = "writers that carry an older gate epoch";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_named_after_its_epoch() {
        assert_eq!(name(GateEpoch(7)), "lockkeeper_g7");
        assert_eq!(epoch_of("lockkeeper_g7"), Some(GateEpoch(7)));
        assert_eq!(epoch_of("lockkeeper_g7_00ff00ff"), None);
        assert_eq!(epoch_of("lockkeeper_gate"), None);
    }
}
