//! The demo from beginning to end.

use std::time::Duration;

use lockkeeper_core::rollout::OnFailure;
use lockkeeper_core::spec::{
    DEFAULT_BUDGET, DirectorySpec, DsnReference, FenceMode, MigrationsSpec, OneOrMany, RolloutSpec,
    RowInvariant, TargetSpec, WaveSpec,
};
use lockkeeper_core::strength::Strength;
use lockkeeper_proto::v1;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use super::agents::{Agents, How};
use super::audit::{audit, longest_pause_ms};
use super::control::Control;
use super::coordinators::Coordinators;
use super::database::{Before, RegionDatabase};
use super::options::{Plan, REGIONS};
use super::screen::{Region, Scene, Screen};
use super::service::{self, Release};
use super::summary::{Killed, Summary, Target, rows_while_fenced};
use super::watching::{Fleet, Rollout};
use crate::exit::{Exit, Failure};
use crate::text::target_state;

/// Replicas of release 2 that wait in each region.
const WAITING_PER_REGION: u32 = 10;

/// How long agents may take to drain before the barrier is raised without them.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the beginning may take: coordinators elect a leader, the gates appear, every replica has written.
const READY: Duration = Duration::from_secs(25);

/// How long the rollout may take.
const ROLLOUT: Duration = Duration::from_secs(60);

/// How long release 2 may take to write after the rollout.
const HANDED_OVER: Duration = Duration::from_secs(10);

/// How long there is writing before the rollout, and after it.
const QUIET_TIME: Duration = Duration::from_millis(1_500);

/// The leader is killed this long after the first region began to migrate, at most.
const KILL_WITHIN: Duration = Duration::from_millis(250);

/// How often the screen is drawn.
const FRAME: Duration = Duration::from_millis(100);

/// Runs the demo and gives its verdict.
pub(super) async fn tell(plan: Plan) -> Result<Summary, Failure> {
    let mut story = Story::begin(plan).await?;
    story.start_writing().await?;
    let rollout = story.roll_out().await?;
    story.hand_over().await?;
    story.end(rollout).await
}

struct Story {
    // Dropped in this order: whoever writes goes before what is written to.
    agents: Agents,
    fleet: Fleet,
    coordinators: Coordinators,
    plan: Plan,
    began: Instant,
    screen: Screen,
    control: Control,
    databases: Vec<RegionDatabase>,
    rollout: v1::Rollout,
    killed: Option<Killed>,
    etcd_fleet: String,
    dir: TempDir,
}

impl Story {
    /// Databases, coordinators, targets.
    async fn begin(plan: Plan) -> Result<Self, Failure> {
        let began = Instant::now();
        let failed = |e: std::io::Error| Failure::new(Exit::Error, format!("make a temporary folder: {e}"));
        let dir = tempfile::Builder::new()
            .prefix("lockkeeper-demo-")
            .tempdir()
            .map_err(failed)?;
        let migrations = service::unpack(dir.path()).map_err(failed)?;
        let screen = Screen::new(&REGIONS);
        let mut databases = Vec::new();
        for (i, region) in REGIONS.into_iter().enumerate() {
            let dsn = plan.dsns.as_ref().map(|dsns| dsns[i].as_str());
            databases.push(RegionDatabase::describe(dir.path(), region, dsn)?);
        }
        for database in &databases {
            match database.make().await? {
                Before::EarlierDemo => screen.say(format_args!(
                    "dropped {}, which held an earlier demo",
                    database.place
                )),
                Before::Made | Before::Empty => {}
            }
            database.fill(&migrations, plan.rows).await?;
            screen.say(format_args!(
                "{} is at version {} with {} rows",
                database.place,
                service::FIRST,
                plan.rows
            ));
        }
        let etcd_fleet = format!("demo-{}", uuid::Uuid::new_v4().simple());
        let coordinators = match &plan.etcd {
            Some(etcd) => Coordinators::processes(dir.path(), etcd, &etcd_fleet).await?,
            None => Coordinators::in_process(plan.replicas_are_processes()).await?,
        };
        let control = Control::new(&coordinators.addresses())?;
        let fleet = Fleet::watch(control.clone());
        let mut story = Self {
            agents: Agents::new(),
            fleet,
            coordinators,
            plan,
            began,
            screen,
            control,
            databases,
            rollout: v1::Rollout::default(),
            killed: None,
            etcd_fleet,
            dir,
        };
        let all = story.coordinators.addresses().len();
        story
            .wait("coordinators to elect a leader", |story| {
                let seen = story.fleet.seen.borrow();
                seen.status.leader.is_some() && seen.status.coordinators.len() == all
            })
            .await?;
        let targets = story
            .databases
            .iter()
            .map(|d| target(d, &migrations))
            .collect::<Result<Vec<_>, Failure>>()?;
        story
            .control
            .apply_targets(targets.into_iter().map(Into::into).collect())
            .await?;
        story
            .wait("gates of both regions", |story| {
                let seen = story.fleet.seen.borrow();
                seen.status
                    .targets
                    .iter()
                    .filter(|t| t.gate() == v1::GateState::Open)
                    .count()
                    == REGIONS.len()
            })
            .await?;
        Ok(story)
    }

