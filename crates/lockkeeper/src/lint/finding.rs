//! A finding.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// Something worth a second look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) path: PathBuf,
    /// Counted from 1. The first for what concerns the whole file.
    pub(crate) line: u32,
    pub(crate) level: Level,
    pub(crate) rule: Rule,
    pub(crate) message: String,
    /// What to do about it; `null` when the message says it.
    pub(crate) help: Option<String>,
    /// Why the file silences it; only shown, and never counted.
    pub(crate) silenced: Option<String>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Level {
    /// Worth knowing.
    Note,
    Warning,
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// Which rule found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rule {
    /// There is no way back.
    Irreversible,
    /// It cannot run while writers go on.
    NeedsFence,
    /// It takes something away that the old schema had.
    ContractStep,
    /// The rehearsal took longer than writes may be refused.
    OverBudget,
    /// The rehearsal does not know it.
    NotRehearsed,
    /// A rule is silenced without a reason.
    SilenceWithoutReason,
    /// A rule is silenced that finds nothing there, or that does not exist.
    UnusedSilence,
    /// One of squawk's, by its name.
    Squawk(String),
}

impl Rule {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Irreversible => "irreversible",
            Self::NeedsFence => "needs-fence",
            Self::ContractStep => "contract-step",
            Self::OverBudget => "over-budget",
            Self::NotRehearsed => "not-rehearsed",
            Self::SilenceWithoutReason => "silence-without-reason",
            Self::UnusedSilence => "unused-silence",
            Self::Squawk(name) => name,
        }
    }

    /// Whether it concerns a migration as a whole, so that a silence anywhere in its file is meant for it.
    pub(super) fn is_of_the_file(&self) -> bool {
        match self {
            Self::Irreversible | Self::OverBudget | Self::NotRehearsed => true,
            Self::NeedsFence
            | Self::ContractStep
            | Self::SilenceWithoutReason
            | Self::UnusedSilence
            | Self::Squawk(_) => false,
        }
    }
}

impl Serialize for Rule {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
