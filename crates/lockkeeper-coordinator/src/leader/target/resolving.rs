//! Settling a statement in doubt on a held target, as a person says: through the leader's own hand, since nobody else
//! may touch a target whose gate is closed.

use lockkeeper_core::rollout::{Event, StatementOutcome};
use lockkeeper_migrate::db::{Resolution, Ruling};
use tracing::{info, warn};

use super::{Step, TargetDriver, Trouble, needs_person};
use crate::records::ResolveOrder;

impl TargetDriver {
    /// Carries the order out. True when the target's record has moved on: it goes on, or says why the answer was of
    /// no use.
    pub(super) async fn resolve(&mut self, order: &ResolveOrder) -> bool {
        let why = match self.settle(order).await {
            Ok(()) => return self.go_on().await,
            Err(Trouble::Stop(_)) => return false,
            Err(Trouble::Event(event @ Event::GateFoundOpen(_))) => return self.advance(event).await.is_ok(),
            Err(Trouble::Event(Event::NeedsPerson(why))) => return self.answer_refused(order, &why).await,
            Err(Trouble::Event(event)) => format!("{event:?}"),
            Err(Trouble::Lost(why)) => {
                self.hand = None;
                why
            }
        };
        warn!(target = %self.name(), why, "cannot settle the statement in doubt, trying again");
        let wait = ("database".to_owned(), self.name().to_string(), why);
        self.leader.waits.set(self.name(), vec![wait]);
        false
    }

    async fn settle(&mut self, order: &ResolveOrder) -> Step<()> {
        self.load_and_stand().await?;
        let doubts = self.hand()?.doubts().await.map_err(needs_person)?;
        let set = &self.migrations()?.set;
        let Some(doubt) = doubts
            .iter()
            .find(|doubt| set.same(&doubt.version, &order.version))
        else {
            let versions: Vec<&str> = doubts.iter().map(|doubt| doubt.version.as_str()).collect();
            let hint = match versions.as_slice() {
                [] => "nothing is in doubt at all: retry the rollout".to_owned(),
                versions => format!("in doubt is version {}", versions.join(", ")),
            };
            let version = &order.version;
            let why = format!("resolve version {version}: nothing is in doubt there; {hint}");
            return Err(Trouble::Event(Event::NeedsPerson(why)));
        };
        let resolution = Resolution {
            ruling: match order.outcome {
                StatementOutcome::Done => Ruling::Done,
                StatementOutcome::NotDone => Ruling::NotDone,
            },
            by: order.decision.by.clone(),
            reason: Some(order.decision.reason.clone()),
        };
        let settled = self.hand()?.resolve(doubt, &resolution).await;
        settled.map_err(needs_person)?;
        info!(target = %self.name(), version = %order.version, outcome = %order.outcome, "statement in doubt settled");
        Ok(())
    }

    /// A person has dealt with what the target was held for: it goes on as after a retry, with a budget of its own.
    async fn go_on(&mut self) -> bool {
        self.progress.record.retried_at = Some(self.leader.wall());
        self.advance(Event::RetryRequested).await.is_ok()
    }

    /// The target stays held; its reason says why the answer was of no use.
    async fn answer_refused(&mut self, order: &ResolveOrder, why: &str) -> bool {
        warn!(target = %self.name(), version = %order.version, why, "answer about a statement in doubt refused");
        let mut record = self.progress.record.clone();
        record.target.reason = why.to_owned();
        record.resolve = None;
        self.write(record, Vec::new()).await.is_ok()
    }
}
