//! `accept-edit`: records that the file of an applied version was changed on purpose.

use std::sync::Arc;

use clap::Args;
use lockkeeper_core::version::SchemaVersion;
use lockkeeper_migrate::db::Inspection;
use lockkeeper_migrate::engine;
use lockkeeper_migrate::ledger::EditRecord;
use lockkeeper_migrate::plan::{self, Edited};
use lockkeeper_migrate::source::Migration;
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::migrate::flags::{self, ChangeArgs, Common, DsnArg, Intent};
use crate::migrate::job::{Job, Missing};
use crate::migrate::recording;
use crate::migrate::{change, failure};
use crate::output;
use crate::prompt::Answer;

#[derive(Debug, Args)]
pub(in crate::migrate) struct AcceptEditArgs {
    /// The version whose file was changed
    #[arg(value_name = "VERSION")]
    schema_version: String,
    #[command(flatten)]
    dsn: DsnArg,
    /// Why it was changed
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    change: ChangeArgs,
}

/// What it prints.
#[derive(Debug, Serialize)]
struct Accepted {
    /// The database, without login.
    target: String,
    edit: EditRecord,
    /// Whether a person said no.
    declined: bool,
    /// Whether this was only to be shown.
    dry_run: bool,
}

impl AcceptEditArgs {
    pub(in crate::migrate) async fn run(self, common: &Common) -> Result<Exit, Failure> {
        let job = common.job(&self.dsn, Missing::Refuse)?;
        let version = flags::version(&self.schema_version)?;
        let mode = self.change.intent();
        let inspection = job.database.inspect().await.map_err(failure::of_db)?;
        let (migration, edited) = find(&job, &inspection, &version)?;
        let edit = engine::edit_of(&migration, &edited.applied, &change::who(), &self.reason);
        let text = format!(
            "{}: version {} ({})\n  applied: {}\n  now:     {}\n",
            job.dsn,
            edit.version,
            edited.path.display(),
            edit.was,
            edit.now
        );
        let answer = recording::confirm(common, mode, &text, "Accept this file as what was applied?")?;
        if mode == Intent::Do && answer == Answer::Yes {
            record(common, &job, &version, &edit).await?;
        }
        let accepted = Accepted {
            target: job.dsn.place(),
            edit,
            declined: answer == Answer::No,
            dry_run: mode == Intent::Show,
        };
        output::print(common.answer.format, &accepted, sentence)?;
        Ok(Exit::Ok)
    }
}

fn find(
    job: &Job,
    inspection: &Inspection,
    version: &SchemaVersion,
) -> Result<(Arc<Migration>, Edited), Failure> {
    engine::refuse_other_ledgers(inspection).map_err(|error| Failure::new(Exit::WrongState, error))?;
    let edits = plan::edits(&job.set, &inspection.ledger);
    let edit = edits
        .into_iter()
        .find(|(migration, _)| job.set.same(&migration.version, version));
    edit.ok_or_else(|| {
        Failure::usage(format!(
            "accept an edit of version {version}: it is not applied, or its file is what was applied"
        ))
        .hint("status shows which versions are edited")
    })
}

async fn record(
    common: &Common,
    job: &Job,
    version: &SchemaVersion,
    edit: &EditRecord,
) -> Result<(), Failure> {
    let (mut hand, _) = recording::take(common, job).await?;
    let inspection = job.database.inspect().await.map_err(failure::of_db)?;
    let (migration, now) = find(job, &inspection, version)?;
    if now.applied.to_string() != edit.was {
        recording::release(hand).await?;
        return Err(recording::changed_meanwhile());
    }
    let accepted = hand.accept_edit(&migration, edit).await.map_err(failure::of_db);
    recording::release(hand).await?;
    accepted
}

fn sentence(accepted: &Accepted) -> String {
    let version = &accepted.edit.version;
    match (accepted.declined, accepted.dry_run) {
        (true, _) => "declined, nothing was changed\n".to_owned(),
        (false, true) => format!("the edit of version {version} would be accepted\n"),
        (false, false) => format!("the edit of version {version} is accepted\n"),
    }
}
