//! The schema, read from `sqlite_schema`.
//!
//! SQLite keeps the text of each CREATE, as it was typed and as ALTER TABLE patched it since. Two texts of one table
//! differ in blanks, comments, quotes, case, and the order of the columns, so they are taken apart.
//!
//! | module | what it holds |
//! |---|---|
//! | `text` | SQL text in one form of writing |
//! | `table` | a CREATE TABLE, taken apart |

mod table;
mod text;

use super::gate;
use super::session::Session;
use crate::db::DbError;
use crate::dialect::Dialect;
use crate::fingerprint::{Builder, Kind, Schema};

/// Everything but what SQLite keeps for itself: `sqlite_*`, and the shadow tables of virtual tables.
const QUERY: &str = "SELECT type, name, tbl_name, sql FROM sqlite_schema \
                     WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite!_%' ESCAPE '!' \
                     AND tbl_name NOT IN (SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'shadow')";

/// The schema of a file that is still to be made.
pub(super) fn empty() -> Schema {
    builder().finish()
}

fn builder() -> Builder {
    // Releases of SQLite write one file format, and that is 3.
    Builder::new(Dialect::Sqlite, "SQLite 3".to_owned())
}

/// Reads it in one statement, which is one snapshot.
pub(super) async fn read(session: &Session) -> Result<Schema, DbError> {
    let mut builder = builder();
    for row in session.rows(sqlx::query(QUERY)).await? {
        let [kind, name, table, sql] =
            ["type", "name", "tbl_name", "sql"].map(|column| gate::text(&row, column));
        let (kind, name, table, sql) = (kind?, name?, table?, sql?);
        match kind.as_str() {
            "table" => table::add(&mut builder, &name, &sql),
            "index" => add(&mut builder, Kind::Index, &table, name, &sql),
            "view" => add(&mut builder, Kind::View, &name, name.clone(), &sql),
            "trigger" => add(
                &mut builder,
                Kind::Trigger,
                &name,
                format!("{table}.{name}"),
                &sql,
            ),
            other => {
                return Err(DbError::Unsupported(format!(
                    "{name} is a {other}, which this release of lockkeeper does not know"
                )));
            }
        }
    }
    Ok(builder.finish())
}

fn add(builder: &mut Builder, kind: Kind, owner: &str, name: String, sql: &str) {
    builder.add(kind, owner, name, [("definition", Some(text::normal(sql)))]);
}
