//! A schema as a JSON file: what `migrate sql diff --save FILE` writes and `--schema FILE` reads.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::hash::Fingerprint;
use super::schema::{ObjectName, Properties, Schema};
use crate::dialect::Dialect;

/// Why a file is no saved schema. Reads after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum SchemaFileError {
    /// It cannot be read.
    #[error("read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
    /// It is no JSON of this form.
    #[error("read {}: it is no saved schema: {error}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Where and what.
        error: serde_json::Error,
    },
    /// Its objects do not give its fingerprint.
    #[error(
        "read {}: its objects give fingerprint {seen} and it says {recorded}: it was edited, or another release of \
         lockkeeper made it; save it again",
        path.display()
    )]
    Fingerprint {
        /// The file.
        path: PathBuf,
        /// What it says.
        recorded: Fingerprint,
        /// What its objects give.
        seen: Fingerprint,
    },
}

/// The file's form, and that of a schema in JSON results.
#[derive(Debug, Serialize, Deserialize)]
struct File {
    fingerprint: Fingerprint,
    dialect: Dialect,
    server: String,
    objects: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    object: ObjectName,
    properties: Properties,
}

impl Serialize for Schema {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let objects = self.objects().iter().map(|(object, properties)| Entry {
            object: object.clone(),
            properties: properties.clone(),
        });
        let file = File {
            fingerprint: self.fingerprint(),
            dialect: self.dialect,
            server: self.server.clone(),
            objects: objects.collect(),
        };
        file.serialize(serializer)
    }
}

/// Reads a saved schema and checks that it is whole.
///
/// # Errors
///
/// When there is no such file, or it is none of ours.
pub fn read(path: &Path) -> Result<Schema, SchemaFileError> {
    let text = std::fs::read(path).map_err(|error| SchemaFileError::Read {
        path: path.to_owned(),
        error,
    })?;
    parse(path, &text)
}

/// The schema that the text of `path` says.
///
/// # Errors
///
/// When it is none of ours.
pub fn parse(path: &Path, text: &[u8]) -> Result<Schema, SchemaFileError> {
    let file: File = serde_json::from_slice(text).map_err(|error| SchemaFileError::Form {
        path: path.to_owned(),
        error,
    })?;
    let objects = file
        .objects
        .into_iter()
        .map(|entry| (entry.object, entry.properties));
    let schema = Schema::new(file.dialect, file.server, objects.collect());
    let seen = schema.fingerprint();
    if seen == file.fingerprint {
        return Ok(schema);
    }
    Err(SchemaFileError::Fingerprint {
        path: path.to_owned(),
        recorded: file.fingerprint,
        seen,
    })
}

#[cfg(test)]
mod tests {
    use super::super::schema::{Builder, Kind};
    use super::*;

    fn schema() -> Schema {
        let mut builder = Builder::new(Dialect::Postgres, "PostgreSQL 15".to_owned());
        builder.add(
            Kind::Column,
            "t",
            "public.t.a".to_owned(),
            [("type", Some("integer".to_owned()))],
        );
        builder.finish()
    }

    #[test]
    fn what_is_saved_is_read_again() {
        let text = serde_json::to_vec(&schema()).unwrap();
        assert_eq!(parse(Path::new("a.json"), &text).unwrap(), schema());
    }

    #[test]
    fn an_edited_file_is_told() {
        let text = serde_json::to_string(&schema()).unwrap();
        let edited = text.replace("integer", "bigint");
        let error = parse(Path::new("a.json"), edited.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("save it again"), "{error}");
        let error = parse(Path::new("a.json"), b"{}").unwrap_err();
        assert!(error.to_string().contains("it is no saved schema"), "{error}");
    }
}