    /// Replicas of release 1 write, those of release 2 wait.
    async fn start_writing(&mut self) -> Result<(), Failure> {
        let servers = self.coordinators.addresses();
        let how = match self.plan.replicas_are_processes() {
            true => How::Processes {
                dir: self.dir.path(),
                servers: &servers,
            },
            false => How::Tasks { servers: &servers },
        };
        let regions = u32::try_from(REGIONS.len()).unwrap_or(1);
        for (i, database) in (0_u32..).zip(&self.databases) {
            // The remainder goes to the first regions.
            let count = self.plan.writers / regions + u32::from(i < self.plan.writers % regions);
            self.agents.start(&how, database, Release::One, count)?;
        }
        for database in &self.databases {
            self.agents
                .start(&how, database, Release::Two, WAITING_PER_REGION)?;
        }
        let waiting = WAITING_PER_REGION * regions;
        self.screen.say(format_args!(
            "{} replicas of release 1 write, {waiting} of release 2 wait for version {}",
            self.plan.writers,
            service::NEWEST
        ));
        let all = self.plan.writers + waiting;
        self.wait("replicas to register and write", |story| {
            let writes =
                |known: &super::agents::Known| !known.tally.acked.is_empty() || known.release == Release::Two;
            let agents = story.fleet.seen.borrow().status.agents.unwrap_or_default();
            story.agents.known.iter().all(writes) && agents.open + agents.fenced >= all
        })
        .await?;
        self.look_on(QUIET_TIME).await
    }

    /// Takes every region to the newest version. Gives how it ended, or how far it came in time.
    async fn roll_out(&mut self) -> Result<v1::Rollout, Failure> {
        let id = format!("demo-{}", std::process::id());
        self.control.create_rollout(&id, rollout_spec()?.into()).await?;
        self.screen.say(format_args!(
            "rollout {id} to the newest version: first {}, then {}",
            REGIONS[0], REGIONS[1]
        ));
        let until = Instant::now() + ROLLOUT;
        let mut changes = Rollout::watch(self.control.clone(), id.clone());
        let mut kill_at = None;
        loop {
            tokio::select! {
                rollout = changes.changed() => {
                    self.rollout = rollout;
                    if self.plan.kill && self.killed.is_none() && kill_at.is_none() && self.is_in_the_middle() {
                        kill_at = Some(Instant::now() + KILL_WITHIN.mul_f64(fastrand::f64()));
                    }
                }
                () = tokio::time::sleep_until(kill_at.unwrap_or(until)), if kill_at.is_some() => {
                    kill_at = None;
                    self.kill_leader().await?;
                }
                () = sleep(FRAME) => {}
            }
            self.draw()?;
            self.check_parts()?;
            if self.rollout.state() != v1::RolloutState::Running && !self.rollout.targets.is_empty() {
                break;
            }
            if Instant::now() >= until {
                self.screen.say(format_args!(
                    "the rollout is not over after {} s",
                    ROLLOUT.as_secs()
                ));
                break;
            }
        }
        // Times and results that were recorded with the last state.
        self.control.rollout(&id).await
    }

    fn first_state(&self) -> v1::TargetState {
        self.rollout
            .targets
            .first()
            .map_or(v1::TargetState::Unspecified, v1::RolloutTarget::state)
    }

    /// The first region has begun to migrate; a change that was not seen must not spare the leader.
    fn is_in_the_middle(&self) -> bool {
        use v1::TargetState::{Fencing, Pending, Preflight, Unspecified};
        !matches!(self.first_state(), Unspecified | Pending | Preflight | Fencing)
    }

    async fn kill_leader(&mut self) -> Result<(), Failure> {
        let status = self.control.status().await?;
        let Some(leader) = status.leader else {
            return Err(Failure::new(
                Exit::Error,
                "kill the leader: nobody leads at this moment",
            ));
        };
        let how = self.coordinators.kill(&leader.coordinator)?;
        let during = target_state(self.first_state());
        self.screen.say(format_args!(
            "KILLED the leader {} in {during}: {how}",
            leader.coordinator
        ));
        self.killed = Some(Killed {
            coordinator: leader.coordinator,
            during,
        });
        Ok(())
    }

