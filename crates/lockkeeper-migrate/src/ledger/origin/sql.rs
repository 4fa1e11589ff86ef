//! The statements that read and change a tool's table. Values travel as literals that mean the same under every
//! setting of the session: a migration may have changed it just before.

use std::fmt::Write as _;

use super::table::{FoundColumn, check_shape};
use super::{Change, Column, Kind, Origin, ShapeError, Value};
use crate::dialect::Dialect;

/// The statements that make the table, with its first rows. `table` is quoted and qualified.
#[must_use]
pub fn create(origin: &dyn Origin, dialect: Dialect, table: &str) -> Vec<String> {
    let made = origin
        .create(dialect)
        .iter()
        .map(|sql| sql.replace("{table}", table));
    made.chain(changes(&origin.first_rows(), dialect, table))
        .collect()
}

/// The query whose rows [`Origin::read`] understands.
#[must_use]
pub fn select(origin: &dyn Origin, dialect: Dialect, table: &str) -> String {
    let columns: Vec<String> = origin.columns().iter().map(|c| as_text(*c, dialect)).collect();
    format!(
        "SELECT {} FROM {table} ORDER BY {}",
        columns.join(", "),
        origin.oldest_first()
    )
}

/// One statement per change, in order.
#[must_use]
pub fn changes(changes: &[Change], dialect: Dialect, table: &str) -> Vec<String> {
    changes
        .iter()
        .map(|change| statement(change, dialect, table))
        .collect()
}

/// Whether a table with these columns is the tool's.
///
/// # Errors
///
/// The first column that is not as the tool made it.
pub fn shape(origin: &dyn Origin, found: &[FoundColumn]) -> Result<(), ShapeError> {
    check_shape(origin.columns(), found)
}

fn as_text(column: Column, dialect: Dialect) -> String {
    let name = column.name;
    match (column.kind, dialect) {
        (Kind::Plain, Dialect::Postgres) => format!("{name}::text"),
        (Kind::Boolean, Dialect::Postgres) => format!("({name}::int)::text"),
        (Kind::Bytes, Dialect::Postgres) => format!("encode({name}, 'hex')"),
        (Kind::Time, Dialect::Postgres) => format!("((extract(epoch FROM {name}) * 1000)::bigint)::text"),
        (Kind::Plain | Kind::Boolean, Dialect::MySql) => format!("CAST({name} AS CHAR)"),
        (Kind::Bytes, Dialect::MySql) => format!("LOWER(HEX({name}))"),
        (Kind::Time, Dialect::MySql) => {
            format!("CAST(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', {name}) DIV 1000 AS CHAR)")
        }
        // Some drivers keep truth as a word.
        (Kind::Boolean, Dialect::Sqlite) => {
            format!(
                "CASE lower(CAST({name} AS TEXT)) WHEN 'true' THEN '1' WHEN 'false' THEN '0' ELSE CAST({name} AS TEXT) END"
            )
        }
        (Kind::Plain, Dialect::Sqlite) => format!("CAST({name} AS TEXT)"),
        (Kind::Bytes, Dialect::Sqlite) => format!("lower(hex({name}))"),
        (Kind::Time, Dialect::Sqlite) => {
            format!("CAST(CAST(round((julianday({name}) - 2440587.5) * 86400000) AS INTEGER) AS TEXT)")
        }
    }
}

fn statement(change: &Change, dialect: Dialect, table: &str) -> String {
    match change {
        // golang-migrate truncates where it can.
        Change::Clear if dialect == Dialect::Postgres => format!("TRUNCATE {table}"),
        Change::Clear => format!("DELETE FROM {table}"),
        Change::Insert(values) => {
            let columns: Vec<&str> = values.iter().map(|(column, _)| *column).collect();
            let values: Vec<String> = values
                .iter()
                .map(|(column, v)| literal(v, column, dialect, table))
                .collect();
            format!(
                "INSERT INTO {table} ({}) VALUES ({})",
                columns.join(", "),
                values.join(", ")
            )
        }
        Change::Update { set, column, value } => {
            let set: Vec<String> = set
                .iter()
                .map(|(c, v)| format!("{c} = {}", literal(v, c, dialect, table)))
                .collect();
            let value = literal(value, column, dialect, table);
            format!("UPDATE {table} SET {} WHERE {column} = {value}", set.join(", "))
        }
        Change::Delete { column, value } => {
            format!(
                "DELETE FROM {table} WHERE {column} = {}",
                literal(value, column, dialect, table)
            )
        }
    }
}

fn literal(value: &Value, column: &str, dialect: Dialect, table: &str) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Number(digits) => digits.clone(),
        Value::Boolean(truth) => match dialect {
            Dialect::Postgres => truth.to_string(),
            Dialect::MySql | Dialect::Sqlite => u8::from(*truth).to_string(),
        },
        Value::Text(text) => text_literal(text, dialect),
        Value::Bytes(bytes) => match dialect {
            Dialect::Postgres => format!("decode('{}', 'hex')", hex::encode(bytes)),
            Dialect::MySql | Dialect::Sqlite => format!("X'{}'", hex::encode(bytes)),
        },
        // A table may not be read directly while it is inserted into (MySQL), so the number comes from a derived one.
        Value::Next => {
            format!("(SELECT n FROM (SELECT coalesce(max({column}), 0) + 1 AS n FROM {table}) AS highest)")
        }
        Value::CurrentUser => match dialect {
            Dialect::Postgres => "current_user".to_owned(),
            Dialect::MySql => "SUBSTRING_INDEX(USER(), '@', 1)".to_owned(),
            Dialect::Sqlite => "''".to_owned(),
        },
    }
}

fn text_literal(text: &str, dialect: Dialect) -> String {
    match dialect {
        // Escapes are asked for, so that `standard_conforming_strings` does not matter.
        Dialect::Postgres => {
            let mut literal = String::from("E'");
            for c in text.chars() {
                match c {
                    '\'' => literal.push_str("''"),
                    '\\' => literal.push_str("\\\\"),
                    // Writing to a string cannot fail.
                    c if c.is_control() => drop(write!(literal, "\\u{:04x}", u32::from(c))),
                    c => literal.push(c),
                }
            }
            literal + "'"
        }
        Dialect::MySql => format!("_utf8mb4 X'{}'", hex::encode(text)),
        Dialect::Sqlite => format!("'{}'", text.replace('\'', "''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_end_their_literal() {
        assert_eq!(text_literal("a'b\\c\n", Dialect::Postgres), r"E'a''b\\c\u000a'");
        assert_eq!(text_literal("a'b", Dialect::MySql), "_utf8mb4 X'612762'");
        assert_eq!(text_literal("a'b\\", Dialect::Sqlite), "'a''b\\'");
    }

    #[test]
    fn truncation_is_for_postgresql_only() {
        assert_eq!(changes(&[Change::Clear], Dialect::Postgres, "t"), ["TRUNCATE t"]);
        assert_eq!(changes(&[Change::Clear], Dialect::Sqlite, "t"), ["DELETE FROM t"]);
    }
}
