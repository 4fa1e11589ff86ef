//! The coordinators' addresses, how they are reached, which one to try next, and how long to pause before.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use crate::error::BuildError;

/// A connection that is not there by then is tried elsewhere: well under the write lease, so that two coordinators
/// can be tried before it ends.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A coordinator that has silently died is noticed within this and [`PING_TIMEOUT`]: under half a write lease.
const PING_EVERY: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// First and longest pause between attempts. All agents of a coordinator that dies come at once; the longest pause
/// leaves room for several attempts within a write lease.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LONGEST: Duration = Duration::from_secs(2);

/// A stream that lived this long counts as a success: the pauses start anew.
const STABLE_AFTER: Duration = Duration::from_secs(1);

/// A connection that is being made.
pub type Dialling<'a> = Pin<Box<dyn Future<Output = Result<Channel, tonic::transport::Error>> + Send + 'a>>;

/// How a coordinator's endpoint is reached: over TCP, unless the agent was built with another way, such as a local socket.
pub trait Dial: Send + Sync {
    /// Connects to `endpoint`, whose time-outs and keep-alive are set.
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> Dialling<'a>;
}

/// Over TCP.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tcp;

impl Dial for Tcp {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> Dialling<'a> {
        Box::pin(endpoint.connect())
    }
}

/// One coordinator.
#[derive(Debug, Clone)]
pub(crate) struct Coordinator {
    pub(crate) address: String,
    endpoint: Endpoint,
}

impl Coordinator {
    /// `http://host:port`, or `host:port`.
    pub(crate) fn parse(address: &str) -> Result<Self, BuildError> {
        let bad = |problem: String| BuildError::Coordinator {
            address: address.to_owned(),
            problem,
        };
        let uri = if address.contains("://") {
            address.to_owned()
        } else {
            format!("http://{address}")
        };
        if !uri.starts_with("http://") {
            return Err(bad(
                "only http:// is supported; for TLS put a local proxy in between".to_owned(),
            ));
        }
        let endpoint = Endpoint::from_shared(uri).map_err(|e| bad(e.to_string()))?;
        if endpoint.uri().port().is_none() {
            return Err(bad("it has no port".to_owned()));
        }
        let endpoint = endpoint
            .user_agent(concat!("lockkeeper-agent/", env!("CARGO_PKG_VERSION")))
            .map_err(|e| bad(e.to_string()))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true);
        Ok(Self {
            address: address.to_owned(),
            endpoint,
        })
    }

    /// Connects anew.
    pub(crate) async fn connect(&self, dial: &dyn Dial) -> Result<Channel, tonic::transport::Error> {
        dial.connect(&self.endpoint).await
    }
}

/// Goes round the coordinators in an order of its own, so that the agents of a fleet spread over them.
#[derive(Debug)]
pub(crate) struct Rotation {
    order: Vec<Coordinator>,
    next: usize,
}

impl Rotation {
    pub(crate) fn new(coordinators: &[Coordinator]) -> Self {
        let mut order = coordinators.to_vec();
        fastrand::shuffle(&mut order);
        Self { order, next: 0 }
    }

    pub(crate) fn next(&mut self) -> Coordinator {
        let coordinator = self.order[self.next % self.order.len()].clone();
        self.next += 1;
        coordinator
    }
}

/// How the last attempt ended, as far as the pause depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The coordinator said that it is leaving.
    Left,
    /// Anything else.
    Lost,
}

/// Pauses between attempts: exponential, jittered, and none for a coordinator that leaves in good order.
#[derive(Debug)]
pub(crate) struct Backoff {
    coordinators: usize,
    attempts: u32,
    at_once: usize,
}

impl Backoff {
    pub(crate) fn new(coordinators: usize) -> Self {
        Self {
            coordinators,
            attempts: 0,
            at_once: 0,
        }
    }

    /// How long to pause after a stream that lived for `lived` (zero: it never came up).
    pub(crate) fn pause(&mut self, ended: Ended, lived: Duration) -> Duration {
        if lived >= STABLE_AFTER {
            *self = Self::new(self.coordinators);
        }
        // Each coordinator may send the agent on once; a whole round of that means that nobody is staying.
        if ended == Ended::Left && !lived.is_zero() && self.at_once < self.coordinators {
            self.at_once += 1;
            return Duration::ZERO;
        }
        let longest = (PAUSE_FIRST * 2_u32.saturating_pow(self.attempts.min(16))).min(PAUSE_LONGEST);
        self.attempts += 1;
        longest.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_when_the_agent_is_built() {
        assert!(Coordinator::parse("127.0.0.1:7400").is_ok());
        assert!(Coordinator::parse("http://coordinator-1.fleet:7400").is_ok());
        let error = |address| Coordinator::parse(address).unwrap_err().to_string();
        assert_eq!(
            error("http://h"),
            "coordinator \"http://h\" cannot be used: it has no port"
        );
        assert!(error("https://h:1").contains("only http:// is supported"));
        assert!(error("").contains("cannot be used"));
    }

    #[test]
    fn pauses_grow_to_their_bound_and_start_anew_after_a_stable_stream() {
        let mut backoff = Backoff::new(3);
        let pauses: Vec<_> = (0..20)
            .map(|_| backoff.pause(Ended::Lost, Duration::ZERO))
            .collect();
        assert!(pauses[0] <= PAUSE_FIRST && pauses[0] >= PAUSE_FIRST / 2);
        assert!(pauses[19] <= PAUSE_LONGEST && pauses[19] >= PAUSE_LONGEST / 2);
        assert!(backoff.pause(Ended::Lost, STABLE_AFTER) <= PAUSE_FIRST);
    }

    #[test]
    fn a_leaving_coordinator_costs_no_pause_but_not_without_bound() {
        let mut backoff = Backoff::new(2);
        let short = Duration::from_millis(5);
        assert_eq!(backoff.pause(Ended::Left, short), Duration::ZERO);
        assert_eq!(backoff.pause(Ended::Left, short), Duration::ZERO);
        assert!(backoff.pause(Ended::Left, short) > Duration::ZERO);
    }

    #[test]
    fn a_rotation_visits_every_coordinator() {
        let all: Vec<_> = ["a:1", "b:1", "c:1"]
            .iter()
            .map(|a| Coordinator::parse(a).unwrap())
            .collect();
        let mut rotation = Rotation::new(&all);
        let mut seen: Vec<_> = (0..3).map(|_| rotation.next().address).collect();
        seen.sort();
        assert_eq!(seen, ["a:1", "b:1", "c:1"]);
    }
}
