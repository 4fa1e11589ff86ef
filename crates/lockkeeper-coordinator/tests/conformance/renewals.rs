//! What a holder believes about its lease when answers are slow.

use std::sync::Arc;
use std::time::Duration;

use lockkeeper_coordinator::clock::{Clock, ManualClock};
use lockkeeper_coordinator::keeper::{LeaseEnd, LeaseKeeper};
use lockkeeper_coordinator::store::Store;
use lockkeeper_core::time::Instant;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::faulty::{Fault, Faulty};
use crate::fixture;

const TTL: Duration = Duration::from_secs(3);

struct Kept {
    clock: Arc<ManualClock>,
    keeper: LeaseKeeper,
    answer: Arc<Notify>,
}

/// A lease whose first renewal is answered only when `answer` is notified.
async fn keep() -> Kept {
    let network = Faulty::new(fixture::memory_with_history(100), |_| Fault::None);
    let answer = Arc::new(Notify::new());
    network.hold_renewals(Arc::clone(&answer));
    let clock = Arc::new(ManualClock::at(Instant(1000)));
    let lease = network.grant(TTL).await.unwrap();
    let keeper = LeaseKeeper::start(
        Arc::clone(&network) as _,
        Arc::clone(&clock) as _,
        lease,
        clock.now(),
    );
    // The renewal is then sent at 2000.
    clock.advance(Duration::from_secs(1));
    timeout(TTL, network.renewal_reached_the_store())
        .await
        .expect("a renewal");
    Kept {
        clock,
        keeper,
        answer,
    }
}

#[tokio::test]
async fn the_deadline_counts_from_before_the_renewal_was_sent() {
    let kept = keep().await;
    assert_eq!(kept.keeper.deadline(), Instant(4000));
    let mut deadlines = kept.keeper.deadlines();
    // Sent at 2000, answered at 3900: the store may count from anywhere in between.
    kept.clock.advance(Duration::from_millis(1900));
    kept.answer.notify_one();
    timeout(TTL, deadlines.changed())
        .await
        .expect("a new deadline")
        .unwrap();
    assert_eq!(kept.keeper.deadline(), Instant(5000));
    assert!(!kept.keeper.ended().is_cancelled());
}

#[tokio::test]
async fn an_answer_after_the_deadline_does_not_bring_the_lease_back() {
    let kept = keep().await;
    kept.clock.advance(Duration::from_millis(2500));
    kept.answer.notify_one();
    timeout(TTL, kept.keeper.ended().cancelled())
        .await
        .expect("the end");
    assert_eq!(kept.keeper.end_reason(), Some(LeaseEnd::Passed));
    assert_eq!(kept.keeper.deadline(), Instant(4000));
}
