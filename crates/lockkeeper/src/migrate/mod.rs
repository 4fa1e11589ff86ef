//! `lockkeeper migrate`: one database, without a fleet.
//!
//! | module | what it holds |
//! |---|---|
//! | `args` | the command line, and what it leads to: DSN, directories, database |
//! | `run` | `up` and `down`: plan, ask, take, migrate |
//! | `status` | `status`, and its waiting |
//! | `plan_text` | a plan as a person reads it |
//! | `progress` | what is going on, on standard error |
//! | `prompt` | yes or no |
//! | `failure` | which exit code and hint an error gets |

mod args;
mod failure;
mod plan_text;
mod progress;
mod prompt;
mod run;
mod status;

use clap::Subcommand;

use crate::exit::{Exit, Failure};

/// What to migrate.
#[derive(Debug, Subcommand)]
pub(crate) enum MigrateCommand {
    /// Migrate an SQL database: up (the default), down, or status
    Sql(Box<args::SqlArgs>),
}

impl MigrateCommand {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let Self::Sql(args) = self;
        let common = args.common;
        match args.verb {
            // Without a verb it is `up`: the older form, which charts and scripts still use.
            None => run::up(&common, args.dsn.as_deref()).await,
            Some(args::Verb::Up { dsn }) => run::up(&common, dsn.or(args.dsn).as_deref()).await,
            Some(args::Verb::Down { dsn, steps }) => {
                run::down(&common, dsn.or(args.dsn).as_deref(), steps).await
            }
            Some(args::Verb::Status { dsn, block }) => {
                status::status(&common, dsn.or(args.dsn).as_deref(), block).await
            }
        }
    }
}
