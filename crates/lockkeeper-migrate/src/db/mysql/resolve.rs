//! Statements in doubt: listing them, and recording what a person says about one.

use lockkeeper_core::version::SchemaVersion;

use super::hand::MySqlHand;
use super::target::number;
use super::text::{literal, literal_or_null};
use crate::db::resolution::{direction, not_in_doubt};
use crate::db::{DbError, Doubt, Resolution, Ruling};

const TABLE_SQL: &str = include_str!("../../../../../migrations/lockkeeper/mysql-resolutions.sql");

impl MySqlHand {
    pub(super) async fn list_doubts(&mut self) -> Result<Vec<Doubt>, DbError> {
        let rows = self
            .session
            .rows(&format!(
                "SELECT version, direction, `position` FROM {} WHERE state = 'in doubt' ORDER BY version, `position`",
                self.target.own("lockkeeper_journal")
            ))
            .await?;
        let doubts = rows.into_iter().filter_map(|row| {
            let [Some(version), Some(way), Some(position)] = <[_; 3]>::try_from(row).ok()? else {
                return None;
            };
            Some(Doubt {
                version: SchemaVersion(version),
                direction: direction(&way),
                statement: u32::try_from(number(&position)).unwrap_or(0),
            })
        });
        Ok(doubts.collect())
    }

    pub(super) async fn record_resolution(
        &mut self,
        doubt: &Doubt,
        resolution: &Resolution,
    ) -> Result<(), DbError> {
        if !self.list_doubts().await?.contains(doubt) {
            return Err(not_in_doubt(doubt));
        }
        // Making a table commits, so it comes first.
        self.session.run(TABLE_SQL).await?;
        let journal = self.target.own("lockkeeper_journal");
        let place = format!(
            "version = {} AND direction = '{}' AND `position` = {}",
            literal(doubt.version.as_str()),
            doubt.direction,
            doubt.statement
        );
        let settle = match resolution.ruling {
            Ruling::Done => {
                format!("UPDATE {journal} SET state = 'done', finished_at = UTC_TIMESTAMP(6) WHERE {place}")
            }
            Ruling::NotDone => format!("DELETE FROM {journal} WHERE {place}"),
        };
        let forget = format!(
            "DELETE FROM {} WHERE version = {} AND doubtful = {}",
            self.target.own("lockkeeper_ledger"),
            literal(doubt.version.as_str()),
            doubt.statement
        );
        let record = format!(
            "INSERT INTO {} (version, direction, `position`, resolved_as, resolved_by, reason, resolved_at) \
             VALUES ({}, '{}', {}, '{}', {}, {}, UTC_TIMESTAMP(6))",
            self.target.own("lockkeeper_resolution"),
            literal(doubt.version.as_str()),
            doubt.direction,
            doubt.statement,
            resolution.ruling,
            literal(&resolution.by),
            literal_or_null(resolution.reason.as_deref())
        );
        self.commit_guarded(&[settle, forget, record]).await
    }
}
