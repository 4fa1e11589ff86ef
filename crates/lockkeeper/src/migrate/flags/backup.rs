//! Backups before something is lost.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use lockkeeper_migrate::backup::{Destination, Trial};

use crate::exit::Failure;

/// Where backups go when nothing else is said.
const DEFAULT_DIRECTORY: &str = "./lockkeeper-backups";

/// How old a backup may be when nothing else is said.
const DEFAULT_MAX_AGE: &str = "1h";

/// Longest run of a dump program when nothing else is said.
pub(in crate::migrate) const DEFAULT_LIMIT: &str = "6h";

/// For verbs that can lose data.
#[derive(Debug, Args)]
#[command(next_help_heading = "Backup")]
pub(in crate::migrate) struct BackupArgs {
    /// Back up before anything runs; without it, a plan that can lose data runs only when a fresh backup is recorded
    #[arg(long, value_enum, value_name = "HOW", default_value_t)]
    backup: BackupMode,
    /// Directory for --backup auto; made when it is missing
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DIRECTORY)]
    backup_to: PathBuf,
    /// Shell command for --backup command: it gets the dump on its standard input
    #[arg(long, value_name = "COMMAND", required_if_eq("backup", "command"))]
    backup_command: Option<String>,
    /// Also restore the backup into a scratch database and compare the rows of every table
    #[arg(long)]
    verify_backup: bool,
    /// How old a backup may be to count as fresh
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = DEFAULT_MAX_AGE)]
    max_backup_age: Duration,
    /// Longest run of a dump program
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = DEFAULT_LIMIT)]
    backup_timeout: Duration,
    /// Run without a backup, whatever can be lost
    #[arg(long, conflicts_with = "backup")]
    without_backup: bool,
}

/// Whether a backup is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum BackupMode {
    /// Make none; what can lose data needs one that was made before
    #[default]
    None,
    /// With the database's own dump program, into --backup-to
    Auto,
    /// With the database's own dump program, into --backup-command
    Command,
}

/// What the flags ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::migrate) enum Protection {
    /// One is made first.
    Make(Destination),
    /// A fresh one must be there when data can be lost; a person may be offered one in this directory.
    Demand {
        /// How old it may be.
        max_age: Duration,
        /// For the offer.
        offer: Destination,
    },
    /// Told not to care.
    Waived,
}

impl BackupArgs {
    pub(in crate::migrate) fn protection(&self) -> Result<Protection, Failure> {
        let directory = Destination::Directory(self.backup_to.clone());
        Ok(match (self.without_backup, self.backup) {
            (true, _) => Protection::Waived,
            (false, BackupMode::Auto) => Protection::Make(directory),
            (false, BackupMode::None) => Protection::Demand {
                max_age: self.max_backup_age,
                offer: directory,
            },
            (false, BackupMode::Command) => {
                let command = self.backup_command.clone();
                let command =
                    command.ok_or_else(|| Failure::usage("--backup command needs --backup-command"))?;
                Protection::Make(Destination::Command(command))
            }
        })
    }

    pub(in crate::migrate) fn trial(&self) -> Trial {
        match self.verify_backup {
            true => Trial::Restore,
            false => Trial::Read,
        }
    }

    pub(in crate::migrate) fn limit(&self) -> Duration {
        self.backup_timeout
    }
}

impl Default for BackupArgs {
    /// As when no flag is given.
    fn default() -> Self {
        Self {
            backup: BackupMode::None,
            backup_to: DEFAULT_DIRECTORY.into(),
            backup_command: None,
            verify_backup: false,
            max_backup_age: humantime::parse_duration(DEFAULT_MAX_AGE).unwrap_or_default(),
            backup_timeout: humantime::parse_duration(DEFAULT_LIMIT).unwrap_or_default(),
            without_backup: false,
        }
    }
}
