//! SQL text that means the same under every `sql_mode` and every client character set.
//!
//! A migration may set `NO_BACKSLASH_ESCAPES`, `ANSI_QUOTES` or `NAMES latin1` in the very session that lockkeeper
//! then writes its journal with. So own values travel as hexadecimal literals, and own names in backticks.

use std::fmt::Write as _;

/// A string literal: `_utf8mb4 X'6162'`.
pub(super) fn literal(value: &str) -> String {
    format!("_utf8mb4 X'{}'", hex::encode(value.as_bytes()))
}

/// A string literal, or `NULL`.
pub(super) fn literal_or_null(value: Option<&str>) -> String {
    value.map_or_else(|| "NULL".to_owned(), literal)
}

/// A name in backticks.
pub(super) fn name(value: &str) -> String {
    format!("`{}`", value.replace('`', "``"))
}

/// The inside of a quoted literal in a stored trigger: what would end it or escape something becomes `_`.
pub(super) fn message(value: &str, limit: usize) -> String {
    value
        .chars()
        .map(|c| {
            if c == '\'' || c == '\\' || c.is_control() {
                '_'
            } else {
                c
            }
        })
        .take(limit)
        .collect()
}

/// The first line, shortened to `limit` characters.
pub(super) fn first_line(value: &str, limit: usize) -> String {
    let line = value.trim().lines().next().unwrap_or_default();
    let mut short: String = line.chars().take(limit).collect();
    if line.chars().count() > limit {
        let _ = write!(short, "…");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_end_their_literal() {
        assert_eq!(literal("a'b"), "_utf8mb4 X'612762'");
        assert_eq!(literal(""), "_utf8mb4 X''");
        assert_eq!(name("a`b"), "`a``b`");
        assert_eq!(message("it's\\", 10), "it_s_");
        assert_eq!(literal_or_null(None), "NULL");
    }

    #[test]
    fn shortened_text_says_so() {
        assert_eq!(first_line("  select 1\nfrom t", 20), "select 1");
        assert_eq!(first_line("abcdef", 3), "abc…");
    }
}
