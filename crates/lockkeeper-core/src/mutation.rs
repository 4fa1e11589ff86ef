//! Seeded bugs. Each is a rule of the protocol that somebody could plausibly get wrong; the model checker or the simulation
//! has to catch every one of them, or it would not have noticed the real one either.
//!
//! In the product [`mutated`] is `const false`, so nothing of them is compiled. Two builds set the `cfg` that makes them
//! real, and no feature of any crate can: the package `lockkeeper-core-mutable`, which builds these same sources for the
//! model checker, and `make sim`.

/// One seeded bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mutation {
    /// A write lease is granted whether the granter's own session still lives or not.
    GrantWithoutSession,
    /// The holder counts its lease from the answer instead of from when it sent the renewal.
    LeaseFromAnswer,
    /// A permit is handed out as long as no timer has said that the lease is over.
    LeaseByTimer,
    /// A permit does not end with its lease.
    PermitOutlivesLease,
    /// *Drained* is acked while a permit is out.
    AckWithPermitOut,
    /// A message about a lower gate epoch counts.
    LowerEpochHeard,
    /// A new incarnation's ack frees the old one's lease.
    IncarnationForgotten,
    /// An ack of a closing also frees what was granted after its opening.
    AckFreesOwnEpoch,
    /// A session that vanished is not waited for.
    VanishedCountsAtOnce,
    /// A session that vanished is waited for one write lease long, though its owner may go on granting.
    VanishedWaitsForWriteLease,
    /// A new leader does not wait for leases that it cannot know of.
    NewLeaderWaitsNot,
    /// The sessions to wait for are listed before the closing instead of in it.
    SessionsListedBefore,
    /// A coordinator that joins reads the gates before it creates its session.
    JoinerBornOpen,
    /// A coordinator whose watch has stalled keeps its session.
    StalledWatchKept,
    /// Leadership is believed when the creation of the key is heard of, without a guarded confirmation.
    CreationTrusted,
    /// Decisions are guarded by the leader key alone, not by the records' mod revisions.
    LeaderKeyGuardOnly,
    /// An epoch is taken if it is at least as large as the target's, whoever held that.
    EqualEpochTaken,
    /// A takeover registers its own session without ending the older one.
    TakeoverWithoutEnding,
    /// The barrier refuses if the row says closed, instead of unless `opened` has reached its fence.
    RefuseIfClosed,
    /// A migration goes on to its opening without a verification.
    OpenWithoutVerification,
    /// The store's gate opens before the target's row.
    StoreOpensFirst,
    /// A migration is run without a look at the ledger.
    AppliedWithoutLedger,
    /// A gate that a person has released by hand is fenced again as if nothing had happened.
    ReleaseIgnored,
    /// A release by hand opens the row without ending the executor first.
    ReleaseWithoutEnding,
    /// A command that is cut off leaves its statement running, and the next one goes on beside it.
    HandKeptOnAbort,
    /// A decision that conflicts with another counts as made.
    ConflictTakenForSuccess,
    /// A barrier that could not be raised counts as raised.
    BarrierFailureIgnored,
    /// A verification that failed counts as passed.
    VerificationIgnored,
    /// Nobody asks whether a migration took effect in part.
    UnfinishedNotAsked,
    /// A coordinator reports that its agents are drained without asking its book.
    DrainedUnasked,
    /// A drain report is not guarded by the report that it replaces.
    ReportUnguarded,
    /// A watch that is opened again begins one revision late.
    RevisionSkipped,
    /// A target whose driver has stopped is not driven again by the same leader.
    DriverNotRestarted,
}

impl Mutation {
    /// Rules of the pure core: the model checker catches them.
    pub const ALL: [Self; 24] = [
        Self::GrantWithoutSession,
        Self::LeaseFromAnswer,
        Self::LeaseByTimer,
        Self::PermitOutlivesLease,
        Self::AckWithPermitOut,
        Self::LowerEpochHeard,
        Self::IncarnationForgotten,
        Self::AckFreesOwnEpoch,
        Self::VanishedCountsAtOnce,
        Self::VanishedWaitsForWriteLease,
        Self::NewLeaderWaitsNot,
        Self::SessionsListedBefore,
        Self::JoinerBornOpen,
        Self::StalledWatchKept,
        Self::CreationTrusted,
        Self::LeaderKeyGuardOnly,
        Self::EqualEpochTaken,
        Self::TakeoverWithoutEnding,
        Self::RefuseIfClosed,
        Self::OpenWithoutVerification,
        Self::StoreOpensFirst,
        Self::AppliedWithoutLedger,
        Self::ReleaseIgnored,
        Self::ReleaseWithoutEnding,
    ];

    /// Rules of coordinators and of the rollout driver: the simulation catches them.
    pub const DRIVEN: [Self; 9] = [
        Self::HandKeptOnAbort,
        Self::ConflictTakenForSuccess,
        Self::BarrierFailureIgnored,
        Self::VerificationIgnored,
        Self::UnfinishedNotAsked,
        Self::DrainedUnasked,
        Self::ReportUnguarded,
        Self::RevisionSkipped,
        Self::DriverNotRestarted,
    ];
}

/// Whether `mutation` is seeded: never, in the product.
#[cfg(not(mutations))]
#[must_use]
pub const fn mutated(_: Mutation) -> bool {
    false
}

#[cfg(mutations)]
pub use seeded::{mutated, seed};

#[cfg(mutations)]
mod seeded {
    use std::cell::Cell;

    use super::Mutation;

    thread_local! {
        static SEEDED: Cell<Option<Mutation>> = const { Cell::new(None) };
    }

    /// Seeds one bug, or none, for this thread.
    pub fn seed(mutation: Option<Mutation>) {
        SEEDED.set(mutation);
    }

    /// Whether `mutation` is seeded in this thread.
    #[must_use]
    pub fn mutated(mutation: Mutation) -> bool {
        SEEDED.get() == Some(mutation)
    }
}
