//! What a schema is made of, as data: a normalised catalogue, one hash of it, and how two of them differ.
//!
//! | module | what it holds |
//! |---|---|
//! | [`schema`] | the catalogue: objects and their properties, independent of who made them when |
//! | [`hash`] | the fingerprint |
//! | [`diff`] | object by object, what one schema has and another has not |
//! | [`file`](mod@file) | a catalogue as a JSON file |
//! | `own` | which objects belong to lockkeeper or to another migrator, and to no schema |
//!
//! A database's catalogue is read by [`Database::schema`](crate::db::Database::schema), in one read-only
//! transaction, or through a [`Hand`](crate::db::Hand::schema), which sees what an opening would make visible.
//!
//! Two servers of the same product and major release that ran the same migrations give the same fingerprint. What
//! is left out, so that this holds: object ids, the order in which things were made (that of columns included),
//! owners and privileges, statistics, the next value of a sequence, lockkeeper's own objects and other migrators'
//! state tables. `docs/rehearsal.md` has the list for users.

pub mod diff;
pub mod file;
pub mod hash;
mod own;
pub mod schema;

pub use diff::{Change, Difference, PropertyChange, SchemaDiff, diff};
pub use file::{SchemaFileError, parse as parse_schema, read as read_schema};
pub use hash::{Fingerprint, Mismatch};
pub(crate) use own::is_left_out;
pub use schema::{Builder, Kind, ObjectName, Properties, Schema};
