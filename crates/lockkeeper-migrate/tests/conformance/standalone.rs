//! Runners without a fleet.

use std::time::Duration;

use lockkeeper_core::epoch::LeaderEpoch;
use lockkeeper_migrate::db::{Applied, Claim, DbError, Silent, TakeError};
use lockkeeper_migrate::dialect::Dialect;
use tokio::task::JoinSet;

use crate::fixture::Fixture;
use crate::support::{Recorder, apply, fenced, leader, standalone, take, versions};

const RUNNERS: usize = 10;

pub(crate) async fn ten_runners_at_once_apply_each_migration_once(fixture: &impl Fixture) {
    let dialect = fixture.dialect();
    let mut runners = JoinSet::new();
    for number in 0..RUNNERS {
        let database = fixture.database();
        runners.spawn(async move {
            let claim = standalone(&format!("runner {number}"));
            let mut hand = database
                .take(&claim, Duration::from_secs(60), &Silent)
                .await
                .unwrap();
            let mut ran = 0;
            for version in 1..=3 {
                ran += usize::from(step(&mut *hand, dialect, version).await);
            }
            hand.release().await.unwrap();
            ran
        });
    }
    let ran: usize = runners.join_all().await.into_iter().sum();
    assert_eq!(ran, 3);
    let mut app = fixture.session().await;
    for version in 1..=3 {
        let rows = app
            .scalar(&format!("SELECT count(*) FROM m{version}"))
            .await
            .unwrap();
        assert_eq!(rows.as_deref(), Some("1"));
    }
}

async fn step(hand: &mut dyn lockkeeper_migrate::db::Hand, dialect: Dialect, version: u32) -> bool {
    let text = format!("CREATE TABLE m{version} (a INT);\nINSERT INTO m{version} VALUES (1);\n");
    let applied = apply(hand, dialect, &version.to_string(), &text).await.unwrap();
    matches!(applied, Applied::Ran { .. })
}

pub(crate) async fn a_closed_gate_refuses_a_standalone_runner(fixture: &impl Fixture) {
    let database = fixture.database();
    let hand = fenced(&*database).await;
    let patience = Duration::from_secs(2);
    let error = database
        .take(&standalone("x"), patience, &Silent)
        .await
        .unwrap_err();
    let refused = match &error {
        TakeError::GateClosed { rollout, .. } => fixture.closes_durably() && rollout == "r1",
        // Where the row cannot say it yet, whoever holds the fence is waited for, and named.
        TakeError::Db(DbError::TimedOut { what, .. }) => {
            !fixture.closes_durably() && what.contains("leader e1.1")
        }
        _ => false,
    };
    assert!(refused, "{error}");
    drop(hand);
}

pub(crate) async fn a_dead_runner_is_replaced(fixture: &impl Fixture) {
    let database = fixture.database();
    let first = take(&*database, &standalone("first")).await;
    // While it lives, it is waited for, and named.
    let recorder = Recorder::default();
    let short = Duration::from_millis(1200);
    let error = database
        .take(&standalone("second"), short, &recorder)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, TakeError::Db(DbError::TimedOut { .. })),
        "{error}"
    );
    assert!(
        recorder.waited(|what, _| what.contains("first")),
        "{:?}",
        recorder.events()
    );
    drop(first);
    let second = take(&*database, &standalone("second")).await;
    assert_eq!(second.gate_row().leader_epoch, LeaderEpoch::NONE);
}

pub(crate) async fn a_leader_ends_a_standalone_runner(fixture: &impl Fixture) {
    let database = fixture.database();
    let mut runner = take(&*database, &standalone("first")).await;
    let claim: Claim = leader(1);
    let mut hand = take(&*database, &claim).await;
    let error = apply(&mut *runner, fixture.dialect(), "1", "CREATE TABLE t (a INT);")
        .await
        .unwrap_err();
    assert!(
        matches!(
            &error,
            lockkeeper_migrate::db::ApplyError::Db(DbError::Superseded { .. })
        ),
        "{error:?}"
    );
    assert!(versions(&mut *hand).await.is_empty());
}
