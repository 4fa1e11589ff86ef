//! The driver where servers seldom take it: used-up budgets, fences that will not stand, people in between.

mod bench;

use std::sync::Arc;
use std::time::Duration;

use bench::{Bench, rollout, target};
use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_core::rollout::{AbortWay, Event, Goal, HeldAt, OnFailure, Ruling, State, Target, step};
use lockkeeper_migrate::db::DbError;
use lockkeeper_proto::v1;
use tokio::time::timeout;
use tonic::Code;

use crate::leader::unfinished;
use crate::leader::writer::RecordChange;
use crate::records::{ProgressRecord, SessionRecord, Stored, key};
use crate::services::fleet;
use crate::services::rollout::steer::{Order, steer};

const LONG: Duration = Duration::from_secs(20);

fn cannot_raise() -> DbError {
    DbError::TimedOut {
        what: "lock on t".to_owned(),
        blockers: Vec::new(),
    }
}

async fn rule(bench: &Bench, ruling: Ruling) {
    let message = v1::DecideRolloutRequest {
        id: "r".to_owned(),
        ruling: Some(ruling.into()),
        ..v1::DecideRolloutRequest::default()
    };
    let order = Order::parse(message, String::new()).unwrap();
    steer(&bench.leader, order).await.unwrap();
}

async fn retry(bench: &Bench) {
    rule(bench, Ruling::Retry).await;
}

async fn abort(bench: &Bench) {
    rule(bench, Ruling::Abort(AbortWay::RollBack)).await;
}

#[tokio::test]
async fn what_is_applied_is_opened_though_the_budget_is_used_up() {
    let bench = Bench::new().await;
    let progress = bench.closed_an_hour_ago(State::Verifying(Goal::New)).await;
    bench.applied();
    timeout(LONG, bench.driver(progress).run())
        .await
        .expect("a used-up budget sends it round and round");
    assert_eq!(bench.progress().record.target.state, State::Done);
    assert!(bench.leader.gate(&target()).unwrap().record.is_open());
}

#[tokio::test]
async fn a_retry_comes_with_a_budget_of_its_own() {
    let bench = Bench::new().await;
    bench.closed_an_hour_ago(State::Held(HeldAt::Fenced)).await;
    retry(&bench).await;
    timeout(LONG, bench.driver(bench.progress()).run()).await.unwrap();
    let target = bench.progress().record.target;
    assert_eq!((target.state, target.reason.as_str()), (State::Done, ""));
}

#[tokio::test]
async fn no_migration_runs_under_a_fence_that_could_not_be_raised() {
    let bench = Bench::new().await;
    let held = bench.closed_an_hour_ago(State::Held(HeldAt::Fenced)).await;
    bench.fake.scene().raises.push_back(cannot_raise());
    let mut driver = bench.driver(held);
    assert!(driver.stand().await.is_err());
    retry(&bench).await;
    driver.progress = bench.progress();
    timeout(LONG, driver.run()).await.unwrap();
    assert_eq!(bench.progress().record.target.state, State::Done);
    assert_eq!(bench.fake.scene().unfenced, vec![]);
    assert_eq!(bench.fake.scene().raised, 2);
}

#[tokio::test]
async fn before_any_statement_the_gate_opens_again_without_the_fence() {
    for state in [State::Verifying(Goal::Unchanged), State::Opening(Goal::Unchanged)] {
        let bench = Bench::new().await;
        let progress = bench.closed_an_hour_ago(state).await;
        bench.fake.scene().raises.extend([cannot_raise(), cannot_raise()]);
        timeout(LONG, bench.driver(progress).drive()).await.unwrap();
        assert_eq!(bench.progress().record.target.state, State::Aborted);
        assert!(bench.leader.gate(&target()).unwrap().record.is_open());
    }
}

#[tokio::test]
async fn a_verification_that_always_loses_the_database_ends_in_a_hold() {
    let mut bench = Bench::new().await;
    let progress = bench.closed_an_hour_ago(State::Verifying(Goal::New)).await;
    bench.applied();
    bench.fake.scene().verify_loses = true;
    bench.migrations.verify = vec![lockkeeper_migrate::source::VerifyScript {
        path: "verify/a.sql".into(),
        version: None,
        statements: Vec::new(),
    }];
    timeout(LONG, bench.driver(progress).drive())
        .await
        .expect("repeated for ever");
    assert_eq!(bench.progress().record.target.state, State::Held(HeldAt::Fenced));
}

#[tokio::test]
async fn a_release_by_hand_opens_the_stores_gate_and_can_be_aborted_or_retried() {
    for state in [State::Migrating, State::Held(HeldAt::Fenced)] {
        let bench = Bench::new().await;
        let progress = bench.closed_an_hour_ago(state).await;
        bench.fake.scene().row.opened = GateEpoch(1);
        timeout(LONG, bench.driver(progress).run()).await.unwrap();
        let held = bench.progress().record.target;
        assert_eq!(held.state, State::Held(HeldAt::ReleasedByHand));
        let gate = bench.leader.gate(&target()).unwrap().record;
        assert!(gate.is_open(), "agents follow the database: {gate:?}");
        assert_eq!(
            step(
                &held,
                Event::AbortRequested {
                    way: AbortWay::RollBack,
                    reason: String::new()
                }
            )
            .unwrap()
            .state,
            State::Aborted
        );

        retry(&bench).await;
        timeout(LONG, bench.driver(bench.progress()).run()).await.unwrap();
        let done = bench.progress().record.target;
        assert_eq!((done.state, done.gate_epoch), (State::Done, Some(GateEpoch(2))));
    }
}

