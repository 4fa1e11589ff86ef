//! `RolloutService`.

pub(crate) mod create;
pub(crate) mod steer;

use std::pin::Pin;

use futures::Stream;
use lockkeeper_core::id::RolloutId;
use lockkeeper_core::rollout::Ruling;
use lockkeeper_core::time::WallTime;
use lockkeeper_proto::convert::name;
use lockkeeper_proto::v1::rollout_service_client::RolloutServiceClient;
use lockkeeper_proto::v1::rollout_service_server::RolloutService;
use lockkeeper_proto::v1::{self};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use crate::clock::Clock;
use crate::services::answer;
use crate::services::forward::{Route, origin, passed_on, passed_on_from, route};
use crate::term::CurrentTerm;
use crate::view::FleetView;

/// How long a rollout may be known to another coordinator before it is known here.
const UNKNOWN_PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);

/// How long a watch that goes on at another coordinator waits for it to come as far.
const CATCH_UP_PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// Serves operators.
#[derive(Debug, Clone)]
pub struct RolloutApi {
    /// This coordinator's session and what hangs on it.
    pub term: CurrentTerm,
}

type Changes = Pin<Box<dyn Stream<Item = Result<v1::WatchRolloutResponse, Status>> + Send>>;

fn unknown(id: &RolloutId) -> Status {
    Status::not_found(format!("there is no rollout {id}"))
}

/// Waits a moment for a rollout that this coordinator does not know: it may have been created through another one a
/// few milliseconds ago, and whoever created it may ask here.
async fn known_soon(view: &watch::Receiver<FleetView>, id: &RolloutId) {
    let mut view = view.clone();
    // What is unknown after the wait is answered as unknown.
    let _ = tokio::time::timeout(
        UNKNOWN_PATIENCE,
        view.wait_for(|view| view.rollouts.contains_key(id)),
    )
    .await;
}

/// Waits until the view has come as far as a client has seen through another coordinator: it must not see time go back.
async fn no_older(
    view: &watch::Receiver<FleetView>,
    revision: u64,
    patience: std::time::Duration,
) -> Result<(), Status> {
    let mut view = view.clone();
    let caught_up = view.wait_for(|view| view.revision >= revision);
    match tokio::time::timeout(patience, caught_up).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Status::unavailable(format!(
            "this coordinator has not come as far as revision {revision}"
        ))),
    }
}

fn found(view: &FleetView, id: &RolloutId, now: WallTime) -> Result<v1::Rollout, Status> {
    answer::rollout(view, id, now).ok_or_else(|| unknown(id))
}

#[tonic::async_trait]
impl RolloutService for RolloutApi {
    type WatchRolloutStream = Changes;

    async fn create_rollout(
        &self,
        request: Request<v1::CreateRolloutRequest>,
    ) -> Result<Response<v1::CreateRolloutResponse>, Status> {
        let term = self.term.get()?;
        let route = route(&term, request.metadata())?;
        let message = request.into_inner();
        match route {
            Route::Here(leader) => {
                let rollout = Some(create::create(&leader, message).await?);
                Ok(Response::new(v1::CreateRolloutResponse { rollout }))
            }
            Route::There(channel) => {
                RolloutServiceClient::new(channel)
                    .create_rollout(passed_on(message))
                    .await
            }
        }
    }

    async fn get_rollout(
        &self,
        request: Request<v1::GetRolloutRequest>,
    ) -> Result<Response<v1::GetRolloutResponse>, Status> {
        let term = self.term.get()?;
        let id: RolloutId = name("id", request.into_inner().id)?;
        known_soon(&term.view, &id).await;
        let rollout = Some(found(&term.view.borrow(), &id, term.world.clock.wall())?);
        Ok(Response::new(v1::GetRolloutResponse { rollout }))
    }

    async fn list_rollouts(
        &self,
        _: Request<v1::ListRolloutsRequest>,
    ) -> Result<Response<v1::ListRolloutsResponse>, Status> {
        let term = self.term.get()?;
        let now = term.world.clock.wall();
        let view = term.view.borrow();
        let mut rollouts: Vec<v1::Rollout> = view
            .rollouts
            .keys()
            .filter_map(|id| answer::rollout(&view, id, now))
            .collect();
        let created = |r: &v1::Rollout| r.created_at.map(|t| (t.seconds, t.nanos));
        rollouts.sort_by_key(|r| std::cmp::Reverse(created(r)));
        Ok(Response::new(v1::ListRolloutsResponse { rollouts }))
    }

    async fn watch_rollout(
        &self,
        request: Request<v1::WatchRolloutRequest>,
    ) -> Result<Response<Changes>, Status> {
        let term = self.term.get()?;
        let message = request.into_inner();
        let id: RolloutId = name("id", message.id)?;
        let view = term.view.clone();
        known_soon(&view, &id).await;
        no_older(&view, message.after_revision, CATCH_UP_PATIENCE).await?;
        let clock = term.world.clock.clone();
        found(&view.borrow(), &id, clock.wall())?;
        let state = Some((view, None::<v1::Rollout>, true));
        let changes = futures::stream::unfold(state, move |state| {
            let (id, clock) = (id.clone(), clock.clone());
            async move {
                let (mut view, last, first) = state?;
                let rollout = next_change(&mut view, &id, clock.as_ref(), last.as_ref(), first).await?;
                let ended = matches!(
                    rollout.state(),
                    v1::RolloutState::Held
                        | v1::RolloutState::Done
                        | v1::RolloutState::Aborted
                        | v1::RolloutState::RolledBack
                );
                let next = (!ended).then(|| (view, Some(rollout.clone()), false));
                Some((
                    Ok(v1::WatchRolloutResponse {
                        rollout: Some(rollout),
                    }),
                    next,
                ))
            }
        });
        Ok(Response::new(Box::pin(changes)))
    }

