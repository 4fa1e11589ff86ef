//! What was looked at and what was found.

use serde::Serialize;

use crate::db::{Finding, FindingLevel};

/// What a doctor says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// The database, without login; empty when the DSN has no usable form.
    pub target: String,
    /// `postgres`, `mysql`, `sqlite`.
    pub dialect: Option<String>,
    /// Product and release, when the server let us in.
    pub server: Option<String>,
    /// The steps, in their order.
    pub checks: Vec<Check>,
    /// The worst first.
    pub findings: Vec<Finding>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// `dsn`, `dns`, `tcp`, `socket`, `file`, `login`, `fence`, `health`.
    pub name: &'static str,
    /// What it came to.
    pub outcome: Outcome,
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Nothing was wrong.
    Ok,
    /// There are findings, and none of them is an error.
    Findings,
    /// There are errors.
    Failed,
    /// An earlier step failed.
    Skipped,
}

impl Diagnosis {
    /// Whether anything is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.level == FindingLevel::Error)
    }

    pub(super) fn add(&mut self, name: &'static str, findings: Vec<Finding>) -> Outcome {
        let worst = findings.iter().map(|finding| finding.level).max();
        let outcome = match worst {
            Some(FindingLevel::Error) => Outcome::Failed,
            Some(FindingLevel::Warning | FindingLevel::Info) => Outcome::Findings,
            None => Outcome::Ok,
        };
        self.checks.push(Check { name, outcome });
        for finding in findings {
            if !self.findings.contains(&finding) {
                self.findings.push(finding);
            }
        }
        outcome
    }

    pub(super) fn skip(&mut self, names: &[&'static str]) {
        let skipped = names.iter().map(|name| Check {
            name,
            outcome: Outcome::Skipped,
        });
        self.checks.extend(skipped);
    }
}
