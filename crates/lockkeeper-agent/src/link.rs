//! The background task: keeps one stream to some coordinator.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use lockkeeper_core::permits::Cause;
use lockkeeper_core::time::Instant;
use lockkeeper_proto::v1;
use lockkeeper_proto::v1::agent_service_client::AgentServiceClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status, Streaming};

use crate::builder::Config;
use crate::coordinators::{Backoff, Coordinator, Ended, Rotation};
use crate::shared::{LinkState, Shared};
use crate::stream::Outgoing;
use crate::wire;

/// A coordinator that takes longer to answer the registration is tried elsewhere.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a leaving agent waits for the coordinator to take its last acks.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Messages per target that may wait for the connection to take them: an ack and some renewals.
const QUEUE_PER_TARGET: usize = 4;

/// How a stream ended.
#[derive(Debug)]
enum End {
    /// The agent leaves, and its last acks are sent.
    Farewell,
    /// A newer incarnation has registered.
    Superseded(String),
    /// The coordinator does not take this registration.
    Rejected(String),
    /// The coordinator is leaving.
    Left(String),
    /// Anything else.
    Lost(String),
}

impl End {
    fn of(status: &Status) -> Self {
        let text = format!("{:?}: {}", status.code(), status.message());
        match status.code() {
            Code::Aborted => Self::Superseded(status.message().to_owned()),
            Code::InvalidArgument => Self::Rejected(status.message().to_owned()),
            Code::Unavailable => Self::Left(text),
            _ => Self::Lost(text),
        }
    }
}

/// Keeps the link until the agent leaves or a coordinator ends it for good.
pub(crate) async fn run(config: Arc<Config>, shared: Arc<Shared>, leaving: CancellationToken) {
    let link = Link {
        config: &config,
        shared: &shared,
        leaving: &leaving,
        last_contact: None,
    };
    tokio::select! {
        state = link.keep() => shared.end(state),
        () = shared.show_expired_leases() => {}
    }
}

struct Link<'a> {
    config: &'a Config,
    shared: &'a Shared,
    leaving: &'a CancellationToken,
    /// When the current stream's first answer came.
    last_contact: Option<Instant>,
}

