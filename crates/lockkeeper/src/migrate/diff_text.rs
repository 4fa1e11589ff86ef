//! How two schemas differ, as a person reads it.

use std::fmt::Write;

use lockkeeper_migrate::fingerprint::{Change, Difference, SchemaDiff};

/// One paragraph per object: `+` what the second schema has more, `-` what it lacks, `~` what differs.
pub(super) fn differences(diff: &SchemaDiff) -> String {
    let mut text = String::new();
    if let Some([from, to]) = &diff.servers {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{from} compared with {to}: the same schema may be described otherwise"
        );
    }
    for difference in &diff.differences {
        text.push_str(&paragraph(difference));
    }
    text
}

fn paragraph(difference: &Difference) -> String {
    let object = &difference.object;
    match &difference.change {
        Change::Added { properties } => {
            let lines = properties.iter().map(|(name, value)| line('+', name, value));
            format!("+ {object}\n{}", lines.collect::<String>())
        }
        Change::Removed { properties } => {
            let lines = properties.iter().map(|(name, value)| line('-', name, value));
            format!("- {object}\n{}", lines.collect::<String>())
        }
        Change::Changed { properties } => {
            let lines = properties.iter().map(|change| {
                let from = change.from.iter().map(|value| line('-', &change.property, value));
                let to = change.to.iter().map(|value| line('+', &change.property, value));
                from.chain(to).collect::<String>()
            });
            format!("~ {object}\n{}", lines.collect::<String>())
        }
    }
}

fn line(sign: char, name: &str, value: &str) -> String {
    let value = value.trim_end().replace('\n', "\n      ");
    format!("  {sign} {name}: {value}\n")
}

#[cfg(test)]
mod tests {
    use lockkeeper_migrate::dialect::Dialect;
    use lockkeeper_migrate::fingerprint::{Builder, Kind, Schema, diff};

    use super::*;

    fn schema(columns: &[(&str, &str)]) -> Schema {
        let mut builder = Builder::new(Dialect::Sqlite, "SQLite 3".to_owned());
        for (name, definition) in columns {
            let properties = [("definition", Some((*definition).to_owned()))];
            builder.add(Kind::Column, "t", format!("t.{name}"), properties);
        }
        builder.finish()
    }

    #[test]
    fn each_object_is_a_paragraph() {
        let from = schema(&[("a", "int"), ("b", "int")]);
        let to = schema(&[("b", "int\nnot null"), ("c", "int")]);
        assert_eq!(
            differences(&diff(&from, &to)),
            "- column t.a\n  - definition: int\n\
             ~ column t.b\n  - definition: int\n  + definition: int\n      not null\n\
             + column t.c\n  + definition: int\n"
        );
    }
}
