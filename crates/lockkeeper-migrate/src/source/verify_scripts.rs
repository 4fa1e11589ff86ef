//! Verification scripts: `verify/*.sql` beside the migrations.

use std::path::{Path, PathBuf};

use lockkeeper_core::version::SchemaVersion;

use super::SourceError;
use super::files::{VERIFY_FOLDER, read_text, real_directory, sorted_children};
use crate::dialect::Dialect;
use crate::sql::{Statement, split};

/// A script that checks a schema: it fails by raising an error or by returning a false value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyScript {
    /// The file.
    pub path: PathBuf,
    /// The version it is for, from the digits its name begins with; `None` means every version.
    pub version: Option<SchemaVersion>,
    /// Its statements.
    pub statements: Vec<Statement>,
}

/// Loads the scripts in the `verify` folders of `dirs`, by path; a name such as `1_users.postgres.sql` is for
/// that dialect only. A directory without such a folder has none.
///
/// # Errors
///
/// As for migrations: a missing directory, and files that cannot be read or split.
pub fn load_verify(dirs: &[PathBuf], dialect: Dialect) -> Result<Vec<VerifyScript>, SourceError> {
    let mut scripts = Vec::new();
    for dir in dirs {
        real_directory(dir)?;
        let folder = dir.join(VERIFY_FOLDER);
        if !folder.is_dir() {
            continue;
        }
        for (path, name) in sorted_children(&folder)? {
            if name
                .strip_suffix(".sql")
                .is_some_and(|stem| is_for(stem, dialect))
            {
                scripts.push(VerifyScript {
                    version: version(&name),
                    statements: statements(&path, dialect)?,
                    path,
                });
            }
        }
    }
    Ok(scripts)
}

fn is_for(stem: &str, dialect: Dialect) -> bool {
    let suffix = stem.rsplit_once('.').map(|(_, suffix)| suffix);
    suffix
        .and_then(|s| s.parse::<Dialect>().ok())
        .is_none_or(|of| of == dialect)
}

fn version(name: &str) -> Option<SchemaVersion> {
    let digits = name
        .split(|c: char| !c.is_ascii_digit())
        .next()
        .unwrap_or_default();
    (!digits.is_empty()).then(|| digits.into())
}

fn statements(path: &Path, dialect: Dialect) -> Result<Vec<Statement>, SourceError> {
    let text = read_text(path)?;
    split(dialect, &text).map_err(|e| SourceError::Statement {
        path: path.to_owned(),
        line: e.line,
        problem: e.problem,
    })
}
