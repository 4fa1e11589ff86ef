//! SQL text in one form of writing: no comments, single blanks, lower case, no quotes around plain names.

use crate::dialect::Dialect;
use crate::sql::pieces;

/// The text in that form.
pub(super) fn normal(sql: &str) -> String {
    let pieces: Vec<String> = pieces(Dialect::Sqlite, sql).into_iter().map(piece).collect();
    join(&pieces)
}

/// One token in that form. SQLite compares names without regard to case.
pub(super) fn piece(text: &str) -> String {
    match unquoted(text) {
        Some(name) if is_plain(name) => name.to_ascii_lowercase(),
        Some(_) => text.to_ascii_lowercase(),
        // A string's letters matter.
        None if text.starts_with('\'') => text.to_owned(),
        None => text.to_ascii_lowercase(),
    }
}

/// The inside of a quoted name.
fn unquoted(text: &str) -> Option<&str> {
    [('"', '"'), ('`', '`'), ('[', ']')]
        .iter()
        .find_map(|(open, close)| text.strip_prefix(*open)?.strip_suffix(*close))
}

fn is_plain(name: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    name.chars().all(word) && name.chars().next().is_some_and(|first| !first.is_ascii_digit())
}

/// Tokens as one text.
pub(super) fn join(pieces: &[String]) -> String {
    let mut text = String::new();
    let mut last = "(";
    for piece in pieces {
        let glued = matches!(last, "(" | ".") || matches!(piece.as_str(), ")" | "," | "." | ";");
        if !glued {
            text.push(' ');
        }
        text.push_str(piece);
        last = piece;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ways_of_writing_are_one() {
        let one = "CREATE INDEX \"Names\" ON [users](name COLLATE NOCASE) -- fast";
        let other = "create  index names on users ( name collate nocase )";
        assert_eq!(normal(one), normal(other));
        assert_eq!(normal(one), "create index names on users (name collate nocase)");
    }

    #[test]
    fn strings_and_odd_names_stay() {
        assert_eq!(
            normal("SELECT 'A  b', \"Two Words\", x.Y"),
            "select 'A  b', \"two words\", x.y"
        );
        assert_ne!(normal("SELECT 'a'"), normal("SELECT 'A'"));
        assert_ne!(normal("SELECT \"1a\""), normal("SELECT 1a"));
    }
}
