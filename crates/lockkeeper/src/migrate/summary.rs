//! What a change came to, as it is printed.

use lockkeeper_migrate::backup::BackupReport;
use lockkeeper_migrate::engine::{Report, StepReport};
use serde::Serialize;

use super::job::Job;
use super::journey::{Course, Journey};

/// What `up`, `up-to`, `down` and `redo` print.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// The database, without login.
    target: String,
    direction: Course,
    /// Version before, as it was when the plan was made.
    from: Option<String>,
    /// Version after.
    to: Option<String>,
    /// Steps that ran now.
    ran: usize,
    /// Steps that another runner had done when their turn came.
    already: usize,
    /// Notices and warnings of the server.
    notices: usize,
    /// Whether a person said no.
    pub(super) declined: bool,
    /// What went wrong; `null` when nothing did.
    pub(super) error: Option<String>,
    steps: Vec<StepReport>,
    /// The backup that was made first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) backup: Option<BackupReport>,
}

impl Summary {
    pub(super) fn of(job: &Job, journey: &Journey, report: Report) -> Self {
        Self {
            target: job.dsn.place(),
            direction: journey.course,
            from: journey.plan.from.as_ref().map(ToString::to_string),
            to: journey.after(report.steps.len()).map(ToString::to_string),
            ran: report.ran(),
            already: report.steps.len() - report.ran(),
            notices: report.notices(),
            declined: false,
            error: None,
            steps: report.steps,
            backup: None,
        }
    }

    /// The same in one line, for people.
    pub(super) fn sentence(&self) -> String {
        let version = self.to.as_deref().unwrap_or("none");
        let (ran, already, notices) = (self.ran, self.already, self.notices);
        if self.declined {
            return "declined, nothing was changed\n".to_owned();
        }
        if self.error.is_none() && ran + already == 0 {
            return format!("nothing to do, schema version {version}\n");
        }
        let done = match self.direction {
            Course::Up => "applied",
            Course::Down => "taken back",
            Course::Redo => "taken back or applied",
        };
        let mut text = format!("{ran} {done}, schema version {version}");
        if already > 0 {
            text.push_str(&format!(", {already} done by another runner"));
        }
        if notices > 0 {
            text.push_str(&format!(", {notices} notices from the server"));
        }
        text + "\n"
    }
}