    async fn abort_rollout(
        &self,
        request: Request<v1::AbortRolloutRequest>,
    ) -> Result<Response<v1::AbortRolloutResponse>, Status> {
        let request = request.map(|abort| v1::DecideRolloutRequest {
            ruling: Some(Ruling::Abort(abort.way().into()).into()),
            id: abort.id,
            reason: abort.reason,
            requested_by: abort.requested_by,
            request_id: abort.request_id,
        });
        let rollout = self.decide(request).await?.rollout;
        Ok(Response::new(v1::AbortRolloutResponse { rollout }))
    }

    async fn retry_rollout(
        &self,
        request: Request<v1::RetryRolloutRequest>,
    ) -> Result<Response<v1::RetryRolloutResponse>, Status> {
        let request = request.map(|retry| v1::DecideRolloutRequest {
            ruling: Some(Ruling::Retry.into()),
            id: retry.id,
            reason: String::new(),
            requested_by: retry.requested_by,
            request_id: retry.request_id,
        });
        let rollout = self.decide(request).await?.rollout;
        Ok(Response::new(v1::RetryRolloutResponse { rollout }))
    }

    async fn decide_rollout(
        &self,
        request: Request<v1::DecideRolloutRequest>,
    ) -> Result<Response<v1::DecideRolloutResponse>, Status> {
        self.decide(request).await.map(Response::new)
    }

    async fn get_rollout_history(
        &self,
        request: Request<v1::GetRolloutHistoryRequest>,
    ) -> Result<Response<v1::GetRolloutHistoryResponse>, Status> {
        let term = self.term.get()?;
        let id: RolloutId = name("id", request.into_inner().id)?;
        known_soon(&term.view, &id).await;
        let view = term.view.borrow();
        let rollout = view.rollouts.get(&id).ok_or_else(|| unknown(&id))?;
        let entries = rollout.record.history.iter().map(answer::history_entry).collect();
        Ok(Response::new(v1::GetRolloutHistoryResponse { entries }))
    }
}

impl RolloutApi {
    async fn decide(
        &self,
        request: Request<v1::DecideRolloutRequest>,
    ) -> Result<v1::DecideRolloutResponse, Status> {
        let term = self.term.get()?;
        let route = route(&term, request.metadata())?;
        let from = origin(&request);
        let message = request.into_inner();
        match route {
            Route::Here(leader) => steer::steer(&leader, steer::Order::parse(message, from)?).await,
            Route::There(channel) => {
                let mut leader = RolloutServiceClient::new(channel);
                let answer = leader.decide_rollout(passed_on_from(message, &from)).await?;
                Ok(answer.into_inner())
            }
        }
    }
}

/// Waits for the rollout to differ from what was sent last. `None` when the view or the rollout is gone.
async fn next_change(
    view: &mut watch::Receiver<FleetView>,
    id: &RolloutId,
    clock: &dyn Clock,
    last: Option<&v1::Rollout>,
    first: bool,
) -> Option<v1::Rollout> {
    let comparable = |rollout: &v1::Rollout| v1::Rollout {
        revision: 0,
        ..rollout.clone()
    };
    let last = last.map(comparable);
    loop {
        let rollout = answer::rollout(&view.borrow_and_update(), id, clock.wall())?;
        if first || last.as_ref() != Some(&comparable(&rollout)) {
            return Some(rollout);
        }
        view.changed().await.ok()?;
    }
}

#[cfg(test)]
mod tests {
    use lockkeeper_core::rollout::Steering;

    use super::*;
    use crate::records::{RolloutRecord, Stored};

    #[tokio::test]
    async fn a_watch_that_goes_on_elsewhere_never_sees_time_go_back() {
        let (sender, view) = watch::channel(FleetView::default());
        let behind = no_older(&view, 7, std::time::Duration::from_millis(10))
            .await
            .unwrap_err();
        assert_eq!(behind.code(), tonic::Code::Unavailable);
        let waiting = tokio::spawn(async move { no_older(&view, 7, CATCH_UP_PATIENCE).await });
        sender.send_modify(|view| view.revision = 7);
        assert!(waiting.await.expect("no panic").is_ok());
    }

    /// A rollout that was created through another coordinator is found here though the view learns of it later.
    #[tokio::test]
    async fn a_rollout_that_is_known_elsewhere_is_waited_for() {
        let (sender, view) = watch::channel(FleetView::default());
        let id: RolloutId = "r1".parse().expect("a name");
        let spec = serde_json::json!({"service": "s", "to": "latest", "waves": [{"regions": ["eu"]}]});
        let record = RolloutRecord {
            id: id.clone(),
            spec: serde_json::from_value(spec).expect("a rollout"),
            waves: Vec::new(),
            created_at: crate::clock::wall_now(),
            created_by: "test".to_owned(),
            abort: None,
            steering: Steering::default(),
            history: Vec::new(),
            ended_at: None,
            traceparent: None,
        };
        let learned = id.clone();
        let learns = tokio::spawn(async move {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            let stored = Stored {
                record,
                create_revision: 1,
                mod_revision: 1,
            };
            sender.send_modify(|view| drop(view.rollouts.insert(learned, stored)));
        });
        known_soon(&view, &id).await;
        assert!(found(&view.borrow(), &id, crate::clock::wall_now()).is_ok());
        learns.await.expect("it learns");
    }
}
