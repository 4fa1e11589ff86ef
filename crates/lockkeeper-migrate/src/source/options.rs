//! What is asked of a migration source, beside its directories.

use std::collections::BTreeMap;

use super::Layout;

/// How a source is read, and how its set may be applied.
#[derive(Debug, Clone, Default)]
pub struct SourceOptions {
    /// The layout; `None` means `auto`.
    pub layout: Option<Layout>,
    /// What to do with migrations that only the origin tool can run.
    pub programs: Programs,
    /// Values for Flyway's placeholders, by name.
    pub placeholders: BTreeMap<String, String>,
    /// Where goose's variables come from.
    pub environment: Environment,
    /// Whether a version below an applied one may still be applied.
    pub out_of_order: OutOfOrder,
}

/// What to do with migrations in a programming language, and with Flyway's callbacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Programs {
    /// Name the first one and stop: leaving it out would make another schema.
    #[default]
    Refuse,
    /// Leave them out, and list them among the skipped files.
    Skip,
}

/// Whether a pending version below an applied one may be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutOfOrder {
    /// It is an error. It is never skipped in silence.
    #[default]
    Refuse,
    /// It is applied, before the higher ones that are pending.
    Allow,
}

/// Environment variables.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Environment {
    /// Those of this process.
    #[default]
    Process,
    /// These and no other.
    Fixed(BTreeMap<String, String>),
}

impl Environment {
    /// The value of a variable.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<String> {
        match self {
            Self::Process => std::env::var(name).ok(),
            Self::Fixed(variables) => variables.get(name).cloned(),
        }
    }
}
