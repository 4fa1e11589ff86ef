//! What became of a statement that ran outside of a transaction and whose answer was lost.

use std::sync::LazyLock;

use regex::Regex;
use sqlx::{PgConnection, Row};

use super::session::{ask, db_error, literal, quote, run};
use crate::db::DbError;
use crate::sql::Statement;

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// It took effect.
    Done,
    /// It took none, or none any more; or running it again is the same as running it once.
    NeverRan,
    /// Nobody can tell. Holds what was seen.
    InDoubt(String),
}

const NAME: &str = r#"(?:"(?:[^"]|"")+"|[\w$]+)(?:\s*\.\s*(?:"(?:[^"]|"")+"|[\w$]+))?"#;

static CREATE_INDEX: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let pattern = format!(
        r"(?is)^CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?:IF\s+NOT\s+EXISTS\s+)?({NAME})\s+ON\s+(?:ONLY\s+)?({NAME})"
    );
    Regex::new(&pattern).ok()
});

static DROP_INDEX: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let pattern = format!(
        r"(?is)^DROP\s+INDEX\s+CONCURRENTLY\s+(?:IF\s+EXISTS\s+)?({NAME})\s*(?:CASCADE|RESTRICT)?\s*$"
    );
    Regex::new(&pattern).ok()
});

static DETACH: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let pattern = format!(
        r"(?is)^ALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?({NAME})\s+DETACH\s+PARTITION\s+({NAME})\s+CONCURRENTLY\s*$"
    );
    Regex::new(&pattern).ok()
});

static DATABASE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let pattern = format!(r"(?is)^(CREATE|DROP)\s+DATABASE\s+(?:IF\s+EXISTS\s+)?({NAME})");
    Regex::new(&pattern).ok()
});

/// Looks what became of `statement`, and clears away what it left half done.
pub(super) async fn classify(conn: &mut PgConnection, statement: &Statement) -> Result<Fate, DbError> {
    let text = statement.text.trim();
    if let Some(found) = CREATE_INDEX.as_ref().and_then(|regex| regex.captures(text)) {
        return created_index(conn, &found[1], &found[2]).await;
    }
    if let Some(found) = DROP_INDEX.as_ref().and_then(|regex| regex.captures(text)) {
        return dropped_index(conn, &found[1]).await;
    }
    if let Some(found) = DETACH.as_ref().and_then(|regex| regex.captures(text)) {
        return detached(conn, &found[1], &found[2]).await;
    }
    if let Some(found) = DATABASE.as_ref().and_then(|regex| regex.captures(text)) {
        let wanted = found[1].eq_ignore_ascii_case("CREATE");
        return database(conn, &found[2], wanted).await;
    }
    if is_repeatable(text) {
        return Ok(Fate::NeverRan);
    }
    Ok(Fate::InDoubt(
        "its answer was lost, and its effect cannot be read from the catalogue".to_owned(),
    ))
}

/// Statements that do the same however often they run.
fn is_repeatable(text: &str) -> bool {
    let upper = text.to_ascii_uppercase();
    let words: Vec<&str> = upper.split_whitespace().take(2).collect();
    match words.as_slice() {
        [first, ..] if matches!(*first, "VACUUM" | "ANALYZE" | "REINDEX" | "CLUSTER" | "DISCARD") => true,
        ["ALTER", "SYSTEM"] => true,
        ["ALTER", "DATABASE"] => upper.contains("TABLESPACE"),
        _ => false,
    }
}

/// A crash leaves an index that is there and not valid: no query uses it, every write pays for it, and its name
/// is in the way of the next try.
async fn created_index(conn: &mut PgConnection, index: &str, table: &str) -> Result<Fate, DbError> {
    // An index lives in its table's schema, whatever the search path says.
    let row = sqlx::query(
        "SELECT n.nspname::text, c.relname::text, i.indisvalid AND i.indisready, \
                i.indrelid = to_regclass($2)::oid \
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relnamespace = (SELECT t.relnamespace FROM pg_class t WHERE t.oid = to_regclass($2)) \
           AND c.relname = (parse_ident($1))[1]",
    )
    .bind(index)
    .bind(table)
    .fetch_optional(&mut *conn)
    .await
    .map_err(db_error)?;
    let Some(row) = row else {
        return Ok(Fate::NeverRan);
    };
    let (schema, name, valid, same_table): (String, String, bool, bool) =
        (row.get(0), row.get(1), row.get(2), row.get(3));
    let place = format!("{}.{}", quote(&schema), quote(&name));
    if !same_table {
        return Ok(Fate::InDoubt(format!(
            "an index {place} is there, on another table"
        )));
    }
    if valid {
        return Ok(Fate::Done);
    }
    run(conn, "SET lock_timeout = 0").await?;
    run(conn, format!("DROP INDEX CONCURRENTLY IF EXISTS {place}")).await?;
    Ok(Fate::NeverRan)
}

