use super::*;
use proptest::prelude::*;

const LEASE: Duration = Duration::from_secs(10);

fn grant(epoch: u64, sent_at: u64) -> Grant {
    Grant {
        gate_epoch: GateEpoch(epoch),
        version: "2".into(),
        lease: LEASE,
        sent_at: Instant(sent_at),
    }
}

fn fence(epoch: u64, cause: Cause) -> Fence {
    Fence {
        gate_epoch: GateEpoch(epoch),
        cause,
        reason: "why".to_owned(),
        rollout: None,
    }
}

fn closed(epoch: u64) -> Fence {
    fence(epoch, Cause::GateClosed)
}

fn open_at(epoch: u64) -> Permits {
    let mut permits = Permits::new(OnLoss::Stop);
    assert_eq!(permits.granted(&grant(epoch, 0)), Heard::Accepted);
    permits
}

fn cause(refused: Result<Taken, Fence>) -> Cause {
    refused.expect_err("a permit was handed out").cause
}

#[test]
fn it_starts_fenced_and_owes_no_ack() {
    let mut permits = Permits::new(OnLoss::GoOn);
    assert_eq!(cause(permits.take(Instant(0), "")), Cause::Joining);
    assert_eq!(permits.ack_due(), None);
    assert_eq!(
        permits.renew_at(),
        Some(Instant(0)),
        "the first renewal is due at once"
    );
}

#[test]
fn a_permit_ends_with_the_lease_counted_from_the_sending() {
    let mut permits = open_at(7);
    let taken = permits.take(Instant(9_999), "").unwrap();
    assert_eq!(
        (taken.gate_epoch, taken.deadline),
        (GateEpoch(7), Some(Instant(10_000)))
    );
    assert_eq!(cause(permits.take(Instant(10_000), "")), Cause::LeaseExpired);
    assert!(!permits.view(Instant(10_000)).is_open());
}

#[test]
fn a_renewal_moves_the_deadline_of_permits_that_are_out_and_a_fence_does_not() {
    let mut permits = open_at(7);
    let taken = permits.take(Instant(1), "").unwrap();
    permits.granted(&grant(7, 3_000));
    assert_eq!(permits.deadline(taken.id), Some(Instant(13_000)));
    permits.granted(&grant(7, 2_000));
    assert_eq!(
        permits.lease_end(),
        Some(Instant(13_000)),
        "a late answer shrinks nothing"
    );
    permits.fenced(closed(8));
    permits.granted(&grant(8, 5_000));
    assert_eq!(
        permits.deadline(taken.id),
        Some(Instant(13_000)),
        "another epoch's lease does not cover it"
    );
}

#[test]
fn a_late_grant_of_an_older_epoch_is_ignored() {
    let mut permits = open_at(7);
    permits.fenced(closed(8));
    assert_eq!(permits.granted(&grant(7, 4_000)), Heard::Ignored);
    assert_eq!(cause(permits.take(Instant(4_001), "")), Cause::GateClosed);
    assert_eq!(
        permits.granted(&grant(8, 4_000)),
        Heard::Accepted,
        "the opening keeps the closing's epoch"
    );
    assert!(permits.take(Instant(4_001), "").is_ok());
}

#[test]
fn a_late_fence_stops_until_the_next_grant_and_a_lower_one_does_nothing() {
    let mut permits = open_at(8);
    assert_eq!(permits.fenced(closed(7)), Heard::Ignored);
    assert!(permits.view(Instant(1)).is_open());
    assert_eq!(permits.fenced(closed(8)), Heard::Accepted);
    assert_eq!(cause(permits.take(Instant(1), "")), Cause::GateClosed);
    permits.granted(&grant(8, 2));
    assert!(permits.take(Instant(3), "").is_ok());
}

#[test]
fn drained_waits_for_every_permit_even_past_its_lease() {
    let mut permits = open_at(7);
    let first = permits.take(Instant(1), "nightly import").unwrap();
    let second = permits.take(Instant(2), "").unwrap();
    permits.fenced(closed(8));
    assert_eq!(permits.ack_due(), None);
    permits.release(second.id);
    let held = permits.held(Instant(20_001));
    assert_eq!((held.permits, held.oldest_label.as_str()), (1, "nightly import"));
    assert_eq!(held.oldest_age, Some(Duration::from_secs(20)));
    assert_eq!(
        permits.ack_due(),
        None,
        "the lease ran out, the write may not have ended"
    );
    permits.release(first.id);
    assert_eq!(permits.ack_due(), Some(GateEpoch(8)));
    permits.ack_sent(GateEpoch(8));
    assert_eq!(permits.ack_due(), None);
    permits.fenced(closed(8));
    assert_eq!(
        permits.ack_due(),
        Some(GateEpoch(8)),
        "who asks again is told again"
    );
}

#[test]
fn an_ack_of_an_older_fence_does_not_settle_a_newer_one() {
    let mut permits = open_at(7);
    permits.fenced(closed(8));
    permits.fenced(closed(9));
    permits.ack_sent(GateEpoch(8));
    assert_eq!(permits.ack_due(), Some(GateEpoch(9)));
}

