//! The few things that are safe to put right, each only when a person says so.

use std::time::Duration;

use super::diagnosis::Diagnosis;
use crate::db::{self, Claim, DatabaseOptions, DbError, Silent, TakeError};
use crate::dsn::Dsn;

/// How long to wait for another executor.
const PATIENCE: Duration = Duration::from_secs(30);

/// Something that can be put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mending {
    /// The gate row is a copy's: it gets this server's identity, and a gate that was closed there is opened here.
    AdoptCopy,
    /// Barriers whose fence has been opened are dropped.
    DropBarriers,
}

impl Mending {
    /// What a person is asked.
    #[must_use]
    pub fn question(self) -> &'static str {
        match self {
            Self::AdoptCopy => {
                "The gate row was written on another server. If this is a restored or cloned copy, it can be made this \
                 server's own, and a gate that was closed there is opened here. Do not do this to a database that a \
                 fleet has failed over to in the middle of a rollout.\nIs this a copy, to be made its own?"
            }
            Self::DropBarriers => "Drop what opened fences have left behind? It refuses nobody any more.",
        }
    }
}

/// What of a diagnosis can be put right, in the order in which it must be.
#[must_use]
pub fn mendings(diagnosis: &Diagnosis) -> Vec<Mending> {
    let has = |code: &str| diagnosis.findings.iter().any(|finding| finding.code == code);
    let mut found = Vec::new();
    if has("identity-changed") {
        found.push(Mending::AdoptCopy);
    }
    if has("left-over-barrier") || has("identity-changed") {
        found.push(Mending::DropBarriers);
    }
    found
}

/// Puts one thing right.
///
/// # Errors
/// When the target cannot be had, or does not let it happen.
pub async fn mend(mending: Mending, dsn: &Dsn, options: DatabaseOptions, who: &str) -> Result<(), TakeError> {
    match mending {
        Mending::AdoptCopy => Ok(db::upkeep(dsn, options).adopt_copy().await?),
        Mending::DropBarriers => drop_barriers(dsn, options, who).await,
    }
}

async fn drop_barriers(dsn: &Dsn, options: DatabaseOptions, who: &str) -> Result<(), TakeError> {
    let claim = Claim::Standalone {
        who: format!("{who}, doctor"),
    };
    let mut hand = db::open(dsn, options).take(&claim, PATIENCE, &Silent).await?;
    let left = hand.clean_up(&Silent).await;
    hand.release().await?;
    match left? {
        0 => Ok(()),
        left => Err(DbError::TimedOut {
            what: format!("locks on the tables of {left} more objects; try again when less is going on"),
            blockers: Vec::new(),
        }
        .into()),
    }
}
