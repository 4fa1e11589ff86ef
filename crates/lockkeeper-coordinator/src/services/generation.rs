//! `FleetService.RaiseGeneration`, on the leader.

use lockkeeper_proto::v1;
use tonic::Status;

use crate::leader::generation::{Surveyed, raise as raise_to, survey};
use crate::leader::run::Leader;
use crate::records::Decision;
use crate::services::fleet::write_error;

/// Looks at every target, and raises the generation unless only a look was wanted.
///
/// # Errors
/// INVALID_ARGUMENT without a reason, ABORTED when the generation is not the one that the client knows.
pub async fn raise(
    leader: &Leader,
    request: v1::RaiseGenerationRequest,
) -> Result<v1::RaiseGenerationResponse, Status> {
    let previous = leader.view.borrow().generation();
    if !request.survey_only {
        check(&request, previous)?;
    }
    let seen = survey(leader).await;
    let raised = if request.survey_only {
        0
    } else {
        let decision = Decision {
            reason: request.reason,
            by: request.requested_by,
            at: leader.wall(),
        };
        raise_to(leader, &seen, decision).await.map_err(write_error)?
    };
    Ok(v1::RaiseGenerationResponse {
        previous,
        raised,
        targets: seen.into_iter().map(surveyed).collect(),
    })
}

fn check(request: &v1::RaiseGenerationRequest, generation: u64) -> Result<(), Status> {
    if request.reason.trim().is_empty() {
        return Err(Status::invalid_argument(
            "reason: must say why this store is the right one",
        ));
    }
    if request.current != generation {
        return Err(Status::aborted(format!(
            "current: the generation is {generation}, not {}: look again",
            request.current
        )));
    }
    Ok(())
}

fn surveyed(target: Surveyed) -> v1::SurveyedTarget {
    let (recorded, problem) = match target.recorded {
        Ok(epoch) => (
            epoch.map(|epoch| epoch.to_string()).unwrap_or_default(),
            String::new(),
        ),
        Err(problem) => (String::new(), problem),
    };
    v1::SurveyedTarget {
        name: target.name.to_string(),
        recorded,
        ahead: target.ahead,
        problem,
    }
}
