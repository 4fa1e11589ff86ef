//! A paused agent's write arrives during the fence, and another one after the opening: what becomes of them.

use std::time::Duration;

use lockkeeper_agent::sqlx::{BeginError, Transaction};
use lockkeeper_agent::{OnLoss, Permit, Refusal, Refused, WriteError};
use lockkeeper_core::strength::Strength;
use sqlx::Pool;

use crate::fake::{Fake, TARGET, builder, soon};
use crate::keeper::Keeper;
use crate::subject::{Subject, Writes, mariadb, postgres, sqlite};

/// What became of a late write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Late {
    Written,
    /// The transaction began, and its statement was refused.
    StatementRefused,
    /// The transaction did not begin.
    EpochRefused,
}
use Late::{EpochRefused, StatementRefused, Written};

/// Begins under a permit that was taken long ago, and writes.
async fn late<DB: Writes>(permit: Permit, pool: &Pool<DB>, id: i64) -> Late {
    let mut tx = match Transaction::begin_under(permit, pool).await {
        Ok(tx) => tx,
        Err(error) if error.refusal() == Some(Refusal::Fenced) => return EpochRefused,
        Err(error) => panic!("{error:?}"),
    };
    match DB::insert(&mut tx, id).await {
        Ok(()) => {
            tx.commit().await.unwrap();
            Written
        }
        Err(error) => {
            assert_eq!(error.refusal(), Some(Refusal::Fenced), "{error}");
            tx.rollback().await.unwrap();
            StatementRefused
        }
    }
}

/// Two permits of g1 that are used during the fence of g2 and after its opening.
async fn paused_agent<DB: Writes>(subject: Subject<DB>, strength: Strength) -> (Late, Late) {
    let mut keeper = Keeper::take(&subject.dsn, strength).await;
    keeper.turn(1).await;
    let mut fake = Fake::start().await;
    let policy = if strength.has_barrier() {
        OnLoss::GoOn
    } else {
        OnLoss::Stop
    };
    let agent = builder([&fake]).on_loss(TARGET, policy).build().unwrap();
    let mut stream = fake.stream().await;
    stream.grant_next(1, Duration::from_secs(60)).await;
    soon(agent.register_and_wait()).await.unwrap();
    let pool = &subject.pool;
    agent
        .transaction(TARGET, pool, |tx| Box::pin(DB::insert(tx, 0)))
        .await
        .unwrap();
    let (during, after) = (
        agent.write(TARGET).await.unwrap(),
        agent.write(TARGET).await.unwrap(),
    );

    keeper.close(2).await;
    let during = late(during, pool, 1).await;
    keeper.open(2).await;
    let after = late(after, pool, 2).await;

    let mut expected = vec![0];
    expected.extend((during == Written).then_some(1));
    expected.extend((after == Written).then_some(2));
    assert_eq!(DB::ids(pool).await, expected);
    // Nothing was left open on any connection: the pool's next users find it as they should.
    stream.open(2);
    stream.grant_next(2, Duration::from_secs(60)).await;
    for id in 3..8 {
        agent
            .transaction(TARGET, pool, |tx| Box::pin(DB::insert(tx, id)))
            .await
            .unwrap();
    }
    assert_eq!(DB::ids(pool).await.len(), expected.len() + 5);
    (during, after)
}

#[tokio::test]
async fn cooperative_stops_no_late_write() {
    let strength = Strength::Cooperative;
    assert_eq!(paused_agent(postgres().await, strength).await, (Written, Written));
    assert_eq!(paused_agent(mariadb().await, strength).await, (Written, Written));
    // On SQLite every transaction reads the gate row; but the row is written with the opening.
    assert_eq!(
        paused_agent(sqlite().await, strength).await,
        (Written, EpochRefused)
    );
}

#[tokio::test]
async fn a_barrier_stops_late_writes_until_the_opening() {
    let strength = Strength::Barrier;
    assert_eq!(
        paused_agent(postgres().await, strength).await,
        (StatementRefused, Written)
    );
    assert_eq!(
        paused_agent(mariadb().await, strength).await,
        (StatementRefused, Written)
    );
    assert_eq!(
        paused_agent(sqlite().await, strength).await,
        (EpochRefused, EpochRefused)
    );
}

#[tokio::test]
async fn an_epoch_stops_late_writes_for_good() {
    let strength = Strength::Epoch;
    let expected = (EpochRefused, EpochRefused);
    assert_eq!(paused_agent(postgres().await, strength).await, expected);
    assert_eq!(paused_agent(mariadb().await, strength).await, expected);
    assert_eq!(paused_agent(sqlite().await, strength).await, expected);
}

