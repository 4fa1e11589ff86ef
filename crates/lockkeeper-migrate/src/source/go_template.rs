//! Go templates in pop's migrations, as far as their text follows from the dialect alone.
//!
//! Kratos' pop gives a template `.IsSQLite`, `.IsMySQL`, `.IsPostgreSQL`, `.IsCockroach` and
//! `.DialectDetails.Dialect`; pop itself gives `.Dialect`. What they say is known before anything runs. Anything
//! else (parameters, the connection, functions, variables, loops) is not, and is refused.

use crate::dialect::Dialect;

/// A template that cannot be rendered here: place in bytes, and why.
pub(super) type Wrong = (usize, String);

/// Renders `text`. A text without any action comes out as it is.
pub(super) fn render(text: &str, dialect: Dialect) -> Result<String, Wrong> {
    let mut out = String::with_capacity(text.len());
    let mut open = Vec::<Branch>::new();
    let mut rest = text;
    while let Some((before, action, after)) = next_action(rest) {
        let at = text.len() - rest.len() + before.len();
        let wrong = |problem: String| (at, problem);
        let (action, before, after) = trim(action, before, after);
        if is_shown(&open) {
            out.push_str(before);
        }
        step(action, &mut open, dialect).map_err(wrong)?;
        rest = after;
    }
    match open.last() {
        Some(_) => Err((
            text.len(),
            "an {{ if }} of the template has no {{ end }}".to_owned(),
        )),
        None => Ok(out + rest),
    }
}

/// An open `if`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Branch {
    /// Its part is shown.
    Taken,
    /// No part was shown yet.
    Waiting,
    /// A part before this one was shown.
    Over,
}

fn is_shown(open: &[Branch]) -> bool {
    open.iter().all(|branch| *branch == Branch::Taken)
}

/// The text up to the next `{{`, what stands between it and `}}`, and the text behind. Braces of arrays and of JSON are
/// no action.
fn next_action(text: &str) -> Option<(&str, &str, &str)> {
    text.match_indices("{{").find_map(|(at, _)| {
        let (action, after) = text[at + 2..].split_once("}}")?;
        let bare = action.trim_start_matches('-').trim_start();
        let starts = |c: char| c.is_ascii_alphabetic() || matches!(c, '.' | '$' | '"' | '`' | '(' | '/');
        let is_action = bare.starts_with(starts) && !bare.contains(['{', '}']);
        is_action.then_some((&text[..at], action, after))
    })
}

/// Takes the marks off which remove the white space around an action.
fn trim<'a>(action: &'a str, before: &'a str, after: &'a str) -> (&'a str, &'a str, &'a str) {
    let (action, before) = match action.strip_prefix('-') {
        Some(rest) if rest.starts_with(char::is_whitespace) => (rest, before.trim_end()),
        _ => (action, before),
    };
    let (action, after) = match action.strip_suffix('-') {
        Some(rest) if rest.ends_with(char::is_whitespace) => (rest, after.trim_start()),
        _ => (action, after),
    };
    (action.trim(), before, after)
}

fn step(action: &str, open: &mut Vec<Branch>, dialect: Dialect) -> Result<(), String> {
    let branch = |holds| if holds { Branch::Taken } else { Branch::Waiting };
    let (word, rest) = action.split_once(char::is_whitespace).unwrap_or((action, ""));
    match (word, rest.trim(), open.last_mut()) {
        ("if", condition, _) => open.push(branch(evaluate(condition, dialect)?)),
        ("else", "", Some(last)) => *last = next(*last, true),
        ("else", rest, Some(last)) if rest.starts_with("if ") => {
            *last = next(*last, evaluate(rest[3..].trim(), dialect)?);
        }
        ("end", "", Some(_)) => {
            open.pop();
        }
        _ if action.starts_with("/*") && action.ends_with("*/") => {}
        _ => return Err(not_static(action)),
    }
    Ok(())
}

/// What becomes of an `if` at its next part.
fn next(branch: Branch, holds: bool) -> Branch {
    match branch {
        Branch::Waiting if holds => Branch::Taken,
        Branch::Waiting => Branch::Waiting,
        Branch::Taken | Branch::Over => Branch::Over,
    }
}

fn evaluate(condition: &str, dialect: Dialect) -> Result<bool, String> {
    let words = words(condition).ok_or_else(|| not_static(condition))?;
    let mut rest = words.as_slice();
    let value = operand(&mut rest, dialect).ok_or_else(|| not_static(condition))?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(not_static(condition))
    }
}

