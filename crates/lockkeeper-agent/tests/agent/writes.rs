use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lockkeeper_agent::{Refusal, Refused, WriteError};
use lockkeeper_proto::v1::FencedCause;

use crate::fake::{Fake, TARGET, builder, open_agent, soon};

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{0:?}")]
struct Refuses(Option<Refusal>);

impl Refused for Refuses {
    fn refusal(&self) -> Option<Refusal> {
        self.0
    }
}

#[tokio::test]
async fn a_refused_write_gives_its_permit_back_and_runs_again_after_the_opening() {
    let mut fake = Fake::start().await;
    let (agent, mut stream) = open_agent(&mut fake).await;
    let tries = AtomicU32::new(0);
    let write = agent.write_with(TARGET, || async {
        match tries.fetch_add(1, Ordering::Relaxed) {
            0 => Err(Refuses(Some(Refusal::Fenced))),
            _ => Ok("written"),
        }
    });
    let coordinator = async {
        // The database knew before the coordinator's word arrives.
        stream.fence(8, FencedCause::GateClosed);
        stream.next_drained().await;
        stream.open(8);
        stream.grant_next(8, Duration::from_secs(30)).await;
    };
    let (written, ()) = soon(async { tokio::join!(write, coordinator) }).await;
    assert_eq!(written.unwrap(), "written");
    assert_eq!(tries.into_inner(), 2);
}

#[tokio::test]
async fn other_errors_are_given_back_at_once() {
    let mut fake = Fake::start().await;
    let (agent, _stream) = open_agent(&mut fake).await;
    for refusal in [None, Some(Refusal::Superseded)] {
        let tries = AtomicU32::new(0);
        let failed = agent.write_with(TARGET, || async {
            tries.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>(Refuses(refusal))
        });
        let error = soon(failed).await.unwrap_err();
        assert!(matches!(error, WriteError::Write(Refuses(given)) if given == refusal));
        assert_eq!(tries.into_inner(), 1);
    }
}

#[tokio::test]
async fn a_write_is_dropped_at_its_deadline() {
    let mut fake = Fake::start().await;
    let agent = builder([&fake]).build().unwrap();
    let mut stream = fake.stream().await;
    stream.grant_next(7, Duration::from_millis(500)).await;
    let endless = agent.write_with(TARGET, || async {
        std::future::pending::<()>().await;
        Ok::<_, Refuses>(())
    });
    assert!(matches!(soon(endless).await, Err(WriteError::DeadlinePassed)));
}

#[tokio::test]
async fn a_long_write_goes_on_as_long_as_its_lease_is_renewed() {
    let mut fake = Fake::start().await;
    let agent = builder([&fake]).build().unwrap();
    let granting = fake.stream().await.keep_granting(7, Duration::from_secs(2));
    let long = agent.write_with(TARGET, || async {
        tokio::time::sleep(Duration::from_millis(3_000)).await;
        Ok::<_, Refuses>("written")
    });
    assert_eq!(soon(long).await.unwrap(), "written");
    granting.abort();
}
