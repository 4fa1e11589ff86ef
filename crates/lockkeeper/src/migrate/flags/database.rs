//! Which database.

use std::env;
use std::path::{Path, PathBuf};

use clap::Args;
use lockkeeper_migrate::dsn::Dsn;
use serde::Deserialize;

use crate::exit::Failure;
use crate::migrate::failure;

/// The variable that `--read-from-env` reads.
const DSN_VARIABLE: &str = "DSN";

#[derive(Debug, Args)]
#[command(next_help_heading = "Database")]
pub(in crate::migrate) struct DatabaseArgs {
    /// Read the DSN from the environment variable DSN
    #[arg(short = 'e', long, global = true)]
    read_from_env: bool,
    /// Read the DSN from the key `dsn` of a YAML file
    #[arg(short = 'c', long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The database was restored, copied or renamed since the last run, and is the one that is meant
    #[arg(long, global = true)]
    pub(in crate::migrate) accept_identity: bool,
    #[arg(skip)]
    pub(super) before_the_verb: DsnArg,
}

/// The database as an argument of a verb. An argument cannot be shared as flags are, so each verb has its own.
#[derive(Debug, Default, Args)]
pub(in crate::migrate) struct DsnArg {
    /// The database; without it, use -e or -c
    #[arg(value_name = "DSN")]
    dsn: Option<String>,
}

impl DatabaseArgs {
    /// The database that the command line names.
    pub(in crate::migrate) fn dsn(&self, argument: &DsnArg) -> Result<Dsn, Failure> {
        self.optional(argument)?
            .ok_or_else(|| Failure::usage("no database was named").hint("give a DSN, or use -e or -c FILE"))
    }

    /// The same as text, for a verb that explains what is wrong with it.
    pub(in crate::migrate) fn dsn_text(&self, argument: &DsnArg) -> Result<String, Failure> {
        self.text(argument)?
            .ok_or_else(|| Failure::usage("no database was named").hint("give a DSN, or use -e or -c FILE"))
    }

    /// The same for verbs that can do without one.
    pub(in crate::migrate) fn optional(&self, argument: &DsnArg) -> Result<Option<Dsn>, Failure> {
        let text = self.text(argument)?;
        text.map(|text| Dsn::parse(&text).map_err(failure::of_dsn))
            .transpose()
    }

    fn text(&self, argument: &DsnArg) -> Result<Option<String>, Failure> {
        let arguments = [&argument.dsn, &self.before_the_verb.dsn];
        let mut arguments = arguments.into_iter().flatten();
        match (
            arguments.next(),
            arguments.next(),
            self.read_from_env,
            &self.config,
        ) {
            (None, _, false, None) => Ok(None),
            (Some(dsn), None, false, None) => Ok(Some(dsn.clone())),
            (None, _, true, None) => of_variable(DSN_VARIABLE).map(Some),
            (None, _, false, Some(file)) => of_file(file).map(Some),
            _ => {
                let failure = Failure::usage("the database was named more than once");
                Err(failure.hint("use one of DSN, -e and -c"))
            }
        }
    }
}

/// The DSN that an environment variable holds.
pub(in crate::migrate) fn of_variable(name: &str) -> Result<String, Failure> {
    env::var(name)
        .ok()
        .filter(|dsn| !dsn.is_empty())
        .ok_or_else(|| Failure::usage(format!("the environment variable {name} is not set")))
}

/// A configuration file, of which only this key concerns us: it usually is the application's own.
#[derive(Deserialize)]
struct ConfigFile {
    dsn: Option<String>,
}

fn of_file(file: &Path) -> Result<String, Failure> {
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
