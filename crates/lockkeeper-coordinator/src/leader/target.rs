//! One target of a rollout: carries out the state machine's commands and feeds back what happened.
//!
//! Every state is committed before its command is carried out, and every command can be carried out again, by this
//! leader or by the next. The hand on the database is kept from command to command; a command that finds none
//! takes the target first, which ends whatever an earlier leader still runs there.
//!
//! | module | what it holds |
//! |---|---|
//! | `preflight` | looking |
//! | `standing` | what must stand before a command's own work, in the order that core says |
//! | `external` | what is different where another migrator's commands change the schema |
//! | `fencing` | taking, closing, draining, raising the barrier |
//! | `migrating` | applying and reverting |
//! | `opening` | verifying and opening |
//! | `resolving` | what a person says about a statement in doubt |

mod external;
mod fencing;
mod migrating;
mod opening;
mod preflight;
mod resolving;
mod standing;

use std::sync::Arc;
use std::time::Duration;

use lockkeeper_core::drain::DrainWatch;
use lockkeeper_core::gate::Verification;
use lockkeeper_core::id::{RolloutId, TargetName};
use lockkeeper_core::mutation::{Mutation, mutated};
use lockkeeper_core::rollout::{Command, Event, Goal, Ground, HeldAt, State, step};
use lockkeeper_core::spec::{RolloutSpec, TargetSpec};
use lockkeeper_core::time::WallTime;
use lockkeeper_core::version::SchemaVersion;
use lockkeeper_migrate::db::{Database, DbError, ExecutorId, Hand, Living, Release};
use tracing::{Instrument, debug, error, info, info_span, warn};

use crate::leader::access::{External, Migrations};
use crate::leader::fence;
use crate::leader::run::Leader;
use crate::leader::waits::TargetObserver;
use crate::leader::writer::{RecordChange, WriteError};
use crate::records::{Decision, ProgressRecord, Stored, key};
use crate::store::Listing;

/// Longest wait for a target's row and for an older executor's end.
const TAKE_PATIENCE: Duration = Duration::from_secs(20);

/// Pause before a lost database is tried again, and how long it is tried at least, whatever the budget says.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);
const RECONNECT_MIN: Duration = Duration::from_secs(30);

/// How often the database may be lost before a person looks. A step that loses it every time (a statement that the
/// server kills the session for) would otherwise be repeated for ever, with progress between the losses.
const LOSSES_MAX: u32 = 5;

/// How long cleaning up after an opening is tried in one go; what is left is inert.
const CLEAN_UP_PATIENCE: Duration = Duration::from_secs(20);

/// How often a held target whose fence could not be raised again is tried.
const HOLD_AGAIN: Duration = Duration::from_secs(5);

/// One target of a rollout under one leader.
#[derive(Debug)]
pub struct TargetDriver {
    leader: Arc<Leader>,
    rollout: RolloutId,
    spec: RolloutSpec,
    target: TargetSpec,
    progress: Stored<ProgressRecord>,
    observer: TargetObserver,
    database: Option<Box<dyn Database>>,
    migrations: Option<Migrations>,
    /// Instead of `migrations`, where the target names another migrator.
    external: Option<External>,
    hand: Option<Box<dyn Hand>>,
    /// How far the fence stands under this hand.
    ground: Ground,
    lost_since: Option<tokio::time::Instant>,
    losses: u32,
    /// The version in the ledger of a target whose gate row was found open.
    released_at: Option<SchemaVersion>,
    /// What is known of the sessions that the closing listed. Kept from one drain to the next: what is over stays over,
    /// and a session that vanished is not waited for anew each time that the fence has to be raised again.
    drains: Option<DrainWatch>,
}

/// What a failed step means for the rollout.
enum Trouble {
    /// The state machine decides.
    Event(Event),
    /// The database is out of reach: take the target again and repeat the command.
    Lost(String),
    /// This leader is none any more, or the store is out of reach: stop where we are.
    Stop(WriteError),
}

