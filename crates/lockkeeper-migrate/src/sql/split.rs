//! A file's text into statements.

use super::body::Shape;
use super::classify::classify;
use super::lexer::{Lexer, Token, TokenKind, Unterminated};
use super::statement::{CopyRows, Statement};
use crate::dialect::Dialect;

/// Text that cannot be split into statements.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct SplitError {
    /// The line, counted from 1.
    pub line: u32,
    /// What is wrong there.
    pub problem: SplitProblem,
}

/// Why text cannot be split into statements.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SplitProblem {
    /// A quote or comment has no end.
    #[error("{what} that starts here never ends")]
    Unterminated {
        /// What was opened.
        what: &'static str,
    },
    /// A command that only psql understands.
    #[error("{command} is a command of psql, which no server understands; remove it")]
    PsqlMeta {
        /// The command with its backslash.
        command: String,
    },
    /// Something but the end of the line behind `COPY … FROM STDIN;`.
    #[error("the rows of COPY … FROM STDIN begin on the next line: nothing may stand behind its semicolon")]
    CopyRowsOnLine,
    /// `COPY … FROM STDIN` whose rows are not ended.
    #[error("the rows of COPY … FROM STDIN have no end: a line that holds \\. alone")]
    CopyRowsWithoutEnd,
    /// A DELIMITER line without a usable delimiter.
    #[error("DELIMITER needs a delimiter behind it, without a backslash, and not in quotes")]
    BadDelimiter,
}

/// Splits `text` into its statements. Pieces without any token but delimiters are no statements.
///
/// Every byte of `text` that lies in no statement's range, nor in that of its rows, is white space, comment,
/// delimiter or a DELIMITER line.
///
/// # Errors
///
/// The first [`SplitError`] from the top. Nothing about a later statement is known then.
pub fn split(dialect: Dialect, text: &str) -> Result<Vec<Statement>, SplitError> {
    let mut splitter = Splitter {
        dialect,
        text,
        lexer: Lexer::new(dialect, text),
        current: None,
        lines: Lines {
            text,
            offset: 0,
            line: 1,
        },
        statements: Vec::new(),
    };
    splitter.run()?;
    Ok(splitter.statements)
}

/// The statement that is being read.
struct Piece {
    start: usize,
    end: usize,
    shape: Shape,
}

/// Counts lines in one pass; offsets must not go back.
struct Lines<'a> {
    text: &'a str,
    offset: usize,
    line: u32,
}

impl Lines<'_> {
    fn at(&mut self, offset: usize) -> u32 {
        let newlines = self.text.as_bytes()[self.offset..offset]
            .iter()
            .filter(|b| **b == b'\n')
            .count();
        self.offset = offset;
        self.line = self
            .line
            .saturating_add(u32::try_from(newlines).unwrap_or(u32::MAX));
        self.line
    }
}

struct Splitter<'a> {
    dialect: Dialect,
    text: &'a str,
    lexer: Lexer<'a>,
    current: Option<Piece>,
    lines: Lines<'a>,
    statements: Vec<Statement>,
}

