//! The target's own gate row, for an agent that has no coordinator.
//!
//! Every opening and closing is written into the target. So an agent that can reach its database can learn there what
//! no coordinator tells: that the gate is open, at which epoch and version; or that it has been closed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_core::permits::{Cause, Fence};
use lockkeeper_core::version::{Fit, SchemaVersion, VersionOrder, VersionRange};

use crate::builder::Config;
use crate::shared::{LinkState, Shared};
use crate::target::Target;

/// Mean pause between two looks while no coordinator answers. Every look is one short query.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Longest time for one look.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// The gate row, as far as a writer needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateRow {
    /// The newest fence.
    pub gate_epoch: GateEpoch,
    /// The newest fence that was opened; the gate is closed while this is below `gate_epoch`.
    pub opened: GateEpoch,
    /// The schema version at the last opening.
    pub version: Option<SchemaVersion>,
    /// What a write transaction of the open gate carries.
    pub carried: Carried,
}

impl GateRow {
    /// Whether the gate is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.opened >= self.gate_epoch
    }
}

/// How a write transaction carries the gate epoch that it was admitted under.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Carried {
    /// It carries none: the target's strength is not EPOCH.
    Nothing,
    /// It reads this table, a qualified and quoted name, which is gone when the epoch is over.
    Table(String),
    /// It compares this epoch with the row's under the database's only write lock (SQLite).
    Row(GateEpoch),
}

/// One look at a row.
pub(crate) type Reading = Pin<Box<dyn Future<Output = Result<Option<GateRow>, String>> + Send>>;

/// Reads one target's gate row.
#[derive(Clone)]
pub(crate) struct RowReader {
    /// The target.
    pub(crate) target: String,
    /// How its layout orders versions.
    pub(crate) order: VersionOrder,
    /// One look; `None`: lockkeeper has never been there.
    pub(crate) read: Arc<dyn Fn() -> Reading + Send + Sync>,
}

/// A reader, its target and what fits.
pub(crate) struct Watched {
    pub(crate) target: Arc<Target>,
    pub(crate) versions: VersionRange,
    pub(crate) reader: RowReader,
}

impl Watched {
    /// The targets that the agent was given a way to.
    pub(crate) fn all(shared: &Shared, config: &Config) -> Vec<Self> {
        let watched = |reader: &RowReader| {
            let of_config = config.targets.iter().find(|t| t.name.as_str() == reader.target)?;
            Some(Self {
                target: Arc::clone(shared.target(&reader.target)?),
                versions: of_config.versions.clone(),
                reader: reader.clone(),
            })
        };
        config.gate_rows.iter().filter_map(watched).collect()
    }
}

/// Looks at the rows for as long as no coordinator answers, for ever.
pub(crate) async fn watch(shared: &Shared, watched: &[Watched]) {
    if watched.is_empty() {
        return std::future::pending().await;
    }
    let mut link = shared.link.subscribe();
    loop {
        // The sending half lives in `shared`, so this cannot fail.
        let _ = link.wait_for(is_lost).await;
        // A moment first: another coordinator may answer. And jitter, since a whole fleet looks.
        tokio::time::sleep(LOOK_EVERY.mul_f64(0.5 + fastrand::f64())).await;
        for one in watched {
            if is_lost(&link.borrow_and_update()) {
                look(shared, one).await;
            }
        }
    }
}

fn is_lost(state: &LinkState) -> bool {
    matches!(state, LinkState::Connecting { last_error: Some(_) })
}

async fn look(shared: &Shared, watched: &Watched) {
    let target_name = &watched.target.name;
    match tokio::time::timeout(LOOK_LIMIT, (watched.reader.read)()).await {
        Ok(Ok(Some(row))) => hear(shared, watched, &row),
        Ok(Ok(None)) => tracing::debug!(%target_name, "there is no gate row: no rollout has been here"),
        Ok(Err(error)) => tracing::warn!(%target_name, %error, "cannot read the gate row"),
        Err(_) => tracing::warn!(%target_name, "the gate row was not read in time"),
    }
}

/// What the row says counts as a coordinator's word would: the highest gate epoch decides.
fn hear(shared: &Shared, watched: &Watched, row: &GateRow) {
    let was_open = watched.target.permits().view(shared.now()).is_open();
    let fence = |cause, reason: String| Fence {
        gate_epoch: row.gate_epoch,
        cause,
        reason,
        rollout: None,
    };
    let fit = watched.versions.fit(watched.reader.order, row.version.as_ref());
    let said = match (row.is_open(), fit, &row.version) {
        (true, Fit::Fits, Some(version)) => Ok(version.clone()),
        (false, _, _) => Err(fence(
            Cause::GateClosed,
            "the target's own gate row is closed".to_owned(),
        )),
        (true, misfit, version) => Err(fence(cause_of(misfit), misfit_text(version.as_ref()))),
    };
    let target_name = &watched.target.name;
    match said {
        Ok(version) => {
            if !was_open {
                tracing::info!(%target_name, gate_epoch = %row.opened, "no coordinator answers: open by the target's own gate row");
            }
            watched
                .target
                .update(shared.now(), |permits| permits.opened(row.opened, version));
        }
        Err(fence) => {
            if was_open {
                tracing::warn!(%target_name, %fence, "fenced by the target's own gate row");
            }
            watched
                .target
                .update(shared.now(), |permits| permits.fenced(fence));
        }
    }
}

fn cause_of(misfit: Fit) -> Cause {
    match misfit {
        Fit::SchemaTooOld => Cause::SchemaTooOld,
        Fit::SchemaTooNew => Cause::SchemaTooNew,
        Fit::Fits | Fit::Unknown => Cause::UnknownVersion,
    }
}

fn misfit_text(version: Option<&SchemaVersion>) -> String {
    match version {
        Some(version) => format!("the target's own gate row is open at version {version}"),
        None => "the target's own gate row is open at no known version".to_owned(),
    }
}