#[test]
fn an_open_gate_owes_no_ack() {
    let mut permits = open_at(7);
    permits.fenced(closed(8));
    permits.granted(&grant(8, 1));
    assert_eq!(permits.ack_due(), None);
}

#[test]
fn opened_is_no_lease_but_makes_a_renewal_due() {
    let mut permits = open_at(7);
    permits.renewal_sent(Instant(100));
    assert_eq!(permits.renew_at(), Some(Instant(100 + 3_333)));
    permits.fenced(closed(8));
    permits.opened(GateEpoch(8), "2".into());
    assert_eq!(permits.renew_at(), Some(Instant(0)));
    assert_eq!(cause(permits.take(Instant(101), "")), Cause::Joining);
    assert_eq!(
        permits.ack_due(),
        None,
        "nobody waits for the ack of a fence that is over"
    );
}

#[test]
fn an_opening_whose_fence_was_missed_ends_the_older_lease() {
    let mut permits = open_at(7);
    permits.opened(GateEpoch(8), "3".into());
    assert_eq!(cause(permits.take(Instant(1), "")), Cause::Joining);
}

#[test]
fn a_fenced_agent_reports_what_it_has_out_more_often() {
    let mut permits = open_at(7);
    let taken = permits.take(Instant(1), "").unwrap();
    permits.renewal_sent(Instant(0));
    permits.fenced(closed(8));
    assert_eq!(permits.renew_at(), Some(Instant(1_000)));
    permits.release(taken.id);
    assert_eq!(permits.renew_at(), Some(Instant(3_333)));
}

#[test]
fn with_go_on_an_expired_lease_hands_out_permits_while_the_gate_was_last_seen_open() {
    let mut permits = Permits::new(OnLoss::GoOn);
    permits.granted(&grant(7, 0));
    let taken = permits.take(Instant(50_000), "").unwrap();
    assert_eq!(taken.deadline, None, "the database refuses late writes by itself");
    assert_eq!(
        permits.fenced(fence(7, Cause::CoordinatorIsolated)),
        Heard::Ignored
    );
    assert!(permits.view(Instant(60_000)).is_open());

    permits.fenced(closed(8));
    assert_eq!(cause(permits.take(Instant(60_001), "")), Cause::GateClosed);
    assert_eq!(permits.ack_due(), None, "the ack rule stays");
    permits.release(taken.id);
    assert_eq!(permits.ack_due(), Some(GateEpoch(8)));
    permits.opened(GateEpoch(8), "3".into());
    assert!(
        permits.take(Instant(60_002), "").is_ok(),
        "the last known state is open again"
    );
}

#[test]
fn an_isolated_coordinator_that_knows_of_a_newer_epoch_is_believed() {
    let mut permits = Permits::new(OnLoss::GoOn);
    permits.granted(&grant(7, 0));
    permits.fenced(fence(8, Cause::CoordinatorIsolated));
    assert_eq!(cause(permits.take(Instant(1), "")), Cause::CoordinatorIsolated);
}

#[test]
fn a_removed_target_stops_although_it_has_no_epoch() {
    let mut permits = open_at(7);
    assert_eq!(permits.fenced(fence(0, Cause::UnknownTarget)), Heard::Accepted);
    assert_eq!(cause(permits.take(Instant(1), "")), Cause::UnknownTarget);
    assert_eq!(permits.highest(), GateEpoch(7));
}

#[test]
fn an_agent_that_left_stays_fenced_and_acks_when_empty() {
    let mut permits = open_at(7);
    let taken = permits.take(Instant(1), "").unwrap();
    permits.leave(Cause::Leaving, "shutdown");
    assert_eq!(permits.granted(&grant(9, 0)), Heard::Ignored);
    assert_eq!(cause(permits.take(Instant(2), "")), Cause::Leaving);
    assert_eq!(permits.ack_due(), None);
    permits.release(taken.id);
    assert_eq!(
        permits.ack_due(),
        Some(GateEpoch(8)),
        "everything up to g7 is given back"
    );
    assert_eq!(permits.renew_at(), None);
}

/// One thing that can happen to a target, in any order.
#[derive(Debug, Clone)]
enum Step {
    Grant { epoch: u64, age: u64, lease: u64 },
    Fence { epoch: u64, cause: Cause },
    Open { epoch: u64 },
    Reconnect,
    Take,
    Release { nth: usize },
    SendAck,
    Wait { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let causes = prop_oneof![
        Just(Cause::GateClosed),
        Just(Cause::CoordinatorIsolated),
        Just(Cause::SchemaTooNew),
        Just(Cause::UnknownTarget)
    ];
    prop_oneof![
        3 => (1_u64..6, 0_u64..50, 1_u64..60).prop_map(|(epoch, age, lease)| Step::Grant { epoch, age, lease }),
        2 => (1_u64..6, causes).prop_map(|(epoch, cause)| Step::Fence { epoch, cause }),
        1 => (1_u64..6).prop_map(|epoch| Step::Open { epoch }),
        1 => Just(Step::Reconnect),
        4 => Just(Step::Take),
        2 => (0_usize..4).prop_map(|nth| Step::Release { nth }),
        2 => Just(Step::SendAck),
        2 => (0_u64..40).prop_map(|ms| Step::Wait { ms }),
    ]
}

/// What an onlooker who trusts nothing in the machine remembers.
#[derive(Default)]
struct Onlooker {
    now: u64,
    /// Every grant ever heard: epoch and end.
    grants: Vec<(u64, u64)>,
    /// Highest epoch heard in any message that carries one.
    highest: u64,
    out: Vec<Taken>,
    /// Highest epoch acked, and how many grants (or, going on, openings) of at least that epoch had been heard.
    acked: Option<(u64, usize)>,
    openings: Vec<u64>,
}

impl Onlooker {
    fn openings_since(&self, epoch: u64) -> usize {
        self.openings.iter().filter(|opened| **opened >= epoch).count()
    }

