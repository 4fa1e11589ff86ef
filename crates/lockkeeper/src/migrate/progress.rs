//! What is going on, on standard error.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lockkeeper_migrate::db::{Event, Observer};
use lockkeeper_migrate::engine::{Outcome, Progress, StepReport};
use lockkeeper_migrate::plan::Step;

use super::stop::Stopping;

/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(120);

/// One line per step and per wait; on a terminal a spinner besides, with the statement that runs.
#[derive(Debug)]
pub(super) struct Reporter {
    spinner: ProgressBar,
    stopping: Stopping,
}

impl Reporter {
    pub(super) fn new() -> Self {
        Self::stopped_by(Stopping::default())
    }

    /// One that also tells the run when it is to stop.
    pub(super) fn stopped_by(stopping: Stopping) -> Self {
        let target = if stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let spinner = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}") {
            spinner.set_style(style);
        }
        spinner.enable_steady_tick(TICK);
        Self { spinner, stopping }
    }

    /// A line that stays.
    pub(super) fn say(&self, line: &str) {
        self.spinner.suspend(|| eprintln!("{line}"));
    }

    /// Takes the spinner away.
    pub(super) fn end(&self) {
        self.spinner.finish_and_clear();
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.end();
    }
}

impl Observer for Reporter {
    fn event(&self, event: Event) {
        match event {
            Event::Statement { index, total, text } => {
                self.spinner
                    .set_message(format!("statement {index}/{total}: {text}"));
            }
            Event::Waiting { what, blockers } => {
                let who: Vec<String> = blockers.iter().map(ToString::to_string).collect();
                let who = if who.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", who.join("; "))
                };
                self.say(&format!("waiting for {what}{who}"));
            }
            Event::Ended(blocker) => self.say(&format!("ended {blocker}")),
            // A rehearsal's report shows them.
            Event::Measured(_) => {}
            Event::Notice(notice) => self.say(&format!("{}: {}", notice.severity, notice.message)),
        }
    }

    fn is_stopping(&self) -> bool {
        self.stopping.is_asked_for()
    }
}

impl Progress for Reporter {
    fn started(&self, step: &Step, index: usize, total: usize) {
        let migration = &step.migration;
        self.spinner.set_message(format!(
            "[{index}/{total}] {} {} {}",
            step.direction, migration.version, migration.name
        ));
    }

    fn finished(&self, report: &StepReport) {
        let StepReport {
            version,
            name,
            direction,
            ..
        } = report;
        match report.outcome {
            Outcome::Ran => self.say(&format!(
                "{direction} {version} {name}: {} ms",
                report.duration_ms
            )),
            Outcome::Already => self.say(&format!("{direction} {version} {name}: another runner did it")),
        }
    }
}
