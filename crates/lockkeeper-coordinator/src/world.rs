//! What a coordinator asks of the world around it, beside the store: the time, unique ids, the targets' databases, and
//! the way to other coordinators. A process has one such world; a simulation makes another.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

use crate::clock::{BootClock, Clock};
use crate::leader::access::{Declared, Targets};

/// How long another coordinator may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a forwarded write may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

/// Gives ids that nobody else has.
pub trait Ids: Send + Sync + fmt::Debug {
    /// A new one.
    fn unique(&self) -> Uuid;
}

/// Ids from the operating system's random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct RandomIds;

impl Ids for RandomIds {
    fn unique(&self) -> Uuid {
        Uuid::new_v4()
    }
}

/// The way to other coordinators.
pub trait Peers: Send + Sync + fmt::Debug {
    /// A channel to the coordinator at `address` (`host:port`), connected on first use.
    ///
    /// # Errors
    /// UNAVAILABLE when its address cannot be used.
    fn channel(&self, address: &str) -> Result<Channel, Status>;
}

/// Other coordinators over TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct Network;

impl Peers for Network {
    fn channel(&self, address: &str) -> Result<Channel, Status> {
        Ok(endpoint(address)?.connect_lazy())
    }
}

/// How another coordinator is reached, whatever carries the connection.
///
/// # Errors
/// UNAVAILABLE when its address cannot be used.
pub fn endpoint(address: &str) -> Result<Endpoint, Status> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|e| Status::unavailable(format!("coordinator address {address}: {e}")))?;
    Ok(endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(WRITE_TIMEOUT))
}

/// All of it.
#[derive(Debug, Clone)]
pub struct World {
    /// The clock that leases are counted on.
    pub clock: Arc<dyn Clock>,
    /// Unique ids.
    pub ids: Arc<dyn Ids>,
    /// The targets' databases and migrations.
    pub targets: Arc<dyn Targets>,
    /// Other coordinators.
    pub peers: Arc<dyn Peers>,
}

impl Default for World {
    /// The one that processes run in.
    fn default() -> Self {
        Self {
            clock: Arc::new(BootClock),
            ids: Arc::new(RandomIds),
            targets: Arc::new(Declared),
            peers: Arc::new(Network),
        }
    }
}