impl From<WriteError> for Trouble {
    fn from(error: WriteError) -> Self {
        Self::Stop(error)
    }
}

type Step<T> = Result<T, Trouble>;

/// How driving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Driven {
    /// The target rests.
    Resting,
    /// This leader is none any more.
    Stopped,
}

impl TargetDriver {
    /// A driver that goes on from what the store says.
    #[must_use]
    pub fn new(
        leader: Arc<Leader>,
        rollout: RolloutId,
        spec: RolloutSpec,
        target: TargetSpec,
        progress: Stored<ProgressRecord>,
    ) -> Self {
        let observer = TargetObserver::new(target.name.clone(), leader.waits.clone());
        Self {
            leader,
            rollout,
            spec,
            target,
            progress,
            observer,
            database: None,
            migrations: None,
            external: None,
            hand: None,
            ground: Ground::default(),
            lost_since: None,
            losses: 0,
            released_at: None,
            drains: None,
        }
    }

    /// Drives until the target rests or leadership is lost. Gives the last revision that it wrote or saw.
    pub async fn run(mut self) -> u64 {
        loop {
            if self.drive().await == Driven::Stopped {
                break;
            }
            if self.progress.record.target.state != State::Held(HeldAt::Fenced) {
                self.leave_database().await;
                break;
            }
            let Some(decided) = self.hold().await else { break };
            self.progress = decided;
            // A person may have mended the files, or the target's declaration.
            self.migrations = None;
            self.external = None;
            self.database = None;
            self.lost_since = None;
            self.losses = 0;
        }
        self.leader.waits.clear(&self.target.name);
        self.progress.mod_revision
    }

    /// Carries out command after command until the target rests.
    async fn drive(&mut self) -> Driven {
        while let Some(command) = self.progress.record.target.command() {
            let span = info_span!("step", target = %self.target.name, command = ?command);
            let outcome = self.execute_or_stop(command).instrument(span).await;
            let event = match outcome {
                Ok(event) | Err(Trouble::Event(event)) => event,
                Err(Trouble::Lost(why)) => match self.reconnect(why).await {
                    Some(event) => event,
                    None => continue,
                },
                Err(Trouble::Stop(why)) => return self.stopped(&why),
            };
            if !matches!(event, Event::NeedsPerson(_)) {
                self.lost_since = None;
            }
            if let Err(why) = self.advance(event).await {
                return self.stopped(&why);
            }
        }
        Driven::Resting
    }

    fn stopped(&self, why: &WriteError) -> Driven {
        warn!(target = %self.name(), %why, "stopped: the next leader goes on");
        Driven::Stopped
    }

