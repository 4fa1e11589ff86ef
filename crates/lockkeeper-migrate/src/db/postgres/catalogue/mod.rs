//! The schema, read from the system catalogues.
//!
//! | module | what it holds |
//! |---|---|
//! | `tables` | questions about tables and what hangs on them |
//! | `programs` | questions about types, functions and what runs by itself |

mod programs;
mod tables;

use futures::TryStreamExt;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, ValueRef};

use super::session::{db_error, run};
use crate::db::DbError;
use crate::dialect::Dialect;
use crate::fingerprint::schema::Question;
use crate::fingerprint::{Builder, Schema};

/// One snapshot; and a search path in which no name of the user's is visible, so that every text is qualified.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
const SETTINGS: &str = "SET LOCAL search_path = pg_catalog; SET LOCAL quote_all_identifiers = off";

/// What every question may use: the user's schemas, what belongs to an extension, and the user's relations.
const COMMON: &str = "WITH ns AS ( \
        SELECT oid, nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'), \
     member AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e'), \
     rel AS ( \
        SELECT c.oid, c.relname, c.relkind, c.relpersistence, c.relrowsecurity, c.relforcerowsecurity, \
               c.reloptions, c.relispartition, c.relpartbound, c.relreplident, ns.nspname, \
               format('%I.%I', ns.nspname, c.relname) AS name \
        FROM pg_class c JOIN ns ON ns.oid = c.relnamespace \
        WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_class'::regclass AND m.objid = c.oid)) ";

/// Reads it in one read-only transaction of this session.
pub(super) async fn read(conn: &mut PgConnection) -> Result<Schema, DbError> {
    let mut tx = conn.begin_with(BEGIN).await.map_err(db_error)?;
    let schema = read_all(&mut tx).await;
    let rolled_back = tx.rollback().await.map_err(db_error);
    let schema = schema?;
    rolled_back?;
    Ok(schema)
}

async fn read_all(conn: &mut PgConnection) -> Result<Schema, DbError> {
    run(&mut *conn, SETTINGS).await?;
    let major = "SELECT (current_setting('server_version_num')::int / 10000)::text";
    let major = rows(conn, major).await?.into_iter().flatten().next().flatten();
    let server = format!("PostgreSQL {}", major.unwrap_or_default());
    let mut builder = Builder::new(Dialect::Postgres, server);
    for Question {
        kind,
        properties,
        sql,
    } in tables::QUESTIONS.iter().chain(programs::QUESTIONS)
    {
        let found = rows(conn, &format!("{COMMON}{sql}")).await?;
        builder.add_rows(*kind, properties, found);
    }
    Ok(builder.finish())
}

/// Simple queries answer in text whatever a column's type is.
async fn rows(conn: &mut PgConnection, sql: &str) -> Result<Vec<Vec<Option<String>>>, DbError> {
    let query = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
    query
        .fetch(conn)
        .map_err(db_error)
        .and_then(async |row| texts(&row))
        .try_collect()
        .await
}

fn texts(row: &PgRow) -> Result<Vec<Option<String>>, DbError> {
    (0..row.len())
        .map(|column| {
            let value = row.try_get_raw(column).map_err(db_error)?;
            if value.is_null() {
                return Ok(None);
            }
            let text = value.as_str().map_err(|error| DbError::Server {
                code: "22021".to_owned(),
                message: error.to_string(),
            })?;
            Ok(Some(text.to_owned()))
        })
        .collect()
}
