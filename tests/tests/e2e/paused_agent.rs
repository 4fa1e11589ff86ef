//! Agents that cannot answer: one is frozen with a permit in hand, one is cut off from every coordinator. The fence
//! closes without them, and the database refuses what they write too late.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockkeeper_tests::etcd::{EtcdCluster, EtcdRelease};
use lockkeeper_tests::proxy::Proxy;
use lockkeeper_tests::wait;
use serde_json::{Value, json};

use crate::fleet::{Fleet, RolloutWatch, TargetDeclaration, target_of, target_state};
use crate::load::{LoadAgent, wait_until_all_write};
use crate::regions::{AGENTS_PER_REGION, Regions, SERVICE, Slowness, check_quiet, version_after};

/// The backfill outlasts everything that the test does while the gate is closed.
const SLOWNESS: Slowness = Slowness {
    backfill: 6.0,
    revert: 0.0,
    verify: 0.0,
};

/// Places of the special agents in each region's list.
const FROZEN: usize = 0;
const CUT_OFF: usize = 1;

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_fence_closes_without_agents_that_cannot_answer() -> Result<()> {
    let etcd = EtcdCluster::start(3, EtcdRelease::V3_4)?;
    let fleet = Fleet::start(&etcd.store_url(), &["eu", "us", "eu"])?;
    let regions = Regions::start(&fleet, 1, SLOWNESS)?;
    regions.make_tables(&fleet)?;
    let proxies = fleet
        .addresses()
        .iter()
        .map(|address| Proxy::start(address))
        .collect::<Result<Vec<_>>>()?;
    let mut test = Test {
        agents: start_agents(&fleet, &regions, &proxies)?,
        fleet,
        regions,
        proxies,
    };
    let outcome = test.run();
    outcome.with_context(|| test.fleet.logs(12))
}

fn start_agents(fleet: &Fleet, regions: &Regions, proxies: &[Proxy]) -> Result<Vec<Vec<LoadAgent>>> {
    let direct = fleet.addresses();
    let proxied: Vec<String> = proxies.iter().map(Proxy::address).collect();
    let mut index = 0;
    let of_region = |target: &TargetDeclaration| {
        let mut agents = Vec::new();
        for place in 0..AGENTS_PER_REGION {
            let coordinators = if place == 1 { &proxied } else { &direct };
            agents.push(LoadAgent::start(index, target, coordinators, &fleet.path(""))?);
            index += 1;
        }
        Ok(agents)
    };
    regions.targets.iter().map(of_region).collect()
}

struct Test {
    agents: Vec<Vec<LoadAgent>>,
    fleet: Fleet,
    regions: Regions,
    proxies: Vec<Proxy>,
}

impl Test {
    fn run(&mut self) -> Result<()> {
        self.all_write()?;
        for agents in &mut self.agents {
            agents[FROZEN].hold()?;
            agents[FROZEN].process.pause()?;
            // Nothing keeps it from writing but that it does not run.
            agents[FROZEN].let_go()?;
        }
        self.proxies.iter().for_each(Proxy::cut);
        let more = json!({"waves": [{"regions": ["eu", "us"]}]});
        let to = version_after(1).to_string();
        self.fleet.create_rollout("upgrade", SERVICE, &to, &[], &more)?;
        let watch = self.fleet.watch("upgrade", None)?;
        self.check_named(&watch)?;
        for place in 0..self.regions.targets.len() {
            self.check_refused(place, &watch)?;
        }
        let ended = self.fleet.wait_for_rollout("upgrade", LIMIT)?;
        ensure!(ended["state"] == "DONE", "the rollout ended as {ended:#}");
        for target in &self.regions.targets {
            check_quiet(target_of(&ended, &target.name))?;
            self.regions.check_once(target, version_after(1))?;
        }
        // The cut-off agents too: once the gate is open, their databases refuse them no longer.
        self.all_write()?;
        self.proxies.iter().for_each(Proxy::mend);
        self.all_write()?;
        self.regions.finish(&mut self.agents)
    }

    fn all_write(&mut self) -> Result<()> {
        self.agents
            .iter_mut()
            .try_for_each(|agents| wait_until_all_write(agents))
    }

    /// While the fences wait, status and explanation name both agents of each region.
    fn check_named(&self, watch: &RolloutWatch) -> Result<()> {
        let mut missing = BTreeSet::new();
        for (target, agents) in self.regions.targets.iter().zip(&self.agents) {
            for agent in [&agents[FROZEN], &agents[CUT_OFF]] {
                for command in ["status", "explain"] {
                    missing.insert((command, target.name.clone(), agent.replica.clone()));
                }
            }
        }
        let mut last = Vec::new();
        let named = wait::until("both agents to be named", LIMIT, || {
            if watch.last().is_some_and(|rollout| self.are_fenced(&rollout)) {
                return Ok(Some(()));
            }
            for target in &self.regions.targets {
                let status = self.fleet.target_status(&target.name)?;
                let explained = self.fleet.explain(&target.name)?;
                for (command, answer) in [("status", &status), ("explain", &explained)] {
                    let waits = answer["waiting_on"].as_array().cloned().unwrap_or_default();
                    let named = |replica: &str| waits.iter().any(|wait| names(wait, replica));
                    missing.retain(|(asked, of, replica)| {
                        !(*asked == command && *of == target.name && named(replica))
                    });
                }
                last = vec![status, explained];
            }
            Ok(missing.is_empty().then_some(()))
        });
        named.with_context(|| format!("last answers: {last:?}"))?;
        ensure!(
            missing.is_empty(),
            "never named: {missing:?}; last answers: {last:?}"
        );
        Ok(())
    }

    fn are_fenced(&self, rollout: &Value) -> bool {
        let mut targets = self.regions.targets.iter();
        targets.all(|target| target_state(rollout, &target.name) == "MIGRATING")
    }

    /// While the migration runs, the frozen agent wakes up and writes; the cut-off one has never stopped.
    fn check_refused(&mut self, place: usize, watch: &RolloutWatch) -> Result<()> {
        let target = self.regions.targets[place].clone();
        watch.wait_until("the fence to stand", LIMIT, |rollout| {
            target_state(rollout, &target.name) == "MIGRATING"
        })?;
        let agents = &mut self.agents[place];
        let held = agents[FROZEN].acked()?.last().copied().unwrap_or_default() + 1;
        agents[FROZEN].process.resume()?;
        for (special, what) in [(FROZEN, "frozen"), (CUT_OFF, "cut-off")] {
            let agent = &agents[special];
            wait::until(
                &format!("a refusal of the {what} agent {}", agent.replica),
                LIMIT,
                || Ok((!agent.refused()?.is_empty()).then_some(())),
            )?;
        }
        ensure!(
            agents[FROZEN].refused()?.contains(&held),
            "another write than {held} was refused"
        );
        let written = self.regions.sql(
            &target,
            &format!("SELECT count(*) FROM writes WHERE write_id = {held}"),
        )?;
        ensure!(written == "0", "the late write {held} is in the database");
        // Only then was it the fence that refused them.
        let state = self.fleet.rollout("upgrade")?;
        ensure!(
            target_state(&state, &target.name) == "MIGRATING",
            "the migration was too short for this test: {state}"
        );
        Ok(())
    }
}

/// Whether something that is waited for is this agent.
fn names(wait: &Value, replica: &str) -> bool {
    let who = wait["who"].as_str().unwrap_or_default();
    wait["kind"] == "agent" && who.split([' ', '/']).any(|word| word == replica)
}
