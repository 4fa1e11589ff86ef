//! Statements as words, and the comments between them: for judging what a statement does, never for running it.

use super::lexer::{Lexer, Token, TokenKind};
use crate::dialect::Dialect;

/// What a word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WordKind {
    /// A keyword, or a name without quotes.
    Bare,
    /// A name in quotes.
    Name,
    /// A text.
    Text,
    Number,
    Open,
    Close,
    /// One character of punctuation.
    Sign,
}

/// A part of a statement that is neither blank nor comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) kind: WordKind,
    /// A bare word in upper case, a name without its quotes, everything else as it stands.
    pub(crate) text: String,
}

impl Word {
    /// Whether it is this keyword, or this character.
    pub(crate) fn is(&self, text: &str) -> bool {
        let plain = !matches!(self.kind, WordKind::Name | WordKind::Text);
        plain && self.text == text
    }
}

/// A comment of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    /// The line it begins on, counted from 1.
    pub line: u32,
    /// What stands in it, without its marks.
    pub text: String,
}

/// The words of one statement.
pub(crate) fn words(dialect: Dialect, statement: &str) -> Vec<Word> {
    tokens(dialect, statement)
        .into_iter()
        .filter_map(|token| word(dialect, &token, &statement[token.range.clone()]))
        .collect()
}

/// The comments of a file. One that stands inside a text or a body is none.
#[must_use]
pub fn comments(dialect: Dialect, file: &str) -> Vec<Comment> {
    let comments = tokens(dialect, file)
        .into_iter()
        .filter(|t| t.kind == TokenKind::Comment);
    comments
        .map(|token| {
            let before = file[..token.range.start].matches('\n').count();
            Comment {
                line: u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1),
                text: bare(&file[token.range]).to_owned(),
            }
        })
        .collect()
}

/// All tokens; what cannot be read ends them, and was an error when the file was split.
fn tokens(dialect: Dialect, text: &str) -> Vec<Token> {
    let mut lexer = Lexer::new(dialect, text);
    std::iter::from_fn(|| lexer.next().ok().flatten()).collect()
}

fn word(dialect: Dialect, token: &Token, text: &str) -> Option<Word> {
    let (kind, text) = match token.kind {
        TokenKind::Blank | TokenKind::Comment | TokenKind::Hint => return None,
        TokenKind::Word if text.contains('\'') => (WordKind::Text, text.to_owned()),
        TokenKind::Word => (WordKind::Bare, text.to_uppercase()),
        TokenKind::Number => (WordKind::Number, text.to_owned()),
        TokenKind::Quoted => quoted(dialect, text),
        TokenKind::Open => (WordKind::Open, text.to_owned()),
        TokenKind::Close => (WordKind::Close, text.to_owned()),
        TokenKind::Terminator | TokenKind::Backslash | TokenKind::Punctuation => {
            (WordKind::Sign, text.to_owned())
        }
    };
    Some(Word { kind, text })
}

fn quoted(dialect: Dialect, text: &str) -> (WordKind, String) {
    let is_name = match text.chars().next() {
        Some('`' | '[') => true,
        Some('"') => dialect != Dialect::MySql,
        _ => false,
    };
    match is_name {
        true => (WordKind::Name, text[1..text.len() - 1].to_owned()),
        false => (WordKind::Text, text.to_owned()),
    }
}

fn bare(comment: &str) -> &str {
    let block = comment
        .strip_prefix("/*")
        .map(|rest| rest.strip_suffix("*/").unwrap_or(rest));
    let line = || comment.strip_prefix("--").or_else(|| comment.strip_prefix('#'));
    block.or_else(line).unwrap_or(comment).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_know_names_from_texts() {
        let of = |dialect, text| {
            words(dialect, text)
                .into_iter()
                .map(|w| (w.kind, w.text))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            of(Dialect::Postgres, "drop /* x */ table \"a b\" -- y"),
            [
                (WordKind::Bare, "DROP".to_owned()),
                (WordKind::Bare, "TABLE".to_owned()),
                (WordKind::Name, "a b".to_owned()),
            ]
        );
        assert_eq!(of(Dialect::MySql, "\"x\"")[0].0, WordKind::Text);
        assert_eq!(of(Dialect::Postgres, "E'it\\'s'")[0].0, WordKind::Text);
        assert_eq!(of(Dialect::Postgres, "$$;$$")[0].0, WordKind::Text);
    }

    #[test]
    fn comments_have_lines_and_those_in_texts_are_none() {
        let found = comments(
            Dialect::Postgres,
            "-- a\nSELECT '-- b';\n/* c */ SELECT 1; -- d\n",
        );
        let found: Vec<_> = found.iter().map(|c| (c.line, c.text.as_str())).collect();
        assert_eq!(found, [(1, "a"), (3, "c"), (3, "d")]);
        assert_eq!(comments(Dialect::MySql, "# e")[0].text, "e");
    }
}