/// One condition, and takes its words: a field, or `not`, `and`, `or`, `eq`, `ne` with what follows.
fn operand(rest: &mut &[String], dialect: Dialect) -> Option<bool> {
    let (word, behind) = rest.split_first()?;
    *rest = behind;
    match word.as_str() {
        "(" => {
            let value = operand(rest, dialect)?;
            let (close, behind) = rest.split_first()?;
            *rest = behind;
            (close == ")").then_some(value)
        }
        "not" => operand(rest, dialect).map(|value| !value),
        "and" => all(rest, dialect).map(|values| values.iter().all(|v| *v)),
        "or" => all(rest, dialect).map(|values| values.iter().any(|v| *v)),
        "eq" => compare(rest, dialect),
        "ne" => compare(rest, dialect).map(|equal| !equal),
        ".IsSQLite" => Some(dialect == Dialect::Sqlite),
        ".IsPostgreSQL" => Some(dialect == Dialect::Postgres),
        ".IsCockroach" => Some(false),
        // Whether MariaDB counts as MySQL depends on pop's release.
        ".IsMySQL" | ".IsMariaDB" if dialect == Dialect::MySql => None,
        ".IsMySQL" | ".IsMariaDB" => Some(false),
        _ => None,
    }
}

fn all(rest: &mut &[String], dialect: Dialect) -> Option<Vec<bool>> {
    let mut values = Vec::new();
    while rest.first().is_some_and(|word| word != ")") {
        values.push(operand(rest, dialect)?);
    }
    (!values.is_empty()).then_some(values)
}

/// Compares the dialect's name in pop with names in quotes; one equal one is enough.
fn compare(rest: &mut &[String], dialect: Dialect) -> Option<bool> {
    let (field, behind) = rest.split_first()?;
    if !matches!(field.as_str(), ".Dialect" | ".DialectDetails.Dialect") {
        return None;
    }
    *rest = behind;
    let name = match dialect {
        Dialect::Postgres => "postgres",
        Dialect::MySql => "mysql",
        Dialect::Sqlite => "sqlite3",
    };
    let mut equal = None;
    while let Some(text) = rest
        .first()
        .and_then(|word| word.strip_prefix('"')?.strip_suffix('"'))
    {
        equal = Some(equal.unwrap_or(false) || text == name);
        *rest = &rest[1..];
    }
    equal
}

/// The words of a condition; `None` when it holds something that no word of a static condition has.
fn words(condition: &str) -> Option<Vec<String>> {
    let spaced = condition.replace('(', " ( ").replace(')', " ) ");
    let words = spaced.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let plain = |word: &String| word.chars().all(|c| c.is_alphanumeric() || "._\"()".contains(c));
    words.iter().all(plain).then_some(words)
}

fn not_static(action: &str) -> String {
    format!(
        "{{{{ {} }}}} of this Go template does not follow from the dialect alone; render the file first",
        action.chars().take(60).collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use Dialect::{MySql, Postgres, Sqlite};

    #[test]
    fn what_follows_from_the_dialect_is_rendered() {
        for (text, dialect, expected) in [
            ("SELECT 1", Sqlite, "SELECT 1"),
            ("{{ if .IsSQLite }}a{{ else }}b{{ end }}", Sqlite, "a"),
            ("{{ if .IsSQLite }}a{{ else }}b{{ end }}", Postgres, "b"),
            (
                "{{if .IsSQLite}}a{{else if .IsPostgreSQL}}b{{else}}c{{end}}",
                Postgres,
                "b",
            ),
            ("{{if eq .Dialect \"mysql\"}}a{{end}}b", MySql, "ab"),
            (
                "{{if eq .DialectDetails.Dialect \"mysql\" \"sqlite3\"}}a{{end}}b",
                Sqlite,
                "ab",
            ),
            ("{{if ne .Dialect \"mysql\"}}a{{end}}", MySql, ""),
            ("{{if or .IsSQLite (not .IsCockroach)}}a{{end}}", Postgres, "a"),
            ("{{if and .IsSQLite .IsPostgreSQL}}a{{end}}", Sqlite, ""),
            ("x \n{{- if .IsSQLite -}}\n y {{- end }} z", Sqlite, "xy z"),
            (
                "{{ if .IsSQLite }}{{ if .IsPostgreSQL }}a{{ end }}b{{ end }}",
                Postgres,
                "",
            ),
            ("a{{/* note */}}b", Sqlite, "ab"),
            (
                "SELECT '{{1,2},{3,4}}', '{{}}', '{\"a\":{\"b\":{}}}', '{{ open'",
                Sqlite,
                "SELECT '{{1,2},{3,4}}', '{{}}', '{\"a\":{\"b\":{}}}', '{{ open'",
            ),
        ] {
            assert_eq!(render(text, dialect).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_at_its_place() {
        for (text, dialect, at) in [
            ("ab{{ .Parameters.x }}", Sqlite, 2),
            ("{{ identifier .Parameters.t }}", Sqlite, 0),
            ("{{ range .X }}{{ end }}", Sqlite, 0),
            ("{{ if .Options }}{{ end }}", Sqlite, 0),
            ("{{ if .IsMySQL }}{{ end }}", MySql, 0),
            ("{{ if eq .Dialect $x }}{{ end }}", Sqlite, 0),
            ("{{ if .IsSQLite | not }}{{ end }}", Sqlite, 0),
            ("{{ if .IsSQLite .IsSQLite }}{{ end }}", Sqlite, 0),
            ("a{{ end }}", Sqlite, 1),
            ("{{ if .IsSQLite }}", Sqlite, 18),
        ] {
            assert_eq!(render(text, dialect).unwrap_err().0, at, "{text}");
        }
    }
}
