//! The seeded bugs: which promise each breaks, in which run, after how many steps. The table in docs/evidence.md is this
//! one.

use lockkeeper_core::mutation::Mutation;

use crate::check::{Check, Found};
use crate::config::Config;
use crate::fleet::observe::Promise;
use crate::suite;

/// One seeded bug and what it must come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seeded {
    /// The bug.
    pub mutation: Mutation,
    /// The run that catches it.
    pub run: &'static str,
    /// The promise that it breaks.
    pub promise: Promise,
    /// The fewest steps that it takes.
    pub steps: usize,
}

const fn seeded(mutation: Mutation, run: &'static str, promise: Promise, steps: usize) -> Seeded {
    Seeded {
        mutation,
        run,
        promise,
        steps,
    }
}

/// All of them.
pub const SEEDED: [Seeded; Mutation::ALL.len()] = [
    seeded(Mutation::GrantWithoutSession, "sessions", Promise::Quiet, 13),
    seeded(Mutation::LeaseFromAnswer, "leases", Promise::Quiet, 12),
    seeded(Mutation::LeaseByTimer, "prompt", Promise::Quiet, 9),
    seeded(Mutation::PermitOutlivesLease, "leases", Promise::Quiet, 9),
    seeded(Mutation::AckWithPermitOut, "leases", Promise::Quiet, 8),
    seeded(Mutation::LowerEpochHeard, "leases", Promise::Quiet, 11),
    seeded(Mutation::IncarnationForgotten, "starts", Promise::Quiet, 10),
    seeded(Mutation::AckFreesOwnEpoch, "again", Promise::Quiet, 21),
    seeded(Mutation::VanishedCountsAtOnce, "sessions", Promise::Quiet, 7),
    seeded(
        Mutation::VanishedWaitsForWriteLease,
        "sessions",
        Promise::Quiet,
        11,
    ),
    seeded(Mutation::NewLeaderWaitsNot, "successors", Promise::Quiet, 9),
    seeded(Mutation::SessionsListedBefore, "joiners", Promise::Quiet, 11),
    seeded(Mutation::JoinerBornOpen, "joiners", Promise::Quiet, 12),
    seeded(Mutation::StalledWatchKept, "stalled", Promise::Progress, 11),
    seeded(Mutation::CreationTrusted, "leaders", Promise::OneHand, 11),
    seeded(Mutation::LeaderKeyGuardOnly, "leaders", Promise::Verified, 12),
    seeded(Mutation::EqualEpochTaken, "restored store", Promise::OneHand, 18),
    seeded(Mutation::TakeoverWithoutEnding, "bare", Promise::OneHand, 14),
    seeded(Mutation::RefuseIfClosed, "writers", Promise::Quiet, 10),
    seeded(
        Mutation::OpenWithoutVerification,
        "leaders",
        Promise::Verified,
        11,
    ),
    seeded(Mutation::StoreOpensFirst, "leaders", Promise::Verified, 11),
    seeded(Mutation::AppliedWithoutLedger, "hands", Promise::Once, 18),
    seeded(Mutation::ReleaseIgnored, "released", Promise::Progress, 15),
    seeded(
        Mutation::ReleaseWithoutEnding,
        "released",
        Promise::NoSinglePoint,
        11,
    ),
];

impl Seeded {
    fn config(&self) -> Option<Config> {
        suite::all().into_iter().find(|config| config.name == self.run)
    }

    /// Runs it, in one thread, so that the steps are the fewest.
    #[must_use]
    pub fn run(&self) -> Option<Found> {
        let check = Check {
            config: self.config()?,
            mutation: Some(self.mutation),
        };
        Some(check.run(1))
    }
}
