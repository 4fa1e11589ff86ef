//! `baseline`: marks everything up to a version as applied, without running it.

use clap::Args;
use lockkeeper_core::version::SchemaVersion;
use lockkeeper_migrate::db::{Inspection, LedgerWrite};
use lockkeeper_migrate::engine::{self, BaselineError};
use lockkeeper_migrate::plan::{self, VersionStatus};

use crate::exit::{Exit, Failure};
use crate::migrate::flags::{self, ChangeArgs, Common, DsnArg, Intent};
use crate::migrate::job::{Job, Missing};
use crate::migrate::recording::{self, Recorded};
use crate::migrate::{change, failure};
use crate::output;
use crate::prompt::Answer;

#[derive(Debug, Args)]
pub(in crate::migrate) struct BaselineArgs {
    /// The version that the database is at
    #[arg(value_name = "VERSION")]
    schema_version: String,
    #[command(flatten)]
    dsn: DsnArg,
    #[command(flatten)]
    change: ChangeArgs,
}

impl BaselineArgs {
    pub(in crate::migrate) async fn run(self, common: &Common) -> Result<Exit, Failure> {
        let job = common.job(&self.dsn, Missing::Refuse)?;
        let version = flags::version(&self.schema_version)?;
        let mode = self.change.intent();
        let inspection = job.database.inspect().await.map_err(failure::of_db)?;
        let records = records(&job, &inspection, &version)?;
        let text = format!(
            "{} ({}), {} layout: recorded as applied without running\n\n{}\n",
            job.dsn,
            inspection.server,
            job.set.layout,
            records
                .iter()
                .map(|write| format!("{} {}\n", write.version, write.name))
                .collect::<String>()
        );
        let question = format!("Does {} have all of this already?", job.dsn);
        let answer = recording::confirm(common, mode, &text, &question)?;
        if mode == Intent::Do && answer == Answer::Yes {
            record(common, &job, &version, &records).await?;
        }
        let summary = summary(common, &job, &inspection, &records, mode, answer);
        output::print(common.answer.format, &summary, recording::sentence)?;
        Ok(Exit::Ok)
    }
}

fn records(job: &Job, inspection: &Inspection, version: &SchemaVersion) -> Result<Vec<LedgerWrite>, Failure> {
    // A table of another tool's is what a baseline is not for: its history can be taken over as it is.
    engine::refuse_other_ledgers(inspection).map_err(|error| Failure::new(Exit::WrongState, error))?;
    let records = engine::baseline(&job.set, &inspection.ledger, version, &change::who());
    records.map_err(|error| match error {
        BaselineError::Unknown { .. } => Failure::usage(error),
        BaselineError::Below { .. } | BaselineError::Ledger(_) => Failure::new(Exit::WrongState, error),
    })
}

async fn record(
    common: &Common,
    job: &Job,
    version: &SchemaVersion,
    shown: &[LedgerWrite],
) -> Result<(), Failure> {
    let (mut hand, _) = recording::take(common, job).await?;
    let inspection = job.database.inspect().await.map_err(failure::of_db)?;
    let now = records(job, &inspection, version)?;
    if recording::versions(&now) != recording::versions(shown) {
        recording::release(hand).await?;
        return Err(recording::changed_meanwhile());
    }
    let recorded = hand.record(&now).await.map_err(failure::of_db);
    recording::release(hand).await?;
    recorded
}

fn summary(
    common: &Common,
    job: &Job,
    inspection: &Inspection,
    records: &[LedgerWrite],
    mode: Intent,
    answer: Answer,
) -> Recorded {
    let rows = plan::status(&job.set, &inspection.ledger);
    let pending = rows
        .iter()
        .filter(|row| row.status == VersionStatus::Pending)
        .count();
    Recorded {
        target: job.dsn.place(),
        from: None,
        ledger: common.source.ledger,
        versions: recording::versions(records),
        pending: pending.saturating_sub(records.len()),
        declined: answer == Answer::No,
        dry_run: mode == Intent::Show,
    }
}