impl Link<'_> {
    async fn keep(mut self) -> LinkState {
        let mut rotation = Rotation::new(&self.config.coordinators);
        let mut backoff = Backoff::new(self.config.coordinators.len());
        let mut registered_once = false;
        let (leaving, shared) = (self.leaving, self.shared);
        loop {
            let coordinator = rotation.next();
            self.last_contact = None;
            let end = tokio::select! {
                biased;
                end = self.attempt(&coordinator) => end,
                () = leaving_unconnected(leaving, shared) => End::Farewell,
            };
            let lived = self
                .last_contact
                .map_or(Duration::ZERO, |at| self.shared.now().since(at));
            registered_once |= self.last_contact.is_some();
            let (ended, error) = match end {
                End::Farewell => return LinkState::Closed,
                End::Superseded(reason) => {
                    tracing::error!(%reason, "superseded by a newer start of this replica");
                    self.shared.leave(Cause::Superseded, &reason);
                    return LinkState::Superseded { reason };
                }
                // Once it was accepted, one coordinator's opinion (another release's, say) ends nothing.
                End::Rejected(reason) if !registered_once => return LinkState::Rejected { reason },
                End::Rejected(error) | End::Lost(error) => (Ended::Lost, error),
                End::Left(error) => (Ended::Left, error),
            };
            // Losing one is news; that none of the next attempts succeeds is not, each time.
            match &*self.shared.link.borrow() {
                LinkState::Connecting { last_error: Some(_) } => {
                    tracing::debug!(coordinator = %coordinator.address, %error, "still without a coordinator");
                }
                _ => tracing::warn!(coordinator = %coordinator.address, %error, "lost the coordinator"),
            }
            self.shared.link.send_replace(LinkState::Connecting {
                last_error: Some(format!("{}: {error}", coordinator.address)),
            });
            let pause = backoff.pause(ended, lived);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.leaving.cancelled() => return LinkState::Closed,
            }
        }
    }

    async fn attempt(&mut self, coordinator: &Coordinator) -> End {
        match self.stream(coordinator).await {
            Ok(end) => end,
            Err(end) => end,
        }
    }

    /// One stream, from connecting to its end.
    async fn stream(&mut self, coordinator: &Coordinator) -> Result<End, End> {
        let channel = coordinator
            .connect(&*self.config.dial)
            .await
            .map_err(|e| End::Lost(chain(&e)))?;
        let queue = 16 + QUEUE_PER_TARGET * self.config.targets.len();
        let (requests, outgoing) = mpsc::channel(queue);
        let register = wire::register(&self.config.identity, &self.config.targets);
        let registered_at = self.shared.now();
        requests
            .try_send(register)
            .map_err(|_| End::Lost("the queue is full".to_owned()))?;
        let mut out = Outgoing::new(self.shared, requests, registered_at);
        out.flush().map_err(|_| stuck())?;
        let mut request = Request::new(ReceiverStream::new(outgoing));
        self.config.add_metadata(&mut request);
        let mut client = AgentServiceClient::new(channel);
        let answer = tokio::time::timeout(REGISTER_TIMEOUT, client.register_and_wait(request)).await;
        let answer = answer.map_err(|_| End::Lost("no answer to the registration".to_owned()))?;
        let mut incoming = answer.map_err(|status| End::of(&status))?.into_inner();
        self.converse(coordinator, &mut incoming, &mut out).await?;
        drop(out);
        self.farewell(&mut incoming).await;
        Ok(End::Farewell)
    }

    /// Sends and hears until the agent leaves.
    async fn converse(
        &mut self,
        coordinator: &Coordinator,
        incoming: &mut Streaming<v1::RegisterAndWaitResponse>,
        out: &mut Outgoing<'_>,
    ) -> Result<(), End> {
        loop {
            out.flush().map_err(|_| stuck())?;
            if self.leaving.is_cancelled() {
                return Ok(());
            }
            if out.is_dumb() {
                return Err(End::Lost("the coordinator answers no renewal".to_owned()));
            }
            tokio::select! {
                message = incoming.message() => {
                    let message = message.map_err(|status| End::of(&status))?;
                    let message = message.ok_or_else(|| End::Left("the coordinator ended the stream".to_owned()))?;
                    self.heard_from(coordinator);
                    if let Some((target, said)) = wire::said(message) {
                        out.hear(&target, said);
                    }
                }
                () = self.shared.work.notified() => {}
                () = self.leaving.cancelled() => {}
                () = tokio::time::sleep(out.next_in()) => {}
            }
        }
    }

    fn heard_from(&mut self, coordinator: &Coordinator) {
        if self.last_contact.is_none() {
            self.last_contact = Some(self.shared.now());
            let coordinator = coordinator.address.clone();
            tracing::info!(%coordinator, "registered");
            self.shared
                .link
                .send_replace(LinkState::Connected { coordinator });
        }
    }

    /// The outgoing half is closed; the coordinator ends the stream when it has read all of it.
    async fn farewell(&self, incoming: &mut Streaming<v1::RegisterAndWaitResponse>) {
        let rest = async { while let Ok(Some(_)) = incoming.message().await {} };
        let _ = tokio::time::timeout(FAREWELL_TIMEOUT, pin!(rest)).await;
    }
}

/// Ends an attempt that has not come up when the agent leaves; a stream says farewell by itself.
async fn leaving_unconnected(leaving: &CancellationToken, shared: &Shared) {
    leaving.cancelled().await;
    if matches!(*shared.link.borrow(), LinkState::Connected { .. }) {
        std::future::pending::<()>().await;
    }
}

fn stuck() -> End {
    End::Lost("the coordinator does not read what is sent".to_owned())
}

/// An error with its causes: tonic's own text is only "transport error".
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
