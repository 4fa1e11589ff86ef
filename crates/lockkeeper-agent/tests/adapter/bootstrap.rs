//! Agents without any coordinator, and the target's own gate row.

use std::time::Duration;

use lockkeeper_agent::{Agent, AgentBuilder, Cause, TargetView, VersionOrder};
use lockkeeper_core::strength::Strength;

use crate::fake::{TARGET, soon};
use crate::keeper::Keeper;
use crate::subject::{Subject, Writes, mariadb, postgres, sqlite};

/// An agent whose coordinators are all dead.
fn lonely() -> AgentBuilder {
    Agent::builder()
        .service("kratos")
        .replica("kratos-1")
        .region("eu-west-1")
        .coordinators(["127.0.0.1:1", "127.0.0.1:2"])
}

async fn starts_alone<DB: Writes>(subject: Subject<DB>, strength: Strength) {
    let mut keeper = Keeper::take(&subject.dsn, strength).await;
    keeper.turn(3).await;
    let pool = &subject.pool;
    let agent = lonely()
        .target(TARGET, "1"..="2")
        .gate_row(TARGET, VersionOrder::Numeric, pool)
        .build()
        .unwrap();
    soon(agent.register_and_wait()).await.unwrap();
    let insert = async |id| {
        agent
            .transaction(TARGET, pool, |tx| Box::pin(DB::insert(tx, id)))
            .await
    };
    insert(1).await.unwrap();

    // A fence that nobody tells it of: refused, and seen in the row. The opening too.
    keeper.close(4).await;
    let write = insert(2);
    let mut write = std::pin::pin!(write);
    tokio::select! {
        _ = &mut write => panic!("written during the fence"),
        () = tokio::time::sleep(Duration::from_millis(1500)) => {}
    }
    keeper.open(4).await;
    soon(write).await.unwrap();
    assert_eq!(DB::ids(pool).await, [1, 2]);
    assert!(
        matches!(&*agent.watch(TARGET).unwrap().borrow(), TargetView::Open { gate_epoch, .. } if gate_epoch.0 == 4)
    );
}

#[tokio::test]
async fn an_agent_starts_and_goes_on_by_the_gate_row_alone() {
    for strength in [Strength::Barrier, Strength::Epoch] {
        starts_alone(postgres().await, strength).await;
        starts_alone(mariadb().await, strength).await;
        starts_alone(sqlite().await, strength).await;
    }
}

#[tokio::test]
async fn an_agent_that_does_not_fit_stays_fenced_and_says_why() {
    let subject = postgres().await;
    let mut keeper = Keeper::take(&subject.dsn, Strength::Barrier).await;
    keeper.turn(1).await;
    let agent = lonely()
        .target(TARGET, ..="1")
        .gate_row(TARGET, VersionOrder::Numeric, &subject.pool)
        .build()
        .unwrap();
    let mut views = agent.watch(TARGET).unwrap();
    let seen = views
        .wait_for(|view| matches!(view, TargetView::Fenced(fence) if fence.cause == Cause::SchemaTooNew));
    soon(seen).await.unwrap();
}

#[tokio::test]
async fn where_lockkeeper_has_never_been_an_agent_waits_for_a_coordinator() {
    let subject = postgres().await;
    let agent = lonely()
        .target(TARGET, ..)
        .gate_row(TARGET, VersionOrder::Numeric, &subject.pool)
        .build()
        .unwrap();
    let opened = tokio::time::timeout(Duration::from_secs(3), agent.register_and_wait()).await;
    assert!(opened.is_err(), "open without a gate row");
}
