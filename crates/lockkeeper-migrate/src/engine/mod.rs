//! The loop that the command line and the rollout driver share: look, plan, migrate, verify. It knows the port
//! and the plan, and no dialect.
//!
//! | module | what it holds |
//! |---|---|
//! | `migrate` | runs a plan through a hand, step by step |
//! | `record` | what is recorded of a migration |
//! | `transfer` | which ledger holds the history; taking it from one into another; the baseline |
//! | `verify` | does the ledger equal the plan, and do the user's scripts agree |
//! | `error` | what can go wrong, each naming its place |

mod error;
mod migrate;
mod record;
mod transfer;
mod verify;

pub use error::EngineError;
pub use migrate::{Outcome, Progress, Report, StepReport, migrate};
pub use record::edit_of;
pub use transfer::{
    BaselineError, OtherLedger, Side, Standing, TransferError, baseline, history, refuse_other_ledgers,
    standing, transfer,
};
pub use verify::{Checked, ScriptResult, Verification, check, verify};

use lockkeeper_core::version::SchemaVersion;

use crate::db::{Database, DbError, Hand, Inspection, LedgerWrite};
use crate::ledger::LedgerChoice;
use crate::plan::{Goal, Plan, plan};
use crate::source::MigrationSet;

/// What a target is like, and what would take it to a goal.
#[derive(Debug, Clone)]
pub struct Prospect {
    /// The target as it was seen.
    pub inspection: Inspection,
    /// The steps to the goal from there.
    pub plan: Plan,
    /// What has to be written into the chosen ledger first, where our own holds the history until now.
    pub moves: Option<Vec<LedgerWrite>>,
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
    let moves = match standing(&inspection)? {
        Standing::Ready => None,
        Standing::Move => Some(transfer(
            set,
            own_side(&inspection),
            chosen_side(&inspection),
            "",
        )?),
    };
    let plan = plan(set, history(&inspection)?, goal)?;
    Ok(Prospect {
        inspection,
        plan,
        moves,
    })
}

fn own_side(inspection: &Inspection) -> Side<'_> {
    Side {
        ledger: LedgerChoice::Own,
        entries: &inspection.books.own,
    }
}

fn chosen_side(inspection: &Inspection) -> Side<'_> {
    Side {
        ledger: inspection.books.chosen,
        entries: &inspection.ledger,
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
