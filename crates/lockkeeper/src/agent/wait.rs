//! `lockkeeper agent wait`: for init containers and scripts.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use lockkeeper_agent::{Opened, Progress, TargetView, WaitError};
use serde::Serialize;

use super::flags::{Registration, agent_failure, build_failure};
use super::report::view_text;
use super::say;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};

/// Wait until databases are open at a schema version that fits.
///
/// Registers without asking for a write lease, so that no rollout waits for this, and ends with 0 when every target
/// is open at a version that fits.
#[derive(Debug, Args)]
pub(crate) struct WaitCommand {
    #[command(flatten)]
    registration: Registration,
    /// Give up after this long, with exit code 6 [default: never]
    #[arg(long, env = "LOCKKEEPER_TIMEOUT", value_name = "DURATION", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// How to print what was found
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Serialize)]
struct Found {
    targets: Vec<FoundTarget>,
}

#[derive(Debug, Serialize)]
struct FoundTarget {
    name: String,
    version: String,
    gate_epoch: u64,
}

impl WaitCommand {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let mut missing = Missing::new(&self.registration);
        let waiting = self
            .registration
            .builder()
            .wait_open(|progress| missing.hear(progress));
        let opened = match self.timeout {
            None => waiting.await,
            Some(timeout) => match tokio::time::timeout(timeout, waiting).await {
                Ok(opened) => opened,
                Err(_) => return Err(missing.timed_out(timeout)),
            },
        };
        let opened = opened.map_err(|error| match error {
            WaitError::Build(error) => build_failure(&error),
            WaitError::Agent(error) => agent_failure(&error),
            error => Failure::new(Exit::Error, error),
        })?;
        let found = Found {
            targets: opened.into_iter().map(FoundTarget::from).collect(),
        };
        output::print(self.format, &found, draw)?;
        Ok(Exit::Ok)
    }
}

impl From<Opened> for FoundTarget {
    fn from(opened: Opened) -> Self {
        Self {
            name: opened.target.to_string(),
            version: opened.version.to_string(),
            gate_epoch: opened.gate_epoch.0,
        }
    }
}

fn draw(found: &Found) -> String {
    let row = |target: &FoundTarget| {
        vec![
            target.name.clone(),
            target.version.clone(),
            format!("g{}", target.gate_epoch),
        ]
    };
    let rows: Vec<_> = found.targets.iter().map(row).collect();
    output::table(&["Target", "Version", "Gate"], &rows)
}

/// What is still waited for, to be named when the wait ends too early.
#[derive(Debug)]
struct Missing {
    targets: BTreeMap<String, String>,
    coordinator: Option<String>,
}

impl Missing {
    fn new(registration: &Registration) -> Self {
        let joining = |name: &str| (name.to_owned(), format!("{name}: no coordinator has answered"));
        Self {
            targets: registration.target_names().map(joining).collect(),
            coordinator: None,
        }
    }

    fn hear(&mut self, progress: Progress<'_>) {
        match progress {
            Progress::Fenced(target, fence) => {
                let text = view_text(target, &TargetView::Fenced(fence.clone()));
                if self.targets.get(target) != Some(&text) {
                    say(&text);
                }
                self.targets.insert(target.to_owned(), text);
                self.coordinator = None;
            }
            Progress::Opened(opened) => {
                self.targets.remove(opened.target.as_str());
                self.coordinator = None;
            }
            Progress::Lost(address, error) => {
                let text = format!("no coordinator: {address}: {error}");
                if self.coordinator.as_ref() != Some(&text) {
                    say(&text);
                }
                self.coordinator = Some(text);
            }
        }
    }

    fn timed_out(self, waited: Duration) -> Failure {
        let why: Vec<_> = self.targets.into_values().chain(self.coordinator).collect();
        Failure::new(
            Exit::TimedOut,
            format!("see every target open within {waited:?}: {}", why.join("; ")),
        )
    }
}
