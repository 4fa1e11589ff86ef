//! The `lockkeeper` program, as a person or a script would run it.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::fresh;
use crate::process::{Process, ProcessSpec};
use crate::scratch::Scratch;

/// Longer than any command needs that is not told to wait.
const RUN_LIMIT: Duration = Duration::from_secs(60);

/// Where the program is: `LOCKKEEPER_BIN`, or what cargo built next to this test, if it is not out of date.
pub fn program() -> Result<PathBuf> {
    if let Some(path) = env::var_os("LOCKKEEPER_BIN") {
        return Ok(path.into());
    }
    built("lockkeeper", "cargo build -p lockkeeper")
}

/// A program that cargo built: its path below `target/<profile>`.
pub fn built(path: &str, how_to_build: &str) -> Result<PathBuf> {
    // Looked at once: what somebody edits while the tests run does not concern them.
    static CHECKED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    // Tests lie in target/<profile>/deps.
    let test = env::current_exe().context("find the running test")?;
    let program = test
        .parent()
        .and_then(Path::parent)
        .map(|profile| profile.join(path));
    let program = program
        .filter(|path| path.is_file())
        .ok_or_else(|| anyhow!("{path} is not built: run `{how_to_build}`"))?;
    let mut checked = CHECKED.lock().unwrap_or_else(PoisonError::into_inner);
    // Whoever names a program answers for its age.
    if env::var_os("LOCKKEEPER_BIN").is_none() && !checked.contains(&program) {
        fresh::check(&program, how_to_build)?;
        checked.insert(program.clone());
    }
    Ok(program)
}

/// What a finished command left.
#[derive(Debug, Clone)]
pub struct CliOutput {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl CliOutput {
    /// Standard output, when the command ended with `code`.
    pub fn expect_code(self, code: i32) -> Result<String> {
        if self.code != Some(code) {
            bail!(
                "exit code {:?} instead of {code}\nstdout:\n{}\nstderr:\n{}",
                self.code,
                self.stdout,
                self.stderr
            );
        }
        Ok(self.stdout)
    }

    /// Standard output as one JSON document.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| {
            format!(
                "read JSON from stdout:\n{}\nstderr:\n{}",
                self.stdout, self.stderr
            )
        })
    }

    /// Standard output as one JSON document per line.
    pub fn json_lines(&self) -> Result<Vec<Value>> {
        let parse =
            |line: &str| serde_json::from_str(line).with_context(|| format!("read JSON from: {line}"));
        self.stdout.lines().map(parse).collect()
    }
}

/// A command line being put together.
#[derive(Debug)]
pub struct Cli {
    spec: ProcessSpec,
    scratch: Scratch,
    limit: Duration,
}

impl Cli {
    /// `lockkeeper`, with no argument yet, in an environment without `LOCKKEEPER_*` settings.
    pub fn new() -> Result<Cli> {
        let scratch = Scratch::create("cli")?;
        let mut spec = ProcessSpec::new(program()?, scratch.join("stderr")).output(scratch.join("stdout"));
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("LOCKKEEPER_") {
                spec = spec.without_env(name);
            }
        }
        Ok(Cli {
            spec,
            scratch,
            limit: RUN_LIMIT,
        })
    }

    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.spec = self.spec.arg(argument);
        self
    }

    pub fn args<I: IntoIterator<Item: AsRef<OsStr>>>(mut self, arguments: I) -> Self {
        self.spec = self.spec.args(arguments);
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.spec = self.spec.env(name, value);
        self
    }

    pub fn current_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.spec = self.spec.current_dir(folder);
        self
    }

    /// How long [`Cli::run`] waits; 60 s unless said otherwise.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs the command to its end.
    pub fn run(self) -> Result<CliOutput> {
        let limit = self.limit;
        let mut running = self.spawn()?;
        let status = running.process.wait(limit).with_context(|| {
            format!(
                "stdout:\n{}\nstderr:\n{}",
                running.process.output(),
                running.process.log()
            )
        })?;
        Ok(CliOutput {
            code: status.code(),
            stdout: running.process.output(),
            stderr: running.process.log(),
        })
    }

    /// Starts the command and leaves it running: a coordinator, an agent, a watch.
    pub fn spawn(self) -> Result<RunningCli> {
        Ok(RunningCli {
            process: Process::spawn(self.spec)?,
            _scratch: self.scratch,
        })
    }
}

/// A command that runs. Its standard error is `process.log()`, its standard output `process.output()`.
#[derive(Debug)]
pub struct RunningCli {
    // Before the directory: it must have ended when its files are removed.
    pub process: Process,
    _scratch: Scratch,
}
