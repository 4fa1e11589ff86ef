//! What goes before a dump is brought back, and what is put right behind it.

use super::database::MySqlDatabase;
use super::failure::Failure;
use super::gate;
use super::session::Session;
use super::target::Target;
use super::text::{literal, name};
use crate::db::{DbError, RestoreFrame};

/// Lockkeeper's own that stay: the gate, the records, and the table of the gate's own epoch.
const STAYS: &str =
    "TABLE_NAME IN ('lockkeeper_gate', 'lockkeeper_backup') OR TABLE_NAME REGEXP '^lockkeeper_g[0-9]+$'";

impl MySqlDatabase {
    /// The statements that drop what is there. Triggers go with their tables.
    pub(crate) async fn restore_frame(&self) -> Result<RestoreFrame, DbError> {
        let (mut session, _) = self.session().await?;
        let before = drop_all(&mut session, &self.target).await;
        session.close().await;
        Ok(RestoreFrame {
            before: before?,
            ..RestoreFrame::default()
        })
    }

    /// Drops what the dump carried of a barrier, and makes own tables that it did not carry.
    pub(crate) async fn settle_restore(&self) -> Result<(), DbError> {
        let (mut session, facts) = self.session().await?;
        let dropped = drop_barrier(&mut session, &self.target).await;
        let made = gate::ensure(&mut session, &self.target, &facts).await;
        session.close().await;
        dropped?;
        made.map(|_| ())
    }
}

async fn drop_all(session: &mut Session, target: &Target) -> Result<String, Failure> {
    let database = literal(&target.database);
    let mut sql = "SET FOREIGN_KEY_CHECKS = 0;\n".to_owned();
    let tables = format!(
        "SELECT CASE TABLE_TYPE WHEN 'VIEW' THEN 'VIEW' WHEN 'SEQUENCE' THEN 'SEQUENCE' ELSE 'TABLE' END, TABLE_NAME \
         FROM information_schema.TABLES WHERE TABLE_SCHEMA = {database} AND NOT ({STAYS}) ORDER BY TABLE_TYPE DESC"
    );
    let routines = format!(
        "SELECT ROUTINE_TYPE, ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {database} \
         AND ROUTINE_TYPE IN ('FUNCTION', 'PROCEDURE')"
    );
    let events =
        format!("SELECT 'EVENT', EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {database}");
    for query in [tables, routines, events] {
        for row in session.rows(&query).await? {
            let [kind, object] = <[_; 2]>::try_from(row)
                .unwrap_or_default()
                .map(Option::unwrap_or_default);
            sql += &format!("DROP {kind} IF EXISTS {};\n", target.own(&object));
        }
    }
    Ok(sql)
}

async fn drop_barrier(session: &mut Session, target: &Target) -> Result<(), Failure> {
    let triggers = session
        .rows(&format!(
            "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = {} \
             AND TRIGGER_NAME REGEXP '^lockkeeper_g[0-9]+_'",
            literal(&target.database)
        ))
        .await?;
    for trigger in triggers
        .into_iter()
        .filter_map(|row| row.into_iter().next().flatten())
    {
        let sql = format!(
            "DROP TRIGGER IF EXISTS {}.{}",
            name(&target.database),
            name(&trigger)
        );
        session.run(&sql).await?;
    }
    Ok(())
}
