//! What must hold while a wave bakes.

use serde::{Deserialize, Serialize};

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum HealthCheck {
    /// Holds when the query's last answer begins with something that is not false, 0 or NULL, on each target of the wave.
    Sql {
        /// For messages.
        name: String,
        /// The query. It may change nothing.
        query: String,
    },
    /// Holds when the address answers with the status.
    Http {
        /// For messages.
        name: String,
        /// `http://…`.
        url: String,
        /// The status.
        #[serde(default = "ok")]
        status: u16,
    },
    /// Holds when the query answers at least one sample, or a scalar other than 0.
    Prometheus {
        /// For messages.
        name: String,
        /// Where Prometheus answers: `http://…`, without `/api`.
        url: String,
        /// The query; compare in it: `sum(rate(errors[5m])) < 1`.
        query: String,
    },
    /// Holds when the command ends with exit code 0.
    Command {
        /// For messages.
        name: String,
        /// The command, which the leader runs with `sh -c`.
        run: String,
    },
}

fn ok() -> u16 {
    200
}

impl HealthCheck {
    /// For messages.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Sql { name, .. }
            | Self::Http { name, .. }
            | Self::Prometheus { name, .. }
            | Self::Command { name, .. } => name,
        }
    }
}
