//! Does the target hold what the plan says?

use std::path::PathBuf;

use lockkeeper_core::version::SchemaVersion;

use super::EngineError;
use crate::db::{Database, Hand, VerifyOutcome};
use crate::ledger::LedgerEntry;
use crate::plan::{self, VerifyFailure};
use crate::source::{MigrationSet, VerifyScript};

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// How the ledger differs from the plan; `None` when it does not.
    pub ledger: Option<VerifyFailure>,
    /// The user's scripts that ran, in order of path. None ran when the ledger is wrong already.
    pub scripts: Vec<ScriptResult>,
}

/// What one of the user's scripts said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptResult {
    /// The file.
    pub path: PathBuf,
    /// Its verdict.
    pub outcome: VerifyOutcome,
}

impl Verification {
    /// Whether the gate may open.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failures().is_empty()
    }

    /// Everything that speaks against it, one line each.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        let ledger = self.ledger.iter().map(ToString::to_string);
        let scripts = self.scripts.iter().filter_map(|script| match &script.outcome {
            VerifyOutcome::Passed => None,
            VerifyOutcome::Failed(why) => Some(format!("verify with {}: {why}", script.path.display())),
        });
        ledger.chain(scripts).collect()
    }
}

/// Checks that the ledger equals the plan up to `expected` (`None` expects nothing applied), then runs the scripts
/// that are for every version or for this one. Under a barrier it sees what the opening would make visible.
///
/// # Errors
///
/// When the target cannot be asked. A failed check is no error but a [`Verification`] that did not pass.
pub async fn verify(
    hand: &mut dyn Hand,
    set: &MigrationSet,
    expected: Option<&SchemaVersion>,
    scripts: &[VerifyScript],
) -> Result<Verification, EngineError> {
    let ledger = hand.ledger().await?;
    if let Err(failure) = plan::verify(set, &ledger, expected) {
        return Ok(Verification {
            ledger: Some(failure),
            scripts: Vec::new(),
        });
    }
    let mut results = Vec::new();
    for script in scripts.iter().filter(|script| is_for(script, set, expected)) {
        let outcome = hand.verify(&script.statements).await?;
        results.push(ScriptResult {
            path: script.path.clone(),
            outcome,
        });
    }
    Ok(Verification {
        ledger: None,
        scripts: results,
    })
}

/// The same for a database that nobody holds: at the version that its ledger says, in read-only sessions.
///
/// # Errors
///
/// When the target cannot be asked, or another migrator has its history.
pub async fn check(
    database: &dyn Database,
    set: &MigrationSet,
    scripts: &[VerifyScript],
) -> Result<Checked, EngineError> {
    let inspection = database.inspect().await?;
    super::refuse_other_ledgers(&inspection)?;
    let version = newest(set, &inspection.ledger);
    let ledger = plan::verify(set, &inspection.ledger, version.as_ref()).err();
    let mut results = Vec::new();
    for script in scripts
        .iter()
        .filter(|script| is_for(script, set, version.as_ref()))
    {
        let outcome = database.verify(&script.statements).await?;
        results.push(ScriptResult {
            path: script.path.clone(),
            outcome,
        });
    }
    Ok(Checked {
        version,
        verification: Verification {
            ledger,
            scripts: results,
        },
    })
}

/// What a check of a live database found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The newest version in its ledger.
    pub version: Option<SchemaVersion>,
    /// What was checked at that version.
    pub verification: Verification,
}

/// The newest applied version that the set knows; what it does not know is the ledger's failure.
fn newest(set: &MigrationSet, ledger: &[LedgerEntry]) -> Option<SchemaVersion> {
    let applied = |migration: &&std::sync::Arc<crate::source::Migration>| {
        ledger
            .iter()
            .any(|entry| set.same(&entry.version, &migration.version))
    };
    set.migrations
        .iter()
        .rfind(applied)
        .map(|migration| migration.version.clone())
}

fn is_for(script: &VerifyScript, set: &MigrationSet, expected: Option<&SchemaVersion>) -> bool {
    match (&script.version, expected) {
        (None, _) => true,
        (Some(version), Some(expected)) => set.same(version, expected),
        (Some(_), None) => false,
    }
}
