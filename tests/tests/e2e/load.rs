//! Agents under load, and what must hold of their writes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lockkeeper_tests::process::{Process, ProcessSpec};
use lockkeeper_tests::{cli, wait};
use serde_json::{Value, json};

use crate::fleet::TargetDeclaration;

/// Pause between two writes of one agent: twenty agents leave two cores room for everything else.
const PAUSE_MS: u64 = 40;

/// Numbers that one agent has for its writes.
const NUMBERS_EACH: u64 = 10_000_000;

/// How long a writer may take to write again once it may.
const WRITE_LIMIT: Duration = Duration::from_secs(20);

const STOP_LIMIT: Duration = Duration::from_secs(15);

/// What the agents write to. The number is no key: a doubled write must be found, not refused.
pub(crate) const POSTGRES_TABLE: &str =
    "CREATE TABLE writes (id BIGSERIAL PRIMARY KEY, write_id BIGINT NOT NULL);";
/// The same on MariaDB.
pub(crate) const MARIADB_TABLE: &str =
    "CREATE TABLE writes (id BIGINT AUTO_INCREMENT PRIMARY KEY, write_id BIGINT NOT NULL);";

/// A replica that writes without pause: a process of `examples/load-agent.rs`.
#[derive(Debug)]
pub(crate) struct LoadAgent {
    pub(crate) replica: String,
    pub(crate) process: Process,
    files: PathBuf,
}

/// What an agent has told in the end.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) acked: u64,
    pub(crate) refused: u64,
    pub(crate) errors: Vec<String>,
    pub(crate) longest_pause: Duration,
}

impl LoadAgent {
    /// Starts agent number `index` of the test; no two may share it.
    pub(crate) fn start(
        index: u64,
        target: &TargetDeclaration,
        coordinators: &[String],
        folder: &Path,
    ) -> Result<LoadAgent> {
        let replica = format!("{}-{index}", target.region);
        let files = folder.join(&replica);
        let file = |end: &str| files.with_extension(end);
        let settings = json!({
            "service": target.service, "replica": replica, "region": target.region, "target": target.name,
            "dsn": target.dsn, "coordinators": coordinators, "first_id": index * NUMBERS_EACH, "pause_ms": PAUSE_MS,
            "acked": file("acked"), "unknown": file("unknown"), "refused": file("refused"), "hold": file("hold"), "holding": file("holding"),
        });
        let program = cli::built(
            "examples/load-agent",
            "cargo build -p lockkeeper-tests --examples",
        )?;
        let spec = ProcessSpec::new(program, file("log"))
            .output(file("report"))
            .arg(settings.to_string());
        Ok(LoadAgent {
            replica,
            process: Process::spawn(spec)?,
            files,
        })
    }

    fn file(&self, end: &str) -> PathBuf {
        self.files.with_extension(end)
    }

    /// Numbers of the writes that the database has acknowledged so far.
    pub(crate) fn acked(&self) -> Result<Vec<u64>> {
        self.recorded("acked")
    }

    /// Numbers of the writes that the database has refused so far, each time that it did.
    pub(crate) fn refused(&self) -> Result<Vec<u64>> {
        self.recorded("refused")
    }

    fn recorded(&self, end: &str) -> Result<Vec<u64>> {
        let text = fs::read_to_string(self.file(end)).unwrap_or_default();
        // The last line may not be whole yet.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| line.parse().with_context(|| format!("read {line:?}")))
            .collect()
    }

    /// Lets the writer stop with a permit in hand, before its next write, and waits until it does.
    pub(crate) fn hold(&self) -> Result<()> {
        fs::write(self.file("hold"), "").context("ask for a hold")?;
        wait::until(&format!("{} to hold a permit", self.replica), WRITE_LIMIT, || {
            Ok(self.file("holding").exists().then_some(()))
        })
    }

    /// Lets the writer go on, as soon as it runs.
    pub(crate) fn let_go(&self) -> Result<()> {
        fs::remove_file(self.file("holding")).context("forget the hold")?;
        fs::remove_file(self.file("hold")).context("end the hold")
    }

    /// SIGTERM; gives its report.
    pub(crate) fn stop(&mut self) -> Result<Report> {
        let status = self.process.terminate(STOP_LIMIT)?;
        ensure!(
            status.success(),
            "{} ended with {status}:\n{}",
            self.replica,
            self.process.log()
        );
        let output = self.process.output();
        let report: Value = serde_json::from_str(&output).with_context(|| format!("read {output:?}"))?;
        let number = |key: &str| {
            report[key]
                .as_u64()
                .with_context(|| format!("no {key} in {report}"))
        };
        let errors = report["errors"].as_array().into_iter().flatten();
        Ok(Report {
            acked: number("acked")?,
            refused: number("refused")?,
            errors: errors.map(Value::to_string).collect(),
            longest_pause: Duration::from_millis(number("longest_pause_ms")?),
        })
    }
}

/// Waits until every agent has written once more than it had when asked.
pub(crate) fn wait_until_all_write(agents: &mut [LoadAgent]) -> Result<()> {
    let before = agents
        .iter()
        .map(|agent| Ok(agent.acked()?.len()))
        .collect::<Result<Vec<_>>>()?;
    for (agent, before) in agents.iter_mut().zip(before) {
        let replica = agent.replica.clone();
        let written = wait::until(&format!("{replica} to write"), WRITE_LIMIT, || {
            ensure!(agent.process.is_running(), "{replica} has ended");
            Ok((agent.acked()?.len() > before).then_some(()))
        });
        written.with_context(|| format!("log of {replica}:\n{}", agent.process.log()))?;
    }
    Ok(())
}

/// Checks that nothing acknowledged is missing and nothing was written twice. `acked` was read before `found`.
/// Gives how many rows there are.
pub(crate) fn check_writes(acked: &[u64], found: &[u64]) -> Result<usize> {
    let distinct: BTreeSet<u64> = found.iter().copied().collect();
    let lost: Vec<&u64> = acked.iter().filter(|id| !distinct.contains(id)).collect();
    if !lost.is_empty() {
        bail!(
            "{} acknowledged writes are lost, the first is {}",
            lost.len(),
            lost[0]
        );
    }
    ensure!(
        distinct.len() == found.len(),
        "{} writes are there twice",
        found.len() - distinct.len()
    );
    Ok(found.len())
}

/// The numbers in a client's output, one per line.
pub(crate) fn numbers(output: &str) -> Result<Vec<u64>> {
    output
        .lines()
        .map(|line| line.trim().parse().with_context(|| format!("read {line:?}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_and_doubled_writes_are_found() {
        assert!(check_writes(&[1, 2], &[1, 2, 3]).is_ok_and(|rows| rows == 3));
        let problem = |acked: &[u64], found: &[u64]| check_writes(acked, found).unwrap_err().to_string();
        assert_eq!(
            problem(&[1, 2], &[1, 3]),
            "1 acknowledged writes are lost, the first is 2"
        );
        assert_eq!(problem(&[1], &[1, 1]), "1 writes are there twice");
    }
}
