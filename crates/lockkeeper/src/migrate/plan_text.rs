//! A plan as a person reads it: how each version stands, then every statement.

use std::fmt::Write;

use lockkeeper_migrate::plan::{Plan, StatusRow, Step, VersionStatus};
use lockkeeper_migrate::source::TransactionMode;

use crate::output;

/// The status table.
pub(super) fn status_table(rows: &[StatusRow]) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.version.to_string(),
                row.name.clone(),
                status_name(row.status).to_owned(),
            ]
        })
        .collect();
    output::table(&["Version", "Name", "Status"], &cells)
}

pub(super) fn status_name(status: VersionStatus) -> &'static str {
    match status {
        VersionStatus::Applied => "Applied",
        VersionStatus::Pending => "Pending",
        VersionStatus::Missing => "Missing",
        VersionStatus::Edited => "Edited",
        VersionStatus::InDoubt => "In doubt",
    }
}

/// Every statement of the plan, in the order they would run.
pub(super) fn statements(plan: &Plan) -> String {
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
        let _ = writeln!(text, "{};", statement.text);
    }
    text
}
