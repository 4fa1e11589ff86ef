//! A schema version on the command line.

use lockkeeper_core::version::SchemaVersion;

use crate::exit::Failure;

/// The word for "before the first migration".
const NONE: &str = "none";

/// Reads a version. Which ones there are, the directory says.
pub(in crate::migrate) fn version(text: &str) -> Result<SchemaVersion, Failure> {
    // Without its text, which may hold a password.
    if text.contains("://") {
        let failure = Failure::usage("a DSN stands where the version should");
        return Err(failure.hint("the version comes first, then the DSN"));
    }
    Ok(SchemaVersion(text.to_owned()))
}

/// Reads a version, or `none`.
pub(in crate::migrate) fn version_or_none(text: &str) -> Result<Option<SchemaVersion>, Failure> {
    match text {
        NONE => Ok(None),
        text => version(text).map(Some),
    }
}
