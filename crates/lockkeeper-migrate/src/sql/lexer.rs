//! Tokens of SQL text: what is quoted, what is a comment, what may end a statement.

use std::ops::Range;

use crate::dialect::Dialect;

/// What a token is, as far as splitting needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    Blank,
    Comment,
    Word,
    Number,
    Quoted,
    Open,
    Close,
    /// The delimiter in force, outside every quote, comment and `/*! */`.
    Terminator,
    /// A backslash outside every quote: only psql gives it a meaning.
    Backslash,
    /// `/*!40101`, `/*M!100100` or their `*/`: the server runs what lies between.
    Hint,
    Punctuation,
}

/// A token and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) range: Range<usize>,
}

/// Something was opened at `offset` and never closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unterminated {
    pub(super) what: &'static str,
    pub(super) offset: usize,
}

/// The statement delimiter that every dialect starts with.
pub(super) const DEFAULT_DELIMITER: &str = ";";

/// Turns text into tokens that cover it without a gap.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    dialect: Dialect,
    text: &'a str,
    position: usize,
    delimiter: String,
    in_hint: Option<usize>,
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn starts_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

impl<'a> Lexer<'a> {
    pub(super) fn new(dialect: Dialect, text: &'a str) -> Self {
        Self {
            dialect,
            text,
            position: 0,
            delimiter: DEFAULT_DELIMITER.to_owned(),
            in_hint: None,
        }
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// The text that has not been read yet.
    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.position..]
    }

    /// Skips `bytes` bytes, which must end at a character's end.
    pub(super) fn skip(&mut self, bytes: usize) {
        self.position += bytes;
    }

    pub(super) fn set_delimiter(&mut self, delimiter: &str) {
        delimiter.clone_into(&mut self.delimiter);
    }

    pub(super) fn has_default_delimiter(&self) -> bool {
        self.delimiter == DEFAULT_DELIMITER
    }

    /// The next token, or `None` at the end of the text.
    pub(super) fn next(&mut self) -> Result<Option<Token>, Unterminated> {
        let start = self.position;
        let Some(first) = self.byte(start) else {
            return match self.in_hint {
                Some(offset) => Err(Unterminated {
                    what: "the /*! comment",
                    offset,
                }),
                None => Ok(None),
            };
        };
        let (kind, end) = self.scan(start, first)?;
        self.position = end;
        Ok(Some(Token {
            kind,
            range: start..end,
        }))
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    fn starts_with(&self, at: usize, what: &str) -> bool {
        self.text.as_bytes()[at..].starts_with(what.as_bytes())
    }

    fn scan(&mut self, start: usize, first: u8) -> Result<(TokenKind, usize), Unterminated> {
        if start == 0 && self.starts_with(0, "\u{feff}") {
            return Ok((TokenKind::Blank, '\u{feff}'.len_utf8()));
        }
        if is_blank(first) {
            return Ok((TokenKind::Blank, self.while_bytes(start, is_blank)));
        }
        if self.in_hint.is_none() && self.delimiter_at(start) {
            return Ok((TokenKind::Terminator, start + self.delimiter.len()));
        }
        if let Some(end) = self.line_comment(start) {
            return Ok((TokenKind::Comment, end));
        }
        if self.starts_with(start, "/*") {
            return self.block_comment(start);
        }
        if self.in_hint.is_some() && self.starts_with(start, "*/") {
            self.in_hint = None;
            return Ok((TokenKind::Hint, start + 2));
        }
        match first {
            b'\'' => self.quoted(start, start, b'\'', self.dialect == Dialect::MySql),
            b'"' => self.quoted(start, start, b'"', self.dialect == Dialect::MySql),
            b'`' if self.dialect != Dialect::Postgres => self.quoted(start, start, b'`', false),
            b'[' if self.dialect == Dialect::Sqlite => self.bracketed(start),
            b'$' if self.dialect == Dialect::Postgres => self.dollar(start),
            b'\\' if self.dialect == Dialect::Postgres => Ok((TokenKind::Backslash, start + 1)),
            b'(' => Ok((TokenKind::Open, start + 1)),
            b')' => Ok((TokenKind::Close, start + 1)),
            _ if first.is_ascii_digit() => Ok((TokenKind::Number, self.number(start))),
            _ if starts_word(first) => self.word(start),
            _ => Ok((TokenKind::Punctuation, start + 1)),
        }
    }

    fn while_bytes(&self, start: usize, accept: impl Fn(u8) -> bool) -> usize {
        let bytes = &self.text.as_bytes()[start..];
        start + bytes.iter().position(|b| !accept(*b)).unwrap_or(bytes.len())
    }

    /// Whether the delimiter in force stands here.
    ///
    /// One made of letters (`go`) counts only as a whole word: the plain client would also find it inside
    /// `category`, which nobody who wrote such a file can have meant.
    fn delimiter_at(&self, at: usize) -> bool {
        if !self.starts_with(at, &self.delimiter) {
            return false;
        }
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let before = at.checked_sub(1).and_then(|i| self.byte(i));
        let after = self.byte(at + self.delimiter.len());
        let ends = (self.delimiter.bytes().next(), self.delimiter.bytes().last());
        let joined =
            |inner: Option<u8>, outer: Option<u8>| inner.is_some_and(is_name) && outer.is_some_and(is_name);
        !joined(ends.0, before) && !joined(ends.1, after)
    }

    fn line_comment(&self, start: usize) -> Option<usize> {
        let opens = match self.dialect {
            Dialect::Postgres | Dialect::Sqlite => self.starts_with(start, "--"),
            // MySQL reads `1--1` as arithmetic: the dashes need a blank or a control character behind them.
            Dialect::MySql => {
                self.starts_with(start, "#")
                    || (self.starts_with(start, "--")
                        && self
                            .byte(start + 2)
                            .is_none_or(|b| b.is_ascii_control() || b == b' '))
            }
        };
        let carriage_return_ends = self.dialect == Dialect::Postgres;
        opens.then(|| self.while_bytes(start, |b| b != b'\n' && !(carriage_return_ends && b == b'\r')))
    }

    fn block_comment(&mut self, start: usize) -> Result<(TokenKind, usize), Unterminated> {
        if self.dialect == Dialect::MySql
            && let Some(mark) = ["/*!", "/*M!"].into_iter().find(|m| self.starts_with(start, m))
        {
            self.in_hint = Some(start);
            return Ok((
                TokenKind::Hint,
                self.while_bytes(start + mark.len(), |b| b.is_ascii_digit()),
            ));
        }
        let nests = self.dialect == Dialect::Postgres;
        let mut depth = 1_usize;
        let mut at = start + 2;
        while at < self.text.len() {
            if self.starts_with(at, "*/") {
                at += 2;
                depth -= 1;
                if depth == 0 {
                    return Ok((TokenKind::Comment, at));
                }
            } else if nests && self.starts_with(at, "/*") {
                at += 2;
                depth += 1;
            } else {
                at += 1;
            }
        }
        // SQLite itself takes the end of the input as the end of a comment.
        if self.dialect == Dialect::Sqlite {
            return Ok((TokenKind::Comment, at));
        }
        Err(Unterminated {
            what: "the comment",
            offset: start,
        })
    }

    /// A quoted run from `open` (the quote) to its closing quote; a doubled quote is part of it.
    fn quoted(
        &self,
        start: usize,
        open: usize,
        quote: u8,
        backslash_escapes: bool,
    ) -> Result<(TokenKind, usize), Unterminated> {
        let mut at = open + 1;
        while let Some(byte) = self.byte(at) {
            if byte == b'\\' && backslash_escapes {
                at += 2;
            } else if byte != quote {
                at += 1;
            } else if self.byte(at + 1) == Some(quote) {
                at += 2;
            } else {
                return Ok((TokenKind::Quoted, at + 1));
            }
        }
        let what = if quote == b'\'' {
            "the quoted string"
        } else {
            "the quoted name"
        };
        Err(Unterminated { what, offset: start })
    }

    fn bracketed(&self, start: usize) -> Result<(TokenKind, usize), Unterminated> {
        match self.rest().find(']') {
            Some(length) => Ok((TokenKind::Quoted, start + length + 1)),
            None => Err(Unterminated {
                what: "the quoted name",
                offset: start,
            }),
        }
    }

    /// `$tag$ … $tag$`, or a `$` that is none (a parameter such as `$1`).
    fn dollar(&self, start: usize) -> Result<(TokenKind, usize), Unterminated> {
        let name_end = match self.byte(start + 1) {
            Some(byte) if starts_word(byte) => {
                self.while_bytes(start + 1, |b| starts_word(b) || b.is_ascii_digit())
            }
            _ => start + 1,
        };
        if self.byte(name_end) != Some(b'$') {
            return Ok((TokenKind::Punctuation, start + 1));
        }
        let body = name_end + 1;
        let tag = &self.text[start..body];
        match self.text[body..].find(tag) {
            Some(length) => Ok((TokenKind::Quoted, body + length + tag.len())),
            None => Err(Unterminated {
                what: "the dollar-quoted string",
                offset: start,
            }),
        }
    }

    fn number(&self, start: usize) -> usize {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_');
        let end = self.while_bytes(start, plain);
        self.cut_at_delimiter(start, end)
    }

    fn word(&self, start: usize) -> Result<(TokenKind, usize), Unterminated> {
        let end = self.while_bytes(start, |b| starts_word(b) || b.is_ascii_digit() || b == b'$');
        let end = self.cut_at_delimiter(start, end);
        let is_escape_prefix = self.dialect == Dialect::Postgres
            && self.text[start..end].eq_ignore_ascii_case("e")
            && self.byte(end) == Some(b'\'');
        if is_escape_prefix {
            return self.escape_string(start, end);
        }
        Ok((TokenKind::Word, end))
    }

    /// In MySQL `END$$` is a word and a delimiter: names may hold a `$`, but the client looks for the delimiter
    /// first.
    fn cut_at_delimiter(&self, start: usize, end: usize) -> usize {
        if self.has_default_delimiter() || self.in_hint.is_some() {
            return end;
        }
        (start + 1..end).find(|at| self.delimiter_at(*at)).unwrap_or(end)
    }

    /// `E'…'`, with every following segment that the server joins to it: those keep the escapes.
    fn escape_string(&self, start: usize, quote: usize) -> Result<(TokenKind, usize), Unterminated> {
        let (kind, mut end) = self.quoted(start, quote, b'\'', true)?;
        while let Some(next) = self.joined_segment(end) {
            end = self.quoted(start, next, b'\'', true)?.1;
        }
        Ok((kind, end))
    }

    /// Where a string goes on after a line break, as the SQL standard has it.
    fn joined_segment(&self, end: usize) -> Option<usize> {
        let mut at = end;
        loop {
            at = self.while_bytes(at, is_blank);
            match self.line_comment(at) {
                Some(after) => at = after,
                None => break,
            }
        }
        let broken = self.text[end..at].contains(['\n', '\r']);
        (broken && self.byte(at) == Some(b'\'')).then_some(at)
    }
}
