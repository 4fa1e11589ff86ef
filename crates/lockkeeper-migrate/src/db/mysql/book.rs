//! The state table of the tool whose ledger was chosen.

use super::failure::Failure;
use super::meta::foreign;
use super::session::Session;
use super::target::Target;
use super::text::literal;
use crate::db::DbError;
use crate::dialect::Dialect;
use crate::ledger::origin::table::FoundColumn;
use crate::ledger::origin::{Change, Origin, sql};
use crate::ledger::{LedgerChoice, LedgerEntry};

/// The state table of the chosen tool.
#[derive(Debug, Clone)]
pub(super) struct ToolTable {
    pub(super) origin: &'static dyn Origin,
    /// Qualified and quoted.
    name: String,
}

impl ToolTable {
    /// `None` where our own ledger was chosen.
    pub(super) fn chosen(target: &Target) -> Option<Self> {
        let LedgerChoice::Tool(tool) = target.limits.ledger else {
            return None;
        };
        let origin = tool.origin();
        Some(Self {
            origin,
            name: target.own(origin.table()),
        })
    }

    /// Makes the table when it is missing, and refuses one of another shape. Commits.
    pub(super) async fn ensure(&self, session: &mut Session, target: &Target) -> Result<(), DbError> {
        if !self.exists(session, target).await? {
            for statement in sql::create(self.origin, Dialect::MySql, &self.name) {
                session.run(&statement).await?;
            }
        }
        Ok(())
    }

    async fn exists(&self, session: &mut Session, target: &Target) -> Result<bool, DbError> {
        let columns = self.columns(session, target).await?;
        if columns.is_empty() {
            return Ok(false);
        }
        sql::shape(self.origin, &columns).map_err(|error| self.foreign(&error.to_string()))?;
        Ok(true)
    }

    async fn columns(&self, session: &mut Session, target: &Target) -> Result<Vec<FoundColumn>, Failure> {
        let rows = session
            .rows(&format!(
                "SELECT COLUMN_NAME, IS_NULLABLE = 'NO' AND COLUMN_DEFAULT IS NULL \
                     AND LOCATE('auto_increment', EXTRA) = 0 AND LOCATE('GENERATED', EXTRA) = 0 \
                 FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
                literal(&target.database),
                literal(self.origin.table())
            ))
            .await?;
        let column = |row: Vec<Option<String>>| {
            let [name, required] = <[_; 2]>::try_from(row).ok()?;
            Some(FoundColumn {
                name: name?,
                required: required.as_deref() == Some("1"),
            })
        };
        Ok(rows.into_iter().filter_map(column).collect())
    }

    /// What it says; nothing when it is not there.
    pub(super) async fn read(
        &self,
        session: &mut Session,
        target: &Target,
    ) -> Result<Vec<LedgerEntry>, DbError> {
        if !self.exists(session, target).await? {
            return Ok(Vec::new());
        }
        let query = sql::select(self.origin, Dialect::MySql, &self.name);
        let rows = session.rows(&query).await?;
        self.origin.read(&rows).map_err(|detail| self.foreign(&detail))
    }

    /// The statements that make these changes.
    pub(super) fn statements(&self, changes: &[Change]) -> Vec<String> {
        sql::changes(changes, Dialect::MySql, &self.name)
    }

    fn foreign(&self, detail: &str) -> DbError {
        let tool = self.origin.tool();
        foreign(
            self.origin.table(),
            &format!("it is not as {tool} makes it: {detail}"),
        )
    }
}
