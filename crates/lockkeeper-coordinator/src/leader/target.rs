//! One target of a rollout: carries out the state machine's commands and feeds back what happened.
//!
//! Every state is committed before its command is carried out, and every command can be carried out again, by this
//! leader or by the next. The hand on the database is kept from command to command; a command that finds none
//! takes the target first, which ends whatever an earlier leader still runs there.

use std::sync::Arc;
use std::time::Duration;

use lockkeeper_core::drain::Pending;
use lockkeeper_core::epoch::GateEpoch;
use lockkeeper_core::gate::Verification;
use lockkeeper_core::id::{RolloutId, SessionId, TargetName};
use lockkeeper_core::rollout::{Command, Damage, Event, Goal, HeldAt, State, step};
use lockkeeper_core::spec::{RolloutSpec, TargetSpec};
use lockkeeper_core::strength::Strength;
use lockkeeper_core::time::WallTime;
use lockkeeper_core::version::SchemaVersion;
use lockkeeper_migrate::db::{Claim, Database, DbError, ExecutorId, FindingLevel, Hand, TakeError};
use lockkeeper_migrate::engine::{self, EngineError};
use lockkeeper_migrate::plan;
use tracing::{Instrument, debug, error, info, info_span, warn};

use crate::clock::wall_now;
use crate::leader::access::{self, Migrations};
use crate::leader::fence;
use crate::leader::run::Leader;
use crate::leader::waits::TargetObserver;
use crate::leader::writer::{RecordChange, WriteError};
use crate::records::{InvariantRecord, ProgressRecord, Stored, key};
use crate::store::Listing;

/// Longest wait for a target's row and for an older executor's end.
const TAKE_PATIENCE: Duration = Duration::from_secs(20);

/// Pause before a lost database is tried again, and how long it is tried at least, whatever the budget says.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);
const RECONNECT_MIN: Duration = Duration::from_secs(30);

/// How long cleaning up after an opening is tried in one go; what is left is inert.
const CLEAN_UP_PATIENCE: Duration = Duration::from_secs(20);

/// How often a held target whose fence could not be raised again is tried.
const HOLD_AGAIN: Duration = Duration::from_secs(5);

/// Shortest patience with a barrier that has to be raised again: the budget may be used up by then, and without a
/// fence nothing can be verified or reverted.
const RAISE_AGAIN_MIN: Duration = Duration::from_secs(5);

