//! Is this the database that was meant, and is it still as it was when the plan was shown?

use lockkeeper_migrate::db::Hand;
use lockkeeper_migrate::engine::Prospect;
use lockkeeper_migrate::plan::{self, Goal, PlanError};

use super::failure;
use super::flags::Common;
use super::job::Job;
use crate::exit::{Exit, Failure};

/// A restored, copied or renamed database brings its history along. Whether it is the one that is meant, a person
/// must say, before anything of it changes.
pub(super) fn check_identity(common: &Common, prospect: &Prospect) -> Result<(), Failure> {
    let seen = &prospect.inspection.identity;
    let recorded = prospect.inspection.gate_row.as_ref().map(|row| &row.identity);
    let Some(recorded) = recorded.filter(|recorded| *recorded != seen) else {
        return Ok(());
    };
    let text = format!(
        "this database was restored, copied or renamed since lockkeeper last wrote to it: that was {recorded}, this \
         is {seen}"
    );
    if common.database.accept_identity || prospect.plan.steps.is_empty() {
        eprintln!("note: {text}");
        return Ok(());
    }
    Err(Failure::new(Exit::WrongState, text)
        .hint("if it is the one that you mean, say so with --accept-identity"))
}

/// What was planned must still be what is needed: the database may have been restored since the plan was shown.
pub(super) async fn confirm(
    hand: &mut dyn Hand,
    job: &Job,
    shown: &Prospect,
    goal: &Goal,
) -> Result<(), Failure> {
    let planned_for = &shown.inspection.identity;
    let seen = &hand.gate_row().identity;
    if shown.inspection.gate_row.is_some() && seen != planned_for {
        let text = format!("run the plan: it was made for {planned_for}, and this is {seen} now");
        return Err(Failure::new(Exit::WrongState, text).hint("look again, then run it again"));
    }
    let ledger = hand.ledger().await.map_err(failure::of_db)?;
    let now = match plan::plan(&job.set, &ledger, goal) {
        Ok(now) => now,
        // Another runner has gone further.
        Err(PlanError::GoalBelowCurrent { .. }) => return Ok(()),
        Err(error) => return Err(failure::of_plan(error)),
    };
    match now.steps.iter().find(|step| !shown.plan.steps.contains(step)) {
        Some(step) => {
            let version = &step.migration.version;
            let text =
                format!("run the plan: version {version} is pending now and was not when it was shown");
            Err(Failure::new(Exit::WrongState, text)
                .hint("the database was restored or taken back in between; look again"))
        }
        None => Ok(()),
    }
}
