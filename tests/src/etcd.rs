//! A real etcd cluster.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::ports::Port;
use crate::process::{Process, ProcessSpec};
use crate::scratch::Scratch;
use crate::{http, tools, wait};

/// Three members elect a leader in 1 to 2 s; a loaded machine may need several rounds.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The releases that Lockkeeper promises to work with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EtcdRelease {
    V3_4,
    V3_5,
}

impl EtcdRelease {
    fn program(self) -> &'static str {
        match self {
            EtcdRelease::V3_4 => "etcd-3.4",
            EtcdRelease::V3_5 => "etcd-3.5",
        }
    }
}

/// A running cluster; dropping it ends the members and removes their data.
#[derive(Debug)]
pub struct EtcdCluster {
    members: Vec<EtcdMember>,
    scratch: Scratch,
}

/// One member. [`EtcdMember::process`] freezes it or ends it in other ways.
#[derive(Debug)]
pub struct EtcdMember {
    pub process: Process,
    client: Port,
    peer: Port,
}

impl EtcdMember {
    /// `127.0.0.1:<port>`
    pub fn endpoint(&self) -> String {
        self.client.address()
    }

    /// SIGKILL. The data stays for [`EtcdMember::start_again`].
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts a member that was ended, on the same ports and data. Does not wait for its health.
    pub fn start_again(&mut self) -> Result<()> {
        self.process.start_again()
    }

    /// SIGSTOP: clients see silence, not a closed connection.
    pub fn pause(&mut self) -> Result<()> {
        self.process.pause()
    }

    pub fn resume(&mut self) -> Result<()> {
        self.process.resume()
    }

    fn is_healthy(&self) -> bool {
        // etcd answers after a linearizable read: healthy means that there is a leader.
        http::get(self.client.number(), "/health").is_some_and(|answer| answer.contains(r#""health":"true""#))
    }
}

impl EtcdCluster {
    /// Starts `members` (1 or 3) and waits until all are healthy.
    pub fn start(members: usize, release: EtcdRelease) -> Result<EtcdCluster> {
        if !matches!(members, 1 | 3) {
            bail!("an etcd cluster has 1 or 3 members here, not {members}");
        }
        let scratch = Scratch::create("etcd")?;
        let ports = (0..members)
            .map(|_| Ok((Port::reserve()?, Port::reserve()?)))
            .collect::<Result<Vec<_>>>()?;
        let initial_cluster = ports
            .iter()
            .enumerate()
            .map(|(index, (_, peer))| format!("m{index}=http://{}", peer.address()))
            .collect::<Vec<_>>()
            .join(",");
        let program = tools::find(release.program())?;
        let members = ports
            .into_iter()
            .enumerate()
            .map(|(index, (client, peer))| {
                let spec = ProcessSpec::new(&program, scratch.join(&format!("m{index}.log")))
                    .args(["--name", &format!("m{index}")])
                    .arg("--data-dir")
                    .arg(scratch.join(&format!("m{index}")))
                    .args(["--listen-client-urls", &format!("http://{}", client.address())])
                    .args(["--advertise-client-urls", &format!("http://{}", client.address())])
                    .args(["--listen-peer-urls", &format!("http://{}", peer.address())])
                    .args([
                        "--initial-advertise-peer-urls",
                        &format!("http://{}", peer.address()),
                    ])
                    .args(["--initial-cluster", &initial_cluster])
                    // Kills of a process lose nothing without it, and no test pulls the machine's plug.
                    .arg("--unsafe-no-fsync");
                Ok(EtcdMember {
                    process: Process::spawn(spec)?,
                    client,
                    peer,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let mut cluster = EtcdCluster { members, scratch };
        for member in &mut cluster.members {
            let port = member.client.number();
            let healthy = |answer: String| answer.contains(r#""health":"true""#).then_some(());
            member
                .process
                .wait_ready(START_LIMIT, |_| http::get(port, "/health").and_then(healthy))?;
        }
        Ok(cluster)
    }

    /// `127.0.0.1:<port>` of every member, also of stopped ones.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(EtcdMember::endpoint).collect()
    }

    /// The value for `--store`: `etcd://H:P[,H:P]`.
    pub fn store_url(&self) -> String {
        format!("etcd://{}", self.endpoints().join(","))
    }

    pub fn members(&mut self) -> &mut [EtcdMember] {
        &mut self.members
    }

    /// The member at `index`, counted from 0.
    pub fn member(&mut self, index: usize) -> Result<&mut EtcdMember> {
        let count = self.members.len();
        self.members
            .get_mut(index)
            .ok_or_else(|| anyhow!("no member {index} in a cluster of {count}"))
    }

    /// Waits until every member is healthy again.
    pub fn wait_healthy(&self, limit: Duration) -> Result<()> {
        wait::until("all etcd members to be healthy", limit, || {
            Ok(self.members.iter().all(EtcdMember::is_healthy).then_some(()))
        })
    }

    /// Saves a snapshot of a cluster of one, and gives its file.
    pub fn snapshot(&self) -> Result<PathBuf> {
        let file = self.scratch.join("snapshot");
        self.etcdctl(&["snapshot", "save", &file.display().to_string()])?;
        Ok(file)
    }

    /// Ends a cluster of one and starts it again on the same ports: as in the snapshot, or empty.
    pub fn start_over(&mut self, snapshot: Option<&Path>) -> Result<()> {
        let data = self.scratch.join("m0");
        let member = self.member(0)?;
        let peer = format!("http://{}", member.peer.address());
        member.kill()?;
        std::fs::remove_dir_all(&data).with_context(|| format!("remove {}", data.display()))?;
        if let Some(snapshot) = snapshot {
            let (snapshot, data) = (snapshot.display().to_string(), data.display().to_string());
            self.etcdctl(&[
                "snapshot",
                "restore",
                &snapshot,
                "--data-dir",
                &data,
                "--name",
                "m0",
                "--initial-cluster",
                &format!("m0={peer}"),
                "--initial-advertise-peer-urls",
                &peer,
            ])?;
        }
        self.member(0)?.start_again()?;
        self.wait_healthy(START_LIMIT)
    }

    /// Index of the member that leads.
    pub fn leader(&self) -> Result<usize> {
        let status = self.etcdctl(&["endpoint", "status", "--write-out=json"])?;
        let rows: Vec<serde_json::Value> =
            serde_json::from_str(status.trim()).context("read etcdctl's endpoint status")?;
        let leads = |row: &&serde_json::Value| {
            let status = &row["Status"];
            status["leader"] == status["header"]["member_id"] && !status["leader"].is_null()
        };
        let endpoint = rows.iter().find(leads).and_then(|row| row["Endpoint"].as_str());
        let endpoint = endpoint.ok_or_else(|| anyhow!("no etcd member says that it leads: {status}"))?;
        let index = self
            .endpoints()
            .iter()
            .position(|candidate| candidate == endpoint);
        index.ok_or_else(|| anyhow!("etcdctl names an unknown endpoint {endpoint}"))
    }

    /// Runs etcdctl against all endpoints and gives its standard output.
    pub fn etcdctl(&self, arguments: &[&str]) -> Result<String> {
        let output = std::process::Command::new(tools::find("etcdctl")?)
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.endpoints().join(",")])
            .args(arguments)
            .output()
            .context("run etcdctl")?;
        if !output.status.success() {
            bail!(
                "etcdctl {}: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
