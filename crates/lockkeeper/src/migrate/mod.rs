//! `lockkeeper migrate`: one database, without a fleet.
//!
//! | module | what it holds |
//! |---|---|
//! | `sql` | the root of `migrate sql`: the verbs, and what it does without one |
//! | `verbs` | one file per verb: its own flags, and what it does |
//! | `flags` | the flags that several verbs share, by what they are about |
//! | `job` | what the flags lead to: DSN, directories, database |
//! | `change` | what `up`, `up-to`, `down` and `redo` share: plan, show, ask, migrate, tell |
//! | `guard` | is this the database that was meant, and as it was when the plan was shown |
//! | `protect` | no data is lost without a backup: what is demanded, offered and made before a change |
//! | `interrupt` | Ctrl-C while programs of ours run |
//! | `journey` | the way of a change: its steps, and the version after each |
//! | `summary` | what a change came to |
//! | `look` | how a database stands beside its directory, once or until it is as wanted |
//! | `recording` | what `adopt`, `baseline` and `accept-edit` share: ask, take, record |
//! | `naming` | what the next migration of a directory is called |
//! | `plan_text`, `plan_view` | a plan as a person, and as a program reads it |
//! | `diff_text` | how two schemas differ, as a person reads it |
//! | `rehearsal_text` | a rehearsal's report as a person reads it |
//! | `progress` | what is going on, on standard error |
//! | `stop` | stopping a run by a signal or a time limit |
//! | `failure` | which exit code and hint an error gets |
//!
//! A new verb is a file in `verbs` with its `clap::Args` and a `run`, and a line in `sql::Verb`. Its page is
//! docs/migrate-sql.md, the shapes of its results are in docs/schema.

mod change;
mod diff_text;
mod failure;
mod flags;
mod guard;
mod interrupt;
mod job;
mod journey;
mod look;
mod naming;
mod plan_text;
mod plan_view;
mod progress;
mod protect;
mod recording;
mod rehearsal_text;
mod sql;
mod stop;
mod summary;
mod verbs;

pub(crate) use change::who;
pub(crate) use failure::of_take;

use clap::Subcommand;

use crate::exit::{Exit, Failure};

/// What to migrate.
#[derive(Debug, Subcommand)]
pub(crate) enum MigrateCommand {
    /// Migrate an SQL database; without a verb, up
    Sql(Box<sql::SqlArgs>),
}

impl MigrateCommand {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let Self::Sql(args) = self;
        args.run().await
    }
}