    /// Release 2 writes in both regions, for a while.
    async fn hand_over(&mut self) -> Result<(), Failure> {
        if self.rollout.state() != v1::RolloutState::Done {
            return self.look_on(QUIET_TIME).await;
        }
        let written = |story: &Self| {
            let of = |region: &'static str| story.agents.of(region, Release::Two);
            REGIONS
                .into_iter()
                .all(|region| of(region).all(|known| !known.tally.acked.is_empty()))
        };
        if timeout(HANDED_OVER, self.until(written)).await.is_err() {
            self.screen.say(format_args!(
                "not every replica of release 2 has written after {} s",
                HANDED_OVER.as_secs()
            ));
        }
        self.look_on(QUIET_TIME).await
    }

    /// Stops everything, and compares.
    async fn end(mut self, rollout: v1::Rollout) -> Result<Summary, Failure> {
        let mut broken = Vec::new();
        if let Some(death) = self.agents.first_death() {
            broken.push(format!("a replica ended: {death}"));
        }
        self.screen
            .say("stopping the replicas and the coordinators, then counting");
        self.agents.stop().await?;
        self.draw()?;
        let seen = self.fleet.seen.borrow().clone();
        self.coordinators.leave().await;
        let unfit = self
            .agents
            .known
            .iter()
            .find_map(|known| Some(format!("{}: {}", known.name, known.tally.unfit.as_ref()?)));
        let regions = || {
            REGIONS
                .into_iter()
                .map(|region| self.agents.known.iter().filter(move |k| k.region == region))
        };
        let mut summary = Summary {
            agents: self.plan.writers,
            agents_waiting: WAITING_PER_REGION * u32::try_from(REGIONS.len()).unwrap_or(1),
            regions: REGIONS.len(),
            writes_acknowledged: 0,
            writes_found: 0,
            writes_lost: 0,
            writes_doubled: 0,
            writes_refused: 0,
            writes_failed: 0,
            failures: Vec::new(),
            writes_unknown_found: 0,
            writes_unclaimed: 0,
            writes_while_fenced: 0,
            old_rows_lost: 0,
            longest_pause_ms: regions()
                .map(|known| longest_pause_ms(known.map(|k| &k.tally)))
                .max()
                .unwrap_or(0),
            leader_changes: seen.leader_changes(),
            killed: self.killed.take(),
            targets: rollout.targets.iter().map(Target::of).collect(),
            fenced_reason: unfit,
            broken,
            duration_ms: 0,
            ok: false,
            state: rollout.state(),
        };
        for target in &rollout.targets {
            match rows_while_fenced(target) {
                Some(rows) => summary.writes_while_fenced += rows,
                None => summary.broken.push(format!(
                    "{}: the database was not asked for its rows around the fence",
                    target.name
                )),
            }
        }
        for (database, known) in self.databases.iter().zip(regions()) {
            let contents = database.contents().await?;
            summary.add(&audit(
                &contents,
                known.map(|k| &k.tally),
                i64::from(self.plan.rows),
            ));
        }
        self.require(&mut summary);
        summary.duration_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        summary.judge();
        self.clean_up().await;
        Ok(summary)
    }

    /// What must have happened for the demo to have shown anything.
    fn require(&self, summary: &mut Summary) {
        let mut missing = |what: String| summary.broken.push(what);
        if self.plan.kill && summary.killed.is_none() {
            missing("the leader was not killed: the first region was through too fast".to_owned());
        }
        if self.plan.kill && summary.killed.is_some() && summary.leader_changes == 0 {
            missing("nobody took over from the killed leader".to_owned());
        }
        if summary.state != v1::RolloutState::Done {
            return;
        }
        for known in &self.agents.known {
            match known.release {
                Release::One if known.tally.unfit.is_none() => {
                    missing(format!("{} was not told that it no longer fits", known.name));
                }
                Release::Two if known.tally.acked.is_empty() => {
                    missing(format!("{} has not written after the hand-over", known.name));
                }
                Release::One | Release::Two => {}
            }
        }
    }

    /// The etcd is not ours: what was put there is taken away again.
    async fn clean_up(&self) {
        if let Some(etcd) = &self.plan.etcd
            && let Err(error) = super::coordinators::forget(etcd, &self.etcd_fleet).await
        {
            self.screen
                .say(format_args!("fleet {} is left in etcd: {error}", self.etcd_fleet));
        }
    }

