//! Between messages and the core's types. Whatever comes in is checked here, once; errors name the field.

use std::time::Duration;

use lockkeeper_core::id::{AgentId, NameError, TargetName};
use lockkeeper_core::rollout::{Goal, HeldAt, OnFailure, Overall, State};
use lockkeeper_core::spec::{
    DEFAULT_BUDGET, DEFAULT_DRAIN_TIMEOUT, DsnReference, FenceMode, RolloutSpec, RowInvariant, TargetSpec,
    WaveSpec,
};
use lockkeeper_core::strength::Strength;
use lockkeeper_core::time::WallTime;
use lockkeeper_core::version::{SchemaVersion, VersionRange};

use crate::v1;

mod migrations;
mod ruling;
mod terms;

/// A field of a message that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct FieldError {
    /// Path of the field, for example `targets[2].dsn`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl FieldError {
    /// An error about `field`.
    pub fn new(field: impl Into<String>, problem: impl ToString) -> Self {
        Self {
            field: field.into(),
            problem: problem.to_string(),
        }
    }

    /// The same error in a message that stands inside another.
    #[must_use]
    pub fn within(self, outer: &str) -> Self {
        Self {
            field: format!("{outer}.{}", self.field),
            ..self
        }
    }
}

impl From<FieldError> for tonic::Status {
    fn from(error: FieldError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

/// Parses a name in a field.
///
/// # Errors
/// The field and what is wrong with the name.
pub fn name<T>(field: &str, text: String) -> Result<T, FieldError>
where
    T: TryFrom<String, Error = NameError>,
{
    T::try_from(text).map_err(|e| FieldError::new(field, e))
}

/// A version in a field: empty is none.
#[must_use]
pub fn version(text: String) -> Option<SchemaVersion> {
    (!text.is_empty()).then_some(SchemaVersion(text))
}

/// A version for a field: none is empty.
#[must_use]
pub fn version_text(version: Option<&SchemaVersion>) -> String {
    version.map(|v| v.0.clone()).unwrap_or_default()
}

/// A duration for a field.
#[must_use]
pub fn duration_message(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration).unwrap_or_default()
}

/// A duration in a field; absent is `default`.
///
/// # Errors
/// A negative or overlong duration.
pub fn duration(
    field: &str,
    message: Option<prost_types::Duration>,
    default: Duration,
) -> Result<Duration, FieldError> {
    match message {
        None => Ok(default),
        Some(message) => {
            Duration::try_from(message).map_err(|_| FieldError::new(field, "is negative or too long"))
        }
    }
}

/// A wall time for a field.
#[must_use]
pub fn timestamp(time: WallTime) -> prost_types::Timestamp {
    let nanos = i32::try_from(time.0.rem_euclid(1000) * 1_000_000).unwrap_or_default();
    prost_types::Timestamp {
        seconds: time.0.div_euclid(1000),
        nanos,
    }
}

impl From<Strength> for v1::Strength {
    fn from(strength: Strength) -> Self {
        match strength {
            Strength::Cooperative => Self::Cooperative,
            Strength::Barrier => Self::Barrier,
            Strength::Epoch => Self::Epoch,
        }
    }
}

impl From<v1::Strength> for Strength {
    fn from(strength: v1::Strength) -> Self {
        match strength {
            v1::Strength::Cooperative => Self::Cooperative,
            v1::Strength::Unspecified | v1::Strength::Barrier => Self::Barrier,
            v1::Strength::Epoch => Self::Epoch,
        }
    }
}

impl From<OnFailure> for v1::OnFailure {
    fn from(policy: OnFailure) -> Self {
        match policy {
            OnFailure::Rollback => Self::Rollback,
            OnFailure::Hold => Self::Hold,
            OnFailure::Continue => Self::Continue,
        }
    }
}

impl From<v1::OnFailure> for OnFailure {
    fn from(policy: v1::OnFailure) -> Self {
        match policy {
            v1::OnFailure::Unspecified | v1::OnFailure::Rollback => Self::Rollback,
            v1::OnFailure::Hold => Self::Hold,
            v1::OnFailure::Continue => Self::Continue,
        }
    }
}

impl From<State> for v1::TargetState {
    fn from(state: State) -> Self {
        match state {
            State::Pending => Self::Pending,
            State::Preflight => Self::Preflight,
            State::Fencing => Self::Fencing,
            State::Migrating => Self::Migrating,
            State::Verifying(Goal::New | Goal::Unchanged | Goal::Restored) => Self::Verifying,
            State::Opening(Goal::New | Goal::Unchanged | Goal::Restored) => Self::Opening,
            State::RollingBack => Self::RollingBack,
            State::Held(HeldAt::BeforeFence | HeldAt::Fenced | HeldAt::ReleasedByHand | HeldAt::Opened) => {
                Self::Held
            }
            State::Baking => Self::Baking,
            State::Done => Self::Done,
            State::Aborted => Self::Aborted,
            State::RolledBack => Self::RolledBack,
            State::Skipped => Self::Skipped,
        }
    }
}

impl From<Overall> for v1::RolloutState {
    fn from(overall: Overall) -> Self {
        match overall {
            Overall::Running => Self::Running,
            Overall::Held => Self::Held,
            Overall::Done => Self::Done,
            Overall::Aborted => Self::Aborted,
            Overall::RolledBack => Self::RolledBack,
        }
    }
}

impl From<TargetSpec> for v1::TargetSpec {
    fn from(spec: TargetSpec) -> Self {
        let source = match spec.dsn {
            DsnReference::Env(name) => v1::dsn_reference::Source::Env(name),
            DsnReference::File(path) => v1::dsn_reference::Source::File(path),
            DsnReference::Command(command) => v1::dsn_reference::Source::Command(command),
        };
        let invariants = spec.invariants.into_iter();
        Self {
            name: spec.name.into(),
            service: spec.service.into(),
            region: spec.region.into(),
            dialect: spec.dialect.unwrap_or_default(),
            dsn: Some(v1::DsnReference { source: Some(source) }),
            migrations: Some(spec.migrations.into()),
            strength: v1::Strength::from(spec.strength).into(),
            labels: spec.labels.into_iter().collect(),
            invariants: invariants
                .map(|i| v1::RowInvariant {
                    name: i.name,
                    query: i.query,
                })
                .collect(),
        }
    }
}

impl TryFrom<v1::TargetSpec> for TargetSpec {
    type Error = FieldError;

