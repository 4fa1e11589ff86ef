//! Who may take a target, and what that does to whoever had it.

use lockkeeper_core::epoch::{GateEpoch, LeaderEpoch};
use lockkeeper_migrate::db::{DbError, Silent, TakeError};
use uuid::Uuid;

use crate::fixture::Fixture;
use crate::support::{G1, PATIENCE, apply, epoch, leader, leader_with, take, versions};

pub(crate) async fn a_fresh_target_gets_its_tables(fixture: &impl Fixture) {
    let database = fixture.database();
    let hand = take(&*database, &leader(7)).await;
    let row = hand.gate_row();
    assert_eq!(row.leader_epoch, epoch(7));
    assert_eq!(row.gate_epoch, GateEpoch::ZERO);
    assert!(!row.is_closed());
    assert_eq!(row.executor.as_ref(), Some(hand.executor()));
    let inspection = database.inspect().await.unwrap();
    assert_eq!(inspection.gate_row.as_ref(), Some(row));
    assert_eq!(inspection.identity, row.identity);
    assert!(inspection.ledger.is_empty());
}

pub(crate) async fn inspecting_makes_nothing(fixture: &impl Fixture) {
    let database = fixture.database();
    // SQLite makes the file at the first session that may write.
    drop(fixture.session().await);
    let inspection = database.inspect().await.unwrap();
    assert_eq!(inspection.gate_row, None);
    assert!(
        fixture
            .session()
            .await
            .scalar("SELECT count(*) FROM lockkeeper_gate")
            .await
            .is_err()
    );
}

pub(crate) async fn another_migrators_history_is_seen_and_not_run_over(fixture: &impl Fixture) {
    let mut session = fixture.session().await;
    session
        .execute("CREATE TABLE schema_migration (version varchar(48))")
        .await
        .unwrap();
    let inspection = fixture.database().inspect().await.unwrap();
    assert_eq!(inspection.other_ledgers, ["schema_migration"]);
    let refusal = lockkeeper_migrate::engine::refuse_other_ledgers(&inspection).unwrap_err();
    assert!(
        refusal.to_string().contains("table schema_migration"),
        "{refusal}"
    );
}

pub(crate) async fn a_larger_epoch_takes_over(fixture: &impl Fixture) {
    let database = fixture.database();
    let first = take(&*database, &leader(1)).await;
    let second = take(&*database, &leader(2)).await;
    assert_ne!(first.executor(), second.executor());
    let row = database.inspect().await.unwrap().gate_row.unwrap();
    assert_eq!(row.leader_epoch, epoch(2));
    assert_eq!(row.executor.as_ref(), Some(second.executor()));
}

pub(crate) async fn an_equal_epoch_of_the_same_leader_continues(fixture: &impl Fixture) {
    let database = fixture.database();
    let mut first = take(&*database, &leader(3)).await;
    first.close(G1, "r1").await.unwrap();
    let mut second = take(&*database, &leader(3)).await;
    if fixture.closes_durably() {
        assert!(second.gate_row().is_closed());
        assert_eq!(second.gate_row().rollout.as_deref(), Some("r1"));
    }
    second.close(GateEpoch(2), "r2").await.unwrap();
    assert!(
        first.close(GateEpoch(3), "r3").await.is_err(),
        "the older hand is still alive"
    );
}

pub(crate) async fn an_equal_epoch_of_another_leader_is_refused(fixture: &impl Fixture) {
    let database = fixture.database();
    let mut hand = take(&*database, &leader(3)).await;
    let claim = leader_with(3, Uuid::from_u128(99));
    let error = database.take(&claim, PATIENCE, &Silent).await.unwrap_err();
    assert!(
        matches!(error, TakeError::EpochTaken { epoch: e } if e == epoch(3)),
        "{error}"
    );
    hand.close(G1, "r1").await.unwrap();
}

pub(crate) async fn a_smaller_epoch_is_refused(fixture: &impl Fixture) {
    let database = fixture.database();
    let mut hand = take(&*database, &leader(3)).await;
    let error = database.take(&leader(2), PATIENCE, &Silent).await.unwrap_err();
    assert!(
        matches!(error, TakeError::TargetAhead { recorded, claimed } if recorded == epoch(3) && claimed == epoch(2)),
        "{error}"
    );
    hand.close(G1, "r1").await.unwrap();
    assert_eq!(
        hand.gate_row().leader_epoch,
        LeaderEpoch {
            generation: 1,
            revision: 3
        }
    );
}

pub(crate) async fn a_superseded_hand_can_do_nothing(fixture: &impl Fixture) {
    let database = fixture.database();
    let mut old = take(&*database, &leader(1)).await;
    old.close(G1, "r1").await.unwrap();
    let mut new = take(&*database, &leader(2)).await;

    let superseded = |error: &DbError| matches!(error, DbError::Superseded { by } if by.contains("e1.2"));
    let error = old.open(G1, None).await.unwrap_err();
    assert!(superseded(&error), "open: {error:?}");
    let error = old.close(GateEpoch(2), "r2").await.unwrap_err();
    assert!(superseded(&error), "close: {error:?}");
    let error = apply(&mut *old, fixture.dialect(), "1", "CREATE TABLE t (a INT);")
        .await
        .unwrap_err();
    assert!(
        matches!(&error, lockkeeper_migrate::db::ApplyError::Db(error) if superseded(error)),
        "apply: {error:?}"
    );

    let row = database.inspect().await.unwrap().gate_row.unwrap();
    assert_eq!(row.is_closed(), fixture.closes_durably());
    assert!(versions(&mut *new).await.is_empty());
    assert!(
        fixture
            .session()
            .await
            .scalar("SELECT count(*) FROM t")
            .await
            .is_err(),
        "its migration took effect"
    );
}

pub(crate) async fn an_ended_executor_is_gone(fixture: &impl Fixture) {
    let database = fixture.database();
    let mut hand = take(&*database, &leader(1)).await;
    let executor = hand.executor().clone();
    database.end_executor(&executor, PATIENCE).await.unwrap();
    database.end_executor(&executor, PATIENCE).await.unwrap();
    assert!(hand.close(G1, "r1").await.is_err());
    assert!(!database.inspect().await.unwrap().gate_row.unwrap().is_closed());
}

pub(crate) async fn a_released_target_has_no_executor(fixture: &impl Fixture) {
    let database = fixture.database();
    take(&*database, &leader(1)).await.release().await.unwrap();
    let row = database.inspect().await.unwrap().gate_row.unwrap();
    assert_eq!(row.executor, None);
    assert_eq!(row.leader_epoch, epoch(1));
}