    /// Keeps the fence of a held target up until a person has decided: where the fence is a session (SQLite), it
    /// would fall with it. Gives the record after the decision.
    async fn hold(&mut self) -> Option<Stored<ProgressRecord>> {
        self.leader.waits.clear(self.name());
        loop {
            if let Some(order) = self.progress.record.force_open.clone() {
                match self.force_open(&order).await {
                    Ok(event) => {
                        if self.advance(event).await.is_ok() {
                            return Some(self.progress.clone());
                        }
                    }
                    Err(Trouble::Stop(_)) => {}
                    Err(Trouble::Event(event)) => self.cannot_force_open(&format!("{event:?}")),
                    Err(Trouble::Lost(why)) => self.cannot_force_open(&why),
                }
                tokio::time::sleep(HOLD_AGAIN.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
                continue;
            }
            if let Some(order) = self.progress.record.resolve.clone() {
                if self.resolve(&order).await {
                    return Some(self.progress.clone());
                }
                tokio::time::sleep(HOLD_AGAIN.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
                continue;
            }
            if !self.stands() {
                match self.load_and_stand().await {
                    Err(Trouble::Event(event @ Event::GateFoundOpen(_))) => {
                        if self.advance(event).await.is_ok() {
                            return Some(self.progress.clone());
                        }
                    }
                    Err(Trouble::Event(event)) => {
                        debug!(target = %self.name(), ?event, "the held target's fence cannot be raised again");
                    }
                    Err(Trouble::Lost(why)) => {
                        debug!(target = %self.name(), why, "the held target's database is lost");
                        self.hand = None;
                    }
                    Ok(()) | Err(Trouble::Stop(_)) => {}
                }
            }
            let decided = self
                .leader
                .decided(&self.rollout, self.name(), self.progress.mod_revision);
            match tokio::time::timeout(HOLD_AGAIN, decided).await {
                Ok(decided) => return decided,
                Err(_) => continue,
            }
        }
    }

    /// Opens the target's row as a person with nothing but the database would: should this leader be lost on the way,
    /// the next one finds in the row who did it and why. On SQLite the fence is gone with the session, and there is no
    /// closed row to open.
    async fn force_open(&mut self, order: &Decision) -> Step<Event> {
        self.load().await?;
        self.drop_hand().await;
        let release = Release {
            reason: format!("force-open: {}", order.reason),
            who: order.by.clone(),
            living: Living::End,
        };
        let lost = |error: &dyn std::fmt::Display| Trouble::Lost(error.to_string());
        let database = self.leader.world.targets.break_glass(&self.target).await;
        let database = database.map_err(|e| lost(&e))?;
        database.release_fence(&release).await.map_err(|e| lost(&e))?;
        warn!(target = %self.name(), by = order.by, reason = order.reason, "gate opened by force");
        self.take().await?;
        self.released_at = self.version_in_ledger().await?;
        let (reason, by) = (&order.reason, &order.by);
        Ok(Event::GateFoundOpen(format!("opened by force: {reason} ({by})")))
    }

    fn cannot_force_open(&self, why: &str) {
        warn!(target = %self.name(), why, "cannot open the held target's gate by force, trying again");
        let wait = ("database".to_owned(), self.name().to_string(), why.to_owned());
        self.leader.waits.set(self.name(), vec![wait]);
    }

    async fn load_and_stand(&mut self) -> Step<()> {
        self.load().await?;
        self.stand().await
    }

    /// The database was lost: the same command again, with a new session, until the budget is used up. What the
    /// lost session was doing is settled by taking the target and by the ledger.
    async fn reconnect(&mut self, why: String) -> Option<Event> {
        self.hand = None;
        if self.progress.record.target.state == State::Preflight {
            return Some(Event::PreflightRefused(why));
        }
        if self.lost_since.is_none() {
            self.losses += 1;
        }
        let since = *self.lost_since.get_or_insert_with(tokio::time::Instant::now);
        if self.losses > LOSSES_MAX || since.elapsed() >= self.budget_left().max(RECONNECT_MIN) {
            return Some(Event::NeedsPerson(why));
        }
        warn!(target = %self.name(), why, "lost the database, trying again");
        self.leader.waits.set(
            self.name(),
            vec![("database".to_owned(), self.name().to_string(), why)],
        );
        tokio::time::sleep(RECONNECT_PAUSE.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        None
    }

    fn name(&self) -> &TargetName {
        &self.target.name
    }

    /// Carries a command out, unless an operator wants the rollout to stop, or to rest, first. What is cut off leaves no hand:
    /// the next command takes the target again, and so ends what was running.
    async fn execute_or_stop(&mut self, command: Command) -> Step<Event> {
        let stoppable = matches!(
            command,
            Command::Preflight | Command::Fence | Command::Migrate | Command::Verify(Goal::New)
        );
        if !stoppable {
            return self.execute(command).await;
        }
        let (leader, rollout) = (Arc::clone(&self.leader), self.rollout.clone());
        let event = tokio::select! {
            outcome = self.execute(command) => return outcome,
            abort = leader.abort_requested(&rollout) => abort,
            // Later ones are no safe points: the gate closes.
            pause = leader.pause_requested(&rollout), if command == Command::Preflight => pause,
        };
        if !mutated(Mutation::HandKeptOnAbort) {
            self.drop_hand().await;
        }
        Ok(event)
    }

    async fn execute(&mut self, command: Command) -> Step<Event> {
        self.load().await?;
        match command {
            Command::Preflight => self.preflight().await,
            Command::Fence => self.fence().await,
            Command::Migrate => self.migrate().await,
            Command::Verify(goal) => self.verify(goal).await,
            Command::Open(_) => self.open().await,
            Command::RollBack => self.roll_back().await,
        }
    }

    /// Commits the state after `event`, and with a final state the end of the target's part in the rollout.
    async fn advance(&mut self, event: Event) -> Result<(), WriteError> {
        let before = &self.progress.record.target;
        let after = match step(before, event) {
            Ok(after) => after,
            Err(rejected) => {
                error!(target = %self.target.name, %rejected, "a bug: the state machine does not know this");
                step(before, Event::NeedsPerson(rejected.to_string())).unwrap_or_else(|_| before.clone())
            }
        };
        info!(target = %self.name(), from = ?before.state, to = ?after.state, reason = after.reason, "state");
        let mut changes = Vec::new();
        if after.state == State::Held(HeldAt::ReleasedByHand) {
            changes.extend(self.gate_released(&after.reason));
        }
        if after.state.is_final() || after.state == State::Baking {
            changes.extend(self.gate_opening(before.state));
        }
        if after.state.is_final() {
            changes.extend(self.leader.active_end(&self.target.name, &self.rollout));
        }
        let mut record = self.progress.record.clone();
        record.target = after;
        record.since = self.leader.wall();
        record.force_open = None;
        record.resolve = None;
        self.write(record, changes).await?;
        self.ground.settled();
        Ok(())
    }

    async fn write(&mut self, record: ProgressRecord, changes: Vec<RecordChange>) -> Result<(), WriteError> {
        self.write_and_list(record, changes, &[]).await.map(drop)
    }

    async fn write_and_list(
        &mut self,
        record: ProgressRecord,
        mut changes: Vec<RecordChange>,
        lists: &[&str],
    ) -> Result<Vec<Listing>, WriteError> {
        changes.push(RecordChange::update(
            key::progress(&self.rollout, &self.target.name),
            &self.progress,
            &record,
        ));
        let written = self.leader.writer.commit(changes, lists).await?;
        self.progress.record = record;
        self.progress.mod_revision = written.revision;
        // What is decided next is decided on a picture that holds this commit.
        self.leader.view_at(written.revision).await;
        Ok(written.lists)
    }

    /// The store's gate opens in the same commit as the target's final state: agents hear of it by that.
    fn gate_opening(&self, before: State) -> Option<RecordChange> {
        let State::Opening(goal) = before else { return None };
        let checked = match goal {
            Goal::New => "ledger equals plan; verify scripts and row invariants passed",
            Goal::Unchanged => "ledger is as it was before; no migration was run",
            Goal::Restored => "ledger is as it was before, after reverting; row invariants passed",
        };
        self.gate_open_at(self.version_of(goal), checked.to_owned())
    }

    /// A person has opened the target's own row. The store's gate follows, or agents would stay fenced behind a gate
    /// that no rollout closes and none can open.
    fn gate_released(&self, reason: &str) -> Option<RecordChange> {
        self.gate_open_at(self.released_at.clone(), format!("not verified: {reason}"))
    }

    fn gate_open_at(&self, version: Option<SchemaVersion>, checked: String) -> Option<RecordChange> {
        let gate = self.leader.gate(self.name())?;
        if !fence::is_closed_by(
            &gate.record,
            &self.rollout,
            self.progress.record.target.gate_epoch,
        ) {
            return None;
        }
        let order = self
            .migrations
            .as_ref()
            .map_or(gate.record.order, |m| m.set.order);
        let verified = Verification {
            version,
            checked,
            at: self.leader.wall(),
        };
        let open = gate.record.open(order, self.leader.writer.epoch(), verified);
        Some(RecordChange::gate(key::gate(self.name()), &gate, &open))
    }

    fn elapsed_since(&self, time: WallTime) -> Duration {
        let elapsed = self.leader.wall().0.saturating_sub(time.0);
        Duration::from_millis(u64::try_from(elapsed).unwrap_or(0))
    }

    fn version_of(&self, goal: Goal) -> Option<SchemaVersion> {
        let target = &self.progress.record.target;
        match goal {
            Goal::New => target.to.clone(),
            Goal::Unchanged | Goal::Restored => target.from.clone(),
        }
    }

    /// Database and migrations, read once per driver.
    async fn load(&mut self) -> Step<()> {
        if self.database.is_none() {
            let database = self
                .leader
                .world
                .targets
                .database(&self.target)
                .await
                .map_err(|e| self.unreachable(&e.to_string()))?;
            self.database = Some(database);
        }
        if self.is_external() {
            return self.load_external().await;
        }
        if self.migrations.is_none() {
            let migrations = self
                .leader
                .world
                .targets
                .migrations(&self.target, self.database()?)
                .await;
            self.migrations = Some(migrations.map_err(|e| self.unreachable(&e.to_string()))?);
        }
        Ok(())
    }

    async fn load_external(&mut self) -> Step<()> {
        if self.external.is_none() {
            let targets = &self.leader.world.targets;
            let external = targets.external(&self.target, self.database()?).await;
            self.external = Some(external.map_err(|e| self.unreachable(&e.to_string()))?);
        }
        Ok(())
    }

    fn is_external(&self) -> bool {
        self.target.migrations.external().is_some()
    }

    fn database(&self) -> Step<&dyn Database> {
        self.database
            .as_deref()
            .ok_or_else(|| Trouble::Event(Event::NeedsPerson("no database".to_owned())))
    }

    fn migrations(&self) -> Step<&Migrations> {
        self.migrations
            .as_ref()
            .ok_or_else(|| Trouble::Event(Event::NeedsPerson("no migrations".to_owned())))
    }

    /// What it means that the target or its files cannot be had, in the state that we are in.
    fn unreachable(&self, why: &str) -> Trouble {
        Trouble::Event(match self.progress.record.target.state {
            State::Preflight => Event::PreflightRefused(why.to_owned()),
            _ => Event::NeedsPerson(why.to_owned()),
        })
    }

    /// Closes the session, and waits until the server has confirmed that it is gone.
    async fn drop_hand(&mut self) {
        let Some(hand) = self.hand.take() else { return };
        let executor: ExecutorId = hand.executor().clone();
        drop(hand);
        if let Ok(database) = self.database()
            && let Err(error) = database.end_executor(&executor, TAKE_PATIENCE).await
        {
            warn!(target = %self.name(), %error, "cannot confirm that the session has ended; taking the target will");
        }
    }

    /// After the opening: drops what is left of the barrier, and closes the session in good order.
    async fn leave_database(&mut self) {
        let Some(mut hand) = self.hand.take() else { return };
        if matches!(self.progress.record.target.state, State::Baking)
            || self.progress.record.target.state.is_final()
        {
            match tokio::time::timeout(CLEAN_UP_PATIENCE, hand.clean_up(&self.observer)).await {
                Ok(Ok(0)) => {}
                Ok(Ok(left)) => {
                    info!(target = %self.name(), left, "inert triggers are left for a later clean-up")
                }
                Ok(Err(error)) => warn!(target = %self.name(), %error, "cannot clean up after the fence"),
                Err(_) => info!(target = %self.name(), "clean-up takes long: left for later"),
            }
        }
        if let Err(error) = hand.release().await {
            warn!(target = %self.name(), %error, "cannot release the session");
        }
    }
}

fn needs_person(error: DbError) -> Trouble {
    match error {
        DbError::ConnectionLost(_) | DbError::Unreachable { .. } => Trouble::Lost(error.to_string()),
        DbError::Superseded { .. } => Trouble::Stop(WriteError::NotLeader),
        other => Trouble::Event(Event::NeedsPerson(other.to_string())),
    }
}

#[cfg(test)]
mod tests;
