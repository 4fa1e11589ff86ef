//! What must stand before a command's own work: carries out the acts of [`next_act`], which knows their order.

use lockkeeper_core::rollout::{Act, Event, State, StoreGate, next_act};

use super::{Step, TargetDriver, Trouble};
use crate::leader::fence;

impl TargetDriver {
    /// Whether the fence stands under this driver's hand.
    pub(super) fn stands(&self) -> bool {
        self.hand.is_some() && self.ground.is_fenced()
    }

    /// Makes sure that what this state needs stands under this driver's hand. What decides the state comes as an event.
    pub(super) async fn stand(&mut self) -> Step<()> {
        match self.prepare().await? {
            None => Ok(()),
            Some(event) => Err(Trouble::Event(event)),
        }
    }

    /// The same for a state whose work this is: gives the event, if there is one.
    pub(super) async fn prepare(&mut self) -> Step<Option<Event>> {
        loop {
            let act = self.next_act();
            let done = match act {
                Act::Take => self.take().await,
                Act::CloseStoreGate => self.close_store_gate().await,
                Act::CloseRow(epoch) => self.close_row(epoch).await,
                Act::Raise => self.raise().await,
                Act::OpenRow(epoch) => self.open_row(epoch).await,
                Act::Work => return Ok(None),
                Act::Conclude(ref event) => return self.concluded(event.clone()).await.map(Some),
            };
            done.map_err(|trouble| self.before_any_statement(&act, trouble))?;
        }
    }

    fn next_act(&self) -> Act {
        let row = self.hand.as_ref().map(|hand| hand.gate_row());
        next_act(&self.progress.record.target, self.ground, row, self.store_gate())
    }

    fn store_gate(&self) -> StoreGate {
        let Some(gate) = self.leader.gate(self.name()) else {
            return StoreGate::Missing;
        };
        let epoch = self.progress.record.target.gate_epoch;
        if fence::is_closed_by(&gate.record, &self.rollout, epoch) {
            StoreGate::Ours
        } else if gate.record.is_open() {
            StoreGate::Open
        } else {
            StoreGate::Anothers
        }
    }

    /// For a row that a person has opened: the version that agents are told then.
    async fn concluded(&mut self, event: Event) -> Step<Event> {
        if matches!(event, Event::GateFoundOpen(_)) {
            self.released_at = self.version_in_ledger().await?;
        }
        Ok(event)
    }

    /// While nothing has run, writers get their gate back rather than a hold, if the target allows it.
    fn before_any_statement(&self, act: &Act, trouble: Trouble) -> Trouble {
        match (self.progress.record.target.state, act, trouble) {
            (State::Fencing, Act::CloseRow(_) | Act::Raise, Trouble::Event(Event::NeedsPerson(reason))) => {
                Trouble::Event(Event::FenceFailed(reason))
            }
            (_, _, trouble) => trouble,
        }
    }
}
