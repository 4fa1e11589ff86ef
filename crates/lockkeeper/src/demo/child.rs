//! Processes that die with the demo, however the demo ends.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use std::{fs, io};

use clap::Args;
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use tokio::process::{Child, Command};

use crate::exit::{Exit, Failure};

/// Bytes of a process' log that are shown when it has ended unasked.
const LOG_TAIL_BYTES: usize = 2_000;

/// A command of this program, and whose end it must not outlive.
#[derive(Debug, Args)]
pub(super) struct LeashFlags {
    /// Process that holds the leash
    parent: i32,
    /// The command
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Becomes the command, having asked the kernel to be killed with its parent. Returns only when it fails.
pub(super) fn exec(flags: &LeashFlags) -> Failure {
    let failed = |error: io::Error| Failure::new(Exit::Error, format!("start a part of the demo: {error}"));
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return failed(error.into());
    }
    // The parent may have died before it was asked for.
    if getppid()
        .map(Pid::as_raw_nonzero)
        .is_none_or(|parent| parent.get() != flags.parent)
    {
        return failed(io::Error::other("the demo has ended"));
    }
    match std::env::current_exe() {
        Ok(program) => failed(std::process::Command::new(program).args(&flags.command).exec()),
        Err(error) => failed(error),
    }
}

/// A process of this program. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts a command of this program, with its output in `<dir>/<name>.log`. Must be called on a thread that lives
    /// as long as the demo, since the kernel watches the thread: the one that runs the command.
    pub(super) fn start<I: AsRef<str>>(dir: &Path, name: &str, command: &[I]) -> io::Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let output = File::create(&log)?;
        let mut child = Command::new(std::env::current_exe()?);
        child.args(["demo", "leash", &std::process::id().to_string(), "--"]);
        child.args(command.iter().map(AsRef::as_ref));
        child
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true);
        // Ctrl-C is for the demo alone, which ends its children itself.
        child.process_group(0);
        Ok(Self {
            name: name.to_owned(),
            log,
            child: child.spawn()?,
        })
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) -> io::Result<()> {
        self.child.start_kill()
    }

    /// SIGTERM; a process that has ended already is no error.
    pub(super) fn terminate(&self) {
        let pid = self
            .child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // The child is ours and not reaped yet, so the id cannot be another's.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Waits for the end, and kills at the end of the patience.
    pub(super) async fn ended(&mut self, patience: Duration) {
        if tokio::time::timeout(patience, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }

    /// If the process has ended: how, and its last words.
    pub(super) fn obituary(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        let log = fs::read(&self.log).unwrap_or_default();
        let tail = String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_TAIL_BYTES)..]).into_owned();
        Some(format!("{} has ended ({status}): {}", self.name, tail.trim()))
    }
}
