//! What a migrator's status command says, read by the rule that was declared for it.

use lockkeeper_core::spec::{PendingRule, StatusRule};
use lockkeeper_core::version::SchemaVersion;
use regex::Regex;

/// A declared rule that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// An expression cannot be read.
    #[error("migrations.rule.{field} is no regular expression: {reason}")]
    Expression {
        /// Which one.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The expression for the version has no group, or several.
    #[error("migrations.rule.version needs one group, around the version, and has {0}")]
    Groups(usize),
}

/// A status that the rule cannot read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatusError {
    /// It ended with an exit code that means nothing to the rule.
    #[error("the status command ended with {exit}; its last line: {last}")]
    Exit {
        /// The code, or the signal.
        exit: String,
        /// The last line that it printed.
        last: String,
    },
}

/// What a status command said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What is left to do.
    pub left: Left,
    /// The version that the database is at; `None` before the first, or when no rule tells.
    pub version: Option<SchemaVersion>,
}

/// Whether anything is left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Something is pending.
    Something,
    /// The database is where the migrator would bring it.
    Nothing,
}

/// A rule, ready to be asked.
#[derive(Debug, Clone)]
pub struct Rule {
    pending: Pending,
    version: Option<Regex>,
}

#[derive(Debug, Clone)]
enum Pending {
    Exit(i32),
    Says(Regex),
    SaysNot(Regex),
}

impl Rule {
    /// # Errors
    /// An expression cannot be read, or does not say where the version is.
    pub fn new(declared: &StatusRule) -> Result<Self, RuleError> {
        let pending = match &declared.pending {
            PendingRule::Exit(code) => Pending::Exit(*code),
            PendingRule::Says(text) => Pending::Says(expression("pending", text)?),
            PendingRule::SaysNot(text) => Pending::SaysNot(expression("applied", text)?),
        };
        let version = match &declared.version {
            Some(text) => Some(with_one_group(expression("version", text)?)?),
            None => None,
        };
        Ok(Self { pending, version })
    }

    /// Whether it tells versions.
    #[must_use]
    pub fn tells_version(&self) -> bool {
        self.version.is_some()
    }

    /// Reads what a status command printed. `code` is `None` when a signal ended it.
    ///
    /// # Errors
    /// It failed: then what it printed says nothing.
    pub fn read(&self, code: Option<i32>, printed: &str) -> Result<Status, StatusError> {
        let left = match (&self.pending, code) {
            (Pending::Exit(pending), Some(code)) if *pending == code => Left::Something,
            (Pending::Exit(_), Some(0)) => Left::Nothing,
            (Pending::Says(words), Some(0)) if words.is_match(printed) => Left::Something,
            (Pending::Says(_), Some(0)) => Left::Nothing,
            (Pending::SaysNot(words), Some(0)) if words.is_match(printed) => Left::Nothing,
            (Pending::SaysNot(_), Some(0)) => Left::Something,
            (Pending::Exit(_) | Pending::Says(_) | Pending::SaysNot(_), code) => {
                return Err(StatusError::Exit {
                    exit: code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}")),
                    last: printed.lines().last().unwrap_or_default().to_owned(),
                });
            }
        };
        let last = |words: &Regex| words.captures_iter(printed).last();
        let version = self.version.as_ref().and_then(last);
        Ok(Status {
            left,
            version: version.and_then(|found| found.get(1).map(|v| SchemaVersion::from(v.as_str()))),
        })
    }
}

fn expression(field: &'static str, text: &str) -> Result<Regex, RuleError> {
    let read = regex::RegexBuilder::new(text).multi_line(true).build();
    read.map_err(|error| RuleError::Expression {
        field,
        reason: error.to_string(),
    })
}

fn with_one_group(expression: Regex) -> Result<Regex, RuleError> {
    match expression.captures_len() - 1 {
        1 => Ok(expression),
        groups => Err(RuleError::Groups(groups)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DBMATE: &str = "[X] 1_init.sql\n[X] 2_more.sql\n[ ] 3_late.sql\n\nApplied: 2\nPending: 1\n";

    fn rule(pending: PendingRule, version: Option<&str>) -> Result<Rule, RuleError> {
        Rule::new(&StatusRule {
            pending,
            version: version.map(str::to_owned),
        })
    }

    #[test]
    fn the_last_match_is_the_version() {
        let says = PendingRule::Says("^Pending: [1-9]".to_owned());
        let rule = rule(says, Some(r"^\[X\] (\d+)_")).unwrap();
        let version = Some(SchemaVersion::from("2"));
        let left = Left::Something;
        assert_eq!(rule.read(Some(0), DBMATE), Ok(Status { left, version }));
        let done = rule.read(Some(0), "Pending: 0\n").unwrap();
        assert_eq!((done.left, done.version), (Left::Nothing, None));
    }

    #[test]
    fn alembic_says_that_it_is_at_the_head() {
        let rule = rule(
            PendingRule::SaysNot(r"\(head\)".to_owned()),
            Some(r"^([0-9a-f]+)\b"),
        )
        .unwrap();
        let done = rule.read(Some(0), "ae1027a6acf (head)\n").unwrap();
        assert_eq!(
            (done.left, done.version),
            (Left::Nothing, Some("ae1027a6acf".into()))
        );
        assert_eq!(rule.read(Some(0), "").unwrap().left, Left::Something);
    }

    #[test]
    fn exit_codes_tell_pending_and_anything_else_is_a_failure() {
        let rule = rule(PendingRule::Exit(3), None).unwrap();
        assert_eq!(rule.read(Some(3), "").unwrap().left, Left::Something);
        assert_eq!(rule.read(Some(0), "").unwrap().left, Left::Nothing);
        let failed = rule.read(Some(1), "a\nno route\n").unwrap_err();
        assert!(failed.to_string().contains("exit code 1") && failed.to_string().contains("no route"));
        assert!(rule.read(None, "").is_err(), "a signal says nothing");
    }

    #[test]
    fn a_failed_command_is_never_read() {
        let says = rule(PendingRule::Says("pending".to_owned()), None).unwrap();
        assert!(
            says.read(Some(1), "nothing here").is_err(),
            "taken for up to date"
        );
    }

    #[test]
    fn expressions_are_checked() {
        let broken = rule(PendingRule::Says("(".to_owned()), None).unwrap_err();
        assert!(
            broken.to_string().starts_with("migrations.rule.pending"),
            "{broken}"
        );
        let exit = PendingRule::Exit(3);
        assert_eq!(rule(exit, Some("x")).unwrap_err(), RuleError::Groups(0));
    }
}
