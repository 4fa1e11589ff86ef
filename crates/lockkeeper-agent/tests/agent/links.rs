use std::time::Duration;

use lockkeeper_agent::{AgentError, Cause, GateEpoch, LinkState};
use lockkeeper_proto::v1::FencedCause;
use tonic::Status;

use crate::fake::{Fake, TARGET, builder, open_agent, soon};

const LEASE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_reconnect_keeps_the_incarnation_the_permits_and_the_highest_epoch() {
    let mut fake = Fake::start().await;
    let (agent, stream) = open_agent(&mut fake).await;
    let incarnation = stream.register.incarnation.clone();
    let permit = agent.try_write(TARGET).unwrap();
    stream.fence(8, FencedCause::GateClosed);
    soon(permit.revoked()).await;
    drop(stream);

    let mut stream = fake.stream().await;
    assert_eq!(stream.register.incarnation, incarnation);
    let renew = stream.next_renew().await;
    assert_eq!((renew.held[0].gate_epoch, renew.held[0].permits), (8, 1));
    // A coordinator that lags behind grants what was closed long ago.
    stream.grant(7, renew.sequence, LEASE);
    stream.fence(8, FencedCause::GateClosed);
    drop(permit);
    let (drained, _) = stream.next_drained().await;
    assert_eq!(drained.gate_epoch, 8);
    assert_eq!(agent.try_write(TARGET).unwrap_err().gate_epoch, GateEpoch(8));
}

#[tokio::test]
async fn an_ack_that_was_told_the_old_coordinator_is_told_the_new_one() {
    let mut fake = Fake::start().await;
    let (_agent, mut stream) = open_agent(&mut fake).await;
    stream.fence(8, FencedCause::GateClosed);
    stream.next_drained().await;
    drop(stream);
    let mut stream = fake.stream().await;
    stream.fence(8, FencedCause::GateClosed);
    assert_eq!(stream.next_drained().await.0.gate_epoch, 8);
}

#[tokio::test]
async fn a_coordinator_that_leaves_is_left_at_once_for_another() {
    let (mut one, mut two) = (Fake::start().await, Fake::start().await);
    let agent = builder([&one, &two]).build().unwrap();
    let (stream, other) = tokio::select! {
        stream = one.stream() => (stream, &mut two),
        stream = two.stream() => (stream, &mut one),
    };
    stream.grant(7, 0, LEASE);
    soon(agent.register_and_wait()).await.unwrap();
    stream.end(Status::unavailable("leaving"));
    let mut stream = other.stream().await;
    assert!(agent.try_write(TARGET).is_ok(), "the lease of the first goes on");
    stream.grant_next(7, LEASE).await;
}

