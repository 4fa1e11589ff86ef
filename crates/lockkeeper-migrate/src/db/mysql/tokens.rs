//! Just enough of a lexer to read the head of a DDL statement.

/// One token; comments and white space are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A bare word: keyword, name or number.
    Word(String),
    /// A name in backticks.
    Name(String),
    /// A quoted text, whose content never matters here.
    Text,
    /// Anything else.
    Punctuation(char),
}

impl Token {
    /// Whether it is this keyword. A quoted name never is.
    pub(super) fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    pub(super) fn is_punctuation(&self, wanted: char) -> bool {
        *self == Self::Punctuation(wanted)
    }
}

/// The tokens of a statement.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut rest = text;
    let mut tokens = Vec::new();
    while let Some(first) = rest.chars().next() {
        let (token, length) = token(rest, first);
        tokens.extend(token);
        rest = rest.get(length..).unwrap_or_default();
    }
    tokens
}

/// The first token of `rest`, and how many bytes it takes.
fn token(rest: &str, first: char) -> (Option<Token>, usize) {
    let to_line_end = || rest.find('\n').map_or(rest.len(), |end| end + 1);
    match first {
        _ if first.is_whitespace() => (None, first.len_utf8()),
        '#' => (None, to_line_end()),
        '-' if rest.starts_with("-- ") || rest.starts_with("--\n") || rest.starts_with("--\t") => {
            (None, to_line_end())
        }
        // What stands in `/*! */` runs: only its marks are left out.
        '/' if rest.starts_with("/*!") || rest.starts_with("/*M!") => {
            let mark = rest.find('!').map_or(rest.len(), |at| at + 1);
            let digits = rest[mark..].bytes().take_while(u8::is_ascii_digit).count();
            (None, mark + digits)
        }
        '/' if rest.starts_with("/*") => (None, rest.find("*/").map_or(rest.len(), |end| end + 2)),
        '*' if rest.starts_with("*/") => (None, 2),
        '`' => {
            let (name, length) = quoted(rest, '`');
            (Some(Token::Name(name)), length)
        }
        '\'' | '"' => (Some(Token::Text), quoted(rest, first).1),
        _ if is_word(first) => {
            let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            (Some(Token::Word(rest[..length].to_owned())), length)
        }
        _ => (Some(Token::Punctuation(first)), first.len_utf8()),
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

/// The content of a quoted token, and how many bytes it takes with its quotes.
fn quoted(rest: &str, quote: char) -> (String, usize) {
    let mut content = String::new();
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = characters.next() {
        if c == '\\' && quote != '`' {
            characters.next();
        } else if c != quote {
            content.push(c);
        } else if characters.peek().is_some_and(|(_, next)| *next == quote) {
            content.push(quote);
            characters.next();
        } else {
            return (content, at + 1);
        }
    }
    (content, rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_comments_hide_what_they_hold() {
        let found = tokens("a /* b */ `c``d` 'e\\'f' -- g\n# h\n/*!50100 i */ .");
        let word = |w: &str| Token::Word(w.to_owned());
        assert_eq!(
            found,
            [
                word("a"),
                Token::Name("c`d".to_owned()),
                Token::Text,
                word("i"),
                Token::Punctuation('.')
            ]
        );
    }
}