    fn try_from(message: v1::TargetSpec) -> Result<Self, FieldError> {
        let strength = message.strength();
        let dsn = match message.dsn.and_then(|d| d.source) {
            Some(v1::dsn_reference::Source::Env(name)) => DsnReference::Env(name),
            Some(v1::dsn_reference::Source::File(path)) => DsnReference::File(path),
            Some(v1::dsn_reference::Source::Command(command)) => DsnReference::Command(command),
            None => return Err(FieldError::new("dsn", "one of env, file or command is needed")),
        };
        let migrations = message
            .migrations
            .ok_or_else(|| FieldError::new("migrations", "is missing"))?;
        let invariants = message.invariants.into_iter();
        Ok(Self {
            name: name("name", message.name)?,
            service: name("service", message.service)?,
            region: name("region", message.region)?,
            dialect: (!message.dialect.is_empty()).then_some(message.dialect),
            dsn,
            migrations: migrations
                .try_into()
                .map_err(|e: FieldError| e.within("migrations"))?,
            strength: strength.into(),
            labels: message.labels.into_iter().collect(),
            invariants: invariants
                .map(|i| RowInvariant {
                    name: i.name,
                    query: i.query,
                })
                .collect(),
        })
    }
}

impl From<RolloutSpec> for v1::RolloutSpec {
    fn from(spec: RolloutSpec) -> Self {
        let FenceMode::Always = spec.fence;
        Self {
            service: spec.service.into(),
            release: spec.release,
            to: spec.to,
            waves: spec.waves.into_iter().map(v1::Wave::from).collect(),
            budget: Some(duration_message(spec.budget)),
            drain_timeout: Some(duration_message(spec.drain_timeout)),
            on_failure: v1::OnFailure::from(spec.on_failure).into(),
            require_strength: v1::Strength::from(spec.require_strength).into(),
            window: spec.window.map(v1::Window::from),
            max_fenced: spec.max_fenced.map(v1::rollout_spec::MaxFenced::from),
        }
    }
}

impl From<WaveSpec> for v1::Wave {
    fn from(wave: WaveSpec) -> Self {
        Self {
            regions: wave.regions.into_iter().map(String::from).collect(),
            targets: wave.targets.into_iter().map(String::from).collect(),
            labels: wave.labels.into_iter().collect(),
            parallel: u32::try_from(wave.parallel).unwrap_or(u32::MAX),
            bake: (!wave.bake.is_zero()).then(|| duration_message(wave.bake)),
            approve: wave.approve,
            health: wave.health.into_iter().map(v1::HealthCheck::from).collect(),
        }
    }
}

impl TryFrom<v1::Wave> for WaveSpec {
    type Error = FieldError;

