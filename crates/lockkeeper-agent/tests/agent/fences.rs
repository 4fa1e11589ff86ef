use std::time::Duration;

use lockkeeper_agent::{AgentError, Cause, GateEpoch, OnLoss, TargetView};
use lockkeeper_proto::v1::FencedCause;
use lockkeeper_proto::v1::register_and_wait_request::Message as Said;

use crate::fake::{Fake, TARGET, builder, open_agent, soon};

const LEASE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn registers_fenced_and_writes_once_granted() {
    let mut fake = Fake::start().await;
    let agent = builder([&fake]).build().unwrap();
    assert_eq!(agent.try_write(TARGET).unwrap_err().cause, Cause::Joining);
    let mut stream = fake.stream().await;
    assert_eq!(stream.register.replica, "kratos-1");
    assert_eq!(stream.register.release, "1.2");
    assert_eq!(stream.register.targets[0].min_version, "1");
    assert_eq!(stream.register.targets[0].max_version, "2");
    let renew = stream.next_renew().await;
    assert_eq!((renew.sequence, renew.held.len()), (1, 1));
    stream.grant(7, renew.sequence, LEASE);
    soon(agent.register_and_wait()).await.unwrap();
    let permit = agent.try_write(TARGET).unwrap();
    assert_eq!(
        (permit.gate_epoch(), permit.version().as_str()),
        (GateEpoch(7), "2")
    );
    assert!(permit.remaining().unwrap() <= LEASE && !permit.expired());
}

#[tokio::test]
async fn acks_when_the_last_permit_is_back_and_not_before() {
    let mut fake = Fake::start().await;
    let (agent, mut stream) = open_agent(&mut fake).await;
    let permit = agent.write_labelled(TARGET, "nightly import").await.unwrap();
    stream.fence(8, FencedCause::GateClosed);
    let fence = soon(permit.revoked()).await;
    assert_eq!((fence.cause, fence.gate_epoch), (Cause::GateClosed, GateEpoch(8)));
    assert_eq!(fence.rollout.unwrap().as_str(), "r-1");

    // The renewals in between name the straggler; the first message of any other kind would be the ack.
    let report = loop {
        match stream.next().await.unwrap() {
            Said::Renew(renew) if renew.held[0].gate_epoch == 8 => break renew.held[0].clone(),
            Said::Renew(_) => {}
            other => panic!("{other:?} although a permit is out"),
        }
    };
    assert_eq!(
        (report.permits, report.oldest_label.as_str()),
        (1, "nightly import")
    );
    drop(permit);
    let (drained, _) = stream.next_drained().await;
    assert_eq!((drained.target.as_str(), drained.gate_epoch), (TARGET, 8));
}

#[tokio::test]
async fn a_waiting_writer_goes_on_after_the_opening_and_a_late_grant_does_not_wake_it() {
    let mut fake = Fake::start().await;
    let (agent, mut stream) = open_agent(&mut fake).await;
    stream.fence(8, FencedCause::GateClosed);
    stream.next_drained().await;
    let writer = tokio::spawn({
        let agent = agent.clone();
        async move { agent.write(TARGET).await.map(|permit| permit.gate_epoch()) }
    });
    stream.grant(7, 1, LEASE);
    // The answer to the next message proves that the late grant was heard.
    stream.open(8);
    let renew = stream.next_renew().await;
    assert_eq!(renew.held[0].gate_epoch, 8);
    assert!(
        !writer.is_finished(),
        "a grant of g7 after the fence of g8 woke a writer"
    );
    stream.grant(8, renew.sequence, LEASE);
    assert_eq!(soon(writer).await.unwrap(), Ok(GateEpoch(8)));
}

#[tokio::test]
async fn a_lease_that_nobody_renews_stops_the_agent_by_itself() {
    let mut fake = Fake::start().await;
    let agent = builder([&fake]).build().unwrap();
    let mut stream = fake.stream().await;
    stream.grant_next(7, Duration::from_millis(600)).await;
    soon(agent.register_and_wait()).await.unwrap();
    let permit = agent.try_write(TARGET).unwrap();
    assert_eq!(soon(permit.revoked()).await.cause, Cause::LeaseExpired);
    assert!(permit.expired());
    assert_eq!(agent.try_write(TARGET).unwrap_err().cause, Cause::LeaseExpired);
}

#[tokio::test]
async fn a_lease_counts_from_the_sending_of_the_renewal_that_it_answers() {
    let mut fake = Fake::start().await;
    let agent = builder([&fake]).build().unwrap();
    let mut stream = fake.stream().await;
    let renew = stream.next_renew().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    stream.grant(7, 99, LEASE);
    stream.grant(7, renew.sequence, LEASE);
    soon(agent.register_and_wait()).await.unwrap();
    let left = agent.try_write(TARGET).unwrap().remaining().unwrap();
    assert!(
        left <= LEASE - Duration::from_millis(490),
        "{left:?} left of a lease that is 500 ms old"
    );
}

#[tokio::test]
async fn with_go_on_the_agent_writes_without_a_coordinator() {
    let mut fake = Fake::start().await;
    let agent = builder([&fake]).on_loss(TARGET, OnLoss::GoOn).build().unwrap();
    let mut stream = fake.stream().await;
    stream.grant_next(7, Duration::from_millis(100)).await;
    soon(agent.register_and_wait()).await.unwrap();
    drop(stream);
    fake.crash().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let permit = agent.try_write(TARGET).unwrap();
    assert_eq!((permit.deadline(), permit.expired()), (None, false));
}

#[tokio::test]
async fn watchers_see_the_gate_close_and_open() {
    let mut fake = Fake::start().await;
    let (agent, mut stream) = open_agent(&mut fake).await;
    let mut view = agent.watch(TARGET).unwrap();
    stream.fence(8, FencedCause::SchemaTooNew);
    soon(
        view.wait_for(|view| matches!(view, TargetView::Fenced(fence) if fence.cause == Cause::SchemaTooNew)),
    )
    .await
    .unwrap();
    stream.open(8);
    let (_, mut renewals) = stream.next_drained().await;
    let renew = match renewals.pop() {
        Some(renew) => renew,
        None => stream.next_renew().await,
    };
    stream.grant(8, renew.sequence, LEASE);
    soon(view.wait_for(TargetView::is_open)).await.unwrap();
    assert!(agent.watch("other").is_none());
}

#[tokio::test]
async fn the_write_timeout_says_why_it_is_not_open() {
    let mut fake = Fake::start().await;
    let agent = builder([&fake])
        .write_timeout(Duration::from_millis(50))
        .build()
        .unwrap();
    let mut stream = fake.stream().await;
    stream.fence(8, FencedCause::GateClosed);
    stream.next_drained().await;
    let error = agent.write(TARGET).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "target kratos/eu-west-1 is still not open after 50ms: \
         gate closed at g8 by rollout r-1: a test says so"
    );
    assert_eq!(
        agent.write("other").await.unwrap_err(),
        AgentError::UnknownTarget("other".to_owned())
    );
}
