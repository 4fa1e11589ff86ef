//! The command line of `migrate sql`, and what it leads to.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use lockkeeper_migrate::db::{self, Database, DatabaseOptions};
use lockkeeper_migrate::dsn::Dsn;
use lockkeeper_migrate::source::{self, Layout, MigrationSet};
use serde::Deserialize;

use super::failure;
use crate::exit::Failure;
use crate::output::Format;

/// The variable that `--read-from-env` reads.
const DSN_VARIABLE: &str = "DSN";

/// How long `up` and `down` wait for their turn when nothing else is said: longer than most migrations of another
/// runner, shorter than what an orchestrator's job may take.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Arguments of `lockkeeper migrate sql`.
#[derive(Debug, Args)]
#[command(
    after_help = "DSNs: postgres://USER:PASSWORD@HOST:PORT/DATABASE, mysql://…, sqlite://PATH (the file is made \
                  when missing, by up only)."
)]
pub(crate) struct SqlArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// The database; without it, use -e or -c
    #[arg(value_name = "DSN")]
    pub(super) dsn: Option<String>,
    #[command(subcommand)]
    pub(super) verb: Option<Verb>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Apply what is pending; shows the plan and asks first
    Up {
        /// The database; without it, use -e or -c
        #[arg(value_name = "DSN")]
        dsn: Option<String>,
    },
    /// Take migrations back; this can lose data
    Down {
        /// The database; without it, use -e or -c
        #[arg(value_name = "DSN")]
        dsn: Option<String>,
        /// How many migrations to take back
        #[arg(long, value_name = "N", default_value_t = 1)]
        steps: u32,
    },
    /// Show which migrations are applied and which are pending (exit code 3)
    Status {
        /// The database; without it, use -e or -c
        #[arg(value_name = "DSN")]
        dsn: Option<String>,
        /// Wait until nothing is pending, looking each second
        #[arg(long)]
        block: bool,
    },
}

/// What all verbs understand, before or after the verb.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// Directory with the migrations; may be given more than once
    #[arg(
        long = "dir",
        value_name = "DIR",
        default_value = "./migrations",
        global = true
    )]
    dirs: Vec<PathBuf>,
    /// Layout of the directory: pop, golang-migrate, or auto, which refuses when it cannot tell
    #[arg(long, value_name = "NAME", default_value = "auto", global = true)]
    layout: String,
    /// Read the DSN from the environment variable DSN
    #[arg(short = 'e', long, global = true)]
    read_from_env: bool,
    /// Read the DSN from the key `dsn` of a YAML file
    #[arg(short = 'c', long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Do not ask
    #[arg(short = 'y', long, global = true)]
    pub(super) yes: bool,
    /// How results are printed
    #[arg(long, value_enum, default_value_t, global = true)]
    pub(super) format: Format,
    /// Longest wait: for other migrators (up, down; 15m unless told), or for pending migrations (status --block;
    /// no limit unless told). For example 90s or 10m
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, global = true)]
    pub(super) timeout: Option<Duration>,
    /// Longest wait of one statement for a lock
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "5s", global = true)]
    lock_timeout: Duration,
    /// Longest run of one statement; no limit unless told
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, global = true)]
    statement_timeout: Option<Duration>,
}

/// The migrations and the database that the command line names.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) dsn: Dsn,
    pub(super) set: MigrationSet,
    pub(super) database: Box<dyn Database>,
}

/// Whether a missing SQLite file is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Make,
    Refuse,
}

impl Common {
    /// Reads the DSN and the migrations. Opens no connection yet.
    pub(super) fn job(&self, dsn: Option<&str>, missing: Missing) -> Result<Job, Failure> {
        let dsn = Dsn::parse(&self.dsn_text(dsn)?).map_err(failure::of_dsn)?;
        let layout = Layout::parse_choice(&self.layout).map_err(Failure::usage)?;
        let set = source::load(&self.dirs, layout, dsn.dialect()).map_err(failure::of_source)?;
        let options = DatabaseOptions {
            lock_timeout: self.lock_timeout,
            statement_timeout: self.statement_timeout,
            create_if_missing: missing == Missing::Make,
            ..DatabaseOptions::default()
        };
        let database = db::open(&dsn, options);
        Ok(Job { dsn, set, database })
    }

    fn dsn_text(&self, argument: Option<&str>) -> Result<String, Failure> {
        let given = [argument.is_some(), self.read_from_env, self.config.is_some()];
        match given.into_iter().filter(|given| *given).count() {
            0 => return Err(Failure::usage("no database was named").hint("give a DSN, or use -e or -c FILE")),
            1 => {}
            _ => {
                return Err(
                    Failure::usage("the database was named more than once").hint("use one of DSN, -e and -c")
                );
            }
        }
        match (argument, &self.config) {
            (Some(dsn), _) => Ok(dsn.to_owned()),
            (None, Some(file)) => dsn_of_file(file),
            (None, None) => env::var(DSN_VARIABLE)
                .ok()
                .filter(|dsn| !dsn.is_empty())
                .ok_or_else(|| Failure::usage(format!("the environment variable {DSN_VARIABLE} is not set"))),
        }
    }
}

/// A configuration file, of which only this key concerns us: it usually is the application's own.
#[derive(Deserialize)]
struct ConfigFile {
    dsn: Option<String>,
}

fn dsn_of_file(file: &PathBuf) -> Result<String, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::usage(format!("read {}: {error}", file.display())))?;
    // Without a snippet: the lines around an error may hold a password.
    let config: ConfigFile = serde_saphyr::from_str(&text)
        .map_err(|error| Failure::usage(format!("read {}: {}", file.display(), error.without_snippet())))?;
    config
        .dsn
        .filter(|dsn| !dsn.is_empty())
        .ok_or_else(|| Failure::usage(format!("read {}: it has no key `dsn`", file.display())))
}
