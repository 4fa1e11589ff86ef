//! Which exit code and hint an error gets.

use lockkeeper_migrate::backup::{BackupError, RemainingState, RestoreError, RestoreFailure};
use lockkeeper_migrate::db::{ApplyError, DbError, TakeError};
use lockkeeper_migrate::dsn::DsnError;
use lockkeeper_migrate::dump_tools::ToolError;
use lockkeeper_migrate::engine::EngineError;
use lockkeeper_migrate::plan::PlanError;
use lockkeeper_migrate::rehearse::RehearseError;
use lockkeeper_migrate::source::SourceError;

use crate::exit::{Exit, Failure};

pub(super) fn of_dsn(error: DsnError) -> Failure {
    let failure = Failure::usage(&error);
    match error {
        DsnError::NoScheme => failure.hint("for the verbs, see lockkeeper migrate sql --help"),
        _ => failure,
    }
}

pub(super) fn of_source(error: SourceError) -> Failure {
    let text = with_sources(&error);
    match error {
        SourceError::Directory { .. } => {
            Failure::usage(text).hint("name the directory with the migrations with --dir DIR")
        }
        SourceError::Undecided { .. } => Failure::usage(text),
        _ => Failure::new(Exit::Error, text),
    }
}

pub(super) fn of_plan(error: PlanError) -> Failure {
    let exit = match error {
        PlanError::StatementInDoubt { .. }
        | PlanError::Dirty { .. }
        | PlanError::Edited(_)
        | PlanError::AheadOfDirectory { .. }
        | PlanError::OutOfOrder { .. } => Exit::WrongState,
        PlanError::UnknownGoal { .. }
        | PlanError::GoalBelowCurrent { .. }
        | PlanError::GoalNotApplied { .. }
        | PlanError::NoSteps => Exit::Usage,
        PlanError::MissingDown { .. } | PlanError::BrokenDown { .. } => Exit::Error,
    };
    let is_doubt = matches!(error, PlanError::StatementInDoubt { .. });
    let failure = Failure::new(exit, error);
    if is_doubt { failure.hint(RESOLVE) } else { failure }
}

/// What a person does about a statement in doubt.
const RESOLVE: &str = "look at the database, then say what became of it: `lockkeeper migrate sql resolve VERSION --as \
                       done` when it took effect, `--as not-done` to have it run again";

pub(super) fn of_db(error: DbError) -> Failure {
    let exit = match error {
        DbError::TimedOut { .. } => Exit::TimedOut,
        DbError::IdentityChanged { .. }
        | DbError::EpochBehind { .. }
        | DbError::ForeignTable { .. }
        | DbError::NewerFormat { .. }
        | DbError::OtherBook { .. } => Exit::WrongState,
        DbError::Unreachable { .. }
        | DbError::Permission { .. }
        | DbError::Superseded { .. }
        | DbError::ConnectionLost(_)
        | DbError::Server { .. }
        | DbError::Unsupported(_) => Exit::Error,
    };
    let hint = match error {
        DbError::Unreachable { .. } => {
            Some("check the DSN, and whether the database runs and can be reached from here")
        }
        DbError::TimedOut { .. } => {
            Some("wait for what is named above, or end it; --timeout sets how long to wait")
        }
        DbError::Superseded { .. } => Some("see with status what the other one did, then run it again"),
        DbError::ConnectionLost(_) => Some("see with status what took effect, then run it again"),
        _ => None,
    };
    let failure = Failure::new(exit, error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

pub(super) fn of_backup(error: BackupError) -> Failure {
    match error {
        BackupError::Db(error) => of_db(error),
        BackupError::Usage(_) => Failure::usage(error),
        BackupError::Tool(ToolError::TimedOut { .. }) => {
            Failure::new(Exit::TimedOut, error).hint("--backup-timeout sets how long it may take")
        }
        BackupError::Unreadable(_) | BackupError::Differs(_) => Failure::new(Exit::WrongState, error),
        BackupError::Tool(_) | BackupError::File { .. } | BackupError::NoScratch { .. } => {
            Failure::new(Exit::Error, error)
        }
    }
}

/// The exit code tells why it ended, and the text what the database holds now.
pub(super) fn of_restore(error: RestoreError) -> Failure {
    let text = error.to_string();
    let exit = match (error.state, error.cause) {
        (RemainingState::Partial | RemainingState::Unknown, _) => Exit::WrongState,
        (RemainingState::Untouched, RestoreFailure::Take(error)) => of_take(error).exit,
        (RemainingState::Untouched, RestoreFailure::Backup(error)) => of_backup(error).exit,
    };
    Failure::new(exit, text)
}

pub(crate) fn of_take(error: TakeError) -> Failure {
    match error {
        TakeError::Db(error) => of_db(error),
        TakeError::GateClosed { .. } | TakeError::TargetAhead { .. } | TakeError::EpochTaken { .. } => {
            Failure::new(Exit::WrongState, error)
        }
    }
}

pub(super) fn of_engine(error: EngineError) -> Failure {
    match error {
        EngineError::Plan(error) => of_plan(error),
        EngineError::Db(error) => of_db(error),
        EngineError::NoScript { .. } => Failure::new(Exit::Error, error),
        EngineError::Stopped { .. } => Failure::new(Exit::EndedOtherwise, error),
        EngineError::OtherLedger(_) | EngineError::Transfer(_) | EngineError::Unfinished { .. } => {
            Failure::new(Exit::WrongState, error)
        }
        EngineError::Apply { error: ref cause, .. } => {
            let text = error.to_string();
            match cause {
                ApplyError::RolledBack { .. } => {
                    Failure::new(Exit::Error, text).hint("mend the file, then run it again")
                }
                ApplyError::Partial { .. } => Failure::new(Exit::WrongState, text)
                    .hint("mend what is named above, then run it again: it goes on after the last statement that took effect"),
                ApplyError::InDoubt { .. } => Failure::new(Exit::WrongState, text).hint(RESOLVE),
                ApplyError::Db(DbError::TimedOut { .. }) => Failure::new(Exit::TimedOut, text),
                ApplyError::Db(_) => Failure::new(Exit::Error, text),
            }
        }
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

pub(super) fn of_rehearsal(error: RehearseError) -> Failure {
    match error {
        RehearseError::Engine(error) => of_engine(*error),
        RehearseError::Db(error) => of_db(error),
        RehearseError::Take(error) => of_take(error),
        RehearseError::Beyond { .. } => Failure::usage(error).hint(
            "take them out of the migrations, or run them in the rehearsal too with --allow-server-wide",
        ),
        RehearseError::OtherDialect { .. } => Failure::usage(error),
        RehearseError::GateClosed { .. } => Failure::new(Exit::WrongState, error),
        RehearseError::Stopped => Failure::new(Exit::EndedOtherwise, error),
        RehearseError::Tool(_)
        | RehearseError::Io { .. }
        | RehearseError::UnknownRelease { .. }
        | RehearseError::NotDropped { .. } => Failure::new(Exit::Error, error),
    }
}
