use lockkeeper_agent::{AgentError, Cause, Progress, WaitError};
use lockkeeper_proto::v1::FencedCause;
use tonic::Status;

use crate::fake::{Fake, TARGET, builder, soon};

#[tokio::test]
async fn a_waiter_half_closes_and_ends_when_its_targets_are_open() {
    let mut fake = Fake::start().await;
    let waiter = tokio::spawn({
        let builder = builder([&fake]);
        async move {
            let mut causes = Vec::new();
            let opened = builder.wait_open(|progress| {
                if let Progress::Fenced(_, fence) = progress {
                    causes.push(fence.cause);
                }
            });
            (opened.await.unwrap(), causes)
        }
    });
    let mut stream = fake.stream().await;
    assert_eq!(
        stream.next().await,
        None,
        "a waiter sends nothing but its registration"
    );
    stream.fence(7, FencedCause::SchemaTooOld);
    stream.open(8);
    drop(stream);
    let (opened, causes) = soon(waiter).await.unwrap();
    assert_eq!(
        (opened[0].target.as_str(), opened[0].version.as_str()),
        (TARGET, "2")
    );
    assert_eq!(causes, [Cause::SchemaTooOld]);
}

#[tokio::test]
async fn a_waiter_whose_coordinator_leaves_too_early_asks_again() {
    let mut fake = Fake::start().await;
    let waiter = tokio::spawn({
        let builder = builder([&fake]);
        async move { builder.wait_open(|_| ()).await }
    });
    fake.stream().await.end(Status::unavailable("leaving"));
    drop(fake.stream().await);
    let stream = fake.stream().await;
    stream.open(8);
    drop(stream);
    assert_eq!(soon(waiter).await.unwrap().unwrap().len(), 1);
}

#[tokio::test]
async fn a_rejected_waiter_ends() {
    let mut fake = Fake::start().await;
    let waiter = tokio::spawn({
        let builder = builder([&fake]);
        async move { builder.wait_open(|_| ()).await }
    });
    fake.stream().await.end(Status::invalid_argument("bad name"));
    let error = soon(waiter).await.unwrap().unwrap_err();
    assert!(matches!(error, WaitError::Agent(AgentError::Rejected(reason)) if reason == "bad name"));
}
