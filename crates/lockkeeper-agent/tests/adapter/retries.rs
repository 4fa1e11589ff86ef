//! A transaction that the database refuses waits for the gate and runs again.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lockkeeper_agent::{Agent, OnLoss, WriteError};
use lockkeeper_core::strength::Strength;
use sqlx::postgres::PgPoolOptions;

use crate::fake::{Fake, Stream, TARGET, builder, soon};
use crate::keeper::Keeper;
use crate::subject::{Subject, Writes, mariadb, postgres, sqlite};

const LONG: Duration = Duration::from_secs(60);

async fn registered() -> (Fake, Stream, Agent) {
    let mut fake = Fake::start().await;
    let agent = builder([&fake]).on_loss(TARGET, OnLoss::GoOn).build().unwrap();
    let mut stream = fake.stream().await;
    stream.grant_next(1, LONG).await;
    soon(agent.register_and_wait()).await.unwrap();
    (fake, stream, agent)
}

/// No coordinator says a word about the fence; the database does.
async fn waits<DB: Writes>(subject: Subject<DB>, strength: Strength) {
    let mut keeper = Keeper::take(&subject.dsn, strength).await;
    keeper.turn(1).await;
    let (_fake, mut stream, agent) = registered().await;
    keeper.close(2).await;
    let (pool, writer) = (subject.pool.clone(), agent.clone());
    let write = tokio::spawn(async move {
        writer
            .transaction(TARGET, &pool, |tx| Box::pin(DB::insert(tx, 1)))
            .await
    });
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(!write.is_finished(), "a fenced write must wait");
    keeper.open(2).await;
    stream.open(2);
    stream.grant_next(2, LONG).await;
    soon(write).await.unwrap().unwrap();
    assert_eq!(DB::ids(&subject.pool).await, [1]);
}

#[tokio::test]
async fn a_refused_transaction_waits_and_runs_again() {
    for strength in [Strength::Barrier, Strength::Epoch] {
        waits(postgres().await, strength).await;
        waits(mariadb().await, strength).await;
        waits(sqlite().await, strength).await;
    }
}

#[tokio::test]
async fn a_single_statement_carries_its_epoch_and_waits_as_well() {
    let subject = postgres().await;
    let mut keeper = Keeper::take(&subject.dsn, Strength::Epoch).await;
    keeper.turn(1).await;
    let (_fake, mut stream, agent) = registered().await;
    // One connection, so that the statement is prepared on it.
    let options = (*subject.pool.connect_options()).clone();
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .connect_with(options)
        .await
        .unwrap();
    let insert = "INSERT INTO writes SELECT $1 FROM pg_sleep($2)";
    let write = |id: i64, seconds: f64| {
        let (pool, agent) = (pool.clone(), agent.clone());
        tokio::spawn(async move {
            agent
                .execute(TARGET, &pool, insert, |query| query.bind(id).bind(seconds))
                .await
        })
    };
    let done = soon(write(1, 0.0)).await.unwrap().unwrap();
    assert_eq!(done.rows_affected(), 1);
    let running = write(2, 1.5);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let closing = tokio::spawn(async move {
        keeper.close(2).await;
        keeper
    });
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(
        !closing.is_finished(),
        "the statement holds its epoch while it runs"
    );
    soon(running).await.unwrap().unwrap();
    let mut keeper = soon(closing).await.unwrap();

    // The plan is cached by now: it must not outlive its epoch.
    keeper.open(2).await;
    let late = write(3, 0.0);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!late.is_finished(), "a statement of g1 after the opening of g2");
    stream.open(2);
    stream.grant_next(2, LONG).await;
    soon(late).await.unwrap().unwrap();
    assert_eq!(sqlx::Postgres::ids(&subject.pool).await, [1, 2, 3]);
}

#[tokio::test]
async fn what_is_superseded_or_simply_wrong_is_not_tried_again() {
    let subject = postgres().await;
    let (_fake, _stream, agent) = registered().await;
    for sql in [
        "DO $$ BEGIN RAISE EXCEPTION 'over' USING ERRCODE = 'LK002'; END $$",
        "INSERT INTO nowhere VALUES (1)",
    ] {
        let tries = AtomicU32::new(0);
        let outcome = agent
            .transaction::<_, (), sqlx::Error, _>(TARGET, &subject.pool, |tx| {
                tries.fetch_add(1, Ordering::Relaxed);
                Box::pin(async move { sqlx::raw_sql(sql).execute(tx).await.map(drop) })
            })
            .await;
        assert!(matches!(outcome, Err(WriteError::Write(_))), "{outcome:?}");
        assert_eq!(tries.load(Ordering::Relaxed), 1);
    }
}
