//! The loop that the command line and the rollout driver share: look, plan, migrate, verify. It knows the port
//! and the plan, and no dialect.
//!
//! | module | what it holds |
//! |---|---|
//! | `migrate` | runs a plan through a hand, step by step |
//! | `record` | what is recorded of a migration |
//! | `verify` | does the ledger equal the plan, and do the user's scripts agree |
//! | `error` | what can go wrong, each naming its place |

mod error;
mod migrate;
mod record;
mod verify;

pub use error::{EngineError, OtherLedger};
pub use migrate::{Outcome, Progress, Report, StepReport, migrate};
pub use verify::{ScriptResult, Verification, verify};

use lockkeeper_core::version::SchemaVersion;

use crate::db::{Database, DbError, Hand, Inspection};
use crate::plan::{Goal, Plan, plan};
use crate::source::MigrationSet;

/// What a target is like, and what would take it to a goal.
#[derive(Debug, Clone)]
pub struct Prospect {
    /// The target as it was seen.
    pub inspection: Inspection,
    /// The steps to the goal from there.
    pub plan: Plan,
}

/// Looks at the target and plans its way to `goal`. Changes nothing.
///
/// # Errors
///
/// When the target cannot be read, or source and ledger leave a doubt: see [`crate::plan::PlanError`].
pub async fn prepare(
    database: &dyn Database,
    set: &MigrationSet,
    goal: &Goal,
) -> Result<Prospect, EngineError> {
    let inspection = database.inspect().await?;
    refuse_other_ledgers(&inspection)?;
    let plan = plan(set, &inspection.ledger, goal)?;
    Ok(Prospect { inspection, plan })
}

/// Refuses a target that another migrator has migrated and lockkeeper has not: its own ledger is empty, so
/// everything that is applied already would be applied again.
///
/// # Errors
///
/// The table that was found.
pub fn refuse_other_ledgers(inspection: &Inspection) -> Result<(), OtherLedger> {
    match inspection.other_ledgers.first() {
        Some(table) if inspection.ledger.is_empty() => Err(OtherLedger { table: table.clone() }),
        Some(_) | None => Ok(()),
    }
}

/// A migration of which only a part has taken effect, if there is one: its statements are in the journal, and it is
/// in no ledger. Neither its old nor its new version may be opened.
///
/// # Errors
///
/// When the target cannot be asked.
pub async fn unfinished(hand: &mut dyn Hand) -> Result<Option<SchemaVersion>, DbError> {
    let version = hand.scalar("SELECT min(version) FROM lockkeeper_journal").await?;
    Ok(version.map(SchemaVersion))
}

/// A migration that was interrupted on its way up, if there is one. One that was interrupted on its way down is
/// reverted to the end by running its down script again.
///
/// # Errors
///
/// When the target cannot be asked.
pub async fn unfinished_up(hand: &mut dyn Hand) -> Result<Option<SchemaVersion>, DbError> {
    let question = "SELECT min(version) FROM lockkeeper_journal WHERE direction = 'up'";
    Ok(hand.scalar(question).await?.map(SchemaVersion))
}
