//! SQLite: a copy of the backup is put right beside the database, and then copied over it online, in one step that
//! everybody who has the file open sees.

use std::path::Path;

use super::restoring::Restoring;
use crate::backup::check;
use crate::backup::error::RestoreFailure;
use crate::backup::file::failed;
use crate::db::sqlite::SqliteDatabase;
use crate::db::{DbError, GateRow};
use crate::dump_tools::copy_database;

pub(super) async fn run(restoring: &Restoring<'_>) -> Result<(), RestoreFailure> {
    let order = restoring.order;
    let hand = restoring.take().await?;
    let path = order.dsn.path().unwrap_or(Path::new(""));
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let scratch = tempfile::Builder::new()
        .prefix(".lockkeeper-restore-")
        .tempdir_in(folder)
        .map_err(failed("make a directory in", folder))?;
    let prepared = scratch.path().join("prepared.db");
    copy_database(order.file, &prepared, order.limit, |_| {}).await?;
    check::readable(
        order.dsn.dialect(),
        &restoring.before.server,
        &prepared,
        order.limit,
        restoring.observer,
    )
    .await?;
    let kept = restoring.upkeep.records().await?;
    SqliteDatabase::new(&prepared, order.options.clone())
        .settle_copy(
            hand.gate_row(),
            &restoring.before.identity,
            &kept,
            &restoring.record,
            &restoring.reason(),
        )
        .await?;
    still_ours(restoring, hand.gate_row()).await?;
    copy_database(&prepared, path, order.limit, |_| {}).await?;
    // Its registration went with the old gate row: there is nothing to release.
    drop(hand);
    Ok(())
}

/// What was put into the copy must still be what the row says.
async fn still_ours(restoring: &Restoring<'_>, ours: &GateRow) -> Result<(), DbError> {
    let now = restoring.database.inspect().await?.gate_row;
    match now {
        Some(row) if row == *ours => Ok(()),
        Some(row) => Err(DbError::Superseded {
            by: row.leader_epoch.to_string(),
        }),
        None => Err(DbError::Superseded {
            by: "somebody who dropped lockkeeper's tables".to_owned(),
        }),
    }
}