#[tokio::test]
async fn a_target_that_was_removed_as_the_rollout_was_created_ends_it() {
    let bench = Bench::new().await;
    bench.declare().await;
    let spec: Stored<lockkeeper_core::spec::TargetSpec> = bench.view.borrow().targets[&target()].clone();
    let progress = ProgressRecord::new(0, Target::new(OnFailure::Rollback), crate::clock::wall_now());
    bench
        .commit(vec![
            RecordChange::delete(key::target(&target()), &spec),
            RecordChange::create(key::progress(&rollout(), &target()), &progress),
        ])
        .await;
    let run = crate::leader::rollout::run(Arc::clone(&bench.leader), rollout());
    timeout(LONG, run).await.expect("nobody drives it");
    assert_eq!(bench.progress().record.target.state, State::Aborted);
    assert!(
        bench
            .leader
            .rollout(&rollout())
            .unwrap()
            .record
            .ended_at
            .is_some()
    );
}

#[tokio::test]
async fn a_target_is_not_removed_under_a_rollout_that_the_view_does_not_show_yet() {
    let bench = Bench::new().await;
    bench
        .commit(vec![RecordChange::create(
            key::target(&target()),
            &bench::target_spec(),
        )])
        .await;
    bench.freeze_view();
    let created = RecordChange::create(key::active(&target()), &rollout());
    bench.leader.writer.commit(vec![created], &[]).await.unwrap();
    let refused = fleet::remove(&bench.leader, &target()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Aborted);
    assert!(bench.store.get(&key::target(&target())).await.unwrap().is_some());
}

#[tokio::test]
async fn an_abort_asked_for_again_reaches_a_target_that_was_held_after_the_first() {
    let bench = Bench::new().await;
    bench.closed_an_hour_ago(State::Held(HeldAt::Fenced)).await;
    abort(&bench).await;
    let stored = bench.progress();
    let held_later = ProgressRecord {
        // By the clock of a leader that was ahead.
        since: lockkeeper_core::time::WallTime(crate::clock::wall_now().0 + 5_000),
        ..stored.record.clone()
    };
    let at = key::progress(&rollout(), &target());
    bench
        .commit(vec![RecordChange::update(at, &stored, &held_later)])
        .await;
    abort(&bench).await;
    let decided = bench.leader.rollout(&rollout()).unwrap().record.abort.unwrap();
    assert!(
        decided.decision.at >= held_later.since,
        "{decided:?} is for an earlier hold"
    );
}

#[tokio::test]
async fn a_session_that_vanished_is_known_as_soon_as_the_view_shows_it() {
    let bench = Bench::new().await;
    bench.freeze_view();
    let session: lockkeeper_core::id::SessionId = "c2/00000000-0000-0000-0000-000000000000".parse().unwrap();
    let record = SessionRecord {
        coordinator: "c2".parse().unwrap(),
        region: "eu".parse().unwrap(),
        address: String::new(),
        release: String::new(),
    };
    let stored = Stored {
        record,
        create_revision: 1,
        mod_revision: 1,
    };
    bench
        .view
        .send_modify(|view| drop(view.sessions.insert(session.clone(), stored)));
    assert_eq!(bench.leader.departures().0, vec![]);
    bench
        .view
        .send_modify(|view| drop(view.sessions.remove(&session)));
    let gone: Vec<_> = bench
        .leader
        .departures()
        .0
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    assert_eq!(gone, vec![session], "no other task has run in between");
}

#[tokio::test]
async fn a_removed_targets_gate_epoch_is_kept_for_the_next_of_its_name() {
    let bench = Bench::new().await;
    let verified = lockkeeper_core::gate::Verification {
        version: None,
        checked: String::new(),
        at: crate::clock::wall_now(),
    };
    let epoch = lockkeeper_core::epoch::GateEpoch(7);
    let (order, leads) = (
        lockkeeper_core::version::VersionOrder::Numeric,
        bench.leader.writer.epoch(),
    );
    let gate = lockkeeper_core::gate::Gate::first(epoch, order, leads, verified);
    bench
        .commit(vec![
            RecordChange::create(key::target(&target()), &bench::target_spec()),
            RecordChange::create(key::gate(&target()), &gate),
        ])
        .await;
    fleet::remove(&bench.leader, &target()).await.unwrap();
    let view = bench.leader.view.borrow();
    assert!(!view.gates.contains_key(&target()));
    assert_eq!(
        view.retired[&target()].record,
        epoch,
        "agents that heard it ignore lower ones"
    );
}

#[tokio::test]
async fn what_is_left_of_a_rollout_that_was_not_created_keeps_its_targets_from_nobody() {
    let bench = Bench::new().await;
    let at = key::progress(&rollout(), &target());
    let progress = ProgressRecord::new(0, Target::new(OnFailure::Rollback), crate::clock::wall_now());
    bench
        .commit(vec![
            RecordChange::create(key::active(&target()), &rollout()),
            RecordChange::create(at.clone(), &progress),
        ])
        .await;
    let creation = bench.leader.creation.lock().await;
    unfinished::remove(&bench.leader, &creation).await.unwrap();
    drop(creation);
    for gone in [at, key::active(&target())] {
        assert!(bench.store.get(&gone).await.unwrap().is_none(), "{gone} is left");
    }
}

#[tokio::test]
async fn a_view_that_is_behind_does_not_take_a_created_rollout_for_left_over() {
    let bench = Bench::new().await;
    bench
        .commit(vec![RecordChange::create(key::active(&target()), &rollout())])
        .await;
    bench.freeze_view();
    let created = RecordChange::create(key::rollout(&rollout()), &"its record");
    bench.leader.writer.commit(vec![created], &[]).await.unwrap();
    let creation = bench.leader.creation.lock().await;
    unfinished::remove(&bench.leader, &creation).await.unwrap();
    assert!(bench.store.get(&key::active(&target())).await.unwrap().is_some());
}
