//! The hub without a store: what agents are told, and what the leader will be told of them.

use lockkeeper_core::epoch::LeaderEpoch;
use lockkeeper_core::gate::Verification;
use lockkeeper_core::spec::TargetSpec;
use lockkeeper_core::version::VersionOrder;
use uuid::Uuid;

use super::*;
use crate::clock::ManualClock;
use crate::records::Stored;

const LEASE: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Right {
    allowed: std::sync::atomic::AtomicBool,
}

impl Granting for Right {
    fn grantable(&self, wanted: Duration) -> Option<Duration> {
        let allowed = self.allowed.load(std::sync::atomic::Ordering::SeqCst);
        allowed.then_some(wanted)
    }
}

struct Bench {
    hub: Arc<AgentHub>,
    clock: Arc<ManualClock>,
    right: Arc<Right>,
    view: watch::Sender<FleetView>,
}

fn target() -> TargetName {
    "kratos/eu".parse().unwrap()
}

fn gate(epoch: u64, version: Option<&str>) -> Gate {
    let verified = |v: &str| Verification {
        version: Some(v.into()),
        checked: String::new(),
        at: WallTime(0),
    };
    let first = Gate::first(
        GateEpoch(0),
        VersionOrder::Numeric,
        LeaderEpoch::NONE,
        verified("1"),
    );
    let closed = first.close(
        GateEpoch(epoch),
        "r1".parse().unwrap(),
        LeaderEpoch::NONE,
        WallTime(0),
    );
    match version {
        Some(version) => closed.open(VersionOrder::Numeric, LeaderEpoch::NONE, verified(version)),
        None => closed,
    }
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(Instant(1_000)));
        let right = Arc::new(Right { allowed: true.into() });
        let spec: TargetSpec = serde_json::from_value(serde_json::json!({
            "name": "kratos/eu", "service": "kratos", "region": "eu",
            "dsn": {"env": "DSN"}, "migrations": {"dir": "m"}
        }))
        .unwrap();
        let mut view = FleetView::default();
        view.targets.insert(
            target(),
            Stored {
                record: spec,
                create_revision: 1,
                mod_revision: 1,
            },
        );
        let (view, receiver) = watch::channel(view);
        let hub = AgentHub::new(
            Arc::clone(&clock) as Arc<dyn Clock>,
            Arc::clone(&right) as Arc<dyn Granting>,
            receiver,
            LEASE,
        );
        Self {
            hub,
            clock,
            right,
            view,
        }
    }

    fn set_gate(&self, gate: Gate) {
        self.view.send_modify(|view| {
            view.gates.insert(
                target(),
                Stored {
                    record: gate,
                    create_revision: 1,
                    mod_revision: 2,
                },
            );
        });
        self.hub.view_changed();
    }

    fn register(&self, incarnation: u128, max: &str) -> (u64, mpsc::Receiver<Outgoing>) {
        let range = VersionRange {
            min: Some("1".into()),
            max: Some(max.into()),
        };
        let registration = Registration {
            service: "kratos".parse().unwrap(),
            agent: "kratos-1".parse().unwrap(),
            incarnation: Incarnation(Uuid::from_u128(incarnation)),
            region: "eu".parse().unwrap(),
            release: String::new(),
            targets: vec![(target(), range)],
        };
        self.hub.register(registration).unwrap()
    }

    fn stragglers(&self, epoch: u64) -> usize {
        self.hub.stragglers(&target(), GateEpoch(epoch)).len()
    }
}

/// Everything that is in the queue, as one word each.
fn told(receiver: &mut mpsc::Receiver<Outgoing>) -> Vec<&'static str> {
    let mut words = Vec::new();
    while let Ok(outgoing) = receiver.try_recv() {
        words.push(match outgoing {
            Outgoing::Tell(_, Message::Granted { .. }) => "granted",
            Outgoing::Tell(_, Message::Opened { .. }) => "opened",
            Outgoing::Tell(_, Message::Fenced { cause, .. }) => match cause {
                Cause::Closed(_) => "closed",
                Cause::SchemaTooNew(_) => "too new",
                Cause::SchemaTooOld(_) => "too old",
                Cause::NotAdopted => "not adopted",
                Cause::Isolated => "isolated",
                Cause::UnknownVersion => "unknown version",
                Cause::UnknownTarget => "unknown target",
            },
            Outgoing::End(End::Reached) => "end: reached",
            Outgoing::End(End::Superseded) => "end: superseded",
            Outgoing::End(End::Leaving) => "end: leaving",
        });
    }
    words
}

#[test]
fn an_agent_is_fenced_until_the_gate_is_known_and_open() {
    let bench = Bench::new();
    let (id, mut queue) = bench.register(1, "9");
    bench.hub.renew(id, 1, []);
    assert_eq!(told(&mut queue), ["not adopted", "not adopted"]);
    bench.set_gate(gate(1, Some("2")));
    assert_eq!(
        told(&mut queue),
        ["opened", "granted"],
        "the last renewal is answered again, at once"
    );
}