    fn check_taken(&self, on_loss: OnLoss, taken: &Taken) {
        let epoch = taken.gate_epoch.0;
        assert_eq!(
            epoch, self.highest,
            "a permit of an epoch that is not the highest heard"
        );
        if let Some((acked, openings)) = self.acked
            && epoch <= acked
        {
            assert!(
                self.openings_since(acked) > openings,
                "a permit of g{epoch} after drained g{acked}"
            );
        }
        if on_loss == OnLoss::Stop {
            let covered = self
                .grants
                .iter()
                .any(|(granted, end)| *granted == epoch && self.now < *end);
            assert!(
                covered,
                "a permit of g{epoch} at {} that no lease covers",
                self.now
            );
        }
    }

    fn check_ack(&self, acked: GateEpoch) {
        assert!(
            self.out.is_empty(),
            "drained {acked} with {} permits out",
            self.out.len()
        );
        assert_eq!(acked.0, self.highest, "an ack of a superseded fence");
    }
}

fn play(on_loss: OnLoss, steps: Vec<Step>) {
    let mut permits = Permits::new(on_loss);
    let mut seen = Onlooker {
        now: 1_000,
        ..Onlooker::default()
    };
    for step in steps {
        match step {
            Step::Grant { epoch, age, lease } => {
                let sent_at = seen.now - age.min(seen.now);
                let heard = permits.granted(&Grant {
                    gate_epoch: GateEpoch(epoch),
                    version: "1".into(),
                    lease: Duration::from_millis(lease),
                    sent_at: Instant(sent_at),
                });
                assert_eq!(heard == Heard::Ignored, epoch < seen.highest);
                seen.highest = seen.highest.max(epoch);
                seen.grants.push((epoch, sent_at + lease));
                seen.openings.push(epoch);
            }
            Step::Fence { epoch, cause } => {
                let before = permits.view(Instant(seen.now)).is_open();
                let heard = permits.fenced(Fence {
                    gate_epoch: GateEpoch(epoch),
                    cause,
                    reason: String::new(),
                    rollout: None,
                });
                let isolated_only = on_loss == OnLoss::GoOn && cause == Cause::CoordinatorIsolated;
                if epoch >= seen.highest && !(isolated_only && before && epoch == seen.highest) {
                    assert_eq!(heard, Heard::Accepted);
                    assert!(!permits.view(Instant(seen.now)).is_open());
                    assert_eq!(
                        permits.ack_due().is_some(),
                        seen.out.is_empty(),
                        "the ack is due exactly when empty"
                    );
                }
                seen.highest = seen.highest.max(epoch);
            }
            Step::Open { epoch } => {
                permits.opened(GateEpoch(epoch), "1".into());
                seen.highest = seen.highest.max(epoch);
                if on_loss == OnLoss::GoOn {
                    seen.openings.push(epoch);
                }
            }
            Step::Reconnect => permits.connected(),
            Step::Take => {
                if let Ok(taken) = permits.take(Instant(seen.now), "") {
                    seen.check_taken(on_loss, &taken);
                    seen.out.push(taken);
                }
            }
            Step::Release { nth } => {
                if nth < seen.out.len() {
                    permits.release(seen.out.swap_remove(nth).id);
                }
            }
            Step::SendAck => {
                if let Some(acked) = permits.ack_due() {
                    seen.check_ack(acked);
                    permits.ack_sent(acked);
                    assert_eq!(permits.ack_due(), None);
                    seen.acked = Some((acked.0, seen.openings_since(acked.0)));
                }
            }
            Step::Wait { ms } => seen.now += ms,
        }
        assert_eq!(permits.held(Instant(seen.now)).permits, seen.out.len());
        assert_eq!(permits.highest(), GateEpoch(seen.highest));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever comes in whatever order: no permit of an epoch that was acked as drained unless a newer opening was
    /// heard, none of an epoch below the highest, none past the lease; and no ack while a permit is out.
    #[test]
    fn no_order_of_events_breaks_the_promise(steps in proptest::collection::vec(step(), 0..60)) {
        play(OnLoss::Stop, steps);
    }

    #[test]
    fn no_order_of_events_breaks_the_ack_when_going_on(steps in proptest::collection::vec(step(), 0..60)) {
        play(OnLoss::GoOn, steps);
    }
}