/// Most server notices that are kept per target; all are counted.
const NOTICES_KEPT_MAX: usize = 50;

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
    hand: Option<Box<dyn Hand>>,
    lost_since: Option<tokio::time::Instant>,
    /// The sessions that the closing transaction listed; `None`: an earlier leader closed the gate.
    listed: Option<Vec<SessionId>>,
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
            hand: None,
            lost_since: None,
            listed: None,
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
            self.database = None;
        }
        self.leader.waits.clear(&self.target.name);
        self.progress.mod_revision
    }

    /// Carries out command after command until the target rests.
    async fn drive(&mut self) -> Driven {
        while let Some(command) = self.progress.record.target.command() {
            let span = info_span!("step", target = %self.target.name, command = ?command);
            let outcome = self.execute_or_abort(command).instrument(span).await;
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
            if self.hand.is_none()
                && let Err(Trouble::Event(event)) = self.load_and_stand().await
            {
                debug!(target = %self.name(), ?event, "the held target's fence cannot be raised again");
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

    async fn load_and_stand(&mut self) -> Step<()> {
        self.load().await?;
        self.stand().await.map(drop)
    }

    /// The database was lost: the same command again, with a new session, until the budget is used up. What the
    /// lost session was doing is settled by taking the target and by the ledger.
    async fn reconnect(&mut self, why: String) -> Option<Event> {
        self.hand = None;
        if self.progress.record.target.state == State::Preflight {
            return Some(Event::PreflightRefused(why));
        }
        let since = *self.lost_since.get_or_insert_with(tokio::time::Instant::now);
        if since.elapsed() >= self.budget_left().max(RECONNECT_MIN) {
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

    /// Carries a command out, unless an operator wants the rollout to stop first. What is cut off leaves no hand:
    /// the next command takes the target again, and so ends what was running.
    async fn execute_or_abort(&mut self, command: Command) -> Step<Event> {
        let stoppable = matches!(
            command,
            Command::Preflight | Command::Fence | Command::Migrate | Command::Verify(Goal::New)
        );
        if !stoppable {
            return self.execute(command).await;
        }
        let (leader, rollout) = (Arc::clone(&self.leader), self.rollout.clone());
        let aborted = tokio::select! {
            outcome = self.execute(command) => return outcome,
            reason = leader.abort_requested(&rollout) => reason,
        };
        self.drop_hand().await;
        Ok(Event::AbortRequested(format!("aborted: {aborted}")))
    }

    async fn execute(&mut self, command: Command) -> Step<Event> {
        self.load().await?;
        match command {
            Command::Preflight => self.preflight().await,
            Command::Fence => self.fence().await,
            Command::Migrate => self.migrate().await,
            Command::Verify(goal) => self.verify(goal).await,
            Command::Open(goal) => self.open(goal).await,
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
        if after.state.is_final() {
            changes.extend(self.gate_opening(before.state));
            changes.extend(self.leader.active_end(&self.target.name, &self.rollout));
        }
        let mut record = self.progress.record.clone();
        record.target = after;
        record.since = wall_now();
        self.write(record, changes).await
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
        let checked = match goal {
            Goal::New => "ledger equals plan; verify scripts and row invariants passed",
            Goal::Unchanged => "ledger is as it was before; row invariants passed",
            Goal::Restored => "ledger is as it was before, after reverting; row invariants passed",
        };
        let verified = Verification {
            version: self.version_of(goal),
            checked: checked.to_owned(),
            at: wall_now(),
        };
        let open = gate.record.open(order, self.leader.writer.epoch(), verified);
        Some(RecordChange::gate(key::gate(self.name()), &gate, &open))
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
            let database = access::database(&self.target)
                .await
                .map_err(|e| self.unreachable(&e.to_string()))?;
            self.database = Some(database);
        }
        if self.migrations.is_none() {
            let migrations = access::migrations(&self.target, self.database()?).await;
            self.migrations = Some(migrations.map_err(|e| self.unreachable(&e.to_string()))?);
        }
        Ok(())
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

    // --- preflight ---

    async fn preflight(&mut self) -> Step<Event> {
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

    // --- the fence ---

    async fn fence(&mut self) -> Step<Event> {
        self.take().await?;
        self.close_store_gate().await?;
        let renewed = self.raise(self.spec.drain_timeout).await;
        if let Err(Trouble::Event(Event::NeedsPerson(reason))) = renewed {
            // No statement has run: writers get their gate back rather than a hold, if the target allows it.
            return Ok(Event::FenceFailed(reason));
        }
        renewed?;
        let mut record = self.progress.record.clone();
        record.fence_time = record.closed_at.map(elapsed_since);
        self.write(record, Vec::new()).await?;
        Ok(Event::Fenced)
    }

    /// Takes the target, unless this driver's hand is on it.
    async fn take(&mut self) -> Step<()> {
        if self.hand.is_some() {
            return Ok(());
        }
        self.leader.waits.next(
            self.name(),
            "take the target: end what an earlier leader left running",
            None,
        );
        let claim = Claim::Leader {
            epoch: self.leader.writer.epoch(),
            id: self.leader.id,
        };
        let taken = self.database()?.take(&claim, TAKE_PATIENCE, &self.observer).await;
        match taken {
            Ok(hand) => {
                self.hand = Some(hand);
                Ok(())
            }
            Err(TakeError::Db(DbError::Superseded { by })) => {
                warn!(target = %self.name(), by, "superseded on the target");
                Err(Trouble::Stop(WriteError::NotLeader))
            }
            Err(TakeError::Db(error)) => Err(needs_person(error)),
            Err(error) => Err(Trouble::Event(Event::NeedsPerson(error.to_string()))),
        }
    }

    fn hand(&mut self) -> Step<&mut Box<dyn Hand>> {
        self.hand
            .as_mut()
            .ok_or_else(|| Trouble::Event(Event::NeedsPerson("no session on the target".to_owned())))
    }

    /// Closes the store's gate under the next epoch and lists the sessions to wait for in the same transaction. A
    /// gate that this rollout has closed already stays as it is.
    async fn close_store_gate(&mut self) -> Step<()> {
        let gate = self.leader.gate(self.name());
        let Some(gate) = gate else {
            return Err(Trouble::Event(Event::NeedsPerson(
                "the target has no gate in the store".to_owned(),
            )));
        };
        if fence::is_closed_by(
            &gate.record,
            &self.rollout,
            self.progress.record.target.gate_epoch,
        ) {
            return Ok(());
        }
        if !gate.record.is_open() {
            return Err(Trouble::Event(Event::NeedsPerson(
                "the gate is closed by another rollout".to_owned(),
            )));
        }
        let in_target = self.hand()?.gate_row().gate_epoch;
        let epoch = GateEpoch::next(gate.record.epoch, in_target);
        let now = wall_now();
        let closed = gate
            .record
            .close(epoch, self.rollout.clone(), self.leader.writer.epoch(), now);
        let mut record = self.progress.record.clone();
        record.target.gate_epoch = Some(epoch);
        record.closed_at = Some(now);
        let change = RecordChange::gate(key::gate(self.name()), &gate, &closed);
        let lists = self
            .write_and_list(record, vec![change], &[key::SESSIONS])
            .await?;
        self.listed = lists.first().map(fence::sessions_of);
        info!(target = %self.name(), gate_epoch = %epoch, "gate closed");
        Ok(())
    }

    /// Closes the target's row, waits for the agents, raises the barrier, and reads the row invariants.
    async fn raise(&mut self, drain_timeout: Duration) -> Step<()> {
        let Some(epoch) = self.progress.record.target.gate_epoch else {
            return Err(Trouble::Event(Event::NeedsPerson(
                "the fence has no gate epoch".to_owned(),
            )));
        };
        if self.hand()?.gate_row().opened >= epoch {
            let reason =
                format!("the target's gate row is open at {epoch}, though this rollout has not opened it");
            return Err(Trouble::Event(Event::GateFoundOpen(reason)));
        }
        let rollout = self.rollout.clone();
        self.hand()?
            .close(epoch, rollout.as_str())
            .await
            .map_err(needs_person)?;
        let still_out = self.drain(epoch, drain_timeout).await?;
        let budget = match self.progress.record.target.state {
            State::Fencing => self.budget_left(),
            _ => self.budget_left().max(RAISE_AGAIN_MIN),
        };
        let mut record = self.progress.record.clone();
        record.drained_by = vec![match still_out.len() {
            0 => "every agent acked or ran out of its lease".to_owned(),
            n => format!("the barrier, over {n} coordinators or agents that did not answer in time"),
        }];
        if self.target.strength >= Strength::Barrier {
            self.leader.waits.next(
                self.name(),
                "raise the barrier, then run the migrations",
                Some(self.budget_end()),
            );
            let Self { hand, observer, .. } = self;
            let Some(hand) = hand.as_mut() else {
                return Err(needs_person(DbError::ConnectionLost(String::new())));
            };
            let report = hand.raise_barrier(budget, observer).await.map_err(needs_person)?;
            record
                .ended_sessions
                .extend(report.ended.iter().map(ToString::to_string));
            if !report.continued {
                record.invariants.clear();
            }
        }
        if record.invariants.is_empty() {
            for invariant in self.target.invariants.clone() {
                let before = self
                    .hand()?
                    .scalar(&invariant.query)
                    .await
                    .map_err(needs_person)?;
                record.invariants.push(InvariantRecord {
                    name: invariant.name,
                    before,
                    after: None,
                });
            }
        }
        self.write(record, Vec::new()).await?;
        Ok(())
    }

    /// Waits for the agents. At COOPERATIVE nothing else proves the fence, so not being drained is a failure; with
    /// a barrier it is not.
    async fn drain(&mut self, epoch: GateEpoch, drain_timeout: Duration) -> Step<Vec<Pending>> {
        let listed = match &self.listed {
            Some(listed) => listed.clone(),
            None => self.sessions_before_closing().await?,
        };
        let cooperative = self.target.strength < Strength::Barrier;
        let (patience, then) = match cooperative {
            true => (self.budget_left(), "reopen, if they do not drain in time"),
            false => (
                drain_timeout.min(self.budget_left()),
                "raise the barrier without them",
            ),
        };
        let until = WallTime(wall_now().0 + i64::try_from(patience.as_millis()).unwrap_or(i64::MAX));
        self.leader.waits.next(self.name(), then, Some(until));
        let strength = self.target.strength;
        let pending = fence::drain(&self.leader, self.name(), epoch, listed, strength, patience).await;
        if cooperative && !pending.is_empty() {
            let now = self.leader.clock.now();
            let who: Vec<String> = pending
                .iter()
                .flat_map(|p| fence::described(p, now))
                .map(|(kind, who, detail)| format!("{kind} {who}: {detail}"))
                .collect();
            let reason = format!("not drained within the budget: {}", who.join("; "));
            return Err(Trouble::Event(Event::NeedsPerson(reason)));
        }
        Ok(pending)
    }

    /// For a gate that an earlier leader closed: the sessions that are older than the closing. Those of them that are
    /// gone by now are covered by the time that a new leader waits.
    async fn sessions_before_closing(&self) -> Step<Vec<SessionId>> {
        let listing = self.leader.store_list(key::SESSIONS).await?;
        Ok(match self.leader.gate(self.name()) {
            Some(gate) => fence::sessions_before(&listing, &gate),
            None => fence::sessions_of(&listing),
        })
    }

    fn budget_end(&self) -> WallTime {
        let closed = self.progress.record.closed_at.unwrap_or_else(wall_now);
        WallTime(closed.0 + i64::try_from(self.spec.budget.as_millis()).unwrap_or(i64::MAX))
    }

    /// What is left of the time that writes may be refused.
    fn budget_left(&self) -> Duration {
        let left = self.budget_end().0.saturating_sub(wall_now().0);
        Duration::from_millis(u64::try_from(left).unwrap_or(0))
    }

    /// Makes sure that a hand is on the target and the fence stands. Gives whether it had to be raised again.
    async fn stand(&mut self) -> Step<bool> {
        if self.hand.is_some() {
            return Ok(false);
        }
        self.take().await?;
        self.close_store_gate().await?;
        self.raise(Duration::ZERO).await?;
        Ok(true)
    }

    // --- migrating and back ---

    async fn migrate(&mut self) -> Step<Event> {
        let started = tokio::time::Instant::now();
        self.stand().await?;
        let left = self.budget_left();
        self.leader
            .waits
            .next(self.name(), "verify, then open", Some(self.budget_end()));
        let outcome = tokio::time::timeout(left, self.apply_pending()).await;
        let Ok(outcome) = outcome else {
            return self.over_budget().await;
        };
        let event = match outcome? {
            Ok(()) => Event::Migrated,
            Err(failure) => self.migration_failed(&failure)?,
        };
        let mut record = self.progress.record.clone();
        record.migrate_time = Some(started.elapsed());
        self.keep_notices(&mut record);
        self.write(record, Vec::new()).await?;
        Ok(event)
    }

    async fn apply_pending(&mut self) -> Step<Result<(), EngineError>> {
        let ledger = self.hand()?.ledger().await.map_err(needs_person)?;
        let goal = self
            .progress
            .record
            .target
            .to
            .clone()
            .map_or(plan::Goal::Latest, plan::Goal::To);
        let plan = match plan::plan(&self.migrations()?.set, &ledger, &goal) {
            Ok(plan) => plan,
            Err(error) => return Err(Trouble::Event(Event::NeedsPerson(error.to_string()))),
        };
        let layout = self.migrations()?.set.layout;
        let Self {
            hand,
            observer,
            leader,
            ..
        } = self;
        let Some(hand) = hand.as_mut() else {
            return Err(needs_person(DbError::ConnectionLost(String::new())));
        };
        let report = engine::migrate(hand.as_mut(), &plan, layout, &leader.applied_by(), observer).await;
        Ok(report.map(drop))
    }

    fn keep_notices(&self, record: &mut ProgressRecord) {
        let notices = self.observer.take_notices();
        record.warnings_count += notices.len();
        let room = NOTICES_KEPT_MAX.saturating_sub(record.warnings.len());
        record.warnings.extend(
            notices
                .into_iter()
                .take(room)
                .map(|n| format!("{}: {}", n.severity, n.message)),
        );
    }

    fn migration_failed(&self, failure: &EngineError) -> Step<Event> {
        let reason = failure.to_string();
        match failure.db() {
            Some(DbError::Superseded { .. }) => return Err(Trouble::Stop(WriteError::NotLeader)),
            // What the lost session did is settled by the next one: ledger and journal say what is left to do.
            Some(DbError::ConnectionLost(_) | DbError::Unreachable { .. }) => {
                return Err(Trouble::Lost(reason));
            }
            Some(_) | None => {}
        }
        warn!(target = %self.name(), reason, "migration failed");
        let damage = if failure.is_unclear() {
            Damage::Unclear
        } else {
            Damage::Clean
        };
        Ok(Event::MigrationFailed { damage, reason })
    }

    async fn over_budget(&mut self) -> Step<Event> {
        let reason = format!("over the fence budget of {} s", self.spec.budget.as_secs_f64());
        warn!(target = %self.name(), reason, "stopping the migration");
        let statement = self.leader.waits.of(self.name()).statement;
        let running = statement.map(|s| format!(" (at {s})")).unwrap_or_default();
        self.drop_hand().await;
        // A cancelled commit may have been a commit: what the ledger says now decides.
        self.take().await?;
        let ledger = self.hand()?.ledger().await.map_err(needs_person)?;
        let goal = self
            .progress
            .record
            .target
            .to
            .clone()
            .map_or(plan::Goal::Latest, plan::Goal::To);
        let planned = plan::plan(&self.migrations()?.set, &ledger, &goal);
        self.drop_hand().await;
        Ok(match planned {
            Ok(plan) if plan.steps.is_empty() => Event::Migrated,
            Ok(_) => Event::MigrationFailed {
                damage: Damage::Clean,
                reason: format!("{reason}{running}"),
            },
            Err(error) => Event::MigrationFailed {
                damage: Damage::Unclear,
                reason: format!("{reason}{running}: {error}"),
            },
        })
    }

    async fn roll_back(&mut self) -> Step<Event> {
        self.stand().await?;
        self.leader
            .waits
            .next(self.name(), "verify the old version, then open it", None);
        let ledger = self.hand()?.ledger().await.map_err(needs_person)?;
        let from = self.progress.record.target.from.clone();
        if let Some(version) = self.unfinished().await? {
            return Ok(Event::RevertFailed(format!(
                "cannot roll back: version {version} is applied in part"
            )));
        }
        let set = &self.migrations()?.set;
        if plan::verify(set, &ledger, from.as_ref()).is_ok() {
            return Ok(Event::Reverted);
        }
        let plan = match plan::plan(set, &ledger, &plan::Goal::DownTo(from)) {
            Ok(plan) => plan,
            Err(error) => return Ok(Event::RevertFailed(format!("cannot roll back: {error}"))),
        };
        let layout = set.layout;
        let Self {
            hand,
            observer,
            leader,
            ..
        } = self;
        let Some(hand) = hand.as_mut() else {
            return Err(needs_person(DbError::ConnectionLost(String::new())));
        };
        let reverted = engine::migrate(hand.as_mut(), &plan, layout, &leader.applied_by(), observer).await;
        Ok(match reverted {
            Ok(_) => Event::Reverted,
            Err(error) => Event::RevertFailed(format!("cannot roll back: {error}")),
        })
    }

    async fn unfinished(&mut self) -> Step<Option<SchemaVersion>> {
        engine::unfinished(self.hand()?.as_mut())
            .await
            .map_err(needs_person)
    }

    // --- verifying and opening ---

    async fn verify(&mut self, goal: Goal) -> Step<Event> {
        if self.stand().await? {
            return Ok(Event::FenceRenewed);
        }
        let started = tokio::time::Instant::now();
        self.leader
            .waits
            .next(self.name(), "open the gate", Some(self.budget_end()));
        let version = self.version_of(goal);
        let Self { hand, migrations, .. } = self;
        let (Some(hand), Some(migrations)) = (hand.as_mut(), migrations.as_ref()) else {
            return Err(needs_person(DbError::ConnectionLost(String::new())));
        };
        let scripts = match goal {
            Goal::New => migrations.verify.as_slice(),
            Goal::Unchanged | Goal::Restored => &[],
        };
        let verified = engine::verify(hand.as_mut(), &migrations.set, version.as_ref(), scripts).await;
        let mut failure = match verified {
            Ok(verification) if verification.passed() => None,
            Ok(verification) => Some(verification.failures().join("; ")),
            Err(EngineError::Db(error)) => return Err(needs_person(error)),
            Err(error) => Some(error.to_string()),
        };
        if let Some(version) = self.unfinished().await? {
            failure.get_or_insert_with(|| format!("version {version} is applied in part"));
        }
        let mut record = self.progress.record.clone();
        for (invariant, seen) in self.target.invariants.clone().iter().zip(&mut record.invariants) {
            seen.after = self
                .hand()?
                .scalar(&invariant.query)
                .await
                .map_err(needs_person)?;
            if seen.after != seen.before && failure.is_none() {
                let (before, after) = (
                    seen.before.clone().unwrap_or_default(),
                    seen.after.clone().unwrap_or_default(),
                );
                failure = Some(format!(
                    "row invariant {} changed from {before} to {after}",
                    invariant.name
                ));
            }
        }
        record.verify_time = Some(started.elapsed());
        self.write(record, Vec::new()).await?;
        Ok(match failure {
            None => Event::Verified,
            Some(reason) => Event::VerificationFailed(reason),
        })
    }

    /// Opens the target's row; the store's gate follows in the commit of the final state.
    async fn open(&mut self, goal: Goal) -> Step<Event> {
        let Some(epoch) = self.progress.record.target.gate_epoch else {
            return Err(Trouble::Event(Event::NeedsPerson(
                "the fence has no gate epoch".to_owned(),
            )));
        };
        self.take_for_opening(epoch).await?;
        let version = self.version_of(goal);
        if self.hand()?.gate_row().opened < epoch {
            if !self.leader.is_closed(self.name(), &self.rollout, epoch) {
                return Err(Trouble::Event(Event::NeedsPerson(
                    "the store's gate is not this rollout's".to_owned(),
                )));
            }
            self.hand()?
                .open(epoch, version.as_ref())
                .await
                .map_err(needs_person)?;
        }
        let mut record = self.progress.record.clone();
        record.total_time = record.closed_at.map(elapsed_since);
        self.write(record, Vec::new()).await?;
        Ok(Event::Opened)
    }

    /// A new leader's hand: if the row is open already, the opening is finished; else the fence has to be raised
    /// again and verified again, since it may have fallen with the old hand.
    async fn take_for_opening(&mut self, epoch: GateEpoch) -> Step<()> {
        if self.hand.is_some() {
            return Ok(());
        }
        self.take().await?;
        if self.hand()?.gate_row().opened >= epoch {
            return Ok(());
        }
        self.raise(Duration::ZERO).await?;
        Err(Trouble::Event(Event::FenceRenewed))
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
        if self.progress.record.target.state.is_final() {
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

fn elapsed_since(time: WallTime) -> Duration {
    Duration::from_millis(u64::try_from(wall_now().0.saturating_sub(time.0)).unwrap_or(0))
}
