//! Through PgBouncer in transaction mode, where any transaction may get any session.

use std::time::Duration;

use lockkeeper_agent::OnLoss;
use lockkeeper_core::strength::Strength;
use lockkeeper_tests::pgbouncer::PgBouncer;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::fake::{Fake, TARGET, builder, soon};
use crate::keeper::Keeper;
use crate::subject::{Writes, postgres};

async fn pooled(direct: &PgPool) -> (PgBouncer, PgPool) {
    let server = direct.connect_options();
    let bouncer = PgBouncer::start(server.get_port(), "writer").unwrap();
    let options = PgConnectOptions::new()
        .host("127.0.0.1")
        .port(bouncer.port())
        .username("writer")
        .database("shop")
        // PgBouncer before 1.21 does not keep the clients' prepared statements apart.
        .statement_cache_capacity(0);
    let pool = PgPoolOptions::new()
        .max_connections(4)
        .connect_with(options)
        .await
        .unwrap();
    (bouncer, pool)
}

#[tokio::test]
async fn an_epoch_holds_through_a_pooler() {
    let subject = postgres().await;
    let mut keeper = Keeper::take(&subject.dsn, Strength::Epoch).await;
    keeper.turn(1).await;
    let (_bouncer, pool) = pooled(&subject.pool).await;
    let mut fake = Fake::start().await;
    let agent = builder([&fake]).on_loss(TARGET, OnLoss::GoOn).build().unwrap();
    let mut stream = fake.stream().await;
    stream.grant_next(1, Duration::from_secs(60)).await;
    soon(agent.register_and_wait()).await.unwrap();
    for id in 0..10 {
        agent
            .transaction(TARGET, &pool, |tx| Box::pin(sqlx::Postgres::insert(tx, id)))
            .await
            .unwrap();
    }
    // An open transaction is waited for, through the pooler as well.
    let mut tx = agent.begin(TARGET, &pool).await.unwrap();
    let closing = tokio::spawn(async move {
        keeper.close(2).await;
        keeper
    });
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(!closing.is_finished());
    sqlx::Postgres::insert(&mut tx, 10).await.unwrap();
    tx.commit().await.unwrap();
    let mut keeper = soon(closing).await.unwrap();
    let late = agent.write(TARGET).await.unwrap();
    keeper.open(2).await;
    let refused = lockkeeper_agent::sqlx::Transaction::begin_under(late, &pool).await;
    assert!(refused.is_err(), "a write of g1 after the opening of g2");
    stream.open(2);
    stream.grant_next(2, Duration::from_secs(60)).await;
    // The refused beginning left no session of the pooler in a failed transaction.
    for id in 11..20 {
        agent
            .transaction(TARGET, &pool, |tx| Box::pin(sqlx::Postgres::insert(tx, id)))
            .await
            .unwrap();
    }
    assert_eq!(sqlx::Postgres::ids(&subject.pool).await.len(), 20);
}
