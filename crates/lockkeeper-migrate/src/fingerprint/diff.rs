//! How two schemas differ, object by object.

use serde::{Deserialize, Serialize};

use super::schema::{ObjectName, Properties, Schema};

/// How one schema differs from another.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SchemaDiff {
    /// Product and major release of both, when they are not the same: then texts may differ for no other reason.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub servers: Option<[String; 2]>,
    /// The objects that differ, in order of kind and name.
    pub differences: Vec<Difference>,
}

/// One object that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Which object.
    #[serde(flatten)]
    pub object: ObjectName,
    /// How.
    #[serde(flatten)]
    pub change: Change,
}

/// How an object differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// The second schema alone has it.
    Added {
        /// With these properties.
        properties: Properties,
    },
    /// The first schema alone has it.
    Removed {
        /// With these properties.
        properties: Properties,
    },
    /// Both have it, with other properties.
    Changed {
        /// The properties that differ, in order of name.
        properties: Vec<PropertyChange>,
    },
}

/// One property that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PropertyChange {
    /// Its name.
    pub property: String,
    /// Its value in the first schema; `None` when it does not apply there.
    pub from: Option<String>,
    /// Its value in the second schema.
    pub to: Option<String>,
}

impl SchemaDiff {
    /// Whether the schemas are the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.servers.is_none() && self.differences.is_empty()
    }
}

/// What has to be done to `from` to get `to`.
#[must_use]
pub fn diff(from: &Schema, to: &Schema) -> SchemaDiff {
    let removed = from
        .objects()
        .iter()
        .filter(|(object, _)| !to.objects().contains_key(*object))
        .map(|(object, properties)| {
            (
                object,
                Change::Removed {
                    properties: properties.clone(),
                },
            )
        });
    let added_or_changed = to
        .objects()
        .iter()
        .filter_map(|(object, properties)| Some((object, change(from.objects().get(object), properties)?)));
    let mut differences: Vec<Difference> = removed
        .chain(added_or_changed)
        .map(|(object, change)| Difference {
            object: object.clone(),
            change,
        })
        .collect();
    differences.sort_by(|a, b| a.object.cmp(&b.object));
    let servers = [from, to].map(|schema| schema.server.clone());
    SchemaDiff {
        servers: (servers[0] != servers[1]).then_some(servers),
        differences,
    }
}

fn change(from: Option<&Properties>, to: &Properties) -> Option<Change> {
    let Some(from) = from else {
        return Some(Change::Added {
            properties: to.clone(),
        });
    };
    let names: std::collections::BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    let properties: Vec<PropertyChange> = names
        .into_iter()
        .filter(|name| from.get(*name) != to.get(*name))
        .map(|name| PropertyChange {
            property: name.clone(),
            from: from.get(name).cloned(),
            to: to.get(name).cloned(),
        })
        .collect();
    (!properties.is_empty()).then_some(Change::Changed { properties })
}

#[cfg(test)]
mod tests {
    use super::super::schema::{Builder, Kind};
    use super::*;
    use crate::dialect::Dialect;

    fn schema(columns: &[(&str, &str)]) -> Schema {
        let mut builder = Builder::new(Dialect::Sqlite, "SQLite 3".to_owned());
        for (name, type_name) in columns {
            let properties = [("type", Some((*type_name).to_owned()))];
            builder.add(Kind::Column, "t", format!("t.{name}"), properties);
        }
        builder.finish()
    }

    #[test]
    fn added_removed_and_changed_objects_are_told_in_order() {
        let from = schema(&[("a", "int"), ("b", "int"), ("d", "int")]);
        let to = schema(&[("a", "int"), ("c", "text"), ("d", "text")]);
        let found = diff(&from, &to);
        let told: Vec<String> = found
            .differences
            .iter()
            .map(|difference| match &difference.change {
                Change::Added { .. } => format!("+ {}", difference.object),
                Change::Removed { .. } => format!("- {}", difference.object),
                Change::Changed { properties } => format!("~ {} {properties:?}", difference.object),
            })
            .collect();
        assert_eq!(told[..2], ["- column t.b", "+ column t.c"]);
        assert!(told[2].starts_with("~ column t.d"), "{told:?}");
        assert!(
            told[2].contains("from: Some(\"int\"), to: Some(\"text\")"),
            "{told:?}"
        );
        assert!(diff(&from, &from).is_empty());
        assert!(!found.is_empty());
    }

    #[test]
    fn a_difference_is_flat_json() {
        let found = diff(&schema(&[]), &schema(&[("a", "int")]));
        assert_eq!(
            serde_json::to_value(&found).unwrap(),
            serde_json::json!({"differences": [
                {"kind": "column", "name": "t.a", "change": "added", "properties": {"type": "int"}}
            ]})
        );
        let back: SchemaDiff = serde_json::from_value(serde_json::to_value(&found).unwrap()).unwrap();
        assert_eq!(back, found);
    }
}
