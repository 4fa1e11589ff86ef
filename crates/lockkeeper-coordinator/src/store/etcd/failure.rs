//! What an error of the client means for the operation: not done, refused, or unknown.

use std::error::Error as _;

use etcd_client::Error;
use tonic::{Code, ConnectError, Status};

use crate::store::StoreError;

/// Why one attempt at one member gave no answer that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// Surely not done: nothing was sent, or the member declined before it proposed anything. Another member may do it.
    NotDone(String),
    /// Surely not done, and no other member would do it either.
    Refused(StoreError),
    /// May have been done, or may be done later.
    Lost(String),
}

/// How a member without a leader declines, before it proposes anything.
const NO_LEADER: &str = "etcdserver: no leader";
const LEASE_NOT_FOUND: &str = "etcdserver: requested lease not found";
/// The client's own words for a renewal that was answered with a time of 0.
const KEEPER_LEASE_NOT_FOUND: &str = "lease not found";

impl Failure {
    pub(super) fn of(member: &str, error: &Error) -> Self {
        match error {
            Error::GRpcStatus(status) => Self::of_status(member, status),
            Error::LeaseKeepAliveError(text) if text == KEEPER_LEASE_NOT_FOUND => {
                Self::Refused(StoreError::LeaseGone)
            }
            Error::InvalidArgs(_) | Error::InvalidUri(_) => {
                Self::Refused(StoreError::Invalid(error.to_string()))
            }
            _ => Self::Lost(format!("{member}: {error}")),
        }
    }

    fn of_status(member: &str, status: &Status) -> Self {
        let message = status.message();
        let text = format!("{member}: {message}");
        if never_connected(status) {
            return Self::NotDone(format!("{member}: {}", root_cause(status)));
        }
        // Codes are also made up on this side, for example when an answer is too large to be decoded; only etcd's
        // own words say that it did nothing.
        if !message.starts_with("etcdserver: ") {
            return Self::Lost(text);
        }
        match status.code() {
            Code::NotFound if message == LEASE_NOT_FOUND => Self::Refused(StoreError::LeaseGone),
            Code::InvalidArgument => Self::Refused(StoreError::Invalid(text)),
            Code::Unavailable if message == NO_LEADER => Self::NotDone(text),
            Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::Unauthenticated => Self::Refused(StoreError::Unavailable(text)),
            _ => Self::Lost(text),
        }
    }
}

/// Whether the request never left because no connection could be made.
fn never_connected(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.downcast_ref::<ConnectError>().is_some() {
            return true;
        }
        source = error.source();
    }
    false
}

fn root_cause(status: &Status) -> String {
    let mut cause: &dyn std::error::Error = status;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: Code, message: &str) -> Failure {
        Failure::of("m1", &Error::GRpcStatus(Status::new(code, message)))
    }

    #[test]
    fn only_etcds_own_words_prove_that_nothing_was_done() {
        assert_eq!(
            of(Code::NotFound, LEASE_NOT_FOUND),
            Failure::Refused(StoreError::LeaseGone)
        );
        assert!(matches!(of(Code::Unavailable, NO_LEADER), Failure::NotDone(_)));
        assert!(matches!(
            of(Code::Unavailable, "etcdserver: request timed out"),
            Failure::Lost(_)
        ));
        assert!(matches!(
            of(Code::Unavailable, "etcdserver: leader changed"),
            Failure::Lost(_)
        ));
        assert!(matches!(
            of(Code::Unavailable, "tcp connect error"),
            Failure::Lost(_)
        ));
        assert!(matches!(
            of(Code::OutOfRange, "decoded message length too large"),
            Failure::Lost(_)
        ));
        assert!(matches!(
            of(
                Code::InvalidArgument,
                "etcdserver: duplicate key given in txn request"
            ),
            Failure::Refused(StoreError::Invalid(_))
        ));
    }
}
