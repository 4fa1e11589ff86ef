//! The schema, read from `information_schema`.
//!
//! | module | what it holds |
//! |---|---|
//! | `questions` | what is asked, on both products |
//! | `names` | names that the server chose by counting, told by content instead |

mod names;
mod questions;

use super::failure::Failure;
use super::session::{Row, Session};
use super::target::{Facts, Target};
use super::text;
use crate::db::DbError;
use crate::dialect::Dialect;
use crate::fingerprint::schema::Question;
use crate::fingerprint::{Builder, Kind, Schema};

/// Columns of one index or key are gathered into one text.
const GATHER_BYTES: u32 = 1 << 20;

/// Reads it. Creates nothing; sets a variable of the session and puts it back.
pub(super) async fn read(session: &mut Session, target: &Target, facts: &Facts) -> Result<Schema, DbError> {
    let before = session.value("SELECT @@SESSION.group_concat_max_len").await?;
    session
        .run(&format!("SET SESSION group_concat_max_len = {GATHER_BYTES}"))
        .await?;
    let schema = read_all(session, target, facts).await;
    if let Some(before) = before {
        session
            .run(&format!("SET SESSION group_concat_max_len = {before}"))
            .await?;
    }
    schema
}

async fn read_all(session: &mut Session, target: &Target, facts: &Facts) -> Result<Schema, DbError> {
    let mut builder = Builder::new(Dialect::MySql, series(facts));
    for question in questions::common().iter().chain(questions::of(facts)) {
        let rows = ask(session, target, question.sql).await?;
        let rows = settle(question, rows, &target.database)?;
        builder.add_rows(question.kind, question.properties, rows);
    }
    let indexes = questions::indexes(&columns_of_statistics(session).await?);
    let rows = ask(session, target, &indexes).await?;
    let rows = rows.into_iter().map(names::index).collect();
    builder.add_rows(Kind::Index, questions::INDEX, rows);
    if facts.mariadb {
        sequences(session, target, &mut builder).await?;
    }
    Ok(builder.finish())
}

/// Product and release series: `MariaDB 10.11`.
fn series(facts: &Facts) -> String {
    let product = facts.product();
    let end = product
        .match_indices('.')
        .nth(1)
        .map_or(product.len(), |(at, _)| at);
    product[..end].to_owned()
}

/// Asks with the database's name in place of `{db}`: a script may have said `USE other`.
async fn ask(session: &mut Session, target: &Target, sql: &str) -> Result<Vec<Row>, Failure> {
    session
        .rows(&sql.replace("{db}", &text::literal(&target.database)))
        .await
}

async fn columns_of_statistics(session: &mut Session) -> Result<Vec<String>, Failure> {
    let sql = "SELECT UPPER(COLUMN_NAME) FROM information_schema.COLUMNS \
               WHERE TABLE_SCHEMA = 'information_schema' AND TABLE_NAME = 'STATISTICS'";
    Ok(session.rows(sql).await?.into_iter().flatten().flatten().collect())
}

/// Takes out what differs without meaning anything, and refuses what this user may not see.
fn settle(question: &Question, rows: Vec<Row>, database: &str) -> Result<Vec<Row>, DbError> {
    let settled = rows.into_iter().map(|row| match question.kind {
        Kind::Constraint => Ok(names::constraint(row)),
        Kind::View => Ok(unqualified(row, database)),
        Kind::Function | Kind::Procedure => seen(question.kind, row),
        _ => Ok(row),
    });
    settled.collect()
}

/// A view's text names the database of its tables, which is another one in every clone.
fn unqualified(row: Row, database: &str) -> Row {
    let prefix = format!("{}.", text::name(database));
    row.into_iter()
        .map(|value| value.map(|text| text.replace(&prefix, "")))
        .collect()
}

/// The body of a routine that belongs to somebody else comes as NULL: two such routines would look alike.
fn seen(kind: Kind, row: Row) -> Result<Row, DbError> {
    let name = row.get(1).cloned().flatten().unwrap_or_default();
    match row.get(2) {
        Some(Some(_)) => Ok(row),
        _ => Err(DbError::Permission {
            what: format!("read the body of {kind} {name}, which belongs to another user"),
            remedy: "GRANT SHOW CREATE ROUTINE ON the database, or SELECT ON mysql.proc (MySQL: SHOW_ROUTINE ON *.*), \
                     TO lockkeeper's user"
                .to_owned(),
        }),
    }
}

/// MariaDB's sequences; their next value is data.
async fn sequences(session: &mut Session, target: &Target, builder: &mut Builder) -> Result<(), Failure> {
    let list = "SELECT TABLE_NAME FROM information_schema.TABLES \
                WHERE TABLE_SCHEMA = {db} AND TABLE_TYPE = 'SEQUENCE'";
    for row in ask(session, target, list).await? {
        let Some(Some(name)) = row.into_iter().next() else {
            continue;
        };
        let sql = format!(
            "SELECT {}, start_value, increment, minimum_value, maximum_value, cache_size, cycle_option FROM {}",
            text::literal(&name),
            target.own(&name)
        );
        let rows = session.rows(&sql).await?;
        let rows = rows.into_iter().map(|mut row| {
            row.insert(0, Some(name.clone()));
            row
        });
        let properties = ["start", "increment", "minimum", "maximum", "cache", "cycle"];
        builder.add_rows(Kind::Sequence, &properties, rows.collect());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_views_own_database_is_taken_out_and_others_stay() {
        let row = vec![Some("select `a`.`t`.`x` from `b`.`t`".to_owned()), None];
        assert_eq!(
            unqualified(row, "a")[0].as_deref(),
            Some("select `t`.`x` from `b`.`t`")
        );
    }

    #[test]
    fn a_body_that_may_not_be_seen_is_an_error() {
        let row = |body: Option<&str>| {
            vec![
                Some("f".to_owned()),
                Some("f".to_owned()),
                body.map(str::to_owned),
            ]
        };
        assert!(seen(Kind::Function, row(Some("RETURN 1"))).is_ok());
        let error = seen(Kind::Function, row(None)).unwrap_err().to_string();
        assert!(error.contains("function f") && error.contains("GRANT"), "{error}");
    }
}
