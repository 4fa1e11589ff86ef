//! How long anything may take.

use std::time::Duration;

use clap::Args;
use lockkeeper_migrate::db::DatabaseOptions;

use crate::migrate::job::Missing;

/// How long a verb that changes something waits for its turn when nothing else is said: longer than most migrations
/// of another runner, shorter than what an orchestrator's job may take.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15 * 60);

#[derive(Debug, Args)]
#[command(next_help_heading = "Time limits")]
pub(in crate::migrate) struct LimitArgs {
    /// Longest wait: for other migrators (up, down; 15m unless told), or for pending migrations (status --block;
    /// no limit unless told). For example 90s or 10m
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, global = true)]
    pub(in crate::migrate) timeout: Option<Duration>,
    /// Longest wait of one statement for a lock; tried a dozen times, with pauses
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "2s", global = true)]
    lock_timeout: Duration,
    /// Longest run of one statement; no limit unless told
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, global = true)]
    statement_timeout: Option<Duration>,
    /// Longest run of the whole command from the first wait on; then what runs is cancelled as by Ctrl-C (exit code
    /// 6). No limit unless told
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, global = true)]
    pub(in crate::migrate) run_timeout: Option<Duration>,
}

impl LimitArgs {
    /// How long to wait for other migrators.
    pub(in crate::migrate) fn patience(&self) -> Duration {
        self.timeout.unwrap_or(DEFAULT_TIMEOUT)
    }

    /// How long one statement waits for a lock.
    pub(in crate::migrate) fn lock_timeout(&self) -> Duration {
        self.lock_timeout
    }

    pub(in crate::migrate) fn options(&self, missing: Missing) -> DatabaseOptions {
        DatabaseOptions {
            lock_timeout: self.lock_timeout,
            statement_timeout: self.statement_timeout,
            create_if_missing: missing == Missing::Make,
            ..DatabaseOptions::default()
        }
    }
}
