//! Flags that say who registers, and for what.

use std::str::FromStr;

use clap::Args;
use lockkeeper_agent::{Agent, AgentBuilder, AgentError, BuildError};

use crate::exit::{Exit, Failure};

/// Who registers, and for what.
#[derive(Debug, Args)]
pub(super) struct Registration {
    /// Coordinators, any of which will do
    #[arg(
        long,
        env = "LOCKKEEPER_SERVER",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        default_value = "127.0.0.1:7400"
    )]
    server: Vec<String>,
    /// The service that the program is a replica of
    #[arg(long, env = "LOCKKEEPER_SERVICE", value_name = "NAME")]
    service: String,
    /// Stable name of this replica [default: the host's name]
    #[arg(long, env = "LOCKKEEPER_REPLICA", value_name = "NAME")]
    replica: Option<String>,
    /// Region that the replica runs in
    #[arg(long, env = "LOCKKEEPER_REGION", value_name = "NAME")]
    region: String,
    /// The program's release, for people
    #[arg(long, env = "LOCKKEEPER_RELEASE", value_name = "TEXT", default_value = "")]
    release: String,
    /// A database that the program writes to, and the schema versions it can work with; may repeat
    ///
    /// NAME:MIN..MAX, both included; NAME:MIN.. and NAME:..MAX leave one end open, NAME:VERSION means exactly that
    /// one, and NAME alone any.
    #[arg(
        long = "target",
        env = "LOCKKEEPER_TARGET",
        value_name = "NAME[:MIN..MAX]",
        value_delimiter = ',',
        required = true
    )]
    targets: Vec<TargetFlag>,
}

impl Registration {
    pub(super) fn builder(&self) -> AgentBuilder {
        let replica = self.replica.clone().unwrap_or_else(host_name);
        let builder = Agent::builder()
            .service(&self.service)
            .replica(replica)
            .region(&self.region)
            .release(&self.release)
            .coordinators(self.server.iter().cloned());
        self.targets.iter().fold(builder, |builder, target| {
            builder.target(&target.name, (target.min.clone(), target.max.clone()))
        })
    }

    pub(super) fn target_names(&self) -> impl Iterator<Item = &str> {
        self.targets.iter().map(|target| target.name.as_str())
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// `NAME[:MIN..MAX]`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TargetFlag {
    name: String,
    min: Option<String>,
    max: Option<String>,
}

impl FromStr for TargetFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((name, range)) = text.split_once(':') else {
            return Ok(Self {
                name: text.to_owned(),
                min: None,
                max: None,
            });
        };
        let end = |version: &str| (!version.is_empty()).then(|| version.to_owned());
        let (min, max) = match range.split_once("..") {
            Some((min, max)) => (end(min), end(max)),
            None => (end(range), end(range)),
        };
        let version = |version: &Option<String>| {
            version.as_ref().is_none_or(|text| {
                text.chars()
                    .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
            })
        };
        if range.is_empty() || !version(&min) || !version(&max) {
            return Err(format!(
                "{range:?} is no range of versions (expected MIN..MAX, MIN.., ..MAX or VERSION)"
            ));
        }
        Ok(Self {
            name: name.to_owned(),
            min,
            max,
        })
    }
}

/// An agent that cannot be built from the flags.
pub(super) fn build_failure(error: &BuildError) -> Failure {
    Failure::usage(format!("register: {error}"))
}

/// An agent that came to its end by itself.
pub(super) fn agent_failure(error: &AgentError) -> Failure {
    let failure = |exit| Failure::new(exit, format!("go on as an agent: {error}"));
    match error {
        AgentError::Superseded(_) => failure(Exit::EndedOtherwise)
            .hint("two processes use the same replica name; give each its own --replica"),
        AgentError::Rejected(_) => failure(Exit::Usage),
        AgentError::TimedOut { .. } => failure(Exit::TimedOut),
        _ => failure(Exit::Error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Result<(String, Option<String>, Option<String>), String> {
        text.parse()
            .map(|flag: TargetFlag| (flag.name, flag.min, flag.max))
    }

    #[test]
    fn a_target_has_a_range_with_both_ends_included() {
        let some = |text: &str| Some(text.to_owned());
        let name = || "kratos/eu-west-1".to_owned();
        assert_eq!(target("kratos/eu-west-1"), Ok((name(), None, None)));
        assert_eq!(
            target("kratos/eu-west-1:1..2"),
            Ok((name(), some("1"), some("2")))
        );
        assert_eq!(
            target("kratos/eu-west-1:1.2..1.10"),
            Ok((name(), some("1.2"), some("1.10")))
        );
        assert_eq!(target("kratos/eu-west-1:1.."), Ok((name(), some("1"), None)));
        assert_eq!(target("kratos/eu-west-1:..2"), Ok((name(), None, some("2"))));
        assert_eq!(target("kratos/eu-west-1:7"), Ok((name(), some("7"), some("7"))));
        assert!(target("kratos:").unwrap_err().contains("is no range of versions"));
        assert!(target("kratos:1..=2").is_err());
    }
}
