//! What the verbs that change a database share.

use clap::Args;

#[derive(Debug, Default, Args)]
pub(in crate::migrate) struct ChangeArgs {
    /// Show the plan and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Whether a plan is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::migrate) enum Intent {
    Do,
    Show,
}

impl ChangeArgs {
    pub(in crate::migrate) fn intent(&self) -> Intent {
        match self.dry_run {
            true => Intent::Show,
            false => Intent::Do,
        }
    }
}
