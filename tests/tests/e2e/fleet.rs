//! A fleet for tests: coordinators as real processes over a real store, and what an operator does with them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use lockkeeper_tests::cli::{Cli, CliOutput, RunningCli};
use lockkeeper_tests::ports::Port;
use lockkeeper_tests::wait;
use serde_json::{Value, json};
use tokio::time::Instant;

/// Long enough for an election on a loaded machine.
pub(crate) const READY_LIMIT: Duration = Duration::from_secs(30);

/// Leases short enough that a test sees many of them run out. etcd grants no less than two seconds.
const LEASES: [&str; 6] = [
    "--leadership-ttl",
    "1s",
    "--presence-ttl",
    "4s",
    "--write-lease",
    "2500ms",
];

/// How long after a lost leader the next one must lead: both leases, and a slow machine.
pub(crate) const ELECTION_LIMIT: Duration = Duration::from_secs(20);

/// Coordinators of one fleet. Dropping it kills them; with `LOCKKEEPER_TEST_LOGS=DIR` their logs are kept there.
#[derive(Debug)]
pub(crate) struct Fleet {
    coordinators: Vec<Coordinator>,
    folder: tempfile::TempDir,
}

/// One `lockkeeper serve`.
#[derive(Debug)]
pub(crate) struct Coordinator {
    pub(crate) name: String,
    running: RunningCli,
    listen: Port,
    admin: Port,
}

/// A target to declare.
#[derive(Debug, Clone)]
pub(crate) struct TargetDeclaration {
    pub(crate) name: String,
    pub(crate) service: String,
    pub(crate) region: String,
    /// Goes into a file of its own, which is what the fleet learns.
    pub(crate) dsn: String,
    pub(crate) layout: String,
    pub(crate) migrations: PathBuf,
    /// `(name, query)`
    pub(crate) invariants: Vec<(String, String)>,
    /// More keys, such as `strength`.
    pub(crate) more: Value,
}

impl TargetDeclaration {
    /// A target `<service>/<region>` with golang-migrate files and no invariants.
    pub(crate) fn new(service: &str, region: &str, dsn: &str, migrations: &Path) -> Self {
        TargetDeclaration {
            name: format!("{service}/{region}"),
            service: service.to_owned(),
            region: region.to_owned(),
            dsn: dsn.to_owned(),
            layout: "golang-migrate".to_owned(),
            migrations: migrations.to_owned(),
            invariants: Vec::new(),
            more: json!({}),
        }
    }

    pub(crate) fn invariant(mut self, name: &str, query: &str) -> Self {
        self.invariants.push((name.to_owned(), query.to_owned()));
        self
    }
}

impl Coordinator {
    fn start(name: &str, region: &str, store: &str, environment: &[(&str, String)]) -> Result<Coordinator> {
        let (listen, admin) = (Port::reserve()?, Port::reserve()?);
        let serve = Cli::new()?
            .args(["serve", "--store", store, "--name", name, "--region", region])
            .args(["--listen", &listen.address(), "--admin-listen", &admin.address()])
            .args(LEASES)
            .env("RUST_LOG", "info");
        let add = |serve: Cli, (name, value): &(&str, String)| serve.env(name, value);
        let running = environment.iter().fold(serve, add).spawn()?;
        Ok(Coordinator {
            name: name.to_owned(),
            running,
            listen,
            admin,
        })
    }

    /// `127.0.0.1:<port>` of its gRPC services.
    pub(crate) fn address(&self) -> String {
        self.listen.address()
    }

    /// `127.0.0.1:<port>` of `/livez` and `/readyz`.
    pub(crate) fn admin_address(&self) -> String {
        self.admin.address()
    }

    /// The most memory that it has used so far, in KiB.
    pub(crate) fn memory_peak(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.running.process.pid()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|text| text.trim().strip_suffix(" kB"));
        Ok(peak.context("no VmHWM")?.trim().parse()?)
    }

    pub(crate) fn log(&self) -> String {
        self.running.process.log() + &self.running.process.output()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.running.process.is_running()
    }

    fn wait_ready(&mut self) -> Result<()> {
        let port = self.admin.number();
        self.running.process.wait_ready(READY_LIMIT, |_| {
            let answer = lockkeeper_tests::http::get(port, "/readyz")?;
            answer.contains(" 200 ").then_some(())
        })
    }
}