    /// Shows the fleet until `done`, for a bounded time.
    async fn wait(&mut self, what: &str, done: impl Fn(&Self) -> bool) -> Result<(), Failure> {
        match timeout(READY, self.until(done)).await {
            Ok(done) => done,
            Err(_) => Err(Failure::new(
                Exit::TimedOut,
                format!("wait for {what}: not there after {} s", READY.as_secs()),
            )),
        }
    }

    async fn until(&mut self, done: impl Fn(&Self) -> bool) -> Result<(), Failure> {
        loop {
            self.draw()?;
            self.check_parts()?;
            if done(self) {
                return Ok(());
            }
            sleep(FRAME).await;
        }
    }

    async fn look_on(&mut self, time: Duration) -> Result<(), Failure> {
        let until = Instant::now() + time;
        self.until(|_| Instant::now() >= until).await
    }

    /// A part that ends by itself would make the demo tell of something else.
    fn check_parts(&mut self) -> Result<(), Failure> {
        let killed = self.killed.as_ref().map(|killed| killed.coordinator.as_str());
        let coordinator = self.coordinators.obituaries(killed).into_iter().next();
        match coordinator.or_else(|| self.agents.first_death()) {
            Some(obituary) => Err(Failure::new(Exit::Error, obituary)),
            None => Ok(()),
        }
    }

    fn draw(&mut self) -> Result<(), Failure> {
        self.agents.read()?;
        let seen = self.fleet.seen.borrow().clone();
        let region = |database: &RegionDatabase| {
            let name = service::target(database.region);
            let status = seen.status.targets.iter().find(|t| t.name == name);
            let target = self.rollout.targets.iter().find(|t| t.name == name);
            Region {
                name: database.region,
                closed: status.is_some_and(|t| t.gate() == v1::GateState::Closed),
                version: status.map(|t| t.version.clone()).unwrap_or_default(),
                state: target.map_or(v1::TargetState::Unspecified, v1::RolloutTarget::state),
                reason: target.map(|t| t.reason.clone()).unwrap_or_default(),
                waiting: seen.waiting.get(&name).cloned().unwrap_or_default(),
                acked: self.agents.acked(database.region),
            }
        };
        let scene = Scene {
            leader: seen
                .status
                .leader
                .as_ref()
                .map(|l| (l.coordinator.clone(), l.epoch.clone())),
            agents: seen.status.agents.unwrap_or_default(),
            regions: self.databases.iter().map(region).collect(),
        };
        self.screen.show(scene);
        Ok(())
    }
}

fn bad_name(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Error, format!("declare the demo's targets: {error}"))
}

fn target(database: &RegionDatabase, migrations: &std::path::Path) -> Result<TargetSpec, Failure> {
    // Orders keep their numbers in every version, so that these can be asked before and after.
    let invariant = |name: &str, query: &str| RowInvariant {
        name: name.to_owned(),
        query: query.to_owned(),
    };
    Ok(TargetSpec {
        name: service::target(database.region).parse().map_err(bad_name)?,
        service: service::NAME.parse().map_err(bad_name)?,
        region: database.region.parse().map_err(bad_name)?,
        dialect: None,
        dsn: DsnReference::File(database.dsn_file.to_string_lossy().into_owned()),
        migrations: MigrationsSpec::Directory(DirectorySpec {
            layout: "pop".to_owned(),
            ledger: "own".to_owned(),
            dir: OneOrMany::One(migrations.to_string_lossy().into_owned()),
            placeholders: Default::default(),
            skip_programs: false,
            allow_out_of_order: false,
        }),
        strength: Strength::Barrier,
        labels: Default::default(),
        invariants: vec![
            invariant("orders", "SELECT count(*) FROM orders"),
            invariant("sum of order numbers", "SELECT sum(number) FROM orders"),
        ],
    })
}

fn rollout_spec() -> Result<RolloutSpec, Failure> {
    let wave = |region: &str| {
        Ok(WaveSpec {
            regions: vec![region.parse().map_err(bad_name)?],
            ..WaveSpec::default()
        })
    };
    Ok(RolloutSpec {
        service: service::NAME.parse().map_err(bad_name)?,
        release: Release::Two.name().to_owned(),
        to: "latest".to_owned(),
        waves: REGIONS.into_iter().map(wave).collect::<Result<_, Failure>>()?,
        fence: FenceMode::Always,
        budget: DEFAULT_BUDGET,
        drain_timeout: DRAIN_TIMEOUT,
        on_failure: OnFailure::Rollback,
        require_strength: Strength::Barrier,
        window: None,
        max_fenced: None,
    })
}