impl Splitter<'_> {
    fn run(&mut self) -> Result<(), SplitError> {
        loop {
            if self.take_delimiter_line()? {
                continue;
            }
            match self.lexer.next() {
                Ok(Some(token)) => self.take(&token)?,
                Ok(None) => return self.finish(),
                Err(Unterminated { what, offset }) => {
                    return Err(self.error(offset, SplitProblem::Unterminated { what }));
                }
            }
        }
    }

    fn take(&mut self, token: &Token) -> Result<(), SplitError> {
        match token.kind {
            TokenKind::Blank | TokenKind::Comment => Ok(()),
            TokenKind::Terminator => self.take_terminator(token),
            TokenKind::Backslash => {
                let rest = &self.text[token.range.start..];
                let command = rest
                    .split(char::is_whitespace)
                    .next()
                    .unwrap_or("\\")
                    .chars()
                    .take(32)
                    .collect();
                Err(self.error(token.range.start, SplitProblem::PsqlMeta { command }))
            }
            _ => {
                self.extend(token);
                Ok(())
            }
        }
    }

    fn extend(&mut self, token: &Token) {
        let text = &self.text[token.range.clone()];
        // Under another delimiter a lone semicolon is no statement.
        if self.current.is_none() && text == ";" {
            return;
        }
        let default_delimiter = self.lexer.has_default_delimiter();
        let piece = self.current.get_or_insert_with(|| Piece {
            start: token.range.start,
            end: token.range.end,
            shape: Shape::new(self.dialect, default_delimiter),
        });
        piece.end = token.range.end;
        piece.shape.take(token, text);
    }

    fn take_terminator(&mut self, token: &Token) -> Result<(), SplitError> {
        if let Some(piece) = &mut self.current {
            piece.shape.take(token, &self.text[token.range.clone()]);
            if piece.shape.holds() {
                piece.end = token.range.end;
                piece.shape.take_inner_terminator();
                return Ok(());
            }
        }
        self.finish()
    }

    fn finish(&mut self) -> Result<(), SplitError> {
        let Some(piece) = self.current.take() else {
            return Ok(());
        };
        let has_rows =
            self.dialect == Dialect::Postgres && piece.shape.word(0) == "COPY" && piece.shape.from_stdin;
        let rows = has_rows.then(|| self.take_rows()).transpose()?;
        let range = piece.start..piece.end;
        self.statements.push(Statement {
            text: self.text[range.clone()].to_owned(),
            shown: None,
            line: self.lines.at(piece.start),
            range,
            kind: classify(self.dialect, &piece.shape),
            rows,
        });
        Ok(())
    }

    /// Takes the rows that follow a COPY, as psql reads them: from the next line to one that holds `\.` alone.
    fn take_rows(&mut self) -> Result<CopyRows, SplitError> {
        let position = self.lexer.position();
        let rest = self.lexer.rest();
        let (same_line, below) = rest.split_once('\n').unwrap_or((rest, ""));
        if !same_line.trim().is_empty() {
            return Err(self.error(position, SplitProblem::CopyRowsOnLine));
        }
        let start = position + (rest.len() - below.len());
        let mut length = 0;
        for line in below.split_inclusive('\n') {
            if line.trim_end_matches(['\r', '\n']) == "\\." {
                self.lexer.skip(start - position + length + line.len());
                return Ok(CopyRows {
                    text: below[..length].to_owned(),
                    range: start..start + length + line.len(),
                });
            }
            length += line.len();
        }
        Err(self.error(position, SplitProblem::CopyRowsWithoutEnd))
    }

    /// Takes a `DELIMITER x` line of the mysql client, if one stands here.
    fn take_delimiter_line(&mut self) -> Result<bool, SplitError> {
        const DIRECTIVE: &str = "DELIMITER";
        let rest = self.lexer.rest();
        let named = rest
            .get(..DIRECTIVE.len())
            .is_some_and(|w| w.eq_ignore_ascii_case(DIRECTIVE));
        if self.dialect != Dialect::MySql || !named || !self.at_line_start() {
            return Ok(false);
        }
        let line = rest.split('\n').next().unwrap_or(rest);
        let after = &line[DIRECTIVE.len()..];
        if !(after.is_empty() || after.starts_with([' ', '\t', '\r'])) {
            return Ok(false);
        }
        let delimiter = after.split_whitespace().next().unwrap_or("");
        // In the middle of a statement only an unmistakable one counts: `delimiter` may be a column's name.
        if self.current.is_some() && (delimiter.is_empty() || delimiter.chars().any(char::is_alphanumeric)) {
            return Ok(false);
        }
        if delimiter.is_empty() || delimiter.contains(['\\', '\'', '"', '`']) {
            return Err(self.error(self.lexer.position(), SplitProblem::BadDelimiter));
        }
        self.finish()?;
        self.lexer.set_delimiter(delimiter);
        self.lexer.skip(line.len());
        Ok(true)
    }

    /// Whether only blanks stand between the last line break and here, or no statement has begun.
    fn at_line_start(&self) -> bool {
        let before = &self.text[..self.lexer.position()];
        let line = before.rsplit('\n').next().unwrap_or(before);
        let blank = line.chars().all(|c| c.is_whitespace() || c == '\u{feff}');
        blank || (self.current.is_none() && !before.ends_with(|c: char| c.is_alphanumeric() || c == '_'))
    }

    fn error(&self, offset: usize, problem: SplitProblem) -> SplitError {
        SplitError {
            line: Lines {
                text: self.text,
                offset: 0,
                line: 1,
            }
            .at(offset),
            problem,
        }
    }
}

#[cfg(test)]
mod tests;
