//! A CREATE TABLE, taken apart: its columns, its constraints and its options.

use super::text::{join, normal, piece};
use crate::dialect::Dialect;
use crate::fingerprint::{Builder, Kind};
use crate::sql::pieces;

/// The words that begin a constraint of the table. A column of such a name is quoted.
const CONSTRAINT_WORDS: [&str; 5] = ["constraint", "primary", "unique", "check", "foreign"];

/// Adds the table, its columns and its constraints.
pub(super) fn add(builder: &mut Builder, table: &str, sql: &str) {
    let pieces = pieces(Dialect::Sqlite, sql);
    let Some(body) = Body::of(&pieces).filter(|_| !is_virtual(&pieces)) else {
        builder.add(
            Kind::Table,
            table,
            table.to_owned(),
            [("definition", Some(normal(sql)))],
        );
        return;
    };
    builder.add(
        Kind::Table,
        table,
        table.to_owned(),
        [("options", body.options())],
    );
    for part in body.parts() {
        let Some((first, rest)) = part.split_first() else {
            continue;
        };
        let told: Vec<String> = part.iter().map(|text| piece(text)).collect();
        if CONSTRAINT_WORDS.contains(&first.to_ascii_lowercase().as_str()) {
            constraint(builder, table, &told);
        } else {
            let rest: Vec<String> = rest.iter().map(|text| piece(text)).collect();
            let name = format!("{table}.{}", piece(first));
            builder.add(Kind::Column, table, name, [("definition", Some(join(&rest)))]);
        }
    }
}

fn is_virtual(pieces: &[&str]) -> bool {
    pieces
        .get(1)
        .is_some_and(|word| word.eq_ignore_ascii_case("virtual"))
}

/// One without a name is told by its content.
fn constraint(builder: &mut Builder, table: &str, told: &[String]) {
    let (name, definition) = match told {
        [first, name, rest @ ..] if first == "constraint" => (name.clone(), join(rest)),
        _ => (format!("({})", join(told)), join(told)),
    };
    builder.add(
        Kind::Constraint,
        table,
        format!("{table}.{name}"),
        [("definition", Some(definition))],
    );
}

/// What stands between the parentheses, and after them.
struct Body<'a> {
    inside: &'a [&'a str],
    after: &'a [&'a str],
}

impl<'a> Body<'a> {
    fn of(pieces: &'a [&'a str]) -> Option<Self> {
        let start = pieces.iter().position(|piece| *piece == "(")?;
        let mut depth = 0_usize;
        let length = pieces[start..].iter().position(|piece| {
            match *piece {
                "(" => depth += 1,
                ")" => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0
        })?;
        let end = start + length;
        Some(Self {
            inside: &pieces[start + 1..end],
            after: &pieces[end + 1..],
        })
    }

    /// The definitions, which commas outside of inner parentheses part.
    fn parts(&self) -> Vec<&'a [&'a str]> {
        let mut depth = 0_usize;
        self.inside
            .split(move |piece| {
                match *piece {
                    "(" => depth += 1,
                    ")" => depth = depth.saturating_sub(1),
                    _ => {}
                }
                *piece == "," && depth == 0
            })
            .collect()
    }

    /// `strict`, `without rowid`; the order in which they stand means nothing.
    fn options(&self) -> Option<String> {
        let mut options: Vec<String> = self
            .after
            .split(|piece| *piece == ",")
            .map(|option| join(&option.iter().map(|text| piece(text)).collect::<Vec<_>>()))
            .filter(|option| !option.is_empty())
            .collect();
        options.sort();
        (!options.is_empty()).then(|| options.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::Schema;

    fn schema(sql: &str) -> Schema {
        let mut builder = Builder::new(Dialect::Sqlite, "SQLite 3".to_owned());
        add(&mut builder, "t", sql);
        builder.finish()
    }

    #[test]
    fn a_table_is_its_columns_and_constraints() {
        let found = schema(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, \"check\" DECIMAL(10, 2) DEFAULT (1, 2), \
             CONSTRAINT positive CHECK (a > 0), UNIQUE (a, b)) STRICT, WITHOUT ROWID",
        );
        let told: Vec<String> = found
            .objects()
            .iter()
            .map(|(object, properties)| format!("{object} {properties:?}"))
            .collect();
        assert_eq!(
            told,
            [
                "table t {\"options\": \"strict, without rowid\"}",
                "column t.check {\"definition\": \"decimal (10, 2) default (1, 2)\"}",
                "column t.id {\"definition\": \"integer primary key\"}",
                "constraint t.(unique (a, b)) {\"definition\": \"unique (a, b)\"}",
                "constraint t.positive {\"definition\": \"check (a > 0)\"}",
            ]
        );
    }

    #[test]
    fn what_alter_table_leaves_is_what_create_table_would() {
        let created = schema("CREATE TABLE t (a INT, b TEXT)");
        let altered = schema("CREATE TABLE \"t\"(\n b text , a int)");
        assert_eq!(created, altered);
        assert_ne!(created, schema("CREATE TABLE t (a INT, b TEXT NOT NULL)"));
    }

    #[test]
    fn a_virtual_table_is_one_text() {
        let found = schema("CREATE VIRTUAL TABLE t USING fts5(title, body)");
        assert_eq!(found.objects().len(), 1);
    }
}
