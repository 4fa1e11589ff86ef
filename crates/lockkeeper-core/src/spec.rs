//! What an operator declares: targets and rollouts. The same types are read from files, kept in the store and
//! carried over gRPC, so that a field has one name, one default and one check.

mod health;
mod share;
mod window;

mod migrations;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::id::{Region, ServiceName, TargetName};
use crate::rollout::{OnFailure, Plan, WaveTerms};
use crate::strength::Strength;

pub use health::HealthCheck;
pub use share::{Share, ShareError};
pub use window::{Date, Day, Freeze, TimeError, TimeOfDay, WindowSpec};

pub use migrations::{
    Argv, DEFAULT_COMMAND_TIMEOUT, DEFAULT_DSN_ENV, DirectorySpec, ExternalSpec, MigrationsSpec, PendingRule,
    StatusRule,
};

/// `targets.yaml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetsFile {
    /// The targets.
    pub targets: Vec<TargetSpec>,
}

/// One database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetSpec {
    /// Unique in the fleet, for example `kratos/eu-west-1`.
    pub name: TargetName,
    /// The service whose schema it holds.
    pub service: ServiceName,
    /// Where it lives.
    pub region: Region,
    /// `postgres`, `mysql` or `sqlite`; must agree with the DSN's scheme when given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialect: Option<String>,
    /// Where coordinators find its DSN.
    pub dsn: DsnReference,
    /// How coordinators change its schema.
    pub migrations: MigrationsSpec,
    /// Strength of its fence.
    #[serde(default)]
    pub strength: Strength,
    /// Free labels, for selecting targets into waves.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Queries whose answer must be the same just before opening as just after drained.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub invariants: Vec<RowInvariant>,
}

/// Where a coordinator finds a DSN. Never the DSN itself: the store holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DsnReference {
    /// An environment variable of the coordinators.
    Env(String),
    /// A file on the coordinators.
    File(String),
    /// A command that the coordinators run with `sh -c`.
    Command(String),
}

impl<'de> Deserialize<'de> for DsnReference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DsnReferenceVisitor)
    }
}

/// Whoever puts a DSN where a reference belongs must not find its password in the error.
struct DsnReferenceVisitor;

impl<'de> Visitor<'de> for DsnReferenceVisitor {
    type Value = DsnReference;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one of {env: NAME}, {file: PATH} or {command: COMMAND}")
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<DsnReference, E> {
        Err(E::custom(
            "a text, expected a reference: one of {env: NAME}, {file: PATH} or {command: COMMAND}",
        ))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<DsnReference, A::Error> {
        let reference = match map.next_key::<String>()?.as_deref() {
            Some("env") => DsnReference::Env(map.next_value()?),
            Some("file") => DsnReference::File(map.next_value()?),
            Some("command") => DsnReference::Command(map.next_value()?),
            Some(_) | None => return Err(de::Error::custom("one of env, file or command is needed")),
        };
        match map.next_key::<String>()? {
            None => Ok(reference),
            Some(_) => Err(de::Error::custom(
                "only one of env, file and command can be given",
            )),
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// One text, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// `dir: migrations`
    One(String),
    /// `dir: [a, b]`
    Many(Vec<String>),
}

impl OneOrMany {
    /// All of them.
    #[must_use]
    pub fn to_vec(&self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one.clone()],
            Self::Many(many) => many.clone(),
        }
    }
}

/// A query that answers one row of one column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowInvariant {
    /// For messages.
    pub name: String,
    /// The query.
    pub query: String,
}

