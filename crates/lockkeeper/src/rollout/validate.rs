//! Whether a rollout's file can be used, as far as that can be said without a coordinator.

use std::path::PathBuf;

use clap::Args;
use jiff::tz::TimeZone;
use lockkeeper_core::id::TargetName;
use lockkeeper_core::spec::{HealthCheck, RolloutSpec, TargetsFile};
use serde::Serialize;

use crate::client::read_yaml;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};

/// What is checked.
#[derive(Debug, Args)]
pub(super) struct ValidateArgs {
    /// The rollout's file; - is standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// The targets that it is about: says which wave each belongs to
    #[arg(long, value_name = "FILE")]
    targets: Option<PathBuf>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What a usable file says.
#[derive(Debug, Serialize)]
struct Validated {
    service: String,
    to: String,
    waves: usize,
    /// The targets of each wave; absent: no targets were given.
    targets: Option<Vec<Vec<TargetName>>>,
}

impl ValidateArgs {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let spec: RolloutSpec = read_yaml(&self.file)?;
        let unusable = |problem: String| Failure::usage(format!("{}: {problem}", self.file.display()));
        check(&spec).map_err(unusable)?;
        let targets = match &self.targets {
            None => None,
            Some(file) => {
                let declared: TargetsFile = read_yaml(file)?;
                let selected = spec.select(&declared.targets);
                Some(selected.map_err(|e| unusable(e.to_string()))?)
            }
        };
        let validated = Validated {
            service: spec.service.to_string(),
            to: spec.to,
            waves: spec.waves.len(),
            targets,
        };
        output::print(self.format, &validated, text)?;
        Ok(Exit::Ok)
    }
}

fn text(validated: &Validated) -> String {
    let Validated {
        service, to, waves, ..
    } = validated;
    let mut text = format!("{service} to {to}, {waves} waves: can be used\n");
    for (wave, targets) in validated.targets.iter().flatten().enumerate() {
        let names: Vec<&str> = targets.iter().map(TargetName::as_str).collect();
        text += &format!("wave {wave}: {}\n", names.join(", "));
    }
    text
}

fn check(spec: &RolloutSpec) -> Result<(), String> {
    spec.check().map_err(|e| e.to_string())?;
    if let Some(window) = &spec.window {
        TimeZone::get(&window.time_zone).map_err(|e| format!("window.time_zone: {e}"))?;
    }
    for (index, wave) in spec.waves.iter().enumerate() {
        for check in &wave.health {
            probe(check).map_err(|e| format!("waves[{index}].health: {}: {e}", check.name()))?;
        }
    }
    Ok(())
}

fn probe(check: &HealthCheck) -> Result<(), String> {
    match check {
        HealthCheck::Http { url, .. } | HealthCheck::Prometheus { url, .. }
            if !url.starts_with("http://") =>
        {
            Err(format!(
                "{url} does not begin with http://; a command can ask other addresses"
            ))
        }
        HealthCheck::Sql { .. }
        | HealthCheck::Http { .. }
        | HealthCheck::Prometheus { .. }
        | HealthCheck::Command { .. } => Ok(()),
    }
}
