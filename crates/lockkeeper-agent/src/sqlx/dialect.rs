//! What differs between the databases.

use std::future::Future;

use ::sqlx::{AssertSqlSafe, Database, Error, MySql, Postgres, Row, Sqlite, raw_sql};
use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_core::version::SchemaVersion;
use sqlx_core::transaction::TransactionManager;

use super::refused::{is_no_such_table, quote_mysql};
use crate::gate_row::{Carried, GateRow};

/// How a transaction began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// It is open and carries its epoch.
    Open,
    /// The epoch is over, and no transaction is open.
    Fenced,
}

/// A database whose write transactions can carry a gate epoch.
pub trait Gated: Database {
    /// Reads the gate row. `None`: lockkeeper has never been here.
    fn look(conn: &mut Self::Connection) -> impl Future<Output = Result<Option<GateRow>, Error>> + Send;

    /// Begins a transaction that carries what is `carried`. After an error the connection may be in a transaction.
    fn begin(
        conn: &mut Self::Connection,
        carried: &Carried,
    ) -> impl Future<Output = Result<Begun, Error>> + Send;

    /// Ends the transaction that a refused beginning may have left open unseen.
    fn end_refused(conn: &mut Self::Connection) -> impl Future<Output = Result<(), Error>> + Send;
}

type Manager<DB> = <DB as Database>::TransactionManager;

/// The schema of the gate row: the one that the search path finds, else the only one that there is.
const PG_SCHEMA: &str = "SELECT coalesce( \
     (SELECT quote_ident(n.nspname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
      WHERE c.oid = to_regclass('lockkeeper_gate')), \
     (SELECT min(quote_ident(n.nspname)) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
      WHERE c.relname = 'lockkeeper_gate' AND c.relkind = 'r' HAVING count(*) = 1), \
     (SELECT '' FROM pg_class c WHERE c.relname = 'lockkeeper_gate' AND c.relkind = 'r' HAVING count(*) > 1))";

impl Gated for Postgres {
    // Simple queries throughout: nothing is prepared, so a pooler in transaction mode may stand between.
    async fn look(conn: &mut Self::Connection) -> Result<Option<GateRow>, Error> {
        let found = raw_sql(PG_SCHEMA).fetch_one(&mut *conn).await?;
        let schema = match found.try_get::<Option<String>, _>(0)? {
            None => return Ok(None),
            Some(schema) if schema.is_empty() => {
                return Err(Error::Configuration(
                    "several schemas have a lockkeeper_gate: set search_path so that one is found".into(),
                ));
            }
            Some(schema) => schema,
        };
        let query = format!(
            "SELECT gate_epoch, opened, version, \
                    CASE WHEN to_regclass('{literal}.lockkeeper_g' || opened) IS NULL THEN 0 ELSE 1 END \
             FROM {schema}.lockkeeper_gate",
            literal = schema.replace('\'', "''")
        );
        let row = raw_sql(AssertSqlSafe(query)).fetch_one(conn).await?;
        let (gate_epoch, opened) = (epoch(row.try_get(0)?), epoch(row.try_get(1)?));
        let carried = match row.try_get::<i32, _>(3)? {
            0 => Carried::Nothing,
            _ => Carried::Table(format!("{schema}.lockkeeper_{opened}")),
        };
        Ok(Some(GateRow {
            gate_epoch,
            opened,
            version: row.try_get::<Option<String>, _>(2)?.map(SchemaVersion),
            carried,
        }))
    }

    async fn begin(conn: &mut Self::Connection, carried: &Carried) -> Result<Begun, Error> {
        let statement = match carried {
            Carried::Nothing | Carried::Row(_) => None,
            // In this order, a table that is gone leaves no transaction open: BEGIN turns the message's implicit
            // transaction, with the lock in it, into this one.
            Carried::Table(table) => Some(AssertSqlSafe(format!("SELECT FROM {table}; BEGIN"))),
        };
        begin_with::<Self>(conn, statement).await.map(|()| Begun::Open)
    }

    async fn end_refused(_: &mut Self::Connection) -> Result<(), Error> {
        Ok(())
    }
}

