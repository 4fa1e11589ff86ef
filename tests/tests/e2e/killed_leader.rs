//! Leaders that die at random moments of a rollout, while both regions write without pause.
//!
//! Each round takes both regions one generation of migrations further (or back again, by an abort) and kills the
//! leader on the way, so that every state of a rollout is left to a successor. `LOCKKEEPER_TEST_SEED` repeats a
//! run's choices; the moments still depend on the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;
use lockkeeper_tests::etcd::{EtcdCluster, EtcdRelease};
use lockkeeper_tests::report::tell;
use lockkeeper_tests::wait;
use serde_json::{Value, json};

use crate::fleet::{Fleet, target_of, target_state};
use crate::load::{LoadAgent, wait_until_all_write};
use crate::regions::{AGENTS_PER_REGION, Regions, SERVICE, Slowness, check_quiet, version_after};

/// How many leaders die, and how many more may when too few different states were hit.
const KILLS: u32 = 10;
const KILLS_FULL: u32 = 60;
const KILLS_MORE: u32 = 6;

/// States of a target in which something is under way.
const STATES_WANTED: usize = 5;

/// The states to aim at, and in which region: "" is any. Where the way through a state differs between the
/// databases, both are meant to be tried.
const AIMS: [(&str, &str); 8] = [
    ("PREFLIGHT", ""),
    ("FENCING", ""),
    ("MIGRATING", "eu"),
    ("MIGRATING", "us"),
    ("VERIFYING", ""),
    ("OPENING", ""),
    ("ROLLING_BACK", "eu"),
    ("ROLLING_BACK", "us"),
];

const SLOWNESS: Slowness = Slowness {
    backfill: 0.6,
    revert: 0.4,
    verify: 0.3,
};

const STATE_LIMIT: Duration = Duration::from_secs(30);
const ROLLOUT_LIMIT: Duration = Duration::from_secs(90);

#[test]
fn a_killed_leader_loses_doubles_and_lets_through_nothing() -> Result<()> {
    let seed = match std::env::var("LOCKKEEPER_TEST_SEED") {
        Ok(seed) => seed.parse().context("read LOCKKEEPER_TEST_SEED")?,
        Err(_) => fastrand::u64(..),
    };
    tell(format_args!(
        "seed {seed}: LOCKKEEPER_TEST_SEED={seed} repeats its choices"
    ));
    let kills = match std::env::var_os("LOCKKEEPER_TEST_FULL") {
        Some(_) => KILLS_FULL,
        None => KILLS,
    };
    let etcd = EtcdCluster::start(3, EtcdRelease::V3_4)?;
    let mut test = Test::start(&etcd, kills, Rng::with_seed(seed))?;
    let outcome = test.run(kills);
    outcome.with_context(|| format!("seed {seed}\n{}", test.fleet.logs(12)))
}

struct Test {
    // The agents end before what they write to.
    agents: Vec<Vec<LoadAgent>>,
    fleet: Fleet,
    regions: Regions,
    rng: Rng,
    generation: u32,
    /// What is left of a shuffled round of [`AIMS`].
    aims: Vec<(&'static str, &'static str)>,
    /// How often a leader died in each state.
    hits: BTreeMap<String, u32>,
}

/// What one round does.
#[derive(Debug)]
struct Round {
    number: u32,
    /// The state to kill the leader in, and whose.
    aim: &'static str,
    target: String,
    /// Whether the regions go one after the other.
    in_waves: bool,
    /// Whether the killed coordinator comes back before the rollout has ended.
    back_early: bool,
}

impl Round {
    fn id(&self) -> String {
        format!("round-{}", self.number)
    }

    fn rolls_back(&self) -> bool {
        self.aim == "ROLLING_BACK"
    }
}

impl Test {
    fn start(etcd: &EtcdCluster, kills: u32, rng: Rng) -> Result<Test> {
        let fleet = Fleet::start(&etcd.store_url(), &["eu", "us", "eu"])?;
        let regions = Regions::start(&fleet, kills + KILLS_MORE, SLOWNESS)?;
        regions.make_tables(&fleet)?;
        let mut test = Test {
            agents: Vec::new(),
            fleet,
            regions,
            rng,
            generation: 0,
            aims: Vec::new(),
            hits: BTreeMap::new(),
        };
        test.fleet
            .create_rollout("tables", SERVICE, "1", &["eu", "us"], &json!({}))?;
        let rollout = test.fleet.wait_for_rollout("tables", ROLLOUT_LIMIT)?;
        ensure!(rollout["state"] == "DONE", "the tables cannot be made: {rollout}");
        let coordinators = test.fleet.addresses();
        for target in &test.regions.targets {
            let start = |index| LoadAgent::start(index, target, &coordinators, &test.fleet.path(""));
            let first = u64::try_from(test.agents.len())? * AGENTS_PER_REGION;
            let agents = (first..first + AGENTS_PER_REGION).map(start);
            test.agents.push(agents.collect::<Result<_>>()?);
        }
        Ok(test)
    }

    fn run(&mut self, kills: u32) -> Result<()> {
        self.agents
            .iter_mut()
            .try_for_each(|agents| wait_until_all_write(agents))?;
        for number in 0..kills + KILLS_MORE {
            if number >= kills && self.hits.len() >= STATES_WANTED {
                break;
            }
            let round = self.choose(number);
            self.round(&round).with_context(|| format!("{round:?}"))?;
        }
        tell(format_args!("states in which a leader died: {:?}", self.hits));
        ensure!(
            self.hits.len() >= STATES_WANTED,
            "only {} different states were hit: {:?}",
            self.hits.len(),
            self.hits
        );
        self.regions.finish(&mut self.agents)
    }

