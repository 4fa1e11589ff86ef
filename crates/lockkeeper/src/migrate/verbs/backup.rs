//! `backup`: makes one, or lists what is recorded.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use lockkeeper_migrate::backup::{BackupReport, Destination, Trial};
use lockkeeper_migrate::db::BackupRecord;
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::migrate::flags::{Common, DEFAULT_LIMIT, DsnArg};
use crate::migrate::{failure, protect};
use crate::output;

#[derive(Debug, Args)]
pub(in crate::migrate) struct BackupVerbArgs {
    #[command(flatten)]
    dsn: DsnArg,
    /// Directory that the backup goes to; made when it is missing
    #[arg(long, value_name = "DIR", default_value = "./lockkeeper-backups")]
    to: PathBuf,
    /// Shell command that gets the backup on its standard input, instead of a directory
    #[arg(long, value_name = "COMMAND", conflicts_with = "to")]
    command: Option<String>,
    /// Also restore it into a scratch database and compare the rows of every table
    #[arg(long, conflicts_with = "command")]
    verify_backup: bool,
    /// Longest run of the dump program
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = DEFAULT_LIMIT)]
    backup_timeout: Duration,
    /// Make none: list the backups and restores that are recorded, newest first
    #[arg(long, conflicts_with_all = ["to", "command", "verify_backup"])]
    list: bool,
}

/// What `--list` prints.
#[derive(Debug, Serialize)]
struct Records {
    target: String,
    records: Vec<BackupRecord>,
}

impl BackupVerbArgs {
    pub(in crate::migrate) async fn run(self, common: &Common) -> Result<Exit, Failure> {
        if self.list {
            return self.show(common).await;
        }
        let dsn = common.database.dsn(&self.dsn)?;
        let trial = if self.verify_backup {
            Trial::Restore
        } else {
            Trial::Read
        };
        let destination = match self.command {
            Some(command) => Destination::Command(command),
            None => Destination::Directory(self.to),
        };
        let report = protect::make(common, &dsn, &destination, trial, self.backup_timeout).await?;
        output::print(common.answer.format, &report, sentence)?;
        Ok(Exit::Ok)
    }

    async fn show(&self, common: &Common) -> Result<Exit, Failure> {
        let dsn = common.database.dsn(&self.dsn)?;
        let records = protect::upkeep(common, &dsn)
            .records()
            .await
            .map_err(failure::of_db)?;
        let target = dsn.place();
        output::print(common.answer.format, &Records { target, records }, |records| {
            table(&records.records)
        })?;
        Ok(Exit::Ok)
    }
}

fn sentence(report: &BackupReport) -> String {
    let version = report.version.as_ref().map_or("none", |version| version.as_str());
    let tried = match report.rows {
        Some(rows) => format!("restored elsewhere with {rows} rows"),
        None => "read back".to_owned(),
    };
    format!(
        "{}\n{} bytes, schema version {version}, by {}, {tried}\nsha256 {}\n",
        report.place, report.size, report.tool, report.sha256
    )
}

fn table(records: &[BackupRecord]) -> String {
    let row = |record: &BackupRecord| {
        vec![
            format!("{:?}", record.kind).to_lowercase(),
            humantime::format_duration(Duration::from_secs(record.age_ms / 1000)).to_string(),
            record
                .version
                .as_ref()
                .map_or("none".to_owned(), ToString::to_string),
            record.size.to_string(),
            record.place.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = records.iter().map(row).collect();
    output::table(&["Kind", "Age", "Version", "Bytes", "Place"], &rows)
}
