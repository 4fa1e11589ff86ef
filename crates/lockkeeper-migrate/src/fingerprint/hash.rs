//! One hash of a schema.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::schema::Schema;

/// The way in which schemas are read and hashed. Another one gives other fingerprints for the same schema, which
/// must not look like a changed schema: it is part of the text.
const FORM: &str = "s1";

/// The hash of a schema: `s1:` and 64 hexadecimal digits. Equal for equal schemas on servers of the same product
/// and major release.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl Fingerprint {
    pub(super) fn of(schema: &Schema) -> Self {
        let mut hash = Sha256::new();
        // Each text with its length before it: no two schemas can give the same bytes.
        let mut text = |text: &str| {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        };
        text(schema.dialect.as_str());
        text(&schema.server);
        for (object, properties) in schema.objects() {
            text(object.kind.as_str());
            text(&object.name);
            text(&properties.len().to_string());
            for (property, value) in properties {
                text(property);
                text(value);
            }
        }
        Self(format!("{FORM}:{}", hex::encode(hash.finalize())))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the other one was made in the same way, so that the two can be compared at all.
    #[must_use]
    pub fn is_comparable(&self, other: &Self) -> bool {
        self.form() == other.form()
    }

    /// Whether a schema has this fingerprint.
    ///
    /// # Errors
    ///
    /// When it has not, or the two cannot be compared.
    pub fn check(&self, schema: &Schema) -> Result<(), Mismatch> {
        let seen = schema.fingerprint();
        if *self == seen {
            return Ok(());
        }
        let expected = self.clone();
        Err(if self.is_comparable(&seen) {
            Mismatch::OtherSchema { expected, seen }
        } else {
            Mismatch::OtherForm { expected, seen }
        })
    }

    fn form(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }
}

impl From<String> for Fingerprint {
    /// As it was printed or recorded.
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// A schema that has not the expected fingerprint. Reads after "failed to".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// It is another schema.
    #[error("find the expected schema: its fingerprint is {expected}, and this one's {seen}")]
    OtherSchema {
        /// What it should be.
        expected: Fingerprint,
        /// What it is.
        seen: Fingerprint,
    },
    /// Another release of lockkeeper made the expected one, in another way.
    #[error(
        "compare with fingerprint {expected}: this release makes them as {seen}; make it again with this release"
    )]
    OtherForm {
        /// What it should be.
        expected: Fingerprint,
        /// What it is.
        seen: Fingerprint,
    },
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema::{Builder, Kind};
    use super::*;
    use crate::dialect::Dialect;

    fn schema(objects: &[(&str, &[(&str, &str)])]) -> Schema {
        let mut builder = Builder::new(Dialect::Postgres, "PostgreSQL 15".to_owned());
        for (name, properties) in objects {
            let properties = properties.iter().map(|(p, v)| (*p, Some((*v).to_owned())));
            builder.add(Kind::Table, name, (*name).to_owned(), properties);
        }
        builder.finish()
    }

    #[test]
    fn the_order_of_making_does_not_matter_and_everything_else_does() {
        let one = schema(&[("a", &[("x", "1")]), ("b", &[])]).fingerprint();
        assert_eq!(one, schema(&[("b", &[]), ("a", &[("x", "1")])]).fingerprint());
        for other in [
            schema(&[("a", &[("x", "2")]), ("b", &[])]),
            schema(&[("a", &[("x", "1")])]),
            schema(&[("a", &[]), ("b", &[("x", "1")])]),
            schema(&[("a", &[("x1", "")]), ("b", &[])]),
        ] {
            assert_ne!(one, other.fingerprint());
        }
        assert!(one.as_str().starts_with("s1:"));
        assert!(!one.is_comparable(&Fingerprint("s2:00".to_owned())));
        let of_a = schema(&[("a", &[])]);
        assert_eq!(of_a.fingerprint().check(&of_a), Ok(()));
        let told = |expected: Fingerprint| expected.check(&of_a).unwrap_err().to_string();
        assert!(told(one).starts_with("find the expected schema"));
        assert!(told(Fingerprint("s2:00".to_owned())).contains("make it again"));
    }
}
