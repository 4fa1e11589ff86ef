//! A statement as words, read from the left.

use crate::dialect::Dialect;
use crate::sql::words::{Word, WordKind, words};

/// The words that are left of a statement, or of a part of it.
#[derive(Debug, Clone)]
pub(super) struct Clause {
    words: Vec<Word>,
    at: usize,
}

impl Clause {
    pub(super) fn of(dialect: Dialect, statement: &str) -> Self {
        Self {
            words: words(dialect, statement),
            at: 0,
        }
    }

    fn rest(&self) -> &[Word] {
        &self.words[self.at..]
    }

    /// Its first two words, for messages.
    pub(super) fn head(&self) -> String {
        let words = self.rest().iter().take_while(|word| word.kind == WordKind::Bare);
        let words: Vec<&str> = words.take(2).map(|word| word.text.as_str()).collect();
        match words.is_empty() {
            true => "the statement".to_owned(),
            false => words.join(" "),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    /// Takes these words, separated by blanks, if they come next.
    pub(super) fn eat(&mut self, expected: &str) -> bool {
        let expected: Vec<&str> = expected.split(' ').collect();
        let rest = self.rest();
        let comes =
            rest.len() >= expected.len() && expected.iter().zip(rest).all(|(text, word)| word.is(text));
        if comes {
            self.at += expected.len();
        }
        comes
    }

    /// Takes the first of these that comes next.
    pub(super) fn eat_one<'a>(&mut self, expected: &[&'a str]) -> Option<&'a str> {
        expected.iter().copied().find(|words| self.eat(words))
    }

    /// Whether one of the words that are left is this keyword or sign.
    pub(super) fn has(&self, text: &str) -> bool {
        self.rest().iter().any(|word| word.is(text))
    }

    /// Takes a name with its qualification: `public.users`, lower case where it has no quotes. Empty if none comes.
    pub(super) fn name(&mut self) -> String {
        let mut parts = Vec::new();
        while let Some(word) = self.rest().first() {
            match word.kind {
                WordKind::Bare => parts.push(word.text.to_lowercase()),
                WordKind::Name => parts.push(word.text.clone()),
                WordKind::Text | WordKind::Number | WordKind::Open | WordKind::Close | WordKind::Sign => {
                    break;
                }
            }
            self.at += 1;
            if !self.eat(".") {
                break;
            }
        }
        parts.join(".")
    }

    /// Takes the next word, whatever it is.
    pub(super) fn next(&mut self) -> Option<Word> {
        let word = self.rest().first().cloned();
        self.at += usize::from(word.is_some());
        word
    }

    /// Takes a parenthesis with all that it holds; `None` if none comes.
    pub(super) fn parenthesis(&mut self) -> Option<Self> {
        if !self.eat("(") {
            return None;
        }
        let start = self.at;
        let mut depth = 1_usize;
        while let Some(word) = self.next() {
            match word.kind {
                WordKind::Open => depth += 1,
                WordKind::Close => depth -= 1,
                WordKind::Bare | WordKind::Name | WordKind::Text | WordKind::Number | WordKind::Sign => {}
            }
            if depth == 0 {
                break;
            }
        }
        let words = self.words[start..self.at.saturating_sub(1).max(start)].to_vec();
        Some(Self { words, at: 0 })
    }

    /// What is left, cut at the commas that stand in no parenthesis.
    pub(super) fn parts(self) -> Vec<Self> {
        let mut parts = vec![Vec::new()];
        let mut depth = 0_usize;
        for word in self.words.into_iter().skip(self.at) {
            match word.kind {
                WordKind::Open => depth += 1,
                WordKind::Close => depth = depth.saturating_sub(1),
                WordKind::Bare | WordKind::Name | WordKind::Text | WordKind::Number | WordKind::Sign => {}
            }
            match (depth, word.is(","), parts.last_mut()) {
                (0, true, _) | (_, _, None) => parts.push(Vec::new()),
                (_, _, Some(part)) => part.push(word),
            }
        }
        parts.into_iter().map(|words| Self { words, at: 0 }).collect()
    }
}
