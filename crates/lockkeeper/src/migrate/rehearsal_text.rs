//! A rehearsal's report as a person reads it.

use std::fmt::Write;

use lockkeeper_migrate::db::{Evidence, LockTaken, Measurement};
use lockkeeper_migrate::rehearse::Rehearsal;
use lockkeeper_migrate::rehearse::report::{MigrationTrial, Reversal, Run};
use lockkeeper_migrate::source::Direction;

use super::diff_text;

/// Each migration with its statements, then what is wrong.
pub(super) fn whole(rehearsal: &Rehearsal) -> String {
    let mut text: String = rehearsal.migrations.iter().map(migration).collect();
    for name in &rehearsal.swept {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "dropped {name}, which a killed rehearsal had left behind");
    }
    if let Some(difference) = &rehearsal.clone_differs {
        let _ = write!(
            text,
            "the clone differs from the target:\n{}",
            diff_text::differences(difference)
        );
    }
    for problem in &rehearsal.problems {
        let _ = writeln!(text, "problem: {problem}");
    }
    let to = rehearsal.to.as_ref().map_or("none", |version| version.as_str());
    if rehearsal.migrations.is_empty() {
        let _ = writeln!(text, "nothing to rehearse, schema version {to}");
    } else if let (true, Some(fingerprint)) = (rehearsal.passed(), &rehearsal.fingerprint) {
        let rows = if rehearsal.with_data {
            "with rows"
        } else {
            "without rows"
        };
        let _ = writeln!(
            text,
            "{} migrations rehearsed {rows} to schema version {to}, {:.1} ms on the way up, fingerprint {fingerprint}",
            rehearsal.migrations.len(),
            rehearsal.up_time().as_secs_f64() * 1000.0
        );
    }
    text
}

fn migration(trial: &MigrationTrial) -> String {
    let mut text = run(trial, Direction::Up, &trial.up, "");
    if let Some(down) = &trial.down {
        text.push_str(&run(trial, Direction::Down, down, ""));
    }
    if let Some(again) = &trial.up_again {
        text.push_str(&run(trial, Direction::Up, again, " again"));
    }
    text.push_str(&match &trial.reversal {
        Reversal::Restores => "  down restores the schema, and up gives the new one again\n".to_owned(),
        Reversal::None => "  no way back\n".to_owned(),
        Reversal::NotReached | Reversal::DownFailed | Reversal::UpAgainFailed => String::new(),
        Reversal::DownDoesNotRestore { difference } => format!(
            "  down does not restore the schema:\n{}",
            diff_text::differences(difference)
        ),
        Reversal::UpAgainDiffers { difference } => format!(
            "  up gives another schema the second time:\n{}",
            diff_text::differences(difference)
        ),
    });
    text
}

fn run(trial: &MigrationTrial, direction: Direction, run: &Run, again: &str) -> String {
    let how = if run.transactional {
        "in one transaction"
    } else {
        "statement by statement"
    };
    let mut text = format!(
        "{direction}{again} {} {} ({how}): {} ms\n",
        trial.version, trial.name, run.duration_ms
    );
    text.extend(run.statements.iter().map(statement));
    if let Some(error) = &run.error {
        let _ = writeln!(text, "  failed: {error}");
    }
    text
}

fn statement(done: &Measurement) -> String {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds for people")]
    let duration_ms = done.duration_us as f64 / 1000.0;
    let mut text = format!("  line {}: {duration_ms:.1} ms", done.line);
    if let Some(lock) = done.locks.first() {
        text.push_str(&strongest(lock));
    }
    for rewritten in &done.rewritten {
        let _ = write!(text, ", rewrites {}", rewritten.object);
    }
    if let Some(algorithm) = &done.algorithm {
        let _ = write!(text, ", ALGORITHM={} LOCK={}", algorithm.name, algorithm.lock);
    }
    if let Some(rows) = done.rows {
        let _ = write!(text, ", {rows} rows");
    }
    let _ = writeln!(text, ": {}", done.text);
    text
}

fn strongest(lock: &LockTaken) -> String {
    let known = match lock.evidence {
        Evidence::Seen => "",
        Evidence::Sampled => ", as seen while it ran",
        Evidence::Documented => ", as documented",
    };
    format!(
        ", {} on {} (blocks {}{known})",
        lock.mode, lock.object, lock.blocks
    )
}
