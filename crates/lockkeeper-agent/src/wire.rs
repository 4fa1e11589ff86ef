//! Between the protocol's messages and the core's types. Nothing behind this file sees a message.

use std::time::Duration;

use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_core::id::{AgentId, Incarnation, Region, ServiceName, TargetName};
use lockkeeper_core::permits::{Cause, Fence, Held};
use lockkeeper_core::version::SchemaVersion;
use lockkeeper_proto::convert;
use lockkeeper_proto::v1;
use lockkeeper_proto::v1::register_and_wait_request::Message as Request;
use lockkeeper_proto::v1::register_and_wait_response::Message as Response;

use crate::target::TargetConfig;

/// Who registers.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) service: ServiceName,
    pub(crate) replica: AgentId,
    pub(crate) region: Region,
    pub(crate) release: String,
    pub(crate) incarnation: Incarnation,
}

/// What a coordinator said about a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// A write lease, answering the renewal of that number.
    Granted {
        gate_epoch: GateEpoch,
        version: SchemaVersion,
        lease: Duration,
        sequence: u64,
    },
    Fenced {
        fence: Fence,
        /// Trace context of the rollout that closed the gate.
        traceparent: Option<String>,
    },
    Opened {
        gate_epoch: GateEpoch,
        version: SchemaVersion,
    },
}

fn request(message: Request) -> v1::RegisterAndWaitRequest {
    v1::RegisterAndWaitRequest {
        message: Some(message),
    }
}

pub(crate) fn register(identity: &Identity, targets: &[TargetConfig]) -> v1::RegisterAndWaitRequest {
    let target = |config: &TargetConfig| v1::RegisterTarget {
        name: config.name.to_string(),
        min_version: convert::version_text(config.versions.min.as_ref()),
        max_version: convert::version_text(config.versions.max.as_ref()),
    };
    request(Request::Register(v1::Register {
        service: identity.service.to_string(),
        replica: identity.replica.to_string(),
        region: identity.region.to_string(),
        incarnation: identity.incarnation.to_string(),
        release: identity.release.clone(),
        targets: targets.iter().map(target).collect(),
    }))
}

pub(crate) fn renew(sequence: u64, held: Vec<v1::Held>) -> v1::RegisterAndWaitRequest {
    request(Request::Renew(v1::Renew { sequence, held }))
}

pub(crate) fn held(target: &TargetName, held: Held) -> v1::Held {
    v1::Held {
        target: target.to_string(),
        gate_epoch: held.gate_epoch.0,
        permits: u32::try_from(held.permits).unwrap_or(u32::MAX),
        oldest_label: held.oldest_label,
        oldest_age: held.oldest_age.map(convert::duration_message),
    }
}

pub(crate) fn drained(target: &TargetName, gate_epoch: GateEpoch) -> v1::RegisterAndWaitRequest {
    request(Request::Drained(v1::Drained {
        target: target.to_string(),
        gate_epoch: gate_epoch.0,
    }))
}

/// The target's name and what was said about it; `None` for a message that this release does not know, which is
/// skipped, so that a newer coordinator may say more.
pub(crate) fn said(response: v1::RegisterAndWaitResponse) -> Option<(String, Said)> {
    match response.message? {
        Response::Granted(granted) => {
            let lease = Duration::try_from(granted.lease?).ok()?;
            let said = Said::Granted {
                gate_epoch: GateEpoch(granted.gate_epoch),
                version: granted.version.into(),
                lease,
                sequence: granted.sequence,
            };
            Some((granted.target, said))
        }
        Response::Fenced(fenced) => {
            let cause = cause(fenced.cause());
            let fence = Fence {
                gate_epoch: GateEpoch(fenced.gate_epoch),
                cause,
                reason: fenced.reason,
                rollout: fenced.rollout.parse().ok(),
            };
            let traceparent = (!fenced.traceparent.is_empty()).then_some(fenced.traceparent);
            Some((fenced.target, Said::Fenced { fence, traceparent }))
        }
        Response::Opened(opened) => {
            let gate_epoch = GateEpoch(opened.gate_epoch);
            Some((
                opened.target,
                Said::Opened {
                    gate_epoch,
                    version: opened.version.into(),
                },
            ))
        }
    }
}

fn cause(cause: v1::FencedCause) -> Cause {
    match cause {
        v1::FencedCause::Unspecified => Cause::Unspecified,
        v1::FencedCause::GateClosed => Cause::GateClosed,
        v1::FencedCause::SchemaTooOld => Cause::SchemaTooOld,
        v1::FencedCause::SchemaTooNew => Cause::SchemaTooNew,
        v1::FencedCause::UnknownTarget => Cause::UnknownTarget,
        v1::FencedCause::UnknownVersion => Cause::UnknownVersion,
        v1::FencedCause::CoordinatorIsolated => Cause::CoordinatorIsolated,
    }
}
