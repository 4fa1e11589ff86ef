//! Operators' rulings.

use lockkeeper_core::rollout::{AbortWay, Ruling, StatementOutcome};

use super::{FieldError, name, version};
use crate::v1;
use crate::v1::ruling::{self, What};

impl From<AbortWay> for v1::AbortWay {
    fn from(way: AbortWay) -> Self {
        match way {
            AbortWay::RollBack => Self::RollBack,
            AbortWay::Reopen => Self::Reopen,
            AbortWay::Hold => Self::Hold,
        }
    }
}

impl From<v1::AbortWay> for AbortWay {
    fn from(way: v1::AbortWay) -> Self {
        match way {
            v1::AbortWay::Unspecified | v1::AbortWay::RollBack => Self::RollBack,
            v1::AbortWay::Reopen => Self::Reopen,
            v1::AbortWay::Hold => Self::Hold,
        }
    }
}

impl From<Ruling> for v1::Ruling {
    fn from(ruling: Ruling) -> Self {
        let what = match ruling {
            Ruling::Pause => What::Pause(ruling::Pause {}),
            Ruling::Resume => What::Resume(ruling::Resume {}),
            Ruling::Approve(wave) => What::Approve(ruling::Approve {
                wave: wave.map(|wave| u32::try_from(wave).unwrap_or(u32::MAX)),
            }),
            Ruling::Abort(way) => What::Abort(ruling::Abort {
                way: v1::AbortWay::from(way).into(),
            }),
            Ruling::Retry => What::Retry(ruling::Retry {}),
            Ruling::Skip(target) => What::Skip(ruling::Skip {
                target: target.into(),
            }),
            Ruling::ForceOpen(target) => What::ForceOpen(ruling::ForceOpen {
                target: target.into(),
            }),
            Ruling::Resolve {
                target,
                version,
                outcome,
            } => What::Resolve(ruling::ResolveTarget {
                target: target.into(),
                version: version.0,
                outcome: v1::StatementOutcome::from(outcome).into(),
            }),
        };
        Self { what: Some(what) }
    }
}

impl TryFrom<v1::Ruling> for Ruling {
    type Error = FieldError;

    fn try_from(message: v1::Ruling) -> Result<Self, FieldError> {
        Ok(match message.what {
            Some(What::Pause(ruling::Pause {})) => Self::Pause,
            Some(What::Resume(ruling::Resume {})) => Self::Resume,
            Some(What::Approve(approve)) => Self::Approve(approve.wave.map(|wave| wave as usize)),
            Some(What::Abort(abort)) => Self::Abort(abort.way().into()),
            Some(What::Retry(ruling::Retry {})) => Self::Retry,
            Some(What::Skip(skip)) => Self::Skip(name("skip.target", skip.target)?),
            Some(What::ForceOpen(open)) => Self::ForceOpen(name("force_open.target", open.target)?),
            Some(What::Resolve(resolve)) => self::resolve(resolve)?,
            None => {
                return Err(FieldError::new(
                    "what",
                    "one of pause, resume, approve, abort, retry, skip, force_open or resolve is needed",
                ));
            }
        })
    }
}

fn resolve(message: ruling::ResolveTarget) -> Result<Ruling, FieldError> {
    let outcome = match message.outcome() {
        v1::StatementOutcome::Done => StatementOutcome::Done,
        v1::StatementOutcome::NotDone => StatementOutcome::NotDone,
        v1::StatementOutcome::Unspecified => {
            return Err(FieldError::new("resolve.outcome", "done or not done is needed"));
        }
    };
    let target = name("resolve.target", message.target)?;
    match version(message.version) {
        Some(version) => Ok(Ruling::Resolve {
            target,
            version,
            outcome,
        }),
        None => Err(FieldError::new("resolve.version", "is missing")),
    }
}

impl From<StatementOutcome> for v1::StatementOutcome {
    fn from(outcome: StatementOutcome) -> Self {
        match outcome {
            StatementOutcome::Done => Self::Done,
            StatementOutcome::NotDone => Self::NotDone,
        }
    }
}
