//! Variables as goose replaces them between ENVSUB ON and ENVSUB OFF: `$NAME`, `${NAME}`, `${NAME:-default}`,
//! `${NAME-default}`, `${NAME?message}`, `${NAME:offset:length}`; `$$` and `\$` are a dollar sign.

use super::Environment;
use super::substitution::Substituted;

/// Deepest nesting of defaults in defaults.
const DEPTH_MAX: usize = 32;

/// Replaces the variables in a line. One that is not set is empty, as it is for goose.
pub(super) fn interpolate(line: &str, environment: &Environment) -> Result<Substituted, String> {
    let mut scanner = Scanner {
        rest: line,
        environment,
        depth: 0,
    };
    scanner.expression(None)
}

struct Scanner<'a> {
    rest: &'a str,
    environment: &'a Environment,
    depth: usize,
}

impl<'a> Scanner<'a> {
    /// Reads up to `stop`, or to the end.
    fn expression(&mut self, stop: Option<char>) -> Result<Substituted, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("variables are nested more than {DEPTH_MAX} deep"));
        }
        let mut out = Substituted::default();
        while let Some(next) = self.rest.chars().next().filter(|c| Some(*c) != stop) {
            if self.skip(r"\\") {
                out.push(r"\\");
            } else if self.skip(r"\$") || self.skip("$$") {
                out.push("$");
            } else if self.skip("$(") {
                out.push("$(");
            } else if next == '$' && self.rest.len() > 1 {
                let from = self.rest;
                self.rest = &from[1..];
                let value = self.variable()?;
                out.put(&from[..from.len() - self.rest.len()], &value);
            } else {
                let (text, rest) = self.rest.split_at(next.len_utf8());
                self.rest = rest;
                out.push(text);
            }
        }
        self.depth -= 1;
        Ok(out)
    }

    fn variable(&mut self) -> Result<String, String> {
        if !self.skip("{") {
            let name = self.identifier()?;
            return Ok(self.environment.get(name).unwrap_or_default());
        }
        let name = self.identifier()?;
        let value = self.environment.get(name);
        if self.skip("}") {
            return Ok(value.unwrap_or_default());
        }
        let value = if self.skip(":-") {
            let default = self.expression(Some('}'))?.text;
            value.filter(|v| !v.is_empty()).unwrap_or(default)
        } else if self.skip(":") {
            self.substring(&value.unwrap_or_default())?
        } else if self.skip("-") {
            let default = self.expression(Some('}'))?.text;
            value.unwrap_or(default)
        } else if self.skip("?") {
            let message = self.expression(Some('}'))?.text;
            let message = if message.is_empty() { "not set" } else { &message };
            value.ok_or_else(|| format!("variable {name}: {message}"))?
        } else {
            return Err(format!(
                "variable {name} is followed by none of }}, :-, -, ? and :"
            ));
        };
        if self.skip("}") {
            Ok(value)
        } else {
            Err(format!("the brace of variable {name} is not closed"))
        }
    }

    fn substring(&mut self, value: &str) -> Result<String, String> {
        let offset = self.number([':', '}'])?;
        let length = if self.skip(":") {
            Some(self.number(['}', '}'])?)
        } else {
            None
        };
        let size = i64::try_from(value.len()).unwrap_or(i64::MAX);
        let from = if offset < 0 { offset + size } else { offset }.clamp(0, size);
        let to = match length {
            None => size,
            Some(length @ 0..) => from.saturating_add(length),
            Some(length) => (length + size).max(from),
        };
        let place = |at: i64| usize::try_from(at.min(size)).unwrap_or(0);
        value
            .get(place(from)..place(to))
            .map(str::to_owned)
            .ok_or_else(|| "the part of the variable begins or ends inside a character".to_owned())
    }

    fn number(&mut self, stops: [char; 2]) -> Result<i64, String> {
        let end = self.rest.find(stops).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        digits
            .trim()
            .parse::<i32>()
            .map(i64::from)
            .map_err(|_| format!("{digits:?} is no place in a variable"))
    }

    fn identifier(&mut self) -> Result<&'a str, String> {
        if !self.rest.starts_with(char::is_alphabetic) {
            let found = self
                .rest
                .chars()
                .next()
                .map_or("the end".to_owned(), |c| format!("{c:?}"));
            return Err(format!(
                "a variable's name begins with a letter, not with {found}; write $$ for a dollar sign"
            ));
        }
        let end = self
            .rest
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(name)
    }

    fn skip(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_as_goose_does() {
        let environment = Environment::Fixed(
            [("A", "alpha"), ("EMPTY", ""), ("Ü", "u")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
        );
        for (line, expected) in [
            ("x $A y ${A}z", Ok("x alpha y alphaz")),
            ("$NONE|${NONE}|", Ok("||")),
            ("${NONE:-d}${EMPTY:-d}${EMPTY-d}${NONE-d}", Ok("ddd")),
            ("${NONE:-${EMPTY:-${A}}}", Ok("alpha")),
            (
                "${A:1:2}|${A:-2}|${A: -2}|${A:3}|${A:0:-1}|${A:9}",
                Ok("lp|alpha|ha|ha|alph|"),
            ),
            (r"$$A \$A \\ $(A) 5$", Ok(r"$A $A \\ $(A) 5$")),
            ("$Ü", Ok("u")),
            ("${A?}", Ok("alpha")),
            ("${NONE?is needed}", Err("variable NONE: is needed")),
            ("${NONE?}", Err("variable NONE: not set")),
            (
                "$1",
                Err("a variable's name begins with a letter, not with '1'; write $$ for a dollar sign"),
            ),
            ("${A", Err("variable A is followed by none of }, :-, -, ? and :")),
            ("${A:-x", Err("the brace of variable A is not closed")),
            ("${A:x}", Err("\"x\" is no place in a variable")),
        ] {
            assert_eq!(
                interpolate(line, &environment)
                    .as_ref()
                    .map(|found| found.text.as_str())
                    .map_err(String::as_str),
                expected,
                "{line}"
            );
        }
        assert!(
            interpolate(&"${N-".repeat(40), &environment)
                .unwrap_err()
                .contains("nested")
        );
    }
}
