//! Drain reports: this coordinator's word to the leader on every closed gate.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lockkeeper_core::drain::DrainReport;
use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_core::id::TargetName;
use lockkeeper_core::mutation::{Mutation, mutated};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::agents::AgentHub;
use crate::records::{encode, key};
use crate::session::Session;
use crate::store::{Entry, Guard, Outcome, Revision, Store, Txn, Write};
use crate::view::FleetView;

/// How often a report that still names stragglers is looked at again, and so how late a lease that ran out is
/// noticed.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// How often a changed list of stragglers is written: the last report, "drained", is always written at once.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// How long the first report waits for acks: most agents answer within it, which saves a write per closing.
const FIRST_REPORT_PAUSE: Duration = Duration::from_millis(15);

/// Writes reports until cancelled.
#[derive(Debug)]
pub struct Reporter {
    hub: Arc<AgentHub>,
    store: Arc<dyn Store>,
    session: Arc<Session>,
    view: watch::Receiver<FleetView>,
    written: BTreeMap<TargetName, Written>,
    /// The revision of each report as it stands in the store, as far as it is known.
    revisions: BTreeMap<TargetName, Revision>,
}

#[derive(Debug)]
struct Written {
    report: DrainReport,
    at: tokio::time::Instant,
}

impl Reporter {
    /// A reporter that has written nothing yet.
    #[must_use]
    pub fn new(
        hub: Arc<AgentHub>,
        store: Arc<dyn Store>,
        session: Arc<Session>,
        view: watch::Receiver<FleetView>,
    ) -> Self {
        Self {
            hub,
            store,
            session,
            view,
            written: BTreeMap::new(),
            revisions: BTreeMap::new(),
        }
    }

    /// Tells agents of every change of the view, and the leader of every closed gate.
    pub async fn run(mut self, cancel: CancellationToken) {
        loop {
            let waiting = self.round().await;
            let again = async {
                if waiting {
                    tokio::time::sleep(REPORT_INTERVAL).await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                changed = self.view.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let before: usize = self.closed().iter().filter(|(t, e)| !self.is_written(t, *e)).count();
                    self.hub.view_changed();
                    if before > 0 {
                        tokio::time::sleep(FIRST_REPORT_PAUSE).await;
                    }
                }
                () = self.hub.changed.notified() => {}
                () = again => {}
            }
        }
    }

    fn closed(&mut self) -> Vec<(TargetName, GateEpoch)> {
        let view = self.view.borrow_and_update();
        let closed = view.gates.iter().filter(|(_, gate)| !gate.record.is_open());
        closed
            .map(|(target, gate)| (target.clone(), gate.record.epoch))
            .collect()
    }

    fn is_written(&self, target: &TargetName, epoch: GateEpoch) -> bool {
        self.written
            .get(target)
            .is_some_and(|w| w.report.gate_epoch == epoch)
    }

    /// Writes what is due. Gives whether a closed gate is still waited for.
    async fn round(&mut self) -> bool {
        let closed = self.closed();
        self.written
            .retain(|target, _| closed.iter().any(|(t, _)| t == target));
        let mut waiting = false;
        for (target, epoch) in closed {
            if self
                .written
                .get(&target)
                .is_some_and(|w| w.report.gate_epoch == epoch && w.report.stragglers.is_empty())
            {
                continue;
            }
            let report = DrainReport {
                gate_epoch: epoch,
                stragglers: match mutated(Mutation::DrainedUnasked) {
                    true => Vec::new(),
                    false => self.hub.stragglers(&target, epoch),
                },
            };
            waiting |= !report.stragglers.is_empty();
            if self.is_due(&target, &report) {
                waiting |= !self.write(&target, report).await;
            }
        }
        waiting
    }

    /// The first and the last report of a closing are due at once, those between from time to time.
    fn is_due(&self, target: &TargetName, report: &DrainReport) -> bool {
        self.written.get(target).is_none_or(|last| {
            last.report.gate_epoch != report.gate_epoch
                || report.stragglers.is_empty()
                || last.at.elapsed() >= PROGRESS_INTERVAL
        })
    }

    /// Gives whether the report needs no further try.
    async fn write(&mut self, target: &TargetName, report: DrainReport) -> bool {
        let key = key::drain(self.session.id(), target);
        let session = self.session.create_revision();
        // A coordinator whose session is gone has no say any more. An earlier report whose answer was lost may still be
        // applied: over this one, unless each is guarded by what it replaces.
        let mut guards = vec![
            Guard::CreateRevision(key::session(self.session.id()), session),
            Guard::ModRevision(key.clone(), self.revisions.get(target).copied().unwrap_or(0)),
        ];
        if mutated(Mutation::ReportUnguarded) {
            guards.truncate(1);
        }
        let txn = Txn {
            guards,
            writes: vec![Write::Put {
                key,
                value: encode(&report),
                lease: Some(self.session.lease()),
            }],
            lists: Vec::new(),
        };
        match self.store.commit(txn).await {
            Ok(Outcome::Committed { revision, .. }) => {
                self.revisions.insert(target.clone(), revision);
                debug!(%target, gate_epoch = %report.gate_epoch, stragglers = report.stragglers.len(), "reported");
                self.written.insert(
                    target.clone(),
                    Written {
                        report,
                        at: tokio::time::Instant::now(),
                    },
                );
                true
            }
            Ok(Outcome::Conflict { current }) => {
                let stands = |entry: &Option<Entry>| entry.as_ref().map_or(0, |e| e.mod_revision);
                let is_session =
                    |entry: &Option<Entry>| entry.as_ref().map(|e| e.create_revision) == Some(session);
                if !current.first().is_some_and(is_session) {
                    warn!(%target, "session is gone: report refused");
                    return true;
                }
                self.revisions
                    .insert(target.clone(), current.get(1).map_or(0, stands));
                false
            }
            Err(error) => {
                warn!(%error, %target, "cannot write the drain report, trying again");
                false
            }
        }
    }
}
