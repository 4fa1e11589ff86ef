//! The root of `migrate sql`: its verbs, and what it does without one.

use clap::{Args, Subcommand};

use super::flags::{Common, DsnArg};
use super::verbs::{
    accept_edit, adopt, backup, baseline, create, diff, doctor, down, lint, new, plan, redo, rehearse,
    resolve, restore, status, up, up_to, validate, verify, wait,
};
use crate::exit::{self, Exit, Failure};

/// Arguments of `lockkeeper migrate sql`.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub(crate) struct SqlArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    dsn: DsnArg,
    #[command(subcommand)]
    verb: Option<Verb>,
}

fn after_help() -> String {
    format!(
        "DSNs: postgres://USER:PASSWORD@HOST:PORT/DATABASE, mysql://…, sqlite://PATH (the file is made when missing, \
         by up and create only).\n\n{}\n\nEvery verb, flag and JSON shape: docs/migrate-sql.md.",
        exit::help()
    )
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Make the database, its user and that user's grants, as far as they are missing
    Create(create::CreateArgs),
    /// Make the next migration's files, named as the directory's own tool would
    New(new::NewArgs),
    /// Show what up would do, statement by statement; exit code 3 when something is pending
    Plan(plan::PlanArgs),
    /// Apply what is pending; shows the plan and asks first
    Up(up::UpArgs),
    /// Apply what is pending up to a version
    UpTo(up_to::UpToArgs),
    /// Take migrations back; this can lose data
    Down(down::DownArgs),
    /// Take the newest migrations back and apply them again; this can lose data
    Redo(redo::RedoArgs),
    /// Make a backup and record it, or list what is recorded
    Backup(backup::BackupVerbArgs),
    /// Bring a backup back; what is in the database now is lost
    Restore(restore::RestoreArgs),
    /// Show which migrations are applied and which are pending (exit code 3)
    Status(status::StatusArgs),
    /// Wait until nothing is pending, or until a version is reached
    Wait(wait::WaitArgs),
    /// Take over the history that another tool has recorded, or move it into another ledger
    Adopt(adopt::AdoptArgs),
    /// Mark everything up to a version as applied, without running it
    Baseline(baseline::BaselineArgs),
    /// Record that the file of an applied version was changed on purpose
    AcceptEdit(accept_edit::AcceptEditArgs),
    /// Check the directory, and with a DSN the database against it; changes nothing
    Validate(validate::ValidateArgs),
    /// Tell what is worth a second look before it runs
    Lint(lint::LintArgs),
    /// Tell what is wrong with a database, and what to do about it
    Doctor(doctor::DoctorVerbArgs),
    /// Try what is pending on a clone: up, down, up again (exit code 4 on a problem)
    Rehearse(rehearse::RehearseArgs),
    /// Check a live database: ledger, verify scripts, schema (exit code 4 on a difference)
    Verify(verify::VerifyArgs),
    /// Compare the database's schema with another one (exit code 4 when they differ)
    Diff(diff::DiffArgs),
    /// Say what became of a statement in doubt, when you have looked
    Resolve(resolve::ResolveArgs),
}

impl SqlArgs {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let common = self.common.named_before_the_verb(self.dsn);
        match self.verb {
            // The older form, which charts and scripts still use.
            None => up::UpArgs::default().run(&common).await,
            Some(verb) => verb.run(&common).await,
        }
    }
}

impl Verb {
    async fn run(self, common: &Common) -> Result<Exit, Failure> {
        match self {
            Self::Create(args) => args.run(common).await,
            Self::New(args) => args.run(common),
            Self::Plan(args) => args.run(common).await,
            Self::Up(args) => args.run(common).await,
            Self::UpTo(args) => args.run(common).await,
            Self::Down(args) => args.run(common).await,
            Self::Redo(args) => args.run(common).await,
            Self::Backup(args) => args.run(common).await,
            Self::Restore(args) => args.run(common).await,
            Self::Doctor(args) => args.run(common).await,
            Self::Status(args) => args.run(common).await,
            Self::Wait(args) => args.run(common).await,
            Self::Adopt(args) => args.run(common).await,
            Self::Baseline(args) => args.run(common).await,
            Self::AcceptEdit(args) => args.run(common).await,
            Self::Validate(args) => args.run(common).await,
            Self::Lint(args) => args.run(common).await,
            Self::Rehearse(args) => args.run(common).await,
            Self::Verify(args) => args.run(common).await,
            Self::Diff(args) => args.run(common).await,
            Self::Resolve(args) => args.run(common).await,
        }
    }
}
