//! `restore`: brings a backup back.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use lockkeeper_migrate::backup::{self, RestoreOrder, RestoreReport};

use crate::exit::{Exit, Failure};
use crate::migrate::flags::{Common, DEFAULT_LIMIT, DsnArg};
use crate::migrate::job::Missing;
use crate::migrate::progress::Reporter;

use crate::migrate::{change, failure, interrupt};
use crate::output;
use crate::prompt::{self, Answer};

#[derive(Debug, Args)]
pub(in crate::migrate) struct RestoreArgs {
    /// The backup: what `backup` made, or a dump of the same sort
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    dsn: DsnArg,
    /// Longest run of each program
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = DEFAULT_LIMIT)]
    restore_timeout: Duration,
}

impl RestoreArgs {
    pub(in crate::migrate) async fn run(self, common: &Common) -> Result<Exit, Failure> {
        let dsn = common.database.dsn(&self.dsn)?;
        if !self.file.is_file() {
            return Err(Failure::usage(format!(
                "read {}: there is no such file",
                self.file.display()
            )));
        }
        let question = format!(
            "Everything in {dsn} is replaced by what {} holds, and what was written since is lost.\nRestore?",
            self.file.display()
        );
        if !common.answer.yes && prompt::ask(&question)? == Answer::No {
            eprintln!("declined, nothing was changed");
            return Ok(Exit::Ok);
        }
        let options = common.options(Missing::Make);
        let reporter = Reporter::new();
        let order = RestoreOrder {
            dsn: &dsn,
            options: &options,
            file: &self.file,
            patience: common.limits.patience(),
            limit: self.restore_timeout,
            who: &change::who(),
        };
        let restored = interrupt::unless_interrupted(backup::restore(&order, &reporter)).await?;
        reporter.end();
        let report = restored.map_err(failure::of_restore)?;
        output::print(common.answer.format, &report, sentence)?;
        Ok(Exit::Ok)
    }
}

fn sentence(report: &RestoreReport) -> String {
    format!(
        "restored {}, schema version {} (before: {}), gate epoch g{}\n",
        report.file.display(),
        report.version.as_deref().unwrap_or("none"),
        report.from.as_deref().unwrap_or("none"),
        report.gate_epoch
    )
}
