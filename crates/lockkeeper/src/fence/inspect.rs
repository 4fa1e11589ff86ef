//! What stands in a target.

use std::fmt::Write as _;

use clap::Args;
use lockkeeper_migrate::db::FenceState;

use super::{DatabaseFlag, failed};
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};

#[derive(Debug, Args)]
pub(crate) struct InspectCommand {
    #[command(flatten)]
    database: DatabaseFlag,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl InspectCommand {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let state = self
            .database
            .open()?
            .inspect_fence()
            .await
            .map_err(|e| failed(&e))?;
        output::print(self.format, &state, text)?;
        Ok(Exit::Ok)
    }
}

/// For people.
pub(super) fn text(state: &FenceState) -> String {
    let mut text = format!("{} ({})\n", state.server, state.identity);
    let Some(row) = &state.row else {
        return text + "no gate row: lockkeeper has never been here\n";
    };
    let since = state.changed_at.as_deref().unwrap_or("an unknown time");
    let by = row.rollout.as_deref().unwrap_or("(nobody named)");
    let _ = match (state.closed, row.released_by_hand()) {
        (true, _) => writeln!(
            text,
            "gate      closed at {} since {since} by rollout {by}: everybody but the executor is refused",
            row.gate_epoch
        ),
        (false, Some(why)) => writeln!(
            text,
            "gate      open at {} since {since}, released by hand: {why}",
            row.opened
        ),
        (false, None) => writeln!(text, "gate      open at {} since {since}", row.opened),
    };
    let version = row.version.as_ref().map_or("none", |version| version.as_str());
    let _ = writeln!(text, "version   {version} (at the last opening)");
    let _ = writeln!(text, "leader    {}", row.leader_epoch);
    let _ = match &state.executor {
        Some(executor) => writeln!(
            text,
            "executor  {}, {}, {}",
            executor.id,
            executor.who.as_deref().unwrap_or("not named"),
            if executor.alive { "ALIVE" } else { "gone" }
        ),
        None => writeln!(text, "executor  none"),
    };
    if row.identity != state.identity {
        let _ = writeln!(
            text,
            "identity  the row was written on {}: a copy, or a failover",
            row.identity
        );
    }
    for object in state.barrier.iter().chain(&state.epoch_tables) {
        let _ = writeln!(text, "object    {object}");
    }
    text
}
