//! The flags that several verbs share, by what they are about. Those in [`Common`] may stand before or after the verb.
//!
//! | module | what it holds |
//! |---|---|
//! | `database` | which database: a DSN as argument, `-e` or `-c` |
//! | `source` | which migrations: `--dir`, `--layout` |
//! | `limits` | how long anything may take |
//! | `answer` | what is asked and what is printed: `-y`, `--format` |
//! | `change` | for verbs that change a database: `--dry-run` |
//! | `backup` | backups before something is lost |
//! | `version` | a schema version |

mod answer;
mod backup;
mod change;
mod database;
mod limits;
mod source;
mod version;

pub(super) use answer::AnswerArgs;
pub(super) use backup::{BackupArgs, DEFAULT_LIMIT, Protection};
pub(super) use change::{ChangeArgs, Intent};
pub(super) use database::{DatabaseArgs, DsnArg, of_variable};
pub(super) use limits::LimitArgs;
pub(super) use source::SourceArgs;
pub(super) use version::{version, version_or_none};

use clap::Args;

/// What all verbs understand.
#[derive(Debug, Args)]
pub(super) struct Common {
    #[command(flatten)]
    pub(super) database: DatabaseArgs,
    #[command(flatten)]
    pub(super) source: SourceArgs,
    #[command(flatten)]
    pub(super) limits: LimitArgs,
    #[command(flatten)]
    pub(super) answer: AnswerArgs,
}

impl Common {
    /// Takes up the DSN that stood before the verb.
    pub(super) fn named_before_the_verb(mut self, dsn: DsnArg) -> Self {
        self.database.before_the_verb = dsn;
        self
    }
}
