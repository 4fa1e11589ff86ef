//! Statements in doubt: listing them, and recording what a person says about one.

use lockkeeper_core::version::SchemaVersion;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::apply::BEGIN;
use super::hand::PgHand;
use super::schema::Names;
use super::session::{ask, db_error, run};
use crate::db::resolution::{direction, not_in_doubt};
use crate::db::{DbError, Doubt, Resolution, Ruling};

const TABLE_SQL: &str = include_str!("../../../../../migrations/lockkeeper/postgres-resolutions.sql");

impl PgHand {
    pub(super) async fn list_doubts(&mut self) -> Result<Vec<Doubt>, DbError> {
        let query = format!(
            "SELECT version, direction, position FROM {} WHERE state = 'in doubt' ORDER BY version, position",
            self.names.journal
        );
        let rows = ask(&mut self.session.conn, query).await?;
        let doubt = |row: &sqlx::postgres::PgRow| Doubt {
            version: SchemaVersion(row.get(0)),
            direction: direction(row.get(1)),
            statement: u32::try_from(row.get::<i32, _>(2)).unwrap_or(0),
        };
        Ok(rows.iter().map(doubt).collect())
    }

    pub(super) async fn record_resolution(
        &mut self,
        doubt: &Doubt,
        resolution: &Resolution,
    ) -> Result<(), DbError> {
        let wait = self.connector.settings.lock_timeout;
        let mut tx = self.session.conn.begin_with(BEGIN).await.map_err(db_error)?;
        self.terms.hold(&mut tx, &self.names, wait).await?;
        if settle(&mut tx, &self.names, doubt, resolution.ruling).await? == 0 {
            return Err(not_in_doubt(doubt));
        }
        run(&mut tx, "SET LOCAL client_min_messages = warning").await?;
        run(&mut tx, TABLE_SQL).await?;
        record(&mut tx, &self.names, doubt, resolution).await?;
        tx.commit().await.map_err(db_error)
    }
}

/// Makes the journal say it; gives how many rows that changed.
async fn settle(tx: &mut PgConnection, names: &Names, doubt: &Doubt, ruling: Ruling) -> Result<u64, DbError> {
    let what = match ruling {
        Ruling::Done => format!(
            "UPDATE {} SET state = 'done', finished_at = clock_timestamp()",
            names.journal
        ),
        Ruling::NotDone => format!("DELETE FROM {}", names.journal),
    };
    let sql =
        format!("{what} WHERE version = $1 AND direction = $2 AND position = $3 AND state = 'in doubt'");
    let done = sqlx::query(AssertSqlSafe(sql))
        .bind(doubt.version.as_str())
        .bind(doubt.direction.to_string())
        .bind(position(doubt))
        .execute(tx)
        .await
        .map_err(db_error)?;
    Ok(done.rows_affected())
}

async fn record(
    tx: &mut PgConnection,
    names: &Names,
    doubt: &Doubt,
    resolution: &Resolution,
) -> Result<(), DbError> {
    let insert = format!(
        "INSERT INTO {} (version, direction, position, resolved_as, resolved_by, reason) \
         VALUES ($1, $2, $3, $4, $5, $6)",
        names.own("lockkeeper_resolution")
    );
    sqlx::query(AssertSqlSafe(insert))
        .bind(doubt.version.as_str())
        .bind(doubt.direction.to_string())
        .bind(position(doubt))
        .bind(resolution.ruling.as_str())
        .bind(&resolution.by)
        .bind(&resolution.reason)
        .execute(tx)
        .await
        .map_err(db_error)?;
    Ok(())
}

fn position(doubt: &Doubt) -> i32 {
    i32::try_from(doubt.statement).unwrap_or(i32::MAX)
}
