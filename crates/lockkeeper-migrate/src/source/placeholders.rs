//! Flyway's placeholders: `${name}`, replaced everywhere in a file, in comments and strings too.

use std::collections::BTreeMap;
use std::path::Path;

use super::SourceError;
use super::files::line_of;
use super::substitution::Substituted;

/// Replaces the placeholders in `text`, which stands in `path`. Names are compared without regard to case.
pub(super) fn replace(
    path: &Path,
    text: &str,
    values: &BTreeMap<String, String>,
) -> Result<Substituted, SourceError> {
    let mut out = Substituted::default();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let line = || line_of(&text.as_bytes()[..text.len() - rest.len() + start]);
        let Some(length) = rest[start + 2..].find('}') else {
            return Err(SourceError::Content {
                path: path.to_owned(),
                line: line(),
                problem: "the placeholder that begins here has no }".to_owned(),
            });
        };
        let name = &rest[start + 2..start + 2 + length];
        let value = value(path, name, values).ok_or_else(|| SourceError::Placeholder {
            path: path.to_owned(),
            line: line(),
            name: name.to_owned(),
        })?;
        let end = start + 2 + length + 1;
        out.push(&rest[..start]);
        out.put(&rest[start..end], &value);
        rest = &rest[end..];
    }
    out.push(rest);
    Ok(out)
}

fn value(path: &Path, name: &str, values: &BTreeMap<String, String>) -> Option<String> {
    let given = values.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
    match given {
        Some((_, value)) => Some(value.clone()),
        // The one of Flyway's own that follows from the file. The others are about the connection or the moment.
        None if name.eq_ignore_ascii_case("flyway:filename") => {
            path.file_name().map(|name| name.to_string_lossy().into_owned())
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_replaced_or_named_with_their_line() {
        let values = [("schema", "app"), ("empty", "")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        for (text, expected) in [
            ("SELECT 1", "SELECT 1"),
            ("-- ${schema}\n'${SCHEMA}'${empty}$1 $$", "-- app\n'app'$1 $$"),
            ("${flyway:filename}", "V1__a.sql"),
            (
                "\n ${gone} ",
                "read V1__a.sql:2: placeholder ${gone} has no value; give it with --placeholder gone=VALUE",
            ),
            (
                "a\n\n${open",
                "read V1__a.sql:3: the placeholder that begins here has no }",
            ),
            (
                "${}",
                "read V1__a.sql:1: placeholder ${} has no value; give it with --placeholder =VALUE",
            ),
        ] {
            let found = replace(Path::new("V1__a.sql"), text, &values)
                .map_or_else(|e| e.to_string(), |found| found.text);
            assert_eq!(found, expected);
        }
    }
}
