//! A plan as a person reads it: how each version stands, then every statement.

use std::fmt::Write;

use lockkeeper_migrate::engine::{self, Prospect};
use lockkeeper_migrate::ledger::How;
use lockkeeper_migrate::plan::{self, Plan, StatusRow, Step, VersionStatus};
use lockkeeper_migrate::source::TransactionMode;

use super::job::Job;
use crate::output;

/// Where, how each version stands, and every statement.
pub(super) fn whole(job: &Job, prospect: &Prospect, plan: &Plan) -> String {
    // A prospect is only had where the history may be used.
    let history = engine::history(&prospect.inspection).unwrap_or_default();
    let rows = plan::status(&job.set, history);
    format!(
        "{} ({}), {} layout\n{}\n{}{}",
        job.dsn,
        prospect.inspection.server,
        job.set.layout,
        move_of(prospect),
        status_table(&rows),
        statements(plan)
    )
}

/// That the history goes into another ledger first, where it does.
fn move_of(prospect: &Prospect) -> String {
    let chosen = prospect.inspection.books.chosen;
    prospect.moves.as_ref().map_or_else(String::new, |records| {
        let (count, table) = (records.len(), chosen.table());
        format!("the history moves into {table} ({chosen}): {count} versions are written there first\n")
    })
}

/// The status table.
pub(super) fn status_table(rows: &[StatusRow]) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.version.to_string(),
                row.name.clone(),
                status_name(row.status).to_owned() + recorded(row),
            ]
        })
        .collect();
    output::table(&["Version", "Name", "Status"], &cells)
}

/// How an applied version came to be recorded, when it did not run.
fn recorded(row: &StatusRow) -> &'static str {
    match row.recorded {
        Some(How::Baseline) => " (baseline)",
        Some(How::Adopted) => " (adopted)",
        Some(How::Ran) | None => "",
    }
}

fn status_name(status: VersionStatus) -> &'static str {
    match status {
        VersionStatus::Applied => "Applied",
        VersionStatus::Pending => "Pending",
        VersionStatus::Missing => "Missing",
        VersionStatus::Edited => "Edited",
        VersionStatus::InDoubt => "In doubt",
        VersionStatus::BelowBaseline => "Below baseline",
    }
}

/// Every statement of the plan, in the order they would run.
fn statements(plan: &Plan) -> String {
    plan.steps.iter().map(step).collect()
}

fn step(step: &Step) -> String {
    let Some(script) = step.migration.script(step.direction) else {
        return String::new();
    };
    let how = match &script.transaction {
        TransactionMode::Transactional => "in one transaction".to_owned(),
        TransactionMode::NonTransactional { why } => format!("statement by statement, since {why}"),
    };
    let mut text = format!(
        "\n-- {} {} {} ({}), {how}\n",
        step.direction,
        step.migration.version,
        step.migration.name,
        script.path.display()
    );
    if script.statements.is_empty() {
        text.push_str("-- (nothing to run)\n");
    }
    for statement in &script.statements {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{};", statement.shown());
        if let Some(rows) = &statement.rows {
            let _ = writeln!(text, "-- ({} lines of rows)", rows.text.lines().count());
        }
    }
    text
}