#[test]
fn under_a_closed_gate_nothing_is_granted_and_what_was_granted_is_counted() {
    let bench = Bench::new();
    bench.set_gate(gate(1, Some("2")));
    let (id, mut queue) = bench.register(1, "9");
    bench.hub.renew(id, 1, []);
    assert_eq!(told(&mut queue), ["opened", "granted"]);
    bench.set_gate(gate(2, None));
    bench.hub.renew(id, 2, []);
    assert_eq!(told(&mut queue), ["closed", "closed"]);
    assert_eq!(bench.stragglers(2), 1);
    bench.hub.drained(id, &target(), GateEpoch(2));
    assert_eq!(bench.stragglers(2), 0);
}

#[test]
fn a_lease_that_is_not_acked_is_counted_until_it_has_run_out_with_margin() {
    let bench = Bench::new();
    bench.set_gate(gate(1, Some("2")));
    let (id, _queue) = bench.register(1, "9");
    bench.hub.renew(id, 1, []);
    bench.set_gate(gate(2, None));
    bench.hub.gone(id);
    bench.clock.advance(Duration::from_millis(10_999));
    assert_eq!(bench.stragglers(2), 1, "the stream is gone, the lease is not");
    bench.clock.advance(Duration::from_millis(1));
    assert_eq!(bench.stragglers(2), 0);
}

#[test]
fn a_newer_incarnation_ends_the_older_ones_stream_and_keeps_its_lease_counted() {
    let bench = Bench::new();
    bench.set_gate(gate(1, Some("2")));
    let (old, mut old_queue) = bench.register(1, "9");
    bench.hub.renew(old, 1, []);
    let (new, _new_queue) = bench.register(2, "9");
    assert_eq!(told(&mut old_queue), ["opened", "granted", "end: superseded"]);
    bench.set_gate(gate(2, None));
    bench.hub.drained(new, &target(), GateEpoch(2));
    assert_eq!(bench.stragglers(2), 1, "the old process may still be writing");
}

#[test]
fn an_older_incarnation_is_refused_here_and_named_to_other_coordinators() {
    let bench = Bench::new();
    let (_, _queue) = bench.register(2, "9");
    let agent: AgentId = "kratos-1".parse().unwrap();
    let newer = bench.hub.announced(&agent, Incarnation(Uuid::from_u128(1)));
    assert_eq!(newer, Some(Incarnation(Uuid::from_u128(2))));
    assert_eq!(bench.hub.announced(&agent, Incarnation(Uuid::from_u128(3))), None);
}

#[test]
fn a_coordinator_without_its_store_grants_nothing() {
    let bench = Bench::new();
    bench.set_gate(gate(1, Some("2")));
    bench
        .right
        .allowed
        .store(false, std::sync::atomic::Ordering::SeqCst);
    let (id, mut queue) = bench.register(1, "9");
    bench.hub.renew(id, 1, []);
    assert_eq!(told(&mut queue), ["opened", "isolated"]);
}

#[test]
fn a_release_that_does_not_fit_stays_fenced_and_is_told_why() {
    let bench = Bench::new();
    bench.set_gate(gate(1, Some("10")));
    let (id, mut queue) = bench.register(1, "9");
    bench.hub.renew(id, 1, []);
    assert_eq!(told(&mut queue), ["too new", "too new"]);
}

#[test]
fn a_waiter_ends_when_its_targets_are_open_and_is_never_granted_a_lease() {
    let bench = Bench::new();
    let (id, mut queue) = bench.register(1, "9");
    bench.hub.becomes_waiter(id);
    assert_eq!(told(&mut queue), ["not adopted"]);
    bench.set_gate(gate(1, Some("2")));
    assert_eq!(told(&mut queue), ["opened", "end: reached"]);
    bench.set_gate(gate(2, None));
    assert_eq!(bench.stragglers(2), 0);
}

#[test]
fn leaving_ends_every_stream_and_grants_nothing_more() {
    let bench = Bench::new();
    bench.set_gate(gate(1, Some("2")));
    let (id, mut queue) = bench.register(1, "9");
    bench.hub.renew(id, 1, []);
    assert!(!bench.hub.is_clear());
    bench.hub.leave();
    bench.hub.renew(id, 2, []);
    assert_eq!(told(&mut queue), ["opened", "granted", "end: leaving"]);
}

#[test]
fn an_agent_of_many_targets_is_told_of_all_of_them() {
    let bench = Bench::new();
    let all = VersionRange { min: None, max: None };
    let many = (0..TARGETS_PER_AGENT_MAX).map(|i| (format!("kratos/{i}").parse().unwrap(), all.clone()));
    let registration = Registration {
        service: "kratos".parse().unwrap(),
        agent: "kratos-1".parse().unwrap(),
        incarnation: Incarnation(Uuid::nil()),
        region: "eu".parse().unwrap(),
        release: String::new(),
        targets: many.collect(),
    };
    let (_, mut receiver) = bench.hub.register(registration).unwrap();
    assert_eq!(told(&mut receiver).len(), TARGETS_PER_AGENT_MAX);
    assert!(
        !receiver.is_closed(),
        "the stream was given up before anybody could read"
    );
}
