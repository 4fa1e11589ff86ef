//! Flyway's sidecars: `V1__a.sql.conf` beside `V1__a.sql`.

use std::path::{Path, PathBuf};

use super::SourceError;
use super::files::read_text;
use super::section::numbered;

/// What a sidecar says; what it does not say is Flyway's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sidecar {
    pub(super) transaction: Transaction,
    pub(super) placeholders: Placeholders,
    pub(super) execution: Execution,
}

/// `executeInTransaction`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transaction {
    Usual,
    None,
}

/// `placeholderReplacement`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placeholders {
    Replace,
    Keep,
}

/// `shouldExecute`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Execution {
    Run,
    Skip,
}

impl Sidecar {
    const DEFAULT: Self = Self {
        transaction: Transaction::Usual,
        placeholders: Placeholders::Replace,
        execution: Execution::Run,
    };

    /// The path of the sidecar of `migration`.
    pub(super) fn path_of(migration: &Path) -> PathBuf {
        let mut name = migration.as_os_str().to_owned();
        name.push(".conf");
        name.into()
    }

    /// Reads the sidecar of `migration`, if there is one.
    pub(super) fn read(migration: &Path) -> Result<Self, SourceError> {
        let path = Self::path_of(migration);
        if !path.exists() {
            return Ok(Self::DEFAULT);
        }
        let text = read_text(&path)?;
        let mut sidecar = Self::DEFAULT;
        for (line, content) in numbered(&text) {
            sidecar
                .take(content.trim())
                .map_err(|problem| SourceError::Content {
                    path: path.clone(),
                    line,
                    problem,
                })?;
        }
        Ok(sidecar)
    }

    fn take(&mut self, line: &str) -> Result<(), String> {
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let (key, value) = line
            .split_once('=')
            .ok_or("a setting is needed here: key=value")?;
        let value = value.trim();
        match key.trim() {
            "executeInTransaction" => {
                self.transaction = choose(value, Transaction::Usual, Transaction::None)?;
            }
            "placeholderReplacement" => {
                self.placeholders = choose(value, Placeholders::Replace, Placeholders::Keep)?;
            }
            "shouldExecute" => self.execution = choose(value, Execution::Run, Execution::Skip)?,
            "encoding" if is_utf8(value) => {}
            "encoding" => {
                return Err(format!(
                    "encoding {value:?} is not supported; convert the file to UTF-8"
                ));
            }
            other => {
                return Err(format!(
                    "setting {other:?} is not supported in a file's configuration"
                ));
            }
        }
        Ok(())
    }
}

fn choose<T>(value: &str, yes: T, no: T) -> Result<T, String> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok(yes),
        "false" => Ok(no),
        _ => Err(format!("{value:?} is neither true nor false")),
    }
}

fn is_utf8(encoding: &str) -> bool {
    matches!(
        encoding.to_ascii_lowercase().as_str(),
        "utf-8" | "utf8" | "us-ascii" | "ascii"
    )
}
