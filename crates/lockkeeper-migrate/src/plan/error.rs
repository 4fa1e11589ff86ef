//! Why a goal cannot be planned.

use std::path::PathBuf;

use lockkeeper_core::version::SchemaVersion;

use crate::ledger::{Fingerprint, Tool};

/// An applied migration whose file is no longer what ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// Its version.
    pub version: SchemaVersion,
    /// The file.
    pub path: PathBuf,
    /// The checksum of what ran.
    pub applied: Fingerprint,
    /// The checksum of the file now.
    pub found: Fingerprint,
}

/// A goal that cannot be planned. Reads after "failed to"; nothing may be run then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A migration was interrupted, and a person must say what became of one statement.
    #[error(
        "plan past version {version}: its statement {statement} is in doubt; resolve it as done or not done first"
    )]
    StatementInDoubt {
        /// The version.
        version: SchemaVersion,
        /// The statement's place in its file, counted from 1.
        statement: u32,
    },
    /// The tool that keeps the ledger says that it failed half-way.
    #[error(
        "plan past version {version}: {tool} marked it as failed half-way; look what of it took effect, finish it or \
         undo it by hand, then tell {tool} so ({})", how_to_clean(*tool)
    )]
    Dirty {
        /// The version.
        version: SchemaVersion,
        /// The tool.
        tool: Tool,
    },
    /// An applied file was changed.
    #[error(
        "plan over version {}: {} was edited after it was applied (applied {}, now {}); restore the file, or make \
         the change a new migration, or accept it with accept-edit",
        .0.version, .0.path.display(), .0.applied, .0.found
    )]
    Edited(Edited),
    /// The ledger has versions that the source lacks.
    #[error(
        "plan for this database: it is ahead of the directory, which lacks {}; use the directory of the newer release",
        list(.versions)
    )]
    AheadOfDirectory {
        /// The versions, in the ledger's order.
        versions: Vec<SchemaVersion>,
    },
    /// Pending versions lie below an applied one.
    #[error(
        "plan pending {}: below version {highest}, which is applied already; give what is late a higher version, or \
         apply it all the same with --allow-out-of-order",
        list(.pending)
    )]
    OutOfOrder {
        /// The pending versions below it, ascending.
        pending: Vec<SchemaVersion>,
        /// The highest applied version.
        highest: SchemaVersion,
    },
    /// The goal is no version of the source.
    #[error("plan to version {version}: there is no such version in the directory")]
    UnknownGoal {
        /// The version.
        version: SchemaVersion,
    },
    /// The goal of an up lies below the target's version.
    #[error("plan up to version {version}: the database is at {current} already; to go back, use down")]
    GoalBelowCurrent {
        /// The goal.
        version: SchemaVersion,
        /// The target's version.
        current: SchemaVersion,
    },
    /// The goal of a down is not applied.
    #[error("plan down to version {version}: it is not applied")]
    GoalNotApplied {
        /// The goal.
        version: SchemaVersion,
    },
    /// A down by no steps.
    #[error("plan down by 0 steps: say how many, at least 1")]
    NoSteps,
    /// The down script of a migration to take back cannot be read as statements.
    #[error("plan down over version {version}: its down migration cannot be used: {problem}")]
    BrokenDown {
        /// The version.
        version: SchemaVersion,
        /// File, line and problem.
        problem: String,
    },
    /// A migration to take back has no down script.
    #[error("plan down over version {version}: {} has no down migration", up.display())]
    MissingDown {
        /// The version.
        version: SchemaVersion,
        /// Its up file.
        up: PathBuf,
    },
}

/// How a person clears the tool's mark.
pub(crate) fn how_to_clean(tool: Tool) -> &'static str {
    match tool {
        Tool::GolangMigrate => "migrate force VERSION",
        Tool::Flyway => "flyway repair",
        Tool::Sqlx => "set success to true in _sqlx_migrations, or delete the row",
        Tool::Pop | Tool::Goose | Tool::Dbmate | Tool::Refinery | Tool::Diesel => "in its table",
    }
}

/// Versions, for people.
pub(super) fn list(versions: &[SchemaVersion]) -> String {
    let word = if versions.len() == 1 {
        "version"
    } else {
        "versions"
    };
    format!(
        "{word} {}",
        versions
            .iter()
            .map(SchemaVersion::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    )
}