/// Default of [`RolloutSpec::budget`].
pub const DEFAULT_BUDGET: Duration = Duration::from_secs(60);
/// Default of [`RolloutSpec::drain_timeout`].
pub const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// `rollout.yaml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutSpec {
    /// The service whose targets are meant.
    pub service: ServiceName,
    /// The release that it brings, for people.
    #[serde(default)]
    pub release: String,
    /// Schema version to reach, or `latest`.
    pub to: String,
    /// In this order.
    pub waves: Vec<WaveSpec>,
    /// Whether the gate is closed.
    #[serde(default)]
    pub fence: FenceMode,
    /// Longest time that writes of one target may be refused.
    #[serde(default = "default_budget", with = "humantime_serde")]
    pub budget: Duration,
    /// How long agents may take to drain before the barrier is raised without them.
    #[serde(default = "default_drain_timeout", with = "humantime_serde")]
    pub drain_timeout: Duration,
    /// What a failure leads to.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// A target with a weaker fence is refused.
    #[serde(default)]
    pub require_strength: Strength,
    /// When targets may start; absent: at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<WindowSpec>,
    /// Most targets that may be under way at a time, over all waves; absent: as waves say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_fenced: Option<Share>,
}

fn default_budget() -> Duration {
    DEFAULT_BUDGET
}

fn default_drain_timeout() -> Duration {
    DEFAULT_DRAIN_TIMEOUT
}

/// Whether migrations run behind a closed gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum FenceMode {
    /// Every migration does.
    #[default]
    Always,
}

/// Targets that go together: those in the regions, by name, or with all of the labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct WaveSpec {
    /// Targets in these regions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<Region>,
    /// Targets of these names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<TargetName>,
    /// Targets that carry all of these labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// How many at a time; absent or 0: all.
    #[serde(default)]
    pub parallel: usize,
    /// How long to look at this wave before the next one starts.
    #[serde(default, with = "humantime_serde", skip_serializing_if = "Duration::is_zero")]
    pub bake: Duration,
    /// Whether a person must approve this wave before it starts.
    #[serde(default, skip_serializing_if = "is_false")]
    pub approve: bool,
    /// What must hold while it bakes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub health: Vec<HealthCheck>,
}

/// A rollout that cannot be made from what is declared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// No wave is given.
    #[error("waves: at least one is needed")]
    NoWaves,
    /// A wave selects by nothing.
    #[error("waves[{0}]: one of regions, targets or labels is needed")]
    EmptyWave(usize),
    /// A wave names a target that is not declared.
    #[error(
        "waves[{wave}].targets: {target} is not a declared target of service {service}; see `lockkeeper target list`"
    )]
    UnknownTarget {
        /// Index of the wave.
        wave: usize,
        /// The name.
        target: TargetName,
        /// The rollout's service.
        service: ServiceName,
    },
    /// A wave has conditions, and no time in which they are looked at.
    #[error("waves[{0}].health: a bake is needed, in which it is looked at")]
    HealthWithoutBake(usize),
    /// A wave matches nothing.
    #[error("waves[{wave}]: no declared target of service {service} matches; see `lockkeeper target list`")]
    NothingMatches {
        /// Index of the wave.
        wave: usize,
        /// The rollout's service.
        service: ServiceName,
    },
}

impl WaveSpec {
    fn is_empty(&self) -> bool {
        self.regions.is_empty() && self.targets.is_empty() && self.labels.is_empty()
    }

    fn matches(&self, target: &TargetSpec) -> bool {
        let labelled = || {
            !self.labels.is_empty()
                && self
                    .labels
                    .iter()
                    .all(|(key, value)| target.labels.get(key) == Some(value))
        };
        self.regions.contains(&target.region) || self.targets.contains(&target.name) || labelled()
    }
}

