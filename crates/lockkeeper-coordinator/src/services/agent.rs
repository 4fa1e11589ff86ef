//! `AgentService`.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_core::id::{Incarnation, TargetName};
use lockkeeper_proto::convert::{FieldError, Wanted, duration_message, name, replica, version_text};
use lockkeeper_proto::v1::agent_service_server::AgentService;
use lockkeeper_proto::v1::register_and_wait_request::Message as In;
use lockkeeper_proto::v1::register_and_wait_response::Message as Out;
use lockkeeper_proto::v1::{self, RegisterAndWaitRequest, RegisterAndWaitResponse};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::debug;
use uuid::Uuid;

use crate::agents::hub::{HeldPermits, RegisterError, Registration, TARGETS_PER_AGENT_MAX};
use crate::agents::{AgentHub, Cause, End, Message, Outgoing};
use crate::term::CurrentTerm;

/// Serves agents.
#[derive(Debug, Clone)]
pub struct AgentApi {
    /// This coordinator's session and what hangs on it.
    pub term: CurrentTerm,
}

type Answers = Pin<Box<dyn Stream<Item = Result<RegisterAndWaitResponse, Status>> + Send>>;

#[tonic::async_trait]
impl AgentService for AgentApi {
    type RegisterAndWaitStream = Answers;

    async fn register_and_wait(
        &self,
        request: Request<Streaming<RegisterAndWaitRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let mut inbound = request.into_inner();
        let Some(RegisterAndWaitRequest {
            message: Some(In::Register(register)),
        }) = inbound.message().await?
        else {
            return Err(Status::invalid_argument("the first message must be `register`"));
        };
        let registration = registration(register)?;
        let hub = Arc::clone(&self.term.get()?.hub);
        let agent = registration.agent.clone();
        let (id, outgoing) = hub.register(registration).map_err(|e| match e {
            RegisterError::Superseded { .. } => Status::aborted(e.to_string()),
            RegisterError::Leaving => Status::unavailable(e.to_string()),
        })?;
        debug!(%agent, stream = id, "registered");
        let guard = StreamGuard {
            hub: Arc::clone(&hub),
            id,
        };
        let reader = tokio::spawn(read(inbound, hub, id));
        let answers = ReceiverStream::new(outgoing).map(move |outgoing| {
            // Lives as long as the answers: when the client goes, the hub hears of it and the reader ends.
            let _ = (&guard, &reader);
            answer(outgoing)
        });
        // An end that is no error ends the stream; nothing follows it in the queue.
        let answers = answers.take_while(|answer| {
            let go_on = !matches!(answer, Err(status) if status.code() == tonic::Code::Ok);
            std::future::ready(go_on)
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

struct StreamGuard {
    hub: Arc<AgentHub>,
    id: u64,
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.hub.gone(self.id);
    }
}

async fn read(mut inbound: Streaming<RegisterAndWaitRequest>, hub: Arc<AgentHub>, id: u64) {
    loop {
        match inbound.message().await {
            Ok(Some(RegisterAndWaitRequest { message })) => match message {
                Some(In::Renew(renew)) => {
                    hub.renew(id, renew.sequence, renew.held.into_iter().filter_map(held))
                }
                Some(In::Drained(drained)) => {
                    if let Ok(target) = drained.target.parse::<TargetName>() {
                        hub.drained(id, &target, GateEpoch(drained.gate_epoch));
                    }
                }
                Some(In::Register(_)) | None => debug!(stream = id, "ignored a message"),
            },
            Ok(None) if !hub.has_renewed(id) => return hub.becomes_waiter(id),
            Ok(None) => return hub.gone(id),
            Err(error) => {
                debug!(stream = id, %error, "stream broke");
                return hub.gone(id);
            }
        }
    }
}

fn held(held: v1::Held) -> Option<(TargetName, HeldPermits)> {
    let label = (!held.oldest_label.is_empty()).then_some(held.oldest_label);
    Some((
        held.target.parse().ok()?,
        HeldPermits {
            permits: held.permits,
            label,
        },
    ))
}

fn registration(register: v1::Register) -> Result<Registration, FieldError> {
    if register.targets.is_empty() {
        return Err(FieldError::new(
            "register.targets",
            "at least one target is needed",
        ));
    }
    if register.targets.len() > TARGETS_PER_AGENT_MAX {
        return Err(FieldError::new(
            "register.targets",
            format!("at most {TARGETS_PER_AGENT_MAX} are allowed"),
        ));
    }
    let incarnation = match register.incarnation.as_str() {
        "" => Uuid::now_v7(),
        text => text
            .parse()
            .map_err(|e| FieldError::new("register.incarnation", e))?,
    };
    let targets = register.targets.into_iter().enumerate();
    let targets: Vec<Wanted> = targets
        .map(|(i, t)| {
            t.try_into()
                .map_err(|e: FieldError| e.within(&format!("register.targets[{i}]")))
        })
        .collect::<Result<_, _>>()?;
    let region = if register.region.is_empty() {
        "unknown".to_owned()
    } else {
        register.region
    };
    Ok(Registration {
        service: name("register.service", register.service)?,
        agent: replica(register.replica)?,
        incarnation: Incarnation(incarnation),
        region: name("register.region", region)?,
        release: register.release,
        targets: targets.into_iter().map(|w| (w.target, w.range)).collect(),
    })
}

fn answer(outgoing: Outgoing) -> Result<RegisterAndWaitResponse, Status> {
    let message = match outgoing {
        Outgoing::Tell(target, message) => tell(&target, message),
        Outgoing::End(End::Reached) => return Err(Status::ok("")),
        Outgoing::End(End::Superseded) => {
            return Err(Status::aborted(
                "a newer incarnation of this replica has registered: stay fenced",
            ));
        }
        Outgoing::End(End::Leaving) => {
            return Err(Status::unavailable(
                "this coordinator is leaving: connect to another",
            ));
        }
    };
    Ok(RegisterAndWaitResponse {
        message: Some(message),
    })
}

fn tell(target: &TargetName, message: Message) -> Out {
    match message {
        Message::Granted {
            epoch,
            version,
            lease,
            sequence,
        } => Out::Granted(v1::Granted {
            target: target.to_string(),
            gate_epoch: epoch.0,
            version: version_text(version.as_ref()),
            lease: Some(duration_message(lease)),
            sequence,
        }),
        Message::Fenced {
            epoch,
            cause,
            traceparent,
        } => Out::Fenced(v1::Fenced {
            target: target.to_string(),
            gate_epoch: epoch.0,
            reason: cause.reason(target),
            rollout: cause.rollout().map(ToString::to_string).unwrap_or_default(),
            cause: cause_code(&cause).into(),
            traceparent: traceparent.unwrap_or_default(),
        }),
        Message::Opened { epoch, version } => Out::Opened(v1::Opened {
            target: target.to_string(),
            gate_epoch: epoch.0,
            version: version_text(version.as_ref()),
        }),
    }
}

fn cause_code(cause: &Cause) -> v1::FencedCause {
    match cause {
        Cause::Closed(_) => v1::FencedCause::GateClosed,
        Cause::SchemaTooOld(_) => v1::FencedCause::SchemaTooOld,
        Cause::SchemaTooNew(_) => v1::FencedCause::SchemaTooNew,
        Cause::UnknownVersion | Cause::NotAdopted => v1::FencedCause::UnknownVersion,
        Cause::UnknownTarget => v1::FencedCause::UnknownTarget,
        Cause::Isolated => v1::FencedCause::CoordinatorIsolated,
    }
}