/// A transaction that carries its epoch, and has written nothing yet.
async fn carried<DB: Writes>(subject: &Subject<DB>) -> (Keeper, lockkeeper_agent::Agent, Transaction<DB>) {
    let mut keeper = Keeper::take(&subject.dsn, Strength::Epoch).await;
    keeper.turn(1).await;
    let mut fake = Fake::start().await;
    let agent = builder([&fake]).on_loss(TARGET, OnLoss::GoOn).build().unwrap();
    let mut stream = fake.stream().await;
    stream.grant_next(1, Duration::from_secs(60)).await;
    let tx = agent.begin(TARGET, &subject.pool).await.unwrap();
    (keeper, agent, tx)
}

/// The epoch table alone holds the fence up: no user table has been touched.
async fn holders_are_waited_for<DB: Writes>(subject: Subject<DB>) {
    let (mut keeper, _agent, mut tx) = carried(&subject).await;
    let closing = tokio::spawn(async move {
        let report = keeper.close(2).await.unwrap();
        (keeper, report)
    });
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(!closing.is_finished(), "the fence did not wait for a holder");
    DB::insert(&mut tx, 1).await.unwrap();
    tx.commit().await.unwrap();
    let (_keeper, report) = soon(closing).await.unwrap();
    assert!(report.ended.is_empty(), "{:?}", report.ended);
    assert_eq!(DB::ids(&subject.pool).await, [1]);
}

async fn holders_are_ended<DB: Writes>(subject: Subject<DB>) {
    let (mut keeper, _agent, mut tx) = carried(&subject).await;
    let report = keeper.close_within(2, Duration::from_millis(500)).await.unwrap();
    assert_eq!(report.ended.len(), 1, "{:?}", report.ended);
    assert!(DB::insert(&mut tx, 1).await.is_err());
    drop(tx);
    keeper.open(2).await;
    assert!(DB::ids(&subject.pool).await.is_empty());
}

#[tokio::test]
async fn closing_waits_for_exactly_those_who_carry_the_epoch() {
    holders_are_waited_for(postgres().await).await;
    holders_are_waited_for(mariadb().await).await;
}

#[tokio::test]
async fn those_who_carry_the_epoch_too_long_are_named_and_ended() {
    holders_are_ended(postgres().await).await;
    holders_are_ended(mariadb().await).await;
}

#[tokio::test]
async fn another_strength_is_in_force_from_the_next_gate_on() {
    let subject = postgres().await;
    let tables = async || -> Vec<String> {
        let query = "SELECT relname::text FROM pg_class WHERE relname ~ '^lockkeeper_g[0-9]+$' ORDER BY 1";
        sqlx::query_scalar(query).fetch_all(&subject.pool).await.unwrap()
    };
    let mut keeper = Keeper::take(&subject.dsn, Strength::Barrier).await;
    keeper.turn(1).await;
    assert!(tables().await.is_empty());
    keeper.hand.release().await.unwrap();
    let mut keeper = Keeper::take(&subject.dsn, Strength::Epoch).await;
    assert_eq!(
        tables().await,
        ["lockkeeper_g1"],
        "a leader's hand arms an open gate"
    );
    keeper.turn(2).await;
    assert_eq!(tables().await, ["lockkeeper_g2"]);
    keeper.hand.release().await.unwrap();
    let mut keeper = Keeper::take(&subject.dsn, Strength::Barrier).await;
    keeper.turn(3).await;
    assert!(tables().await.is_empty());
}

/// On a cooperative target the lease's end is the end of the write.
#[tokio::test]
async fn the_lease_s_end_cancels_and_disconnects() {
    let subject = postgres().await;
    let mut fake = Fake::start().await;
    let agent = builder([&fake]).build().unwrap();
    let mut stream = fake.stream().await;
    stream.grant_next(0, Duration::from_millis(1500)).await;
    let pool = &subject.pool;
    let work = agent.transaction::<_, (), sqlx::Error, _>(TARGET, pool, |tx| {
        Box::pin(async move {
            sqlx::Postgres::insert(tx, 1).await?;
            sqlx::query("SELECT pg_sleep(30)").execute(tx).await?;
            Ok(())
        })
    });
    assert!(matches!(soon(work).await, Err(WriteError::DeadlinePassed)));
    assert!(sqlx::Postgres::ids(pool).await.is_empty());

    let mut fake = Fake::start().await;
    let agent = builder([&fake]).build().unwrap();
    let mut stream = fake.stream().await;
    stream.grant_next(0, Duration::from_millis(800)).await;
    let mut tx = soon(agent.begin(TARGET, pool)).await.unwrap();
    sqlx::Postgres::insert(&mut tx, 2).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(matches!(tx.commit().await, Err(WriteError::DeadlinePassed)));
    assert!(sqlx::Postgres::ids(pool).await.is_empty());
}

#[test]
fn a_refused_beginning_is_a_fence() {
    assert_eq!(BeginError::Fenced.refusal(), Some(Refusal::Fenced));
}
