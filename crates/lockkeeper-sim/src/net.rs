//! The network between processes: connections that carry bytes in order, late, or not at all.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use lockkeeper_agent::{Dial, Dialling};
use lockkeeper_coordinator::world::{self, Peers};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, Sleep};
use tonic::Status;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::chance::Chance;
use crate::node::{Life, Node};

/// The network. Its clones are the same one.
#[derive(Clone)]
pub struct Net(Arc<Inner>);

struct Inner {
    chance: Chance,
    state: Mutex<State>,
    /// Rung when a link or a process changes.
    changed: Notify,
}

#[derive(Default)]
struct State {
    listeners: BTreeMap<String, Listener>,
    /// Links that carry nothing, in this direction.
    cut: BTreeSet<(String, String)>,
    /// Added to the time that everything takes.
    slow: Duration,
    pipes: Vec<std::sync::Weak<Pipe>>,
}

struct Listener {
    node: Node,
    accept: mpsc::UnboundedSender<io::Result<Connection>>,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Net")
    }
}

impl Net {
    /// One without links that are cut.
    #[must_use]
    pub fn new(chance: Chance) -> Self {
        Self(Arc::new(Inner {
            chance,
            state: Mutex::default(),
            changed: Notify::new(),
        }))
    }

    /// Takes connections to `address` (`host:port`) for `node`.
    #[must_use]
    pub fn listen(
        &self,
        address: &str,
        node: &Node,
    ) -> tokio_stream::wrappers::UnboundedReceiverStream<io::Result<Connection>> {
        let (accept, accepted) = mpsc::unbounded_channel();
        let node = node.clone();
        self.state()
            .listeners
            .insert(address.to_owned(), Listener { node, accept });
        tokio_stream::wrappers::UnboundedReceiverStream::new(accepted)
    }

    /// Whether `from` reaches `to` at this moment.
    #[must_use]
    pub fn reaches(&self, from: &str, to: &str) -> bool {
        !self.state().cut.contains(&(from.to_owned(), to.to_owned()))
    }

    /// Returns when `from` reaches `to`.
    pub async fn reached(&self, from: &str, to: &str) {
        loop {
            let mut changed = std::pin::pin!(self.0.changed.notified());
            changed.as_mut().enable();
            if self.reaches(from, to) {
                return;
            }
            changed.await;
        }
    }

    /// Cuts or mends the way from one to the other.
    pub fn set_cut(&self, from: &str, to: &str, cut: bool) {
        let link = (from.to_owned(), to.to_owned());
        let mut state = self.state();
        if cut {
            state.cut.insert(link);
        } else {
            state.cut.remove(&link);
        }
        drop(state);
        self.stir();
    }

    /// Mends every link, and makes all of them fast.
    pub fn mend(&self) {
        let mut state = self.state();
        state.cut.clear();
        state.slow = Duration::ZERO;
        drop(state);
        self.stir();
    }

    /// Makes every message take longer.
    pub fn set_slow(&self, slow: Duration) {
        self.state().slow = slow;
    }

    /// Looks again at what is under way: a link or a process has changed.
    pub fn stir(&self) {
        let pipes: Vec<Arc<Pipe>> = {
            let mut state = self.state();
            state.pipes.retain(|pipe| pipe.strong_count() > 0);
            state.pipes.iter().filter_map(std::sync::Weak::upgrade).collect()
        };
        for pipe in pipes {
            if pipe.from.life() == Life::Dead {
                pipe.close(Some(io::ErrorKind::ConnectionReset));
            }
            pipe.wake();
        }
        self.0.changed.notify_waiters();
    }

    /// How long a message takes.
    #[must_use]
    pub fn latency(&self) -> Duration {
        let slow = self.state().slow;
        let extra = if slow.is_zero() {
            Duration::ZERO
        } else {
            slow.mul_f64(self.0.chance.between(0, 100) as f64 / 100.0)
        };
        self.0.chance.millis(1, 4) + extra
    }

    /// Connects to whoever listens at `address`.
    ///
    /// # Errors
    /// Nobody does.
    pub async fn connect(&self, from: &Node, address: &str) -> io::Result<Connection> {
        from.sleep(self.latency()).await;
        let (to, accept) = {
            let state = self.state();
            let listener = state.listeners.get(address);
            let listener = listener.filter(|listener| listener.node.life() != Life::Dead);
            let Some(listener) = listener else {
                return Err(io::ErrorKind::ConnectionRefused.into());
            };
            (listener.node.clone(), listener.accept.clone())
        };
        self.reached(from.name(), to.name()).await;
        self.reached(to.name(), from.name()).await;
        let there = self.pipe(from, &to);
        let back = self.pipe(&to, from);
        let mine = Connection::new(from, &back, &there);
        let theirs = Connection::new(&to, &there, &back);
        accept
            .send(Ok(theirs))
            .map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(mine)
    }

