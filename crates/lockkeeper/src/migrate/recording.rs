//! What `adopt`, `baseline` and `accept-edit` share: they change what is recorded and run no migration.

use lockkeeper_migrate::db::{Claim, DbError, Hand, LedgerWrite};
use lockkeeper_migrate::ledger::LedgerChoice;
use serde::Serialize;

use super::flags::{Common, Intent};
use super::job::Job;
use super::progress::Reporter;
use super::{change, failure};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::prompt::{self, Answer};

/// What `adopt` and `baseline` print.
#[derive(Debug, Serialize)]
pub(super) struct Recorded {
    /// The database, without login.
    pub(super) target: String,
    /// Where the history was taken from; `null` for a baseline.
    pub(super) from: Option<LedgerChoice>,
    /// The ledger that was written.
    pub(super) ledger: LedgerChoice,
    /// The versions that were recorded, or would be.
    pub(super) versions: Vec<String>,
    /// How many versions are pending afterwards.
    pub(super) pending: usize,
    /// Whether a person said no.
    pub(super) declined: bool,
    /// Whether this was only to be shown.
    pub(super) dry_run: bool,
}

/// The versions of these records.
pub(super) fn versions(records: &[LedgerWrite]) -> Vec<String> {
    records.iter().map(|write| write.version.to_string()).collect()
}

/// Shows what is meant and asks. For people on standard output; with another format only when somebody is asked.
pub(super) fn confirm(common: &Common, mode: Intent, text: &str, question: &str) -> Result<Answer, Failure> {
    let asks = !common.answer.yes && mode == Intent::Do;
    if common.answer.format.is_for_people() {
        output::write(text)?;
    } else if asks {
        eprint!("{text}");
    }
    if asks {
        prompt::ask(question)
    } else {
        Ok(Answer::Yes)
    }
}

/// Takes the database, as any runner does.
pub(super) async fn take(common: &Common, job: &Job) -> Result<(Box<dyn Hand>, String), Failure> {
    let reporter = Reporter::new();
    let who = change::who();
    let claim = Claim::Standalone { who: who.clone() };
    let taken = job
        .database
        .take(&claim, common.limits.patience(), &reporter)
        .await;
    reporter.end();
    Ok((taken.map_err(failure::of_take)?, who))
}

/// Gives the database back. What was recorded is committed: a lost session changes nothing about it.
pub(super) async fn release(hand: Box<dyn Hand>) -> Result<(), Failure> {
    match hand.release().await {
        Ok(()) | Err(DbError::ConnectionLost(_)) => Ok(()),
        Err(error) => Err(failure::of_db(error)),
    }
}

/// What was seen when it was shown is no longer so.
pub(super) fn changed_meanwhile() -> Failure {
    Failure::new(
        Exit::WrongState,
        "record what was shown: the ledger has changed since; nothing was recorded",
    )
    .hint("look at it again, then run this again")
}

pub(super) fn sentence(recorded: &Recorded) -> String {
    let count = recorded.versions.len();
    let Recorded { ledger, pending, .. } = recorded;
    if recorded.declined {
        return "declined, nothing was changed\n".to_owned();
    }
    let verb = if recorded.dry_run {
        "would be recorded"
    } else {
        "recorded"
    };
    let table = ledger.table();
    format!("{count} versions {verb} in {ledger} ({table}), {pending} pending\n")
}
