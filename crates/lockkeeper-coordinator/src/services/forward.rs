//! Calls to other coordinators: writes that reached a follower, and questions that each must be asked itself.

use std::sync::Arc;

use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::election::Claim;
use crate::leader::run::Leader;
use crate::telemetry;
use crate::term::Term;

/// Marks a request that a follower has passed on: it is not passed on again.
const FORWARDED: &str = "lockkeeper-forwarded";

/// Where a request that was passed on came from.
const ORIGIN: &str = "lockkeeper-origin";

/// Who carries out a write.
#[derive(Debug)]
pub enum Route {
    /// This coordinator leads.
    Here(Arc<Leader>),
    /// The leader, over this channel.
    There(Channel),
}

/// Finds the leader.
///
/// # Errors
/// UNAVAILABLE when there is none at this moment.
pub fn route(term: &Term, metadata: &MetadataMap) -> Result<Route, Status> {
    if let Some(leader) = term.leader.borrow().clone() {
        return Ok(Route::Here(leader));
    }
    let claim = term.claims.borrow().clone();
    match claim {
        Claim::Follower { leader: Some(leader) } if metadata.get(FORWARDED).is_none() => {
            Ok(Route::There(term.world.peers.channel(&leader.address)?))
        }
        Claim::Follower { .. } | Claim::Leader { .. } => Err(Status::unavailable(
            "no coordinator leads at this moment: try again in a few seconds",
        )),
    }
}

/// A request to be passed on, with the trace's context.
#[must_use]
pub fn passed_on<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert(FORWARDED, tonic::metadata::MetadataValue::from_static("1"));
    telemetry::inject(request.metadata_mut());
    request
}

/// The address that a request came from, over whichever coordinator; empty: not known.
#[must_use]
pub fn origin<T>(request: &Request<T>) -> String {
    let passed = request.metadata().get(ORIGIN).and_then(|from| from.to_str().ok());
    let direct = || {
        request
            .remote_addr()
            .map(|from| from.to_string())
            .unwrap_or_default()
    };
    match (request.metadata().get(FORWARDED), passed) {
        (Some(_), Some(from)) => from.to_owned(),
        (Some(_), None) | (None, _) => direct(),
    }
}

/// A request to be passed on, with where it came from.
#[must_use]
pub fn passed_on_from<T>(message: T, origin: &str) -> Request<T> {
    let mut request = passed_on(message);
    if let Ok(origin) = origin.parse() {
        request.metadata_mut().insert(ORIGIN, origin);
    }
    request
}
