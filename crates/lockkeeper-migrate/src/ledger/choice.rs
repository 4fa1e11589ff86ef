//! Which ledger a target has.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::origin::Tool;

/// Where a target records what is applied: the value of `--ledger` and of `ledger:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum LedgerChoice {
    /// In `lockkeeper_ledger`.
    #[default]
    Own,
    /// In the table of the tool that the migrations come from, so that either can carry on.
    Tool(Tool),
}

impl LedgerChoice {
    /// Its name: `own`, or the tool's.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Tool(tool) => tool.as_str(),
        }
    }

    /// The table that holds the history.
    #[must_use]
    pub fn table(self) -> &'static str {
        match self {
            Self::Own => "lockkeeper_ledger",
            Self::Tool(tool) => tool.origin().table(),
        }
    }
}

impl fmt::Display for LedgerChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl From<LedgerChoice> for String {
    fn from(choice: LedgerChoice) -> Self {
        choice.as_str().to_owned()
    }
}

impl TryFrom<String> for LedgerChoice {
    type Error = ChoiceError;

    fn try_from(name: String) -> Result<Self, ChoiceError> {
        name.parse()
    }
}

/// A text that names no ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "use ledger {0:?}: there is no such ledger; known are own, pop, golang-migrate, goose, dbmate, sqlx, refinery, \
     flyway and diesel"
)]
pub struct ChoiceError(String);

impl FromStr for LedgerChoice {
    type Err = ChoiceError;

    fn from_str(name: &str) -> Result<Self, ChoiceError> {
        if name == "own" {
            return Ok(Self::Own);
        }
        name.parse()
            .map(Self::Tool)
            .map_err(|_| ChoiceError(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_as_it_is_printed() {
        let all = Tool::ALL
            .map(LedgerChoice::Tool)
            .into_iter()
            .chain([LedgerChoice::Own]);
        for choice in all {
            assert_eq!(choice.to_string().parse::<LedgerChoice>().unwrap(), choice);
        }
        let error = "rails".parse::<LedgerChoice>().unwrap_err().to_string();
        assert!(
            error.starts_with("use ledger \"rails\": there is no such ledger"),
            "{error}"
        );
    }
}
