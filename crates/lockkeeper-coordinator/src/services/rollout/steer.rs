//! Operators' rulings about a rollout: recorded with what they change, in the same commit.

use std::mem::discriminant;
use std::time::Duration;

use lockkeeper_core::id::{RolloutId, TargetName};
use lockkeeper_core::rollout::{Decided, Member, Picture, Refusal, Ruling, State, Target, decide};
use lockkeeper_core::time::WallTime;
use lockkeeper_proto::convert::{FieldError, name};
use lockkeeper_proto::v1;
use tonic::Status;
use tracing::info;

use super::{found, unknown};
use crate::leader::run::Leader;
use crate::leader::writer::{RecordChange, WriteError};
use crate::records::{
    Abort, Decision, HistoryRecord, ProgressRecord, ResolveOrder, RolloutRecord, Stored, key,
};
use crate::services::fleet::write_error;

/// How often a ruling is tried again when the rollout moved between the look and the commit, and the pause between.
const ATTEMPTS: u32 = 20;
const AGAIN_PAUSE: Duration = Duration::from_millis(50);

/// Longest reason, in characters: it stands in the store, in the gate row and on screens.
const REASON_MAX: usize = 1_000;

/// Most rulings about one rollout: they stand in one record, whose size a store limits. An abort goes beyond it.
const HISTORY_MAX: usize = 1_000;

/// Most targets that one commit moves: a store limits the operations of a transaction to 128, and a target may need two.
const MOVES_MAX: usize = 50;

/// A target of the rollout, as it was read.
type Part = (TargetName, Stored<ProgressRecord>);

/// A ruling with everything that the record needs.
#[derive(Debug)]
pub(crate) struct Order {
    id: RolloutId,
    ruling: Ruling,
    reason: String,
    by: String,
    from: String,
    request_id: String,
}

impl Order {
    /// # Errors
    /// The field, and what is wrong with it.
    pub(crate) fn parse(message: v1::DecideRolloutRequest, from: String) -> Result<Self, FieldError> {
        let ruling = message
            .ruling
            .ok_or_else(|| FieldError::new("ruling", "is missing"))?;
        let ruling: Ruling = ruling.try_into().map_err(|e: FieldError| e.within("ruling"))?;
        let reason = message.reason.trim();
        if reason.chars().count() > REASON_MAX {
            return Err(FieldError::new(
                "reason",
                format!("is longer than {REASON_MAX} characters"),
            ));
        }
        let reason = match (&ruling, reason) {
            (Ruling::Skip(_) | Ruling::ForceOpen(_), "") => {
                return Err(FieldError::new("reason", "is missing: it stays in the record"));
            }
            (_, "") => "no reason given",
            (_, reason) => reason,
        };
        Ok(Self {
            id: name("id", message.id)?,
            ruling,
            reason: reason.to_owned(),
            by: message.requested_by,
            from,
            request_id: message.request_id,
        })
    }

    fn decision(&self, at: WallTime) -> Decision {
        Decision {
            reason: self.reason.clone(),
            by: self.by.clone(),
            at,
        }
    }
}

/// Carries an order out, once: the same request id again only answers.
///
/// # Errors
/// It makes no sense now, or could not be recorded.
pub(crate) async fn steer(leader: &Leader, order: Order) -> Result<v1::DecideRolloutResponse, Status> {
    let mut last = WriteError::Conflict(key::rollout(&order.id));
    for _ in 0..ATTEMPTS {
        let rollout = leader.rollout(&order.id).ok_or_else(|| unknown(&order.id))?;
        if let Some(known) = repeated(&rollout.record, &order)? {
            return answer(leader, &order.id, known.note.clone());
        }
        let progress: Vec<_> = leader.progress(&order.id).into_iter().collect();
        let decided = decided(leader, &rollout.record, &progress, &order)?;
        match record(leader, rollout, &progress, &decided, &order).await {
            Ok(()) => {
                info!(rollout = %order.id, ruling = %decided.ruling, by = order.by, reason = order.reason, "ruling");
                return answer(leader, &order.id, decided.note);
            }
            Err(error @ WriteError::Conflict(_)) => last = error,
            Err(error) => return Err(write_error(error)),
        }
        tokio::time::sleep(AGAIN_PAUSE.mul_f64(0.5 + fastrand::f64())).await;
    }
    Err(write_error(last))
}

fn answer(leader: &Leader, id: &RolloutId, note: String) -> Result<v1::DecideRolloutResponse, Status> {
    let rollout = found(&leader.view.borrow(), id, leader.wall())?;
    Ok(v1::DecideRolloutResponse {
        rollout: Some(rollout),
        note,
    })
}

/// The record of the same request, if it was carried out before.
fn repeated<'a>(rollout: &'a RolloutRecord, order: &Order) -> Result<Option<&'a HistoryRecord>, Status> {
    if order.request_id.is_empty() {
        return Ok(None);
    }
    let known = rollout.history.iter().find(|h| h.request_id == order.request_id);
    match known {
        Some(known) if discriminant(&known.ruling) != discriminant(&order.ruling) => {
            Err(Status::already_exists(format!(
                "request id {} was used for another ruling: {}",
                order.request_id, known.ruling
            )))
        }
        known => Ok(known),
    }
}

