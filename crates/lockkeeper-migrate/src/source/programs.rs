//! Migrations in a programming language: only the origin tool can run them.

use std::sync::LazyLock;

use regex::Regex;

use super::files::Listing;
use super::{Layout, Programs, Skipped, SourceError};

/// A version as any layout writes it, and the extension of a programming or shell language.
static PROGRAM_NAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"^(?:[0-9]+_|[VUB][0-9][0-9._]*__|R__).*\.(go|rs|java|kt|kts|scala|groovy|class|py|js|ts|rb|php|cs|exs?|sh|ps1|bat|cmd|pl)$",
    )
    .expect("the pattern is a constant")
});

/// The language of a file with a migration's name.
pub(super) fn language(file_name: &str) -> Option<&str> {
    let parts = PROGRAM_NAME.captures(file_name)?;
    // Go's tests lie beside what they test.
    let is_test = file_name.ends_with("_test.go");
    (!is_test).then(|| parts.get(1).map(|m| m.as_str()))?
}

/// Takes programs out of the listing and lists them, or refuses the first one.
pub(super) fn take_out(
    listing: &mut Listing,
    layout: Layout,
    programs: Programs,
) -> Result<Vec<Skipped>, SourceError> {
    let reach = layout.reader().reach();
    let mut skipped = Vec::new();
    for entry in listing
        .entries
        .extract_if(.., |e| reach.holds(e.depth) && language(&e.name).is_some())
    {
        let language = language(&entry.name).unwrap_or_default();
        match programs {
            Programs::Refuse => {
                return Err(SourceError::Program {
                    what: format!("a migration in {language}"),
                    path: entry.path,
                });
            }
            Programs::Skip => skipped.push(Skipped::new(&entry.path, format!("it is written in {language}"))),
        }
    }
    Ok(skipped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_by_version_and_extension() {
        for (name, expected) in [
            ("00002_backfill.go", Some("go")),
            ("00002_backfill_test.go", None),
            ("1_a.up.go", Some("go")),
            ("V2__a.rs", Some("rs")),
            ("U2__a.java", Some("java")),
            ("R__views.kt", Some("kt")),
            ("B1.2__a.py", Some("py")),
            ("main.go", None),
            ("mod.rs", None),
            ("Views.java", None),
            ("1_a.sql", None),
        ] {
            assert_eq!(language(name), expected, "{name}");
        }
    }
}
