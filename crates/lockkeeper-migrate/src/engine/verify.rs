//! Does the target hold what the plan says?

use std::path::PathBuf;

use lockkeeper_core::version::SchemaVersion;

use super::EngineError;
use crate::db::{Hand, VerifyOutcome};
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

fn is_for(script: &VerifyScript, set: &MigrationSet, expected: Option<&SchemaVersion>) -> bool {
    match (&script.version, expected) {
        (None, _) => true,
        (Some(version), Some(expected)) => set.same(version, expected),
        (Some(_), None) => false,
    }
}
