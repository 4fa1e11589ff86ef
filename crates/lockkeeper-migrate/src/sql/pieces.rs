//! The tokens of a text that mean something, for whoever compares SQL and does not run it.

use super::lexer::{Lexer, TokenKind};
use crate::dialect::Dialect;

/// The tokens but blanks and comments, as they are written. What cannot be read, because a quote is never closed,
/// comes as one piece.
pub(crate) fn pieces(dialect: Dialect, text: &str) -> Vec<&str> {
    let mut lexer = Lexer::new(dialect, text);
    let mut found = Vec::new();
    loop {
        match lexer.next() {
            Ok(Some(token)) => match token.kind {
                TokenKind::Blank | TokenKind::Comment => {}
                TokenKind::Word
                | TokenKind::Number
                | TokenKind::Quoted
                | TokenKind::Open
                | TokenKind::Close
                | TokenKind::Terminator
                | TokenKind::Backslash
                | TokenKind::Hint
                | TokenKind::Punctuation => found.push(&text[token.range]),
            },
            Ok(None) => return found,
            Err(_) => {
                found.push(lexer.rest());
                return found;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_and_comments_are_no_pieces() {
        let text = "CREATE  TABLE \"a b\" -- why\n (x /* y */ INT)";
        assert_eq!(
            pieces(Dialect::Sqlite, text),
            ["CREATE", "TABLE", "\"a b\"", "(", "x", "INT", ")"]
        );
        assert_eq!(pieces(Dialect::Sqlite, "a 'b"), ["a", "'b"]);
    }
}
