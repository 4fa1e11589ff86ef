//! A schema as a set of objects with properties.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::hash::Fingerprint;
use super::is_left_out;
use crate::dialect::Dialect;

/// What an object is. In the order in which a reader wants to see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The database itself: MariaDB's and MySQL's default character set.
    Database,
    /// A PostgreSQL schema.
    Schema,
    /// A PostgreSQL extension.
    Extension,
    /// An enum, domain, composite or range type.
    Type,
    /// A sequence.
    Sequence,
    /// A table, partitioned, foreign and virtual ones included.
    Table,
    /// A table's column.
    Column,
    /// A partition of a MariaDB or MySQL table. PostgreSQL's are tables.
    Partition,
    /// A primary key, unique, check, foreign key or exclusion constraint.
    Constraint,
    /// An index that is no constraint's.
    Index,
    /// A view.
    View,
    /// A materialized view.
    MaterializedView,
    /// A function, aggregate or window function.
    Function,
    /// A procedure.
    Procedure,
    /// A trigger.
    Trigger,
    /// A row security policy.
    Policy,
    /// A rewrite rule.
    Rule,
    /// An event of the server's scheduler.
    Event,
    /// A PostgreSQL event trigger.
    EventTrigger,
    /// Extended statistics.
    Statistics,
}

impl Kind {
    /// As in JSON: `materialized-view`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Schema => "schema",
            Self::Extension => "extension",
            Self::Type => "type",
            Self::Sequence => "sequence",
            Self::Table => "table",
            Self::Column => "column",
            Self::Partition => "partition",
            Self::Constraint => "constraint",
            Self::Index => "index",
            Self::View => "view",
            Self::MaterializedView => "materialized-view",
            Self::Function => "function",
            Self::Procedure => "procedure",
            Self::Trigger => "trigger",
            Self::Policy => "policy",
            Self::Rule => "rule",
            Self::Event => "event",
            Self::EventTrigger => "event-trigger",
            Self::Statistics => "statistics",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Which object: what it is, and its name as a person would write it (`public.users.email`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectName {
    /// What it is.
    pub kind: Kind,
    /// Its name, with the names of what it belongs to.
    pub name: String,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// What is to be said of an object, by name of the property: `type` → `text`.
pub type Properties = BTreeMap<String, String>;

/// A database's schema, normalised. Equal schemas have equal objects, whatever made them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// The dialect that the database speaks.
    pub dialect: Dialect,
    /// Product and major release: `PostgreSQL 15`. Servers of another one describe the same schema otherwise.
    pub server: String,
    objects: BTreeMap<ObjectName, Properties>,
}

impl Schema {
    /// The schema with these objects.
    #[must_use]
    pub fn new(dialect: Dialect, server: String, objects: BTreeMap<ObjectName, Properties>) -> Self {
        Self {
            dialect,
            server,
            objects,
        }
    }

    /// The objects, in order of kind and name.
    #[must_use]
    pub fn objects(&self) -> &BTreeMap<ObjectName, Properties> {
        &self.objects
    }

    /// One hash of all of it, and of the server's product and major release.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self)
    }
}

/// Gathers a schema from the rows of a catalogue.
#[derive(Debug)]
pub struct Builder {
    schema: Schema,
}

impl Builder {
    /// An empty schema on this server.
    #[must_use]
    pub fn new(dialect: Dialect, server: String) -> Self {
        Self {
            schema: Schema::new(dialect, server, BTreeMap::new()),
        }
    }

    /// Adds an object, unless `owner` (the table, function or trigger that it is or belongs to, without schema) is
    /// a migrator's own. A property that is `None` does not apply to this object.
    pub fn add<'a>(
        &mut self,
        kind: Kind,
        owner: &str,
        name: String,
        properties: impl IntoIterator<Item = (&'a str, Option<String>)>,
    ) {
        if is_left_out(owner) {
            return;
        }
        let given = properties
            .into_iter()
            .filter_map(|(property, value)| Some((property.to_owned(), value?)));
        let object = ObjectName { kind, name };
        self.schema.objects.entry(object).or_default().extend(given);
    }

    /// Adds the rows of a catalogue query: owner, name, then the properties in this order. A row without owner or
    /// name is none.
    pub fn add_rows(&mut self, kind: Kind, properties: &[&str], rows: Vec<Vec<Option<String>>>) {
        for row in rows {
            let mut values = row.into_iter();
            if let (Some(Some(owner)), Some(Some(name))) = (values.next(), values.next()) {
                self.add(kind, &owner, name, properties.iter().copied().zip(values));
            }
        }
    }

    /// The schema.
    #[must_use]
    pub fn finish(self) -> Schema {
        self.schema
    }
}

/// A question to a catalogue: its answer's columns are owner, name, and the properties in this order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question {
    pub(crate) kind: Kind,
    pub(crate) properties: &'static [&'static str],
    pub(crate) sql: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_objects_and_absent_properties_are_left_out() {
        let mut builder = Builder::new(Dialect::Sqlite, "SQLite 3".to_owned());
        let row = |owner: &str, name: &str| {
            let values = [Some(owner), Some(name), Some("text"), None];
            values.map(|value| value.map(str::to_owned)).to_vec()
        };
        let rows = vec![row("t", "t.a"), row("lockkeeper_gate", "lockkeeper_gate.one")];
        builder.add_rows(Kind::Column, &["type", "default"], rows);
        let schema = builder.finish();
        let found: Vec<_> = schema.objects().iter().collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0.to_string(), "column t.a");
        assert_eq!(found[0].1.keys().collect::<Vec<_>>(), ["type"]);
    }

    #[test]
    fn kinds_print_as_json_has_them() {
        for kind in [Kind::MaterializedView, Kind::EventTrigger, Kind::Table] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }
}