#[tokio::test]
async fn a_crashed_coordinator_is_found_again_when_it_is_back() {
    let mut fake = Fake::start().await;
    let (agent, stream) = open_agent(&mut fake).await;
    let address = fake.address;
    drop(stream);
    fake.crash().await;
    let mut link = agent.link();
    soon(link.wait_for(|state| matches!(state, LinkState::Connecting { last_error: Some(_) })))
        .await
        .unwrap();
    let mut fake = Fake::start_at(address).await;
    let mut stream = fake.stream().await;
    stream.grant_next(7, LEASE).await;
    soon(link.wait_for(|state| matches!(state, LinkState::Connected { .. })))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_coordinator_that_answers_no_renewal_is_left_before_the_lease_ends() {
    let (mut one, mut two) = (Fake::start().await, Fake::start().await);
    let agent = builder([&one, &two]).build().unwrap();
    let (stream, other) = tokio::select! {
        stream = one.stream() => (stream, &mut two),
        stream = two.stream() => (stream, &mut one),
    };
    stream.grant(7, 0, Duration::from_secs(3));
    soon(agent.register_and_wait()).await.unwrap();
    let mut second = other.stream().await;
    assert!(
        agent.try_write(TARGET).is_ok(),
        "the lease ended before another coordinator was asked"
    );
    second.grant_next(7, LEASE).await;
    drop(stream);
}

#[tokio::test]
async fn a_superseded_agent_stops_for_good() {
    let mut fake = Fake::start().await;
    let (agent, stream) = open_agent(&mut fake).await;
    let permit = agent.try_write(TARGET).unwrap();
    stream.end(Status::aborted("a newer start has registered"));
    assert_eq!(soon(permit.revoked()).await.cause, Cause::Superseded);
    let superseded = AgentError::Superseded("a newer start has registered".to_owned());
    assert_eq!(soon(agent.write(TARGET)).await.unwrap_err(), superseded);
    assert_eq!(soon(agent.register_and_wait()).await, Err(superseded));
    assert_eq!(agent.try_write(TARGET).unwrap_err().cause, Cause::Superseded);
}

#[tokio::test]
async fn a_writer_that_waits_is_told_when_waiting_has_become_pointless() {
    let mut fake = Fake::start().await;
    let agent = builder([&fake]).build().unwrap();
    let stream = fake.stream().await;
    let writer = tokio::spawn({
        let agent = agent.clone();
        async move { agent.write(TARGET).await.map(drop) }
    });
    stream.end(Status::aborted("newer"));
    assert_eq!(
        soon(writer).await.unwrap(),
        Err(AgentError::Superseded("newer".to_owned()))
    );
}

#[tokio::test]
async fn a_rejected_registration_is_final_only_before_the_first_success() {
    let mut fake = Fake::start().await;
    let agent = builder([&fake]).build().unwrap();
    fake.stream()
        .await
        .end(Status::invalid_argument("targets[0].name: bad"));
    let rejected = AgentError::Rejected("targets[0].name: bad".to_owned());
    assert_eq!(soon(agent.register_and_wait()).await, Err(rejected));

    let (agent, stream) = open_agent(&mut fake).await;
    stream.end(Status::invalid_argument("another release's opinion"));
    let mut stream = fake.stream().await;
    stream.grant_next(7, LEASE).await;
    assert!(agent.try_write(TARGET).is_ok());
}

#[tokio::test]
async fn shutdown_drains_acks_and_closes() {
    let mut fake = Fake::start().await;
    let (agent, mut stream) = open_agent(&mut fake).await;
    let permit = agent.write(TARGET).await.unwrap();
    let shutdown = tokio::spawn({
        let agent = agent.clone();
        async move { agent.shutdown().await }
    });
    assert_eq!(soon(permit.revoked()).await.cause, Cause::Leaving);
    drop(permit);
    assert_eq!(stream.next_drained().await.0.gate_epoch, 8);
    assert_eq!(stream.next().await, None, "the agent closes its half");
    drop(stream);
    assert_eq!(soon(shutdown).await.unwrap(), Ok(()));
    assert_eq!(agent.write(TARGET).await.unwrap_err(), AgentError::Closed);
}

#[tokio::test]
async fn shutdown_names_the_straggler_and_does_not_ack_for_it() {
    let mut fake = Fake::start().await;
    let (agent, mut stream) = open_agent(&mut fake).await;
    let _permit = agent.write_labelled(TARGET, "nightly import").await.unwrap();
    let error = agent
        .shutdown_within(Duration::from_millis(50))
        .await
        .unwrap_err();
    assert!(
        matches!(error, AgentError::StillWriting { permits: 1, ref label, .. } if label == "nightly import")
    );
    while let Some(message) = stream.next().await {
        assert!(
            !format!("{message:?}").contains("Drained"),
            "acked with a permit out"
        );
    }
}

#[tokio::test]
async fn dropping_the_last_handle_ends_the_stream() {
    let mut fake = Fake::start().await;
    let (agent, mut stream) = open_agent(&mut fake).await;
    let clone = agent.clone();
    drop(agent);
    assert!(clone.try_write(TARGET).is_ok());
    drop(clone);
    soon(stream.closed()).await;
}