    fn try_from(message: v1::Wave) -> Result<Self, FieldError> {
        Ok(Self {
            regions: message
                .regions
                .into_iter()
                .map(|r| name("regions", r))
                .collect::<Result<_, _>>()?,
            targets: message
                .targets
                .into_iter()
                .map(|t| name("targets", t))
                .collect::<Result<_, _>>()?,
            labels: message.labels.into_iter().collect(),
            parallel: message.parallel as usize,
            bake: duration("bake", message.bake, Duration::ZERO)?,
            approve: message.approve,
            health: message
                .health
                .into_iter()
                .map(|check| check.try_into().map_err(|e: FieldError| e.within("health")))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<v1::RolloutSpec> for RolloutSpec {
    type Error = FieldError;

    fn try_from(message: v1::RolloutSpec) -> Result<Self, FieldError> {
        let (on_failure, strength) = (message.on_failure(), message.require_strength());
        let waves = message.waves.into_iter().enumerate();
        let waves: Vec<WaveSpec> = waves
            .map(|(i, wave)| {
                wave.try_into()
                    .map_err(|e: FieldError| e.within(&format!("waves[{i}]")))
            })
            .collect::<Result<_, _>>()?;
        if message.to.is_empty() {
            return Err(FieldError::new("to", "a version or `latest` is needed"));
        }
        Ok(Self {
            service: name("service", message.service)?,
            release: message.release,
            to: message.to,
            waves,
            fence: FenceMode::Always,
            budget: duration("budget", message.budget, DEFAULT_BUDGET)?,
            drain_timeout: duration("drain_timeout", message.drain_timeout, DEFAULT_DRAIN_TIMEOUT)?,
            on_failure: on_failure.into(),
            require_strength: strength.into(),
            window: message
                .window
                .map(|window| window.try_into().map_err(|e: FieldError| e.within("window")))
                .transpose()?,
            max_fenced: message.max_fenced.map(terms::share).transpose()?,
        })
    }
}

/// A target that an agent registered for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The target's name.
    pub target: TargetName,
    /// Versions that fit.
    pub range: VersionRange,
}

impl TryFrom<v1::RegisterTarget> for Wanted {
    type Error = FieldError;

    fn try_from(message: v1::RegisterTarget) -> Result<Self, FieldError> {
        let range = VersionRange {
            min: version(message.min_version),
            max: version(message.max_version),
        };
        Ok(Self {
            target: name("name", message.name)?,
            range,
        })
    }
}

/// The replica's name in a registration.
///
/// # Errors
/// The field and what is wrong with the name.
pub fn replica(text: String) -> Result<AgentId, FieldError> {
    name("register.replica", text)
}
