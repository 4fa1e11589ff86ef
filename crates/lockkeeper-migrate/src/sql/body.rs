//! Bodies: semicolons inside a function, trigger or rule body do not end the statement.

use super::lexer::{Token, TokenKind};
use crate::dialect::Dialect;

/// Most words of a statement that are kept to tell its kind and whether it has a body.
const HEAD_WORDS_MAX: usize = 64;

/// A word near the head of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// The word in upper case; empty for a quoted name, which is never a keyword.
    pub(super) upper: String,
    /// How many parentheses are open around it.
    pub(super) depth: usize,
}

/// An open BEGIN or CASE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Opener {
    keyword: OpenerKeyword,
    /// How many parentheses are open around it.
    depth: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OpenerKeyword {
    Begin,
    Case,
}

/// An END that has been read, whose meaning depends on what stands around it (`END IF`, `END CASE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OpenEnd {
    /// It follows a semicolon or the body's first word: it may end a block.
    StartsStatement,
    /// It stands inside a statement: it may end a CASE expression.
    InStatement,
}

/// What is known of the statement that is being read.
#[derive(Debug)]
pub(super) struct Shape {
    dialect: Dialect,
    default_delimiter: bool,
    /// Its first words, at most [`HEAD_WORDS_MAX`].
    pub(super) head: Vec<Word>,
    /// Whether a keyword that changes rows stands anywhere in it.
    pub(super) changes_rows: bool,
    /// Whether `FROM STDIN` stands in it outside parentheses.
    pub(super) from_stdin: bool,
    /// Whether it is a SET that names `autocommit`, in whatever scope.
    pub(super) sets_autocommit: bool,
    parentheses: usize,
    openers: Vec<Opener>,
    open_end: Option<OpenEnd>,
    /// The name behind PRAGMA, in lower case and without a schema.
    pub(super) pragma: Option<String>,
    /// The last significant tokens: word in upper case, or the token's text.
    last: [String; 2],
}

impl Shape {
    pub(super) fn new(dialect: Dialect, default_delimiter: bool) -> Self {
        Self {
            dialect,
            default_delimiter,
            head: Vec::new(),
            changes_rows: false,
            from_stdin: false,
            sets_autocommit: false,
            parentheses: 0,
            openers: Vec::new(),
            open_end: None,
            pragma: None,
            last: [String::new(), String::new()],
        }
    }

    /// The head word at `index`, in upper case; empty when there is none.
    pub(super) fn word(&self, index: usize) -> &str {
        self.head.get(index).map_or("", |w| w.upper.as_str())
    }

    /// Whether `word` stands in the head outside parentheses.
    pub(super) fn has_word(&self, word: &str) -> bool {
        self.head.iter().any(|w| w.depth == 0 && w.upper == word)
    }

    /// Whether `word` stands in the head at all.
    pub(super) fn has_word_anywhere(&self, word: &str) -> bool {
        self.head.iter().any(|w| w.upper == word)
    }

    /// Takes the next significant token. A terminator is taken too, before [`holds`](Self::holds) is asked.
    pub(super) fn take(&mut self, token: &Token, text: &str) {
        match token.kind {
            TokenKind::Word => self.take_word(&text.to_ascii_uppercase()),
            TokenKind::Quoted => self.take_quoted(text),
            TokenKind::Open => {
                self.settle_end();
                self.parentheses += 1;
                self.remember("(");
            }
            TokenKind::Close => {
                self.settle_end();
                self.parentheses = self.parentheses.saturating_sub(1);
                self.remember(")");
            }
            TokenKind::Terminator => self.settle_end(),
            TokenKind::Punctuation | TokenKind::Number | TokenKind::Hint | TokenKind::Backslash => {
                self.settle_end();
                self.remember(text);
            }
            TokenKind::Blank | TokenKind::Comment => {}
        }
    }

    /// Whether a terminator here lies inside a body, and so ends nothing.
    pub(super) fn holds(&self) -> bool {
        match self.dialect {
            Dialect::Postgres => self.parentheses > 0 || !self.openers.is_empty(),
            Dialect::MySql => !self.openers.is_empty(),
            // The rule of sqlite3_complete(): a trigger ends with `; END ;` and with nothing else.
            Dialect::Sqlite => self.is_sqlite_trigger() && self.last != [";", "END"],
        }
    }

    /// Takes a terminator that ended nothing.
    pub(super) fn take_inner_terminator(&mut self) {
        self.remember(";");
    }

    fn remember(&mut self, text: &str) {
        self.last.swap(0, 1);
        text.clone_into(&mut self.last[1]);
    }

    fn take_quoted(&mut self, text: &str) {
        self.settle_end();
        self.follow_pragma(text);
        // A quoted name takes a word's place in the head (DROP INDEX CONCURRENTLY "x"), but is no keyword.
        self.keep(String::new());
        self.remember(if text.len() > 1 { "'" } else { text });
    }

    fn keep(&mut self, upper: String) {
        if self.head.len() < HEAD_WORDS_MAX {
            self.head.push(Word {
                upper,
                depth: self.parentheses,
            });
        }
    }

