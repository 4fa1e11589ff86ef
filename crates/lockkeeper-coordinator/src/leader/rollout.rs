//! One rollout under one leader: starts targets when their wave's turn has come, carries operators' decisions to
//! those that rest, and ends the rollout.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lockkeeper_core::id::{RolloutId, TargetName};
use lockkeeper_core::mutation::{Mutation, mutated};
use lockkeeper_core::rollout::{AbortWay, Event, HeldAt, State, TargetInWave, Turn, Wait, step, turn};
use lockkeeper_core::spec::TargetSpec;
use lockkeeper_core::time::WallTime;
use tokio::task::JoinSet;
use tracing::{Instrument, info, info_span, warn};

use crate::leader::health;
use crate::leader::run::{Leader, abort_event};
use crate::leader::target::TargetDriver;
use crate::leader::window::window;
use crate::leader::writer::{RecordChange, WriteError};
use crate::records::{ProgressRecord, RolloutRecord, Stored, key};
use crate::telemetry;

/// Pause before a target whose driver stopped without coming to rest is tried again.
const AGAIN_PAUSE: Duration = Duration::from_secs(1);

/// Longest sleep before the clock is looked at again: it may be set.
const CLOCK_LOOK: Duration = Duration::from_secs(30);

/// Runs a rollout until it has ended or the leader stops.
pub async fn run(leader: Arc<Leader>, id: RolloutId) {
    let traceparent = leader.rollout(&id).and_then(|r| r.record.traceparent.clone());
    let span = info_span!("rollout", rollout = %id, epoch = %leader.writer.epoch());
    telemetry::continue_trace(&span, traceparent.as_deref());
    let driver = RolloutDriver {
        leader,
        id,
        tasks: JoinSet::new(),
        running: BTreeSet::new(),
        looks: JoinSet::new(),
        looked: None,
    };
    driver.run().instrument(span).await;
}

struct RolloutDriver {
    leader: Arc<Leader>,
    id: RolloutId,
    tasks: JoinSet<(TargetName, u64)>,
    running: BTreeSet<TargetName>,
    looks: JoinSet<Look>,
    looked: Option<Look>,
}

/// A look at a wave that bakes.
#[derive(Debug)]
struct Look {
    wave: usize,
    began: WallTime,
    outcome: Result<(), String>,
}

/// Shortest and longest pause between two looks at a wave that bakes, and how many there are over a bake.
const LOOK_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
const LOOKS_PER_BAKE: u32 = 20;

/// What a round found.
enum Round {
    /// The rollout has ended.
    Ended,
    /// It goes on with the next change, or at this time.
    GoesOn(Option<WallTime>),
}

fn left(now: WallTime, until: WallTime) -> Duration {
    Duration::from_millis(u64::try_from(until.0.saturating_sub(now.0)).unwrap_or(0))
}

async fn sleep_for(left: Option<Duration>) {
    match left {
        Some(left) => tokio::time::sleep(left.min(CLOCK_LOOK)).await,
        None => std::future::pending().await,
    }
}

type Progress = BTreeMap<TargetName, Stored<ProgressRecord>>;

impl RolloutDriver {
    async fn run(mut self) {
        let mut view = self.leader.view.clone();
        loop {
            view.borrow_and_update();
            let wake = match self.round().await {
                Ok(Round::Ended) => return self.let_drivers_leave().await,
                Ok(Round::GoesOn(wake)) => wake,
                Err(WriteError::NotLeader) => return,
                Err(error) => {
                    warn!(rollout = %self.id, %error, "cannot go on, trying again");
                    None
                }
            };
            let asleep = sleep_for(wake.map(|wake| left(self.leader.wall(), wake)));
            tokio::select! {
                changed = view.changed() => if changed.is_err() { return },
                () = asleep => {}
                Some(ended) = self.tasks.join_next() => self.ended(ended).await,
                Some(looked) = self.looks.join_next() => self.looked = looked.ok(),
            }
        }
    }

    /// The last target's final state is committed before its driver has cleaned up and closed its session.
    async fn let_drivers_leave(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }

    async fn ended(&mut self, ended: Result<(TargetName, u64), tokio::task::JoinError>) {
        match ended {
            Ok((target, revision)) => {
                self.leader.view_at(revision).await;
                if !mutated(Mutation::DriverNotRestarted) {
                    self.running.remove(&target);
                }
            }
            // A driver that panicked says nothing: start all again that are not at rest.
            Err(error) => {
                warn!(rollout = %self.id, %error, "a target's driver failed");
                self.tasks.abort_all();
                while self.tasks.join_next().await.is_some() {}
                self.running.clear();
                // One that panics at once must not spin.
                tokio::time::sleep(AGAIN_PAUSE).await;
            }
        }
    }