    fn choose(&mut self, number: u32) -> Round {
        if self.aims.is_empty() {
            self.aims = AIMS.to_vec();
            self.rng.shuffle(&mut self.aims);
        }
        let (aim, region) = self.aims.pop().unwrap_or(AIMS[0]);
        let targets = self.regions.targets.iter();
        let possible: Vec<_> = targets
            .filter(|target| region.is_empty() || target.region == region)
            .collect();
        let target = possible[self.rng.usize(..possible.len())].name.clone();
        Round {
            number,
            aim,
            target,
            in_waves: self.rng.bool(),
            back_early: self.rng.bool(),
        }
    }

    fn round(&mut self, round: &Round) -> Result<()> {
        let to = version_after(self.generation + 1);
        let regions = ["eu", "us"];
        let more = match round.in_waves {
            true => json!({}),
            false => json!({"waves": [{"regions": regions}]}),
        };
        let leader = self.fleet.wait_for_leader()?;
        let id = round.id();
        self.fleet
            .create_rollout(&id, SERVICE, &to.to_string(), &regions, &more)?;
        let hit = self.kill_at(round, leader)?;
        tell(format_args!(
            "round {}: {} died in {hit:?} (aim: {} of {}, waves: {}, back early: {})",
            round.number,
            self.fleet.coordinators()[leader].name,
            round.aim,
            round.target,
            round.in_waves,
            round.back_early
        ));
        if !hit.contains(round.aim) {
            // Some states are over in no time: tried once more, after the others.
            self.aims.insert(0, (round.aim, ""));
        }
        for state in hit {
            *self.hits.entry(state).or_default() += 1;
        }
        if round.back_early {
            self.fleet.start_again(leader)?;
        }
        let ended = self.fleet.wait_for_rollout(&id, ROLLOUT_LIMIT)?;
        self.check(round, &ended).with_context(|| format!("{ended:#}"))?;
        if !round.back_early {
            self.fleet.start_again(leader)?;
        }
        Ok(())
    }

    /// Kills the leader once the rollout is where the round wants it, and a moment later. Gives the states that the
    /// store held then: with no leader, nothing moves.
    fn kill_at(&mut self, round: &Round, leader: usize) -> Result<BTreeSet<String>> {
        let id = round.id();
        let watch = self.fleet.watch(&id, Some(leader))?;
        if round.rolls_back() {
            // By then the expanding migration is applied, and has to be reverted.
            wait::until("the backfill to abort", STATE_LIMIT, || {
                Ok(self.regions.backfill_runs(&round.target)?.then_some(()))
            })?;
            self.fleet
                .run(&["rollout", "abort", &id, "--reason", "the test wants it"])?
                .expect_code(0)?;
        }
        let arrived = |rollout: &Value| {
            let state = target_state(rollout, &round.target);
            state == round.aim || rollout["state"] != "RUNNING"
        };
        watch.wait_until(round.aim, STATE_LIMIT, arrived)?;
        let longest = match round.aim {
            "MIGRATING" => 700,
            "ROLLING_BACK" => 500,
            "VERIFYING" => 250,
            // Over in no time.
            _ => 5,
        };
        std::thread::sleep(Duration::from_millis(self.rng.u64(..=longest)));
        self.fleet.kill(leader)?;
        let now = wait::until("the rollout as the dead leader left it", STATE_LIMIT, || {
            Ok(self.fleet.rollout(&id).ok())
        })?;
        let states = self
            .regions
            .targets
            .iter()
            .map(|target| target_state(&now, &target.name).to_owned());
        Ok(states
            .filter(|state| AIMS.iter().any(|(aim, _)| aim == state))
            .collect())
    }

    /// What must hold after each round.
    fn check(&mut self, round: &Round, ended: &Value) -> Result<()> {
        let done = match ended["state"].as_str() {
            Some("DONE") => true,
            Some("ROLLED_BACK" | "ABORTED") if round.rolls_back() => false,
            other => bail!("the rollout ended {other:?}"),
        };
        for target in self.regions.targets.clone() {
            check_quiet(target_of(ended, &target.name))?;
            let status = self.fleet.target_status(&target.name)?;
            ensure!(status["gate"] == "open", "the gate is not open: {status}");
            let version = status["version"].as_str().unwrap_or_default();
            let version: u32 = version
                .parse()
                .with_context(|| format!("read the version of {status}"))?;
            self.regions.check_once(&target, version)?;
        }
        if !done {
            self.catch_up(round)?;
        }
        self.generation += 1;
        self.agents
            .iter_mut()
            .try_for_each(|agents| wait_until_all_write(agents))?;
        self.regions.check_all_writes(&self.agents)
    }

    /// Takes the regions that were aborted, and only those, to where the round was to bring them.
    fn catch_up(&mut self, round: &Round) -> Result<()> {
        let id = format!("{}-again", round.id());
        let to = version_after(self.generation + 1);
        self.fleet
            .create_rollout(&id, SERVICE, &to.to_string(), &["eu", "us"], &json!({}))?;
        let ended = self.fleet.wait_for_rollout(&id, ROLLOUT_LIMIT)?;
        ensure!(
            ended["state"] == "DONE",
            "the rollout after an abort ended as {ended:#}"
        );
        for target in &self.regions.targets {
            self.regions.check_once(target, to)?;
        }
        Ok(())
    }
}
