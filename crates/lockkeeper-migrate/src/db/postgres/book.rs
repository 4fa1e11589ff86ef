//! The ledger that was chosen: our own, or the state table of another tool.

use sqlx::{PgConnection, Row};

use super::session::{ask, db_error, quote, run};
use crate::db::DbError;
use crate::dialect::Dialect;
use crate::ledger::origin::table::FoundColumn;
use crate::ledger::origin::{Change, Origin, sql};
use crate::ledger::{LedgerChoice, LedgerEntry};

/// Where the history is read and written.
#[derive(Debug, Clone)]
pub(super) enum Book {
    /// In `lockkeeper_ledger`.
    Own,
    /// In a tool's table.
    Tool(ToolTable),
}

/// A tool's table, quoted and with its schema.
#[derive(Debug, Clone)]
pub(super) struct ToolTable {
    pub(super) origin: &'static dyn Origin,
    pub(super) name: String,
}

impl Book {
    /// Where the search path leads to the tool's table it is that one; a new one goes beside our tables.
    pub(super) async fn find(
        conn: &mut PgConnection,
        choice: LedgerChoice,
        schema: &str,
    ) -> Result<Self, DbError> {
        let LedgerChoice::Tool(tool) = choice else {
            return Ok(Self::Own);
        };
        let origin = tool.origin();
        let found: Option<String> = sqlx::query_scalar(
            "SELECT n.nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.oid = to_regclass($1)",
        )
        .bind(origin.table())
        .fetch_optional(conn)
        .await
        .map_err(db_error)?;
        let name = format!("{}.{}", quote(found.as_deref().unwrap_or(schema)), origin.table());
        Ok(Self::Tool(ToolTable { origin, name }))
    }

    pub(super) fn choice(&self) -> LedgerChoice {
        match self {
            Self::Own => LedgerChoice::Own,
            Self::Tool(table) => LedgerChoice::Tool(table.origin.tool()),
        }
    }
}

impl ToolTable {
    /// Makes the table when it is missing, and refuses one of another shape.
    pub(super) async fn ensure(&self, conn: &mut PgConnection) -> Result<(), DbError> {
        if self.columns(conn).await?.is_empty() {
            for statement in sql::create(self.origin, Dialect::Postgres, &self.name) {
                run(conn, statement).await?;
            }
        }
        self.exists(conn).await.map(drop)
    }

    /// Whether it is there; one of another shape is an error.
    pub(super) async fn exists(&self, conn: &mut PgConnection) -> Result<bool, DbError> {
        let columns = self.columns(conn).await?;
        if columns.is_empty() {
            return Ok(false);
        }
        sql::shape(self.origin, &columns).map_err(|error| self.foreign(error.to_string()))?;
        Ok(true)
    }

    async fn columns(&self, conn: &mut PgConnection) -> Result<Vec<FoundColumn>, DbError> {
        let rows = sqlx::query(
            "SELECT attname::text, attnotnull AND NOT atthasdef AND attidentity = '' FROM pg_attribute \
             WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped",
        )
        .bind(&self.name)
        .fetch_all(conn)
        .await
        .map_err(db_error)?;
        let column = |row: &sqlx::postgres::PgRow| FoundColumn {
            name: row.get(0),
            required: row.get(1),
        };
        Ok(rows.iter().map(column).collect())
    }

    /// What it says; nothing when it is not there.
    pub(super) async fn read(&self, conn: &mut PgConnection) -> Result<Vec<LedgerEntry>, DbError> {
        if !self.exists(conn).await? {
            return Ok(Vec::new());
        }
        let query = sql::select(self.origin, Dialect::Postgres, &self.name);
        let rows = ask(conn, query).await?;
        let width = self.origin.columns().len();
        let row = |row: &sqlx::postgres::PgRow| (0..width).map(|at| row.get(at)).collect();
        let rows: Vec<_> = rows.iter().map(row).collect();
        self.origin.read(&rows).map_err(|detail| self.foreign(detail))
    }

    pub(super) async fn write(&self, tx: &mut PgConnection, changes: &[Change]) -> Result<(), DbError> {
        run(tx, self.statements(changes).join("; ")).await
    }

    pub(super) fn statements(&self, changes: &[Change]) -> Vec<String> {
        sql::changes(changes, Dialect::Postgres, &self.name)
    }

    fn foreign(&self, detail: String) -> DbError {
        DbError::ForeignTable {
            table: self.name.clone(),
            detail: format!("it is not as {} makes it: {detail}", self.origin.tool()),
        }
    }
}