fn decided(
    leader: &Leader,
    rollout: &RolloutRecord,
    progress: &[Part],
    order: &Order,
) -> Result<Decided, Status> {
    if rollout.history.len() >= HISTORY_MAX && !matches!(order.ruling, Ruling::Abort(_)) {
        return Err(Status::failed_precondition(format!(
            "{HISTORY_MAX} rulings about rollout {} are on record, which is the limit: only an abort is taken",
            order.id
        )));
    }
    let members: Vec<Member<'_>> = progress
        .iter()
        .map(|(name, stored)| Member {
            name,
            wave: stored.record.wave,
            since: stored.record.since,
            target: &stored.record.target,
        })
        .collect();
    let picture = Picture {
        plan: &rollout.spec.plan(),
        steering: &rollout.steering,
        aborting: rollout.abort.is_some(),
        members: &members,
        now: leader.wall(),
    };
    let told = format!("{}: {} ({})", order.ruling, order.reason, order.by);
    decide(&picture, order.ruling.clone(), &told).map_err(|refusal| match refusal {
        Refusal::Unknown(why) => Status::not_found(format!("rollout {}: {why}", order.id)),
        Refusal::State(why) => {
            Status::failed_precondition(format!("cannot {} rollout {}: {why}", order.ruling, order.id))
        }
    })
}

/// Commits a ruling. Many moves take several commits, the last of which holds the ruling's record: until then the same
/// request is carried out again.
async fn record(
    leader: &Leader,
    mut rollout: Stored<RolloutRecord>,
    progress: &[Part],
    decided: &Decided,
    order: &Order,
) -> Result<(), WriteError> {
    let now = leader.wall();
    let mut after = RolloutRecord {
        steering: decided.steering.clone(),
        abort: abort(&rollout.record, progress, decided, order, now),
        ..rollout.record.clone()
    };
    let mut chunks: Vec<&[(usize, Target)]> = decided.moves.chunks(MOVES_MAX).collect();
    if chunks.is_empty() {
        chunks.push(&[]);
    }
    for (nth, moves) in chunks.iter().enumerate() {
        let mut changes = Vec::new();
        for (index, target) in *moves {
            let (name, stored) = &progress[*index];
            changes.extend(moved(leader, &order.id, name, stored, target, decided));
        }
        if nth + 1 == chunks.len() {
            changes.extend(ordered(progress, decided, order, now));
            after.history.push(HistoryRecord {
                ruling: decided.ruling.clone(),
                decision: order.decision(now),
                from: order.from.clone(),
                note: decided.note.clone(),
                request_id: order.request_id.clone(),
                leader_epoch: leader.writer.epoch().to_string(),
            });
        }
        changes.push(RecordChange::update(key::rollout(&order.id), &rollout, &after));
        let written = leader.writer.commit(changes, &[]).await?;
        rollout.mod_revision = written.revision;
        leader.view_at(written.revision).await;
    }
    Ok(())
}

/// The abort that stands afterwards. The later decision counts: a retry ends an abort that led to a hold.
fn abort(
    rollout: &RolloutRecord,
    progress: &[Part],
    decided: &Decided,
    order: &Order,
    now: WallTime,
) -> Option<Abort> {
    match decided.ruling {
        Ruling::Abort(way) => {
            let held = progress.iter().map(|(_, p)| &p.record);
            let held = held.filter(|p| matches!(p.target.state, State::Held(_)));
            // No earlier than what it decides about, even if that was written by a clock that is ahead.
            let at = held.map(|p| p.since).max().map_or(now, |since| since.max(now));
            Some(Abort {
                decision: order.decision(at),
                way,
            })
        }
        Ruling::Retry => None,
        // An answer lets its target go on, as a retry does.
        Ruling::Resolve { .. } => None,
        Ruling::Pause | Ruling::Resume | Ruling::Approve(_) | Ruling::Skip(_) | Ruling::ForceOpen(_) => {
            rollout.abort.clone()
        }
    }
}

fn moved(
    leader: &Leader,
    id: &RolloutId,
    name: &TargetName,
    stored: &Stored<ProgressRecord>,
    target: &Target,
    decided: &Decided,
) -> Vec<RecordChange> {
    let now = leader.wall();
    let retried_at = match decided.ruling {
        Ruling::Retry => Some(now),
        _ => stored.record.retried_at,
    };
    let record = ProgressRecord {
        target: target.clone(),
        since: now,
        retried_at,
        force_open: None,
        resolve: None,
        ..stored.record.clone()
    };
    let mut changes = vec![RecordChange::update(key::progress(id, name), stored, &record)];
    if target.state.is_final() {
        changes.extend(leader.active_end(name, id));
    }
    changes
}

/// An order that only the target's driver can carry out, where it finds it.
fn ordered(progress: &[Part], decided: &Decided, order: &Order, now: WallTime) -> Option<RecordChange> {
    let (target, force_open, resolve) = match &decided.ruling {
        Ruling::ForceOpen(target) => (target, Some(order.decision(now)), None),
        Ruling::Resolve {
            target,
            version,
            outcome,
        } => {
            let resolve = ResolveOrder {
                version: version.clone(),
                outcome: *outcome,
                decision: order.decision(now),
            };
            (target, None, Some(resolve))
        }
        Ruling::Pause
        | Ruling::Resume
        | Ruling::Approve(_)
        | Ruling::Abort(_)
        | Ruling::Retry
        | Ruling::Skip(_) => return None,
    };
    let (name, stored) = progress.iter().find(|(name, _)| name == target)?;
    let record = ProgressRecord {
        force_open,
        resolve,
        ..stored.record.clone()
    };
    Some(RecordChange::update(
        key::progress(&order.id, name),
        stored,
        &record,
    ))
}
