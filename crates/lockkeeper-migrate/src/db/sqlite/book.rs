//! The state table of the tool whose ledger was chosen.

use sqlx::{AssertSqlSafe, Row};

use super::gate::{integer, text};
use super::meta::foreign;
use super::session::Session;
use crate::db::DbError;
use crate::dialect::Dialect;
use crate::ledger::origin::table::FoundColumn;
use crate::ledger::origin::{Change, Origin, sql};
use crate::ledger::{LedgerChoice, LedgerEntry};

/// A tool's table.
#[derive(Debug, Clone, Copy)]
pub(super) struct ToolTable {
    pub(super) origin: &'static dyn Origin,
}

impl ToolTable {
    /// `None` where our own ledger was chosen.
    pub(super) fn of(choice: LedgerChoice) -> Option<Self> {
        match choice {
            LedgerChoice::Own => None,
            LedgerChoice::Tool(tool) => Some(Self {
                origin: tool.origin(),
            }),
        }
    }

    /// Makes the table when it is missing, and refuses one of another shape. The caller holds the write lock.
    pub(super) async fn ensure(&self, session: &Session) -> Result<(), DbError> {
        if !self.exists(session).await? {
            for statement in sql::create(self.origin, Dialect::Sqlite, self.origin.table()) {
                session.execute(&statement).await?;
            }
        }
        Ok(())
    }

    async fn exists(&self, session: &Session) -> Result<bool, DbError> {
        let query = "SELECT name, \"notnull\" = 1 AND dflt_value IS NULL AND pk = 0 AS required \
                     FROM pragma_table_info(?)";
        let rows = session.rows(sqlx::query(query).bind(self.origin.table())).await?;
        if rows.is_empty() {
            return Ok(false);
        }
        let column = |row: &sqlx::sqlite::SqliteRow| {
            Ok(FoundColumn {
                name: text(row, "name")?,
                required: integer(row, "required")? == 1,
            })
        };
        let columns = rows.iter().map(column).collect::<Result<Vec<_>, DbError>>()?;
        sql::shape(self.origin, &columns).map_err(|error| self.foreign(&error.to_string()))?;
        Ok(true)
    }

    /// What it says; nothing when it is not there.
    pub(super) async fn read(&self, session: &Session) -> Result<Vec<LedgerEntry>, DbError> {
        if !self.exists(session).await? {
            return Ok(Vec::new());
        }
        let query = sql::select(self.origin, Dialect::Sqlite, self.origin.table());
        let rows = session.rows(sqlx::query(AssertSqlSafe(query))).await?;
        let width = self.origin.columns().len();
        let values = |row: &sqlx::sqlite::SqliteRow| {
            let value = |at| {
                row.try_get(at)
                    .map_err(|e: sqlx::Error| self.foreign(&e.to_string()))
            };
            (0..width).map(value).collect()
        };
        let rows = rows.iter().map(values).collect::<Result<Vec<_>, DbError>>()?;
        self.origin.read(&rows).map_err(|detail| self.foreign(&detail))
    }

    pub(super) async fn write(&self, session: &Session, changes: &[Change]) -> Result<(), DbError> {
        for statement in sql::changes(changes, Dialect::Sqlite, self.origin.table()) {
            session.execute(&statement).await?;
        }
        Ok(())
    }

    fn foreign(&self, detail: &str) -> DbError {
        let tool = self.origin.tool();
        foreign(
            self.origin.table(),
            format!("it is not as {tool} makes it: {detail}"),
        )
    }
}
