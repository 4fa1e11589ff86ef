//! Child processes that tests stop, freeze and kill.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, mpsc};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::scratch::ServerUser;
use crate::{tools, wait};

/// How long a dropped process may take for its orderly end before it is killed.
const DROP_GRACE: Duration = Duration::from_secs(3);

/// A test process may die before setpriv has asked for the signal: whoever starts with another parent ends.
const EXEC_UNLESS_ORPHANED: &str = r#"test "$PPID" = "$0" || exit 1; exec "$@""#;

/// What to start, kept so that the same can be started again.
#[derive(Debug, Clone)]
pub struct ProcessSpec {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, Option<OsString>)>,
    folder: Option<PathBuf>,
    user: Option<ServerUser>,
    last_signal: LastSignal,
    log: PathBuf,
    output: Option<PathBuf>,
}

/// What ends a process whose value is dropped, or whose test process died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LastSignal {
    Kill,
    /// For PostgreSQL: "immediate shutdown", which takes its own children and shared memory along.
    Quit,
}

impl LastSignal {
    fn name(self) -> &'static str {
        match self {
            LastSignal::Kill => "KILL",
            LastSignal::Quit => "QUIT",
        }
    }

    fn signal(self) -> Signal {
        match self {
            LastSignal::Kill => Signal::KILL,
            LastSignal::Quit => Signal::QUIT,
        }
    }
}

impl ProcessSpec {
    /// Standard output and standard error are appended to `log`.
    pub fn new(program: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        ProcessSpec {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            folder: None,
            user: None,
            last_signal: LastSignal::Kill,
            log: log.into(),
            output: None,
        }
    }

    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    pub fn args<I: IntoIterator<Item: AsRef<OsStr>>>(mut self, arguments: I) -> Self {
        self.arguments
            .extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// Keeps a variable of the test's own environment from the process.
    pub fn without_env(mut self, name: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), None));
        self
    }

    pub fn current_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Sends standard output to a file of its own.
    pub fn output(mut self, path: impl Into<PathBuf>) -> Self {
        self.output = Some(path.into());
        self
    }

    pub(crate) fn user(mut self, user: Option<ServerUser>) -> Self {
        self.user = user;
        self
    }

    pub(crate) fn quit_at_the_end(mut self) -> Self {
        self.last_signal = LastSignal::Quit;
        self
    }

    fn command(&self) -> Result<Command> {
        // setpriv and the shell replace themselves by the program, so the pid stays the child's.
        let mut command = Command::new(tools::find("setpriv")?);
        command.args(["--pdeathsig", self.last_signal.name()]);
        if let Some(user) = &self.user {
            command.args([
                "--reuid",
                &user.uid.to_string(),
                "--regid",
                &user.gid.to_string(),
                "--clear-groups",
            ]);
        }
        command.args([
            "--",
            "/bin/sh",
            "-c",
            EXEC_UNLESS_ORPHANED,
            &std::process::id().to_string(),
        ]);
        command.arg(&self.program).args(&self.arguments);
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        let log = append(&self.log)?;
        command
            .stdin(Stdio::null())
            .stderr(log.try_clone().context("share the log file")?);
        command.stdout(match &self.output {
            Some(path) => append(path)?,
            None => log,
        });
        Ok(command)
    }
}

fn append(path: &Path) -> Result<File> {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("open {}", path.display()))
}

/// A running (or ended) child. Dropping it ends it and waits for its end.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    spec: ProcessSpec,
}

impl Process {
    pub fn spawn(spec: ProcessSpec) -> Result<Process> {
        let name = spec
            .program
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let child = spawn(spec.command()?).with_context(|| format!("start {}", spec.program.display()))?;
        Ok(Process { name, child, spec })
    }

    /// Starts the same again, after it ended.
    pub fn start_again(&mut self) -> Result<()> {
        if self.is_running() {
            bail!("{} still runs", self.name);
        }
        self.child = spawn(self.spec.command()?).with_context(|| format!("start {} again", self.name))?;
        Ok(())
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        wait::until(&what, limit, || Ok(self.child.try_wait()?))
    }

    /// SIGTERM, then waits.
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(limit)
    }

    /// SIGINT, then waits.
    pub fn interrupt(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::INT)?;
        self.wait(limit)
    }

    /// SIGQUIT, then waits.
    pub fn quit(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::QUIT)?;
        self.wait(limit)
    }

    /// SIGKILL; the process is gone when this returns. Does nothing to one that has ended already.
    pub fn kill(&mut self) -> Result<()> {
        if self.is_running() {
            self.child.kill().with_context(|| format!("kill {}", self.name))?;
        }
        self.child.wait().with_context(|| format!("reap {}", self.name))?;
        Ok(())
    }

    /// SIGSTOP: the process keeps its connections and memory, and does nothing until [`Process::resume`].
    pub fn pause(&mut self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub fn resume(&mut self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// What the process has written so far: both streams, unless standard output went elsewhere.
    pub fn log(&self) -> String {
        fs::read(&self.spec.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// What went to the file of [`ProcessSpec::output`].
    pub fn output(&self) -> String {
        let bytes = self
            .spec
            .output
            .as_ref()
            .and_then(|path| fs::read(path).ok())
            .unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Calls `ready` until it gives a value. An early end of the process is an error that shows its log.
    pub fn wait_ready<T>(
        &mut self,
        limit: Duration,
        mut ready: impl FnMut(&Process) -> Option<T>,
    ) -> Result<T> {
        let what = format!("{} to be ready", self.name);
        wait::until(&what, limit, || match self.child.try_wait()? {
            Some(status) => Err(anyhow!("{} ended early ({status})", self.name)),
            None => Ok(ready(self)),
        })
        .with_context(|| format!("log of {}:\n{}", self.name, last_lines(&self.log(), 20)))
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        // After the reaping, the number could be another process's.
        if !self.is_running() {
            bail!("{} has ended", self.name);
        }
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| anyhow!("{} has no pid", self.name))?;
        kill_process(pid, signal).with_context(|| format!("send {signal:?} to {}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.spec.last_signal != LastSignal::Kill && self.signal(self.spec.last_signal.signal()).is_ok() {
            // A frozen process gets the signal only once it goes on.
            let _ = self.resume();
            let _ = self.wait(DROP_GRACE);
        }
        // Nobody is left to tell: what cannot be killed now ends with the test process.
        let _ = self.kill();
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

type SpawnJob = (Command, mpsc::Sender<io::Result<Child>>);

/// Starts a command from one thread that lives as long as this process: the kernel sends the parent-death
/// signal when the *thread* that started the child ends, and a test's thread ends with its test.
fn spawn(command: Command) -> Result<Child> {
    static SPAWNER: LazyLock<mpsc::Sender<SpawnJob>> = LazyLock::new(|| {
        let (jobs, queue) = mpsc::channel::<SpawnJob>();
        std::thread::spawn(move || {
            for (mut command, answer) in queue {
                // The asker waits; if its thread is gone all the same, the child is dropped unseen and ends with us.
                let _ = answer.send(command.spawn());
            }
        });
        jobs
    });
    let (answer, result) = mpsc::channel();
    SPAWNER
        .send((command, answer))
        .context("reach the thread that starts processes")?;
    Ok(result
        .recv()
        .context("hear from the thread that starts processes")??)
}