impl Fleet {
    /// Starts a coordinator per region, named `c0`, `c1`, …, and waits until all are ready and one leads.
    pub(crate) fn start(store: &str, regions: &[&str]) -> Result<Fleet> {
        Self::start_with(store, regions, &[])
    }

    /// The same with more settings for `serve`, which has an environment variable for each of its flags.
    pub(crate) fn start_with(store: &str, regions: &[&str], environment: &[(&str, String)]) -> Result<Fleet> {
        let folder = tempfile::Builder::new()
            .prefix("lockkeeper-fleet-")
            .tempdir()
            .context("create the fleet's folder")?;
        let start = |(index, region): (usize, &&str)| {
            Coordinator::start(&format!("c{index}"), region, store, environment)
        };
        let coordinators = regions
            .iter()
            .enumerate()
            .map(start)
            .collect::<Result<Vec<_>>>()?;
        let mut fleet = Fleet { coordinators, folder };
        for coordinator in &mut fleet.coordinators {
            coordinator.wait_ready()?;
        }
        fleet.wait_for_leader()?;
        Ok(fleet)
    }

    pub(crate) fn coordinators(&mut self) -> &mut [Coordinator] {
        &mut self.coordinators
    }

    /// The addresses of all coordinators, also of those that do not run.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.coordinators.iter().map(Coordinator::address).collect()
    }

    /// A path in the fleet's own folder, which goes with it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `lockkeeper`, told where the coordinators are.
    pub(crate) fn cli(&self) -> Result<Cli> {
        Ok(Cli::new()?.env("LOCKKEEPER_SERVER", self.addresses().join(",")))
    }

    /// Runs a command of this fleet to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<CliOutput> {
        self.cli()?.args(arguments).run()
    }

    fn json(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.cli()?.args(arguments).args(["--format", "json"]).run()?;
        if output.code != Some(0) {
            bail!("lockkeeper {}: {output:?}", arguments.join(" "));
        }
        output.json()
    }

    /// `fleet status` as JSON.
    pub(crate) fn status(&self) -> Result<Value> {
        self.json(&["fleet", "status"])
    }

    /// One target of `fleet status`.
    pub(crate) fn target_status(&self, target: &str) -> Result<Value> {
        let status = self.status()?;
        let targets = status["targets"].as_array();
        let found = targets.and_then(|all| all.iter().find(|one| one["name"] == target));
        found
            .cloned()
            .ok_or_else(|| anyhow!("no target {target} in {status}"))
    }

    /// `fleet explain` of a target as JSON.
    pub(crate) fn explain(&self, target: &str) -> Result<Value> {
        self.json(&["fleet", "explain", target])
    }

    /// `fleet agents` as JSON: the list.
    pub(crate) fn agents(&self) -> Result<Vec<Value>> {
        let mut answer = self.json(&["fleet", "agents"])?;
        match answer["agents"].take() {
            Value::Array(agents) => Ok(agents),
            other => bail!("agents is no list: {other}"),
        }
    }

    /// Index of the coordinator that leads now; `None`: none does.
    pub(crate) fn leader(&self) -> Result<Option<usize>> {
        let status = self.status()?;
        let name = status["leader"]["coordinator"].as_str();
        Ok(name.and_then(|name| self.coordinators.iter().position(|c| c.name == name)))
    }

    /// Waits until a coordinator that runs leads, and gives its index.
    pub(crate) fn wait_for_leader(&mut self) -> Result<usize> {
        let deadline = Instant::now() + ELECTION_LIMIT;
        loop {
            // Coordinators that are starting or ending refuse connections meanwhile.
            match self.leader() {
                Ok(Some(leader)) if self.coordinators[leader].is_running() => return Ok(leader),
                last if Instant::now() > deadline => {
                    bail!("no leader for {ELECTION_LIMIT:?}; last: {last:?}")
                }
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, index: usize) -> Result<()> {
        self.coordinators[index].running.process.kill()
    }

    /// SIGTERM; gives how long it took to end.
    pub(crate) fn terminate(&mut self, index: usize) -> Result<Duration> {
        let before = Instant::now();
        let status = self.coordinators[index]
            .running
            .process
            .terminate(Duration::from_secs(10))?;
        if !status.success() {
            bail!("{} ended with {status}", self.coordinators[index].name);
        }
        Ok(before.elapsed())
    }

    /// Starts a coordinator that has ended, on the same ports, and waits until it is ready.
    pub(crate) fn start_again(&mut self, index: usize) -> Result<()> {
        let coordinator = &mut self.coordinators[index];
        coordinator.running.process.start_again()?;
        coordinator.wait_ready()
    }

    /// Declares targets and waits until each has a gate.
    pub(crate) fn declare(&self, targets: &[TargetDeclaration]) -> Result<()> {
        self.apply(targets)?;
        for target in targets {
            wait::until(&format!("the gate of {}", target.name), READY_LIMIT, || {
                let status = self.target_status(&target.name)?;
                Ok((status["gate"] == "open").then_some(()))
            })?;
        }
        Ok(())
    }

    /// `target apply`; waits for no gate.
    pub(crate) fn apply(&self, targets: &[TargetDeclaration]) -> Result<()> {
        let described = targets
            .iter()
            .map(|t| self.describe(t))
            .collect::<Result<Vec<_>>>()?;
        let file = self.path("targets.yaml");
        // JSON is YAML too.
        fs::write(&file, json!({ "targets": described }).to_string()).context("write targets.yaml")?;
        self.cli()?
            .args(["target", "apply", "-f"])
            .arg(&file)
            .run()?
            .expect_code(0)?;
        Ok(())
    }

    fn describe(&self, target: &TargetDeclaration) -> Result<Value> {
        let file = self.path(&format!("{}.dsn", target.name.replace('/', "-")));
        fs::write(&file, &target.dsn).context("write the DSN's file")?;
        fs::set_permissions(&file, Permissions::from_mode(0o600)).context("protect the DSN's file")?;
        let invariant = |(name, query): &(String, String)| json!({"name": name, "query": query});
        let mut described = json!({
            "name": target.name, "service": target.service, "region": target.region,
            "dsn": {"file": file}, "migrations": {"layout": target.layout, "dir": target.migrations},
            "invariants": target.invariants.iter().map(invariant).collect::<Vec<_>>(),
        });
        for (key, value) in target.more.as_object().into_iter().flatten() {
            described[key] = value.clone();
        }
        Ok(described)
    }

    /// Writes a rollout's file: `more` adds keys to (or replaces) service, to, and one wave per region.
    pub(crate) fn rollout_file(
        &self,
        service: &str,
        to: &str,
        regions: &[&str],
        more: &Value,
    ) -> Result<PathBuf> {
        let waves: Vec<Value> = regions
            .iter()
            .map(|region| json!({"regions": [region]}))
            .collect();
        let mut spec = json!({"service": service, "to": to, "waves": waves});
        for (key, value) in more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        let file = self.path("rollout.yaml");
        fs::write(&file, spec.to_string()).context("write rollout.yaml")?;
        Ok(file)
    }

    /// Creates a rollout; gives when it was recorded, does not wait for it.
    pub(crate) fn create_rollout(
        &self,
        id: &str,
        service: &str,
        to: &str,
        regions: &[&str],
        more: &Value,
    ) -> Result<()> {
        let file = self.rollout_file(service, to, regions, more)?;
        self.cli()?
            .args(["rollout", "create", "--id", id, "-f"])
            .arg(&file)
            .run()?
            .expect_code(0)?;
        Ok(())
    }

    /// A rollout as JSON.
    pub(crate) fn rollout(&self, id: &str) -> Result<Value> {
        self.json(&["rollout", "get", id])
    }

    /// Starts to follow a rollout, through another coordinator than the one at `not`, which is to be killed.
    pub(crate) fn watch(&self, id: &str, not: Option<usize>) -> Result<RolloutWatch> {
        let others = self
            .coordinators
            .iter()
            .enumerate()
            .filter(|(index, _)| Some(*index) != not);
        let servers: Vec<String> = others.map(|(_, other)| other.address()).collect();
        let running = Cli::new()?
            .env("LOCKKEEPER_SERVER", servers.join(","))
            .args(["rollout", "watch", id, "--format", "json"])
            .spawn()?;
        Ok(RolloutWatch { running })
    }

    /// Waits until a rollout has ended or is held, and gives it.
    pub(crate) fn wait_for_rollout(&self, id: &str, limit: Duration) -> Result<Value> {
        let deadline = Instant::now() + limit;
        loop {
            // A coordinator that was just killed answers nobody.
            let last = self.rollout(id);
            match &last {
                Ok(rollout) if rollout["state"] != "RUNNING" => return last,
                _ if Instant::now() > deadline => bail!("rollout {id} still runs after {limit:?}: {last:?}"),
                _ => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// The last lines of every coordinator's log, for a failure's message.
    pub(crate) fn logs(&self, lines: usize) -> String {
        let last = |coordinator: &Coordinator| {
            let log = coordinator.log();
            let all: Vec<&str> = log.lines().collect();
            let last = &all[all.len().saturating_sub(lines)..];
            format!("--- {}\n{}\n", coordinator.name, last.join("\n"))
        };
        self.coordinators.iter().map(last).collect()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let Some(folder) = std::env::var_os("LOCKKEEPER_TEST_LOGS").map(PathBuf::from) else {
            return;
        };
        for coordinator in &self.coordinators {
            let file = folder.join(format!("{}-{}.log", std::process::id(), coordinator.name));
            if let Err(error) = fs::write(&file, coordinator.log()) {
                eprintln!("keep {}: {error}", file.display());
            }
        }
    }
}

/// A running `rollout watch`.
#[derive(Debug)]
pub(crate) struct RolloutWatch {
    running: RunningCli,
}

impl RolloutWatch {
    /// Everything that was told so far, oldest first.
    pub(crate) fn seen(&self) -> Vec<Value> {
        let output = self.running.process.output();
        // The last line may not be whole yet.
        output
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// What was told last.
    pub(crate) fn last(&self) -> Option<Value> {
        let output = self.running.process.output();
        output
            .lines()
            .rev()
            .find_map(|line| serde_json::from_str(line).ok())
    }

    /// Waits until the rollout is as wanted, and gives it.
    pub(crate) fn wait_until(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        wait::until(what, limit, || Ok(self.last().filter(|rollout| wanted(rollout))))
            .with_context(|| format!("last seen: {:?}\n{}", self.last(), self.running.process.log()))
    }
}

/// The state of a rollout's target.
pub(crate) fn target_state<'a>(rollout: &'a Value, target: &str) -> &'a str {
    target_of(rollout, target)["state"].as_str().unwrap_or_default()
}

/// A rollout's target; null: none of that name.
pub(crate) fn target_of<'a>(rollout: &'a Value, target: &str) -> &'a Value {
    let targets = rollout["targets"].as_array();
    targets
        .and_then(|all| all.iter().find(|one| one["name"] == target))
        .unwrap_or(&Value::Null)
}

#[cfg(test)]
mod tests {
    use lockkeeper_tests::etcd::{EtcdCluster, EtcdRelease};
    use lockkeeper_tests::postgres::Postgres;

    use super::*;

    #[test]
    fn a_fleet_carries_a_rollout_through_and_survives_its_leader() -> Result<()> {
        let etcd = EtcdCluster::start(1, EtcdRelease::V3_4)?;
        let postgres = Postgres::start()?;
        let mut fleet = Fleet::start(&etcd.store_url(), &["eu", "us", "eu"])?;
        let migrations = fleet.path("migrations");
        fs::create_dir(&migrations)?;
        fs::write(migrations.join("1_init.up.sql"), "CREATE TABLE t (id int);")?;
        fs::write(migrations.join("1_init.down.sql"), "DROP TABLE t;")?;
        let target = TargetDeclaration::new("svc", "eu", &postgres.create_database("eu")?, &migrations);
        fleet.declare(&[target])?;
        fleet.create_rollout("first", "svc", "latest", &["eu"], &json!({}))?;
        let rollout = fleet.wait_for_rollout("first", READY_LIMIT)?;
        assert_eq!(rollout["state"], "DONE", "{rollout}");
        assert_eq!(fleet.target_status("svc/eu")?["version"], "1");
        let first = fleet.wait_for_leader()?;
        fleet.kill(first)?;
        assert_ne!(fleet.wait_for_leader()?, first);
        fleet.start_again(first)?;
        assert!(fleet.terminate(first)? < Duration::from_secs(2));
        Ok(())
    }
}