    fn take_word(&mut self, upper: &str) {
        let qualified = self.last[1] == ".";
        self.follow_pragma(upper);
        self.sets_autocommit |= upper == "AUTOCOMMIT" && self.word(0) == "SET";
        if !qualified {
            self.changes_rows |= matches!(upper, "INSERT" | "UPDATE" | "DELETE" | "MERGE");
            self.from_stdin |= upper == "STDIN" && self.parentheses == 0 && self.last[1] == "FROM";
            self.follow_body(upper);
        }
        self.keep(if qualified {
            String::new()
        } else {
            upper.to_owned()
        });
        self.remember(upper);
    }

    fn follow_pragma(&mut self, name: &str) {
        let names_it = match self.head.len() {
            1 => self.last[1] == "PRAGMA",
            2 => self.last[1] == "." && self.word(0) == "PRAGMA",
            _ => false,
        };
        if names_it {
            self.pragma = Some(name.trim_matches(['"', '\'', '`', '[', ']']).to_ascii_lowercase());
        }
    }

    fn follow_body(&mut self, upper: &str) {
        if self.dialect == Dialect::MySql && self.open_end.is_some() {
            match upper {
                // These were never counted when they opened.
                "IF" | "LOOP" | "WHILE" | "REPEAT" | "FOR" => return self.open_end = None,
                "CASE" => {
                    self.open_end = None;
                    return self.close(OpenerKeyword::Case);
                }
                _ => self.settle_end(),
            }
        }
        match upper {
            "BEGIN" if self.parentheses == 0 && self.may_have_body() => self.open(OpenerKeyword::Begin),
            "NOT" if self.is_anonymous_block() => self.open(OpenerKeyword::Begin),
            "CASE" if !self.openers.is_empty() => self.open(OpenerKeyword::Case),
            "END" => {
                let starts = matches!(self.last[1].as_str(), ";" | "BEGIN" | "ATOMIC");
                self.open_end = Some(if starts {
                    OpenEnd::StartsStatement
                } else {
                    OpenEnd::InStatement
                });
                if self.dialect != Dialect::MySql {
                    self.settle_end();
                }
            }
            _ => {}
        }
    }

    fn settle_end(&mut self) {
        match self.open_end.take() {
            Some(OpenEnd::StartsStatement) => self.close(OpenerKeyword::Begin),
            Some(OpenEnd::InStatement) => self.close(OpenerKeyword::Case),
            None => {}
        }
    }

    fn open(&mut self, keyword: OpenerKeyword) {
        self.openers.push(Opener {
            keyword,
            depth: self.parentheses,
        });
    }

    /// Closes the innermost opener if it is this one at this depth: a column named `end` closes nothing.
    fn close(&mut self, keyword: OpenerKeyword) {
        if self.openers.last()
            == Some(&Opener {
                keyword,
                depth: self.parentheses,
            })
        {
            self.openers.pop();
        }
    }

    /// MariaDB's `BEGIN NOT ATOMIC … END`.
    fn is_anonymous_block(&self) -> bool {
        let begun = self.head.len() == 1 && self.last[1] == "BEGIN";
        self.dialect == Dialect::MySql && self.default_delimiter && begun
    }

    fn may_have_body(&self) -> bool {
        match self.dialect {
            Dialect::Postgres => self.is_postgres_routine(),
            // Under another delimiter the file says itself where a body ends.
            Dialect::MySql => self.default_delimiter && self.is_mysql_routine(),
            Dialect::Sqlite => false,
        }
    }

    fn is_postgres_routine(&self) -> bool {
        let object = if (self.word(1), self.word(2)) == ("OR", "REPLACE") {
            3
        } else {
            1
        };
        self.word(0) == "CREATE" && matches!(self.word(object), "FUNCTION" | "PROCEDURE")
    }

    fn is_mysql_routine(&self) -> bool {
        if !self.openers.is_empty() {
            return true;
        }
        let objects = [
            "TABLE", "VIEW", "INDEX", "DATABASE", "SCHEMA", "USER", "SERVER", "SEQUENCE",
        ];
        let routines = ["TRIGGER", "PROCEDURE", "FUNCTION", "EVENT", "PACKAGE"];
        let object = self
            .head
            .iter()
            .map(|w| w.upper.as_str())
            .find(|w| objects.contains(w) || routines.contains(w));
        matches!(self.word(0), "CREATE" | "ALTER") && object.is_some_and(|o| routines.contains(&o))
    }

    fn is_sqlite_trigger(&self) -> bool {
        let start = match self.word(0) {
            "EXPLAIN" if self.word(1) == "QUERY" => 3,
            "EXPLAIN" => 1,
            _ => 0,
        };
        let object = if matches!(self.word(start + 1), "TEMP" | "TEMPORARY") {
            start + 2
        } else {
            start + 1
        };
        self.word(start) == "CREATE" && self.word(object) == "TRIGGER"
    }
}