    fn pipe(&self, from: &Node, to: &Node) -> Arc<Pipe> {
        let pipe = Arc::new(Pipe {
            net: self.clone(),
            from: from.clone(),
            to: to.clone(),
            state: Mutex::default(),
        });
        self.state().pipes.push(Arc::downgrade(&pipe));
        pipe
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One direction of a connection.
struct Pipe {
    net: Net,
    from: Node,
    to: Node,
    state: Mutex<Flow>,
}

#[derive(Default)]
struct Flow {
    under_way: VecDeque<(Instant, Vec<u8>)>,
    last: Option<Instant>,
    /// The other side is gone: in good order, or not.
    closed: Option<Option<io::ErrorKind>>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        let mut flow = self.flow();
        for waker in [flow.reader.take(), flow.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    fn close(&self, error: Option<io::ErrorKind>) {
        self.flow().closed.get_or_insert(error);
        self.wake();
    }

    fn flows(&self) -> bool {
        self.to.life() == Life::Running && self.net.reaches(self.from.name(), self.to.name())
    }
}

/// One end of a connection.
pub struct Connection {
    node: Node,
    incoming: Arc<Pipe>,
    outgoing: Arc<Pipe>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    fn new(node: &Node, incoming: &Arc<Pipe>, outgoing: &Arc<Pipe>) -> Self {
        Self {
            node: node.clone(),
            incoming: Arc::clone(incoming),
            outgoing: Arc::clone(outgoing),
            sleep: None,
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection of {:?}", self.node)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // What a dead process held is closed by the network, when it hears of the death.
        if self.node.life() != Life::Dead {
            self.outgoing.close(None);
            self.incoming.close(None);
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let mut flow = this.incoming.flow();
            flow.reader = Some(cx.waker().clone());
            if !this.incoming.flows() {
                return Poll::Pending;
            }
            let now = Instant::now();
            match flow.under_way.front_mut() {
                Some((at, bytes)) if *at <= now => {
                    let taken = bytes.len().min(buf.remaining());
                    buf.put_slice(&bytes[..taken]);
                    bytes.drain(..taken);
                    if bytes.is_empty() {
                        flow.under_way.pop_front();
                    }
                    return Poll::Ready(Ok(()));
                }
                Some((at, _)) => {
                    let at = *at;
                    drop(flow);
                    let sleep = this
                        .sleep
                        .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
                    if sleep.deadline() != at {
                        sleep.as_mut().reset(at);
                    }
                    if sleep.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
                None => {
                    return match flow.closed {
                        Some(None) => Poll::Ready(Ok(())),
                        Some(Some(kind)) => Poll::Ready(Err(kind.into())),
                        None => Poll::Pending,
                    };
                }
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let arrives = Instant::now() + this.outgoing.net.latency();
        let mut flow = this.outgoing.flow();
        if this.node.life() != Life::Running {
            flow.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if flow.closed.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let arrives = flow.last.map_or(arrives, |last| last.max(arrives));
        flow.last = Some(arrives);
        flow.under_way.push_back((arrives, buf.to_vec()));
        if let Some(reader) = flow.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.close(None);
        Poll::Ready(Ok(()))
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

/// A connection that is being made, as tonic wants it.
type Connecting = Pin<Box<dyn Future<Output = io::Result<TokioIo<Connection>>> + Send>>;

/// The network as one process uses it.
#[derive(Debug, Clone)]
pub struct Way {
    /// The network.
    pub net: Net,
    /// The process.
    pub node: Node,
}

impl Way {
    /// What tonic connects with.
    fn connector(
        &self,
    ) -> impl tower::Service<Uri, Response = TokioIo<Connection>, Error = io::Error, Future = Connecting>
    + Clone
    + Send
    + 'static
    + use<> {
        let Self { net, node } = self.clone();
        tower::service_fn(move |uri: Uri| {
            let (net, node) = (net.clone(), node.clone());
            let connecting = async move {
                let address = uri.authority().map(ToString::to_string).unwrap_or_default();
                net.connect(&node, &address).await.map(TokioIo::new)
            };
            Box::pin(connecting) as Connecting
        })
    }
}

impl Dial for Way {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> Dialling<'a> {
        Box::pin(endpoint.connect_with_connector(self.connector()))
    }
}

impl Peers for Way {
    fn channel(&self, address: &str) -> Result<Channel, Status> {
        Ok(world::endpoint(address)?.connect_with_connector_lazy(self.connector()))
    }
}
