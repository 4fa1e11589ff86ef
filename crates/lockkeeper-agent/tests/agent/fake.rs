//! A coordinator whose answers the test gives.

use std::net::SocketAddr;
use std::time::Duration;

use lockkeeper_agent::{Agent, AgentBuilder};
use lockkeeper_proto::v1;
use lockkeeper_proto::v1::agent_service_server::{AgentService, AgentServiceServer};
use lockkeeper_proto::v1::register_and_wait_request::Message as Said;
use lockkeeper_proto::v1::register_and_wait_response::Message as Answer;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};

pub(crate) const TARGET: &str = "kratos/eu-west-1";

/// Long enough for a loaded machine; only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(10);

type Answers = mpsc::UnboundedSender<Result<v1::RegisterAndWaitResponse, Status>>;

/// A server on a free port that hands every stream to the test.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    streams: mpsc::UnboundedReceiver<Stream>,
    server: JoinHandle<()>,
}

/// One agent's stream, in the hands of the test.
pub(crate) struct Stream {
    pub(crate) register: v1::Register,
    requests: Streaming<v1::RegisterAndWaitRequest>,
    answers: Answers,
}

struct Service {
    streams: mpsc::UnboundedSender<Stream>,
}

#[tonic::async_trait]
impl AgentService for Service {
    type RegisterAndWaitStream = UnboundedReceiverStream<Result<v1::RegisterAndWaitResponse, Status>>;

    async fn register_and_wait(
        &self,
        request: Request<Streaming<v1::RegisterAndWaitRequest>>,
    ) -> Result<Response<Self::RegisterAndWaitStream>, Status> {
        let mut requests = request.into_inner();
        let Some(Said::Register(register)) = requests.message().await?.and_then(|first| first.message) else {
            return Err(Status::invalid_argument("the first message is not register"));
        };
        let (answers, outgoing) = mpsc::unbounded_channel();
        let _ = self.streams.send(Stream {
            register,
            requests,
            answers,
        });
        Ok(Response::new(UnboundedReceiverStream::new(outgoing)))
    }
}

impl Fake {
    pub(crate) async fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("the port is taken");
        let address = listener.local_addr().expect("not bound");
        let (streams, incoming) = mpsc::unbounded_channel();
        let service = AgentServiceServer::new(Service { streams });
        let router = tonic::transport::Server::builder().add_service(service);
        let server = tokio::spawn(async move {
            router
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .expect("the server failed");
        });
        Self {
            address,
            streams: incoming,
            server,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next stream that an agent opens.
    pub(crate) async fn stream(&mut self) -> Stream {
        soon(self.streams.recv()).await.expect("the server has ended")
    }

    /// Nothing listens any more, and streams break.
    pub(crate) async fn crash(self) {
        self.server.abort();
        let _ = self.server.await;
    }
}

impl Stream {
    fn answer(&self, message: Answer) {
        let response = v1::RegisterAndWaitResponse {
            message: Some(message),
        };
        self.answers.send(Ok(response)).expect("the agent has gone");
    }

    pub(crate) fn grant(&self, gate_epoch: u64, sequence: u64, lease: Duration) {
        self.answer(Answer::Granted(v1::Granted {
            target: TARGET.to_owned(),
            gate_epoch,
            version: "2".to_owned(),
            lease: Some(lease.try_into().expect("too long")),
            sequence,
        }));
    }

    pub(crate) fn fence(&self, gate_epoch: u64, cause: v1::FencedCause) {
        self.answer(Answer::Fenced(v1::Fenced {
            target: TARGET.to_owned(),
            gate_epoch,
            reason: "a test says so".to_owned(),
            rollout: "r-1".to_owned(),
            cause: cause.into(),
            traceparent: String::new(),
        }));
    }

    pub(crate) fn open(&self, gate_epoch: u64) {
        let opened = v1::Opened {
            target: TARGET.to_owned(),
            gate_epoch,
            version: "2".to_owned(),
        };
        self.answer(Answer::Opened(opened));
    }

    pub(crate) fn end(self, status: Status) {
        let _ = self.answers.send(Err(status));
    }

    /// What the agent says next; `None`: it has closed its half.
    pub(crate) async fn next(&mut self) -> Option<Said> {
        let message = soon(self.requests.message()).await.expect("the stream broke");
        message.map(|request| request.message.expect("an empty request"))
    }

    /// Waits until the agent has closed or broken the stream.
    pub(crate) async fn closed(&mut self) {
        while let Ok(Some(_)) = self.requests.message().await {}
    }

    pub(crate) async fn next_renew(&mut self) -> v1::Renew {
        loop {
            match self.next().await.expect("the agent closed its half") {
                Said::Renew(renew) => return renew,
                Said::Drained(_) => {}
                Said::Register(_) => panic!("registered twice"),
            }
        }
    }

    /// The next ack, and the renewals that came before it.
    pub(crate) async fn next_drained(&mut self) -> (v1::Drained, Vec<v1::Renew>) {
        let mut renewals = Vec::new();
        loop {
            match self.next().await.expect("the agent closed its half") {
                Said::Drained(drained) => return (drained, renewals),
                Said::Renew(renew) => renewals.push(renew),
                Said::Register(_) => panic!("registered twice"),
            }
        }
    }

    /// Answers the next renewal with a lease.
    pub(crate) async fn grant_next(&mut self, gate_epoch: u64, lease: Duration) {
        let renew = self.next_renew().await;
        self.grant(gate_epoch, renew.sequence, lease);
    }

    /// Answers every renewal with a lease until the agent closes its half.
    pub(crate) fn keep_granting(mut self, gate_epoch: u64, lease: Duration) -> JoinHandle<()> {
        tokio::spawn(async move {
            while let Ok(Some(request)) = self.requests.message().await {
                if let Some(Said::Renew(renew)) = request.message {
                    self.grant(gate_epoch, renew.sequence, lease);
                }
            }
        })
    }
}

/// Bounds a wait, so that a failing test ends.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("waited in vain")
}

/// An agent of one target, not yet built.
pub(crate) fn builder<'a>(coordinators: impl IntoIterator<Item = &'a Fake>) -> AgentBuilder {
    Agent::builder()
        .service("kratos")
        .replica("kratos-1")
        .region("eu-west-1")
        .release("1.2")
        .coordinators(coordinators.into_iter().map(Fake::url))
        .target(TARGET, "1"..="2")
}

/// A registered agent with a lease of gate epoch 7, and its stream.
pub(crate) async fn open_agent(fake: &mut Fake) -> (Agent, Stream) {
    let agent = builder([&*fake]).build().expect("not a whole agent");
    let mut stream = fake.stream().await;
    stream.grant_next(7, Duration::from_secs(30)).await;
    soon(agent.register_and_wait()).await.expect("not registered");
    (agent, stream)
}