impl Gated for MySql {
    async fn look(conn: &mut Self::Connection) -> Result<Option<GateRow>, Error> {
        let query = "SELECT CAST(gate_epoch AS CHAR), CAST(opened AS CHAR), version, DATABASE() \
                     FROM lockkeeper_gate WHERE one = 1";
        let row = match raw_sql(query).fetch_one(&mut *conn).await {
            Err(error) if is_no_such_table(&error, "lockkeeper_gate") => return Ok(None),
            other => other?,
        };
        let text = |column: usize| row.try_get_unchecked::<Option<String>, _>(column);
        let number =
            |column| Ok::<_, Error>(GateEpoch(text(column)?.and_then(|n| n.parse().ok()).unwrap_or(0)));
        let (gate_epoch, opened) = (number(0)?, number(1)?);
        let database = text(3)?.unwrap_or_default();
        let table = format!(
            "{}.{}",
            quote_mysql(&database),
            quote_mysql(&format!("lockkeeper_{opened}"))
        );
        let there = raw_sql(AssertSqlSafe(touch(&table))).execute(conn).await;
        let carried = match there {
            Ok(_) => Carried::Table(table),
            // Anything else, a missing privilege for one, must not pass for "not of this strength".
            Err(error) if is_no_such_table(&error, "lockkeeper_g") => Carried::Nothing,
            Err(error) => return Err(error),
        };
        Ok(Some(GateRow {
            gate_epoch,
            opened,
            version: text(2)?.map(SchemaVersion),
            carried,
        }))
    }

    async fn begin(conn: &mut Self::Connection, carried: &Carried) -> Result<Begun, Error> {
        let statement = match carried {
            Carried::Nothing | Carried::Row(_) => None,
            Carried::Table(table) => Some(AssertSqlSafe(format!("BEGIN; {}", touch(table)))),
        };
        begin_with::<Self>(conn, statement).await.map(|()| Begun::Open)
    }

    async fn end_refused(conn: &mut Self::Connection) -> Result<(), Error> {
        raw_sql("ROLLBACK").execute(conn).await.map(drop)
    }
}

/// Locks the table's definition until the transaction ends, and reads nothing.
fn touch(table: &str) -> String {
    format!("SELECT 1 FROM {table} LIMIT 0")
}

impl Gated for Sqlite {
    async fn look(conn: &mut Self::Connection) -> Result<Option<GateRow>, Error> {
        let query = "SELECT gate_epoch, opened, version FROM lockkeeper_gate";
        let row = match ::sqlx::query(query).fetch_one(conn).await {
            Err(error) if is_no_such_table(&error, "lockkeeper_gate") => return Ok(None),
            other => other?,
        };
        let opened = epoch(row.try_get(1)?);
        Ok(Some(GateRow {
            gate_epoch: epoch(row.try_get(0)?),
            opened,
            version: row.try_get::<Option<String>, _>(2)?.map(SchemaVersion),
            carried: Carried::Row(opened),
        }))
    }

    async fn begin(conn: &mut Self::Connection, carried: &Carried) -> Result<Begun, Error> {
        // IMMEDIATE also where nothing is carried: a transaction that turns writer later fails instead of waiting.
        begin_with::<Self>(conn, Some(AssertSqlSafe("BEGIN IMMEDIATE".to_owned()))).await?;
        let Carried::Row(epoch) = carried else {
            return Ok(Begun::Open);
        };
        // Nobody can change the row before this transaction ends.
        let row = Self::look(conn).await?;
        if row.is_some_and(|row| row.is_open() && row.opened == *epoch) {
            return Ok(Begun::Open);
        }
        Manager::<Self>::rollback(conn).await?;
        Ok(Begun::Fenced)
    }

    async fn end_refused(_: &mut Self::Connection) -> Result<(), Error> {
        Ok(())
    }
}

async fn begin_with<DB: Database>(
    conn: &mut DB::Connection,
    statement: Option<AssertSqlSafe<String>>,
) -> Result<(), Error> {
    use ::sqlx::SqlSafeStr;
    Manager::<DB>::begin(conn, statement.map(SqlSafeStr::into_sql_str)).await
}

fn epoch(number: i64) -> GateEpoch {
    GateEpoch(u64::try_from(number).unwrap_or(0))
}