    /// Decides on one picture.
    async fn round(&mut self) -> Result<Round, WriteError> {
        let Some(rollout) = self.leader.rollout(&self.id) else {
            return Ok(Round::Ended);
        };
        if rollout.record.ended_at.is_some() {
            return Ok(Round::Ended);
        }
        let progress = self.leader.progress(&self.id);
        if !progress.is_empty() && progress.values().all(|p| p.record.target.state.is_final()) {
            self.end(&rollout).await?;
            return Ok(Round::Ended);
        }
        self.give_up_undeclared(&progress).await?;
        self.go_on(&rollout.record, &progress);
        self.apply_abort(&rollout.record, &progress).await?;
        self.start(&rollout.record, &progress).await.map(Round::GoesOn)
    }

    async fn end(&self, rollout: &Stored<RolloutRecord>) -> Result<(), WriteError> {
        let record = RolloutRecord {
            ended_at: Some(self.leader.wall()),
            ..rollout.record.clone()
        };
        let change = RecordChange::update(key::rollout(&self.id), rollout, &record);
        let written = self.leader.writer.commit(vec![change], &[]).await?;
        self.leader.view_at(written.revision).await;
        info!(rollout = %self.id, "rollout has ended");
        Ok(())
    }

    /// Starts a driver for every target that is neither at rest nor driven: after an election, a retry, a crash. A
    /// target that is held behind its fence has one too, which keeps the fence up.
    fn go_on(&mut self, rollout: &RolloutRecord, progress: &Progress) {
        let driven = |state: State| !state.is_resting() || state == State::Held(HeldAt::Fenced);
        let moving = progress.iter().filter(|(_, p)| driven(p.record.target.state));
        for (name, progress) in moving {
            if self.running.contains(name) {
                continue;
            }
            let Some(target) = self.leader.spec(name) else {
                warn!(target = %name, "the target is not declared any more");
                continue;
            };
            self.running.insert(name.clone());
            let leader = Arc::clone(&self.leader);
            let driver = TargetDriver::new(
                leader,
                self.id.clone(),
                rollout.spec.clone(),
                target,
                progress.clone(),
            );
            let name = name.clone();
            let drive = async move {
                let before = tokio::time::Instant::now();
                let revision = driver.run().await;
                // A driver that gives up at once must not spin.
                tokio::time::sleep(AGAIN_PAUSE.saturating_sub(before.elapsed())).await;
                (name, revision)
            };
            self.tasks.spawn(drive.in_current_span());
        }
    }

    /// A target whose declaration went as the rollout was created can be driven by nobody.
    async fn give_up_undeclared(&self, progress: &Progress) -> Result<(), WriteError> {
        for (name, stored) in progress {
            let state = stored.record.target.state;
            if state.is_resting() || self.running.contains(name) || self.leader.spec(name).is_some() {
                continue;
            }
            let reason = "the target is not declared any more".to_owned();
            let event = match state {
                State::Preflight => Event::PreflightRefused(reason),
                _ => Event::NeedsPerson(reason),
            };
            self.move_on(name, stored, event).await?;
        }
        Ok(())
    }

    /// An operator's abort reaches targets that rest; those that move look for it themselves.
    async fn apply_abort(&self, rollout: &RolloutRecord, progress: &Progress) -> Result<(), WriteError> {
        let Some(abort) = &rollout.abort else {
            return Ok(());
        };
        for (name, stored) in progress {
            // A retry that was asked for after the abort wins: it is the later decision.
            let decided_before = stored.record.since.0 <= abort.decision.at.0;
            if stored.record.target.state.is_resting()
                && !stored.record.target.state.is_final()
                && decided_before
            {
                self.move_on(name, stored, abort_event(abort)).await?;
            }
        }
        Ok(())
    }

