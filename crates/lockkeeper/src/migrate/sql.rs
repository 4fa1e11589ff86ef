//! The root of `migrate sql`: its verbs, and what it does without one.

use clap::{Args, Subcommand};

use super::flags::{Common, DsnArg};
use super::verbs::{diff, down, status, up};
use crate::exit::{Exit, Failure};

/// Arguments of `lockkeeper migrate sql`.
#[derive(Debug, Args)]
#[command(
    after_help = "DSNs: postgres://USER:PASSWORD@HOST:PORT/DATABASE, mysql://…, sqlite://PATH (the file is made \
                  when missing, by up only)."
)]
pub(crate) struct SqlArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    dsn: DsnArg,
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Apply what is pending; shows the plan and asks first
    Up(up::UpArgs),
    /// Take migrations back; this can lose data
    Down(down::DownArgs),
    /// Show which migrations are applied and which are pending (exit code 3)
    Status(status::StatusArgs),
    /// Compare the database's schema with another one (exit code 4 when they differ)
    Diff(diff::DiffArgs),
}

impl SqlArgs {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let common = self.common.named_before_the_verb(self.dsn);
        match self.verb {
            // The older form, which charts and scripts still use.
            None => up::UpArgs::default().run(&common).await,
            Some(verb) => verb.run(&common).await,
        }
    }
}

impl Verb {
    async fn run(self, common: &Common) -> Result<Exit, Failure> {
        match self {
            Self::Up(args) => args.run(common).await,
            Self::Down(args) => args.run(common).await,
            Self::Status(args) => args.run(common).await,
            Self::Diff(args) => args.run(common).await,
        }
    }
}
