//! Strength EPOCH: one empty table per gate epoch, `lockkeeper_g7`.
//!
//! A writer reads the table of the epoch that it was admitted under, inside its transaction, and so holds a lock on
//! its definition until it ends. Closing the gate drops it, which waits for exactly those writers; from then on a
//! write of that epoch gets "no such table".
//!
//! DDL commits here, so nothing ties it to the gate row. The name does: a late statement of an old leader cannot hit
//! the table of a newer gate.

use lockkeeper_core::epoch::GateEpoch;

use super::failure::Failure;
use super::session::Session;
use super::target::Target;
use super::text::literal;
use crate::db::DbError;

/// Name of the table that writers of `epoch` touch.
pub(super) fn name(epoch: GateEpoch) -> String {
    format!("lockkeeper_{epoch}")
}

fn epoch_of(table: &str) -> Option<GateEpoch> {
    table.strip_prefix("lockkeeper_g")?.parse().ok().map(GateEpoch)
}

/// Makes the table of `epoch` where it is missing, readable for whoever was given the gate row by name.
pub(super) async fn ensure(session: &mut Session, target: &Target, epoch: GateEpoch) -> Result<(), DbError> {
    // Both again whether it is there or not: a crash may have come between them.
    let table = target.own(&name(epoch));
    session
        .run(&format!(
            "CREATE TABLE IF NOT EXISTS {table} (nothing TINYINT) ENGINE = InnoDB"
        ))
        .await?;
    for reader in readers(session, target).await? {
        grant(session, &table, &reader).await?;
    }
    Ok(())
}

async fn grant(session: &mut Session, table: &str, reader: &str) -> Result<(), DbError> {
    match session.run(&format!("GRANT SELECT ON {table} TO {reader}")).await {
        Ok(_) => Ok(()),
        Err(failure) if failure.is_denied() => Err(DbError::Permission {
            what: format!("grant {reader} the epoch table {table}"),
            remedy: format!(
                "run `GRANT SELECT ON` the whole database `TO {reader}`, or give lockkeeper's role the GRANT OPTION"
            ),
        }),
        Err(failure) => Err(failure.into()),
    }
}

/// Whether the table of `epoch` is there.
pub(super) async fn exists(
    session: &mut Session,
    target: &Target,
    epoch: GateEpoch,
) -> Result<bool, Failure> {
    session
        .any(&format!(
            "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
            literal(&target.database),
            literal(&name(epoch))
        ))
        .await
}

/// Users who were given the gate row by name, as far as this role sees them: it sees all with SELECT on `mysql`.
async fn readers(session: &mut Session, target: &Target) -> Result<Vec<String>, Failure> {
    let rows = session
        .rows(&format!(
            "SELECT DISTINCT GRANTEE FROM information_schema.TABLE_PRIVILEGES WHERE TABLE_SCHEMA = {} \
             AND TABLE_NAME = 'lockkeeper_gate' AND PRIVILEGE_TYPE = 'SELECT'",
            literal(&target.database)
        ))
        .await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| row.into_iter().next().flatten())
        .collect())
}

/// All epoch tables that are there, by their epochs.
pub(super) async fn all(session: &mut Session, target: &Target) -> Result<Vec<GateEpoch>, Failure> {
    let rows = session
        .rows(&format!(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} \
             AND LEFT(TABLE_NAME, 12) = 'lockkeeper_g'",
            literal(&target.database)
        ))
        .await?;
    let names = rows
        .into_iter()
        .filter_map(|row| row.into_iter().next().flatten());
    Ok(names.filter_map(|name| epoch_of(&name)).collect())
}

/// The statement that drops the table of `epoch`.
pub(super) fn drop_statement(target: &Target, epoch: GateEpoch) -> String {
    format!("DROP TABLE IF EXISTS {}", target.own(&name(epoch)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_named_after_its_epoch() {
        assert_eq!(name(GateEpoch(7)), "lockkeeper_g7");
        assert_eq!(epoch_of("lockkeeper_g7"), Some(GateEpoch(7)));
        assert_eq!(epoch_of("lockkeeper_gate"), None);
    }
}