    /// Starts those whose turn it is. Gives when to look again, if that is a matter of time.
    async fn start(
        &mut self,
        rollout: &RolloutRecord,
        progress: &Progress,
    ) -> Result<Option<WallTime>, WriteError> {
        let names: Vec<&TargetName> = progress.keys().collect();
        let states: Vec<TargetInWave> = progress
            .values()
            .map(|p| TargetInWave {
                wave: p.record.wave,
                state: p.record.target.state,
                since: p.record.since,
            })
            .collect();
        let now = self.leader.wall();
        let window = window(rollout.spec.window.as_ref(), now);
        match turn(&states, &rollout.spec.plan(), &rollout.steering, window, now) {
            Turn::Start(due) => {
                for index in due {
                    if let Some(stored) = progress.get(names[index]) {
                        self.move_on(names[index], stored, Event::Start).await?;
                    }
                }
                Ok(None)
            }
            Turn::StopTheRest(failed) => self.stop_pending(progress, names[failed]).await.map(|()| None),
            Turn::Wait(Wait::Bake { wave, until }) => {
                let next = self.look_at(rollout, progress, wave, None).await?;
                Ok(Some(next.map_or(until, |next| next.min(until))))
            }
            Turn::Baked { wave, since, targets } => {
                let waits = self.look_at(rollout, progress, wave, Some(since)).await?;
                if waits.is_none() {
                    let baked = targets.into_iter().map(|index| names[index]);
                    self.move_all(progress, baked, &Event::Baked).await?;
                }
                Ok(waits)
            }
            Turn::Wait(Wait::Window { opens }) => Ok(opens),
            Turn::Wait(Wait::Paused | Wait::Approval { .. }) | Turn::Nobody => Ok(None),
        }
    }

    /// Looks whether a wave that bakes is well, from time to time, and once more after `last`. Gives when to come back;
    /// `None`: nothing more is to be looked at.
    async fn look_at(
        &mut self,
        rollout: &RolloutRecord,
        progress: &Progress,
        wave: usize,
        last: Option<WallTime>,
    ) -> Result<Option<WallTime>, WriteError> {
        let now = self.leader.wall();
        let Some(spec) = rollout.spec.waves.get(wave).filter(|w| !w.health.is_empty()) else {
            return Ok(None);
        };
        let baking: Vec<&TargetName> = progress
            .iter()
            .filter(|(_, p)| p.record.wave == wave && p.record.target.state == State::Baking)
            .map(|(name, _)| name)
            .collect();
        let looked = self.looked.as_ref().filter(|look| look.wave == wave);
        if let Some(Err(why)) = looked.map(|look| &look.outcome) {
            let event = Event::BakeFailed(why.clone());
            self.looked = None;
            self.move_all(progress, baking, &event).await?;
            return Ok(Some(now));
        }
        let pause = (spec.bake / LOOKS_PER_BAKE).clamp(LOOK_PAUSE.0, LOOK_PAUSE.1);
        let pause = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
        let due = match (looked, last) {
            (None, _) => now,
            (Some(look), Some(last)) if look.began >= last => return Ok(None),
            (Some(_), Some(_)) => now,
            (Some(look), None) => WallTime(look.began.0.saturating_add(pause)),
        };
        if due <= now && self.looks.is_empty() {
            let (leader, checks) = (Arc::clone(&self.leader), spec.health.clone());
            let targets: Vec<TargetSpec> = baking.iter().filter_map(|name| self.leader.spec(name)).collect();
            let look = async move {
                let outcome = health::look(&leader, &checks, &targets).await;
                Look {
                    wave,
                    began: now,
                    outcome,
                }
            };
            self.looks.spawn(look.in_current_span());
        }
        // Its end wakes the round.
        let look_ends = WallTime(now.0.saturating_add(pause));
        Ok(Some(due.max(look_ends)))
    }

    async fn move_all<'a>(
        &self,
        progress: &Progress,
        names: impl IntoIterator<Item = &'a TargetName>,
        event: &Event,
    ) -> Result<(), WriteError> {
        for name in names {
            if let Some(stored) = progress.get(name) {
                self.move_on(name, stored, event.clone()).await?;
            }
        }
        Ok(())
    }

    async fn stop_pending(&self, progress: &Progress, failed: &TargetName) -> Result<(), WriteError> {
        let pending = progress
            .iter()
            .filter(|(_, p)| p.record.target.state == State::Pending);
        for (name, stored) in pending {
            let event = Event::AbortRequested {
                way: AbortWay::default(),
                reason: format!("not started: {failed} did not reach the new version"),
            };
            self.move_on(name, stored, event).await?;
        }
        Ok(())
    }

    /// Commits a resting target's next state.
    async fn move_on(
        &self,
        name: &TargetName,
        stored: &Stored<ProgressRecord>,
        event: Event,
    ) -> Result<(), WriteError> {
        let Ok(after) = step(&stored.record.target, event) else {
            return Ok(());
        };
        let mut changes = Vec::new();
        if after.state.is_final() {
            changes.extend(self.leader.active_end(name, &self.id));
        }
        let record = ProgressRecord {
            target: after,
            since: self.leader.wall(),
            ..stored.record.clone()
        };
        info!(target = %name, state = ?record.target.state, reason = record.target.reason, "state");
        changes.push(RecordChange::update(
            key::progress(&self.id, name),
            stored,
            &record,
        ));
        let written = self.leader.writer.commit(changes, &[]).await?;
        self.leader.view_at(written.revision).await;
        Ok(())
    }
}