impl RolloutSpec {
    /// What the schedule goes by.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let terms = |wave: &WaveSpec| WaveTerms {
            parallel: wave.parallel,
            bake: wave.bake,
            approve: wave.approve,
        };
        Plan {
            waves: self.waves.iter().map(terms).collect(),
            on_failure: self.on_failure,
            max_fenced: self.max_fenced,
        }
    }

    /// What can be said of it without knowing the targets.
    ///
    /// # Errors
    /// The first wave that cannot be used.
    pub fn check(&self) -> Result<(), SelectError> {
        if self.waves.is_empty() {
            return Err(SelectError::NoWaves);
        }
        for (index, wave) in self.waves.iter().enumerate() {
            if wave.is_empty() {
                return Err(SelectError::EmptyWave(index));
            }
            if !wave.health.is_empty() && wave.bake.is_zero() {
                return Err(SelectError::HealthWithoutBake(index));
            }
        }
        Ok(())
    }

    /// The targets of each wave, in order of name; a target belongs to the first wave that matches it.
    ///
    /// # Errors
    /// A wave that is empty, names an undeclared target, or matches nothing.
    pub fn select(&self, declared: &[TargetSpec]) -> Result<Vec<Vec<TargetName>>, SelectError> {
        self.check()?;
        let of_service = || declared.iter().filter(|t| t.service == self.service);
        let mut taken: BTreeSet<&TargetName> = BTreeSet::new();
        let mut waves = Vec::with_capacity(self.waves.len());
        for (index, wave) in self.waves.iter().enumerate() {
            if let Some(unknown) = wave
                .targets
                .iter()
                .find(|name| !of_service().any(|t| t.name == **name))
            {
                let (target, service) = (unknown.clone(), self.service.clone());
                return Err(SelectError::UnknownTarget {
                    wave: index,
                    target,
                    service,
                });
            }
            let mut names: Vec<&TargetName> = of_service()
                .filter(|t| wave.matches(t))
                .map(|t| &t.name)
                .filter(|n| !taken.contains(n))
                .collect();
            names.sort();
            if names.is_empty() {
                return Err(SelectError::NothingMatches {
                    wave: index,
                    service: self.service.clone(),
                });
            }
            taken.extend(&names);
            waves.push(names.into_iter().cloned().collect());
        }
        Ok(waves)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str, region: &str) -> TargetSpec {
        serde_json::from_value(serde_json::json!({
            "name": name, "service": "kratos", "region": region,
            "dsn": {"env": "DSN"}, "migrations": {"dir": "m"}
        }))
        .unwrap()
    }

    fn rollout(waves: serde_json::Value) -> RolloutSpec {
        serde_json::from_value(serde_json::json!({"service": "kratos", "to": "latest", "waves": waves}))
            .unwrap()
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let spec = rollout(serde_json::json!([{"regions": ["eu"]}]));
        assert_eq!(
            (spec.budget, spec.drain_timeout),
            (Duration::from_secs(60), Duration::from_secs(5))
        );
        assert_eq!(
            (spec.on_failure, spec.require_strength),
            (OnFailure::Rollback, Strength::Barrier)
        );
        let migrations = target("a", "eu").migrations;
        let migrations = migrations.directory().unwrap();
        assert_eq!(
            (migrations.layout.as_str(), migrations.ledger.as_str()),
            ("auto", "own")
        );
    }

    #[test]
    fn a_target_belongs_to_its_first_wave() {
        let declared = [target("k/b", "eu"), target("k/a", "eu"), target("k/us", "us")];
        let waves = rollout(serde_json::json!([{"targets": ["k/b"]}, {"regions": ["eu", "us"]}]));
        let selected = waves.select(&declared).unwrap();
        assert_eq!(
            format!("{selected:?}"),
            r#"[[TargetName("k/b")], [TargetName("k/a"), TargetName("k/us")]]"#
        );
    }

    #[test]
    fn unknown_targets_and_empty_waves_are_named() {
        let declared = [target("k/a", "eu")];
        let error = |waves| rollout(waves).select(&declared).unwrap_err().to_string();
        assert!(error(serde_json::json!([{"targets": ["k/x"]}])).starts_with("waves[0].targets: k/x is not"));
        assert!(error(serde_json::json!([{"parallel": 1}])).starts_with("waves[0]: one of regions"));
        assert!(error(serde_json::json!([{"regions": ["ap"]}])).starts_with("waves[0]: no declared target"));
    }
}
