//! `rehearse`: applies what is pending to a clone first.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use lockkeeper_migrate::dsn::Dsn;
use lockkeeper_migrate::plan::Goal;
use lockkeeper_migrate::rehearse::{self, Content, Order, Reach, Rehearsal};
use lockkeeper_migrate::source;
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{Exit, Failure};
use crate::migrate::flags::{Common, DsnArg, of_variable};
use crate::migrate::job::{Job, Missing};
use crate::migrate::progress::Reporter;
use crate::migrate::{failure, rehearsal_text};
use crate::output;

#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 nothing is wrong, 4 a migration or its way back is.")]
pub(in crate::migrate) struct RehearseArgs {
    #[command(flatten)]
    dsn: DsnArg,
    /// Clone the rows too: times then mean something
    #[arg(long)]
    with_data: bool,
    /// Make the clone on the server of this database, or in this directory of SQLite files
    #[arg(long, value_name = "DSN", conflicts_with = "scratch_env")]
    scratch: Option<String>,
    /// The same, with the DSN in this environment variable
    #[arg(long, value_name = "NAME")]
    scratch_env: Option<String>,
    /// Run statements that change the whole server, or another database, too
    #[arg(long)]
    allow_server_wide: bool,
    /// Longest time that cloning may take
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "30m")]
    clone_timeout: Duration,
    /// Drop clones that killed rehearsals left behind, once they are this old
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "1m")]
    sweep_older_than: Duration,
    /// Write the report to this file too, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

impl RehearseArgs {
    pub(in crate::migrate) async fn run(self, common: &Common) -> Result<Exit, Failure> {
        let job = common.job(&self.dsn, Missing::Refuse)?;
        let scratch = self.scratch()?;
        let rehearsal = self.rehearse(common, &job, scratch.as_ref()).await?;
        if let Some(file) = &self.report {
            save(file, &rehearsal)?;
        }
        output::print(common.answer.format, &rehearsal, rehearsal_text::whole)?;
        Ok(if rehearsal.passed() {
            Exit::Ok
        } else {
            Exit::WrongState
        })
    }

    fn scratch(&self) -> Result<Option<Dsn>, Failure> {
        let text = match (&self.scratch, &self.scratch_env) {
            (Some(text), _) => Some(text.clone()),
            (None, Some(name)) => Some(of_variable(name)?),
            (None, None) => None,
        };
        text.map(|text| Dsn::parse(&text).map_err(failure::of_dsn))
            .transpose()
    }

    async fn rehearse(
        &self,
        common: &Common,
        job: &Job,
        scratch: Option<&Dsn>,
    ) -> Result<Rehearsal, Failure> {
        let verify =
            source::load_verify(&common.source.dirs, job.dsn.dialect()).map_err(failure::of_source)?;
        let order = Order {
            dsn: &job.dsn,
            scratch,
            options: common.options(Missing::Refuse),
            set: &job.set,
            goal: Goal::Latest,
            verify: &verify,
            content: if self.with_data {
                Content::Rows
            } else {
                Content::Schema
            },
            reach: if self.allow_server_wide {
                Reach::Allow
            } else {
                Reach::Refuse
            },
            sweep_age: self.sweep_older_than,
            clone_limit: self.clone_timeout,
        };
        let reporter = Reporter::new();
        let stop = stopped()?;
        let rehearsed = rehearse::rehearse(&order, &reporter, stop).await;
        reporter.end();
        rehearsed.map_err(failure::of_rehearsal)
    }
}

/// Ends with the first signal that asks this process to end. Later ones do nothing: the clone is being dropped.
fn stopped() -> Result<impl Future<Output = ()>, Failure> {
    let listen = |kind| {
        signal(kind).map_err(|error| Failure::new(Exit::Error, format!("listen for signals: {error}")))
    };
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

fn save(file: &Path, rehearsal: &Rehearsal) -> Result<(), Failure> {
    let failed = |error: String| Failure::new(Exit::Error, format!("write {}: {error}", file.display()));
    let text = serde_json::to_string_pretty(rehearsal).map_err(|error| failed(error.to_string()))?;
    std::fs::write(file, text + "\n").map_err(|error| failed(error.to_string()))
}