/// Detaching has two steps with a wait between them; whoever comes after the first one finishes it.
async fn detached(conn: &mut PgConnection, table: &str, partition: &str) -> Result<Fate, DbError> {
    let query = format!(
        "SELECT coalesce((to_jsonb(i) ->> 'inhdetachpending')::boolean, false) FROM pg_inherits i \
         WHERE i.inhrelid = to_regclass({})::oid AND i.inhparent = to_regclass({})::oid",
        literal(partition),
        literal(table)
    );
    let rows = ask(conn, query).await?;
    match rows.first().map(|row| row.get::<bool, _>(0)) {
        None => Ok(Fate::Done),
        Some(false) => Ok(Fate::NeverRan),
        Some(true) => {
            run(
                conn,
                format!("ALTER TABLE {table} DETACH PARTITION {partition} FINALIZE"),
            )
            .await?;
            Ok(Fate::Done)
        }
    }
}

async fn database(conn: &mut PgConnection, name: &str, wanted: bool) -> Result<Fate, DbError> {
    let query = format!(
        "SELECT 1 FROM pg_database WHERE datname = (parse_ident({}))[1]",
        literal(name)
    );
    let there = !ask(conn, query).await?.is_empty();
    Ok(if there == wanted {
        Fate::Done
    } else {
        Fate::NeverRan
    })
}

async fn dropped_index(conn: &mut PgConnection, index: &str) -> Result<Fate, DbError> {
    let row = sqlx::query("SELECT to_regclass($1) IS NULL")
        .bind(index)
        .fetch_one(conn)
        .await
        .map_err(db_error)?;
    Ok(if row.get(0) { Fate::Done } else { Fate::NeverRan })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_and_table_are_read_from_the_statement() {
        let regex = CREATE_INDEX.as_ref().unwrap();
        for (text, index, table) in [
            ("CREATE INDEX CONCURRENTLY i ON t (a)", "i", "t"),
            (
                "create unique index concurrently if not exists \"I 1\"\n on only s.\"T\" using btree (a)",
                "\"I 1\"",
                "s.\"T\"",
            ),
        ] {
            let found = regex.captures(text).unwrap();
            assert_eq!((&found[1], &found[2]), (index, table));
        }
        // Without a name the server chooses one.
        assert!(regex.captures("CREATE INDEX CONCURRENTLY ON t (a)").is_none());
        assert_eq!(
            &DROP_INDEX
                .as_ref()
                .unwrap()
                .captures("DROP INDEX CONCURRENTLY s.i")
                .unwrap()[1],
            "s.i"
        );
    }

    #[test]
    fn partitions_and_databases_are_read_from_the_statement() {
        let detach = DETACH.as_ref().unwrap();
        let found = detach
            .captures("ALTER TABLE s.t DETACH PARTITION \"p 1\" CONCURRENTLY")
            .unwrap();
        assert_eq!((&found[1], &found[2]), ("s.t", "\"p 1\""));
        assert!(detach.captures("ALTER TABLE t DETACH PARTITION p").is_none());
        let database = DATABASE.as_ref().unwrap();
        let found = database.captures("drop database if exists d").unwrap();
        assert_eq!((&found[1], &found[2]), ("drop", "d"));
    }

    #[test]
    fn only_what_is_the_same_every_time_may_run_again() {
        assert!(is_repeatable("VACUUM (ANALYZE) t"));
        assert!(is_repeatable("alter system set x = 1"));
        assert!(!is_repeatable("CREATE DATABASE x"));
        assert!(!is_repeatable("CALL p()"));
    }
}
