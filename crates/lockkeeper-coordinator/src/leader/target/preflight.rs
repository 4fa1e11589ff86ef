//! Looking at a target before anything happens to it.

use lockkeeper_core::rollout::Event;
use lockkeeper_migrate::db::{FindingLevel, NO_EPOCH_TABLE};
use lockkeeper_migrate::{engine, plan};

use super::{Step, TargetDriver};
use crate::leader::recall::Recall;

impl TargetDriver {
    pub(super) async fn preflight(&mut self) -> Step<Event> {
        self.leader
            .waits
            .next(self.name(), "look at the target, then close its gate", None);
        if self.target.strength < self.spec.require_strength {
            let (has, needs) = (self.target.strength, self.spec.require_strength);
            return Ok(Event::PreflightRefused(format!(
                "the target's strength is {has}; the rollout requires {needs}"
            )));
        }
        let database = self.database()?;
        let inspection = database
            .inspect()
            .await
            .map_err(|e| self.unreachable(&e.to_string()))?;
        if let Recall::Ahead(seen) = self.leader.recall(self.name(), inspection.gate_row.as_ref()) {
            return Ok(Event::NeedsPerson(format!("the target has seen {seen}")));
        }
        let findings = database
            .preflight()
            .await
            .map_err(|e| self.unreachable(&e.to_string()))?;
        let errors: Vec<String> = findings
            .iter()
            .filter(|f| f.level == FindingLevel::Error)
            .map(|f| format!("{} ({}); {}", f.message, f.code, f.remedy))
            .collect();
        if !errors.is_empty() {
            return Ok(Event::PreflightRefused(errors.join("; ")));
        }
        if self.spec.require_strength.has_epoch()
            && let Some(missing) = findings.iter().find(|f| f.code == NO_EPOCH_TABLE)
        {
            return Ok(Event::PreflightRefused(format!(
                "{}; {}",
                missing.message, missing.remedy
            )));
        }
        if !self.is_external()
            && let Err(other) = engine::refuse_other_ledgers(&inspection)
        {
            return Ok(Event::PreflightRefused(other.to_string()));
        }
        if self.is_external() {
            return self.plan_external().await;
        }
        let goal = match self.spec.to.as_str() {
            "latest" => plan::Goal::Latest,
            version => plan::Goal::To(version.into()),
        };
        let planned = plan::plan(&self.migrations()?.set, &inspection.ledger, &goal);
        Ok(match planned {
            Ok(plan) => Event::PreflightPassed {
                from: plan.from,
                to: plan.to,
                pending: plan.steps.len(),
            },
            Err(error) => Event::PreflightRefused(error.to_string()),
        })
    }
}
