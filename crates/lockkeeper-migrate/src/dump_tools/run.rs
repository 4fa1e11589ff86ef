//! One run of a program.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::error::ToolError;
use super::find::Tool;
use super::login::Login;
use crate::db::{Event, Notice, Observer};

/// How many of a program's last lines stand in an error.
const LAST_WORDS: usize = 8;

/// Lines that may wait to be shown. More at once are shown no more; the last ones are kept for errors anyway.
const UNSHOWN_LINES: usize = 256;

/// A line that is longer is cut when it is told.
const LINE_CHARS: usize = 500;

/// How long the last words of an ended program are waited for.
const HEAR_OUT_LIMIT: Duration = Duration::from_secs(1);

/// Where a program's standard input comes from.
#[derive(Debug)]
pub enum Input {
    /// There is none.
    Nothing,
    /// A file.
    File(File),
    /// The caller writes it: see [`Running::input`].
    Piped,
}

/// Where its standard output goes.
#[derive(Debug)]
pub enum Output {
    /// Nowhere.
    Nothing,
    /// Into a file.
    File(File),
    /// The caller reads it: see [`Running::output`].
    Piped,
}

/// A call being put together.
#[derive(Debug)]
pub struct Call {
    name: String,
    path: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    /// Keeps the options file while the program runs.
    login: Option<Login>,
    input: Input,
    output: Output,
    limit: Duration,
}

impl Call {
    /// A call that logs in.
    ///
    /// # Errors
    /// When the program is not for that database.
    pub fn new(tool: &Tool, login: &Login, limit: Duration) -> Result<Self, ToolError> {
        login.check(tool.program)?;
        Ok(Self {
            name: tool.name(),
            path: tool.path.clone(),
            arguments: login.arguments(),
            environment: login.environment().to_vec(),
            login: Some(login.clone()),
            input: Input::Nothing,
            output: Output::Nothing,
            limit,
        })
    }

    /// A call of a program that needs no login, such as reading a dump's table of contents.
    #[must_use]
    pub fn without_login(tool: &Tool, limit: Duration) -> Self {
        Self::bare(tool.name(), tool.path.clone(), limit)
    }

    /// A shell command of the user's.
    #[must_use]
    pub fn shell(command: &str, limit: Duration) -> Self {
        Self::bare("command".to_owned(), PathBuf::from("/bin/sh"), limit)
            .arg("-c")
            .arg(command)
    }

    fn bare(name: String, path: PathBuf, limit: Duration) -> Self {
        Self {
            name,
            path,
            arguments: Vec::new(),
            environment: Vec::new(),
            login: None,
            input: Input::Nothing,
            output: Output::Nothing,
            limit,
        }
    }

    /// Adds an argument: never a secret.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments: never a secret.
    #[must_use]
    pub fn args<I: IntoIterator<Item: AsRef<OsStr>>>(mut self, arguments: I) -> Self {
        self.arguments
            .extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// Says where the input comes from.
    #[must_use]
    pub fn input(mut self, input: Input) -> Self {
        self.input = input;
        self
    }

    /// Says where the output goes.
    #[must_use]
    pub fn output(mut self, output: Output) -> Self {
        self.output = output;
        self
    }

    /// Starts it, in a process group of its own.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(self) -> Result<Running, ToolError> {
        let name = self.name.clone();
        self.spawn()
            .map_err(|error| ToolError::Io { program: name, error })
    }

    fn spawn(self) -> io::Result<Running> {
        let mut command = Command::new(&self.path);
        for name in Login::variables_to_remove() {
            command.env_remove(name);
        }
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(match self.input {
                Input::Nothing => Stdio::null(),
                Input::File(file) => file.into(),
                Input::Piped => Stdio::piped(),
            })
            .stdout(match self.output {
                Output::Nothing => Stdio::null(),
                Output::File(file) => file.into(),
                Output::Piped => Stdio::piped(),
            })
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        let group = Group::of(&child)?;
        let stderr = child
            .stderr
            .take()
            .ok_or_else(|| io::Error::other("it has no standard error"))?;
        let (tell, told) = mpsc::channel(UNSHOWN_LINES);
        Ok(Running {
            name: self.name,
            listening: tokio::spawn(listen(stderr, tell)),
            child,
            group,
            told,
            limit: self.limit,
            deadline: Instant::now() + self.limit,
            _login: self.login,
        })
    }

    /// Runs it to its end. What it says on standard error is told to `observer` line by line.
    ///
    /// # Errors
    /// When it cannot be started, says that it failed, or takes longer than it may.
    pub async fn run(self, observer: &dyn Observer) -> Result<(), ToolError> {
        self.start()?.end(observer).await
    }

    /// Runs it to its end and gives what it wrote to standard output.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn read(self, observer: &dyn Observer) -> Result<Vec<u8>, ToolError> {
        let mut running = self.output(Output::Piped).start()?;
        let mut bytes = Vec::new();
        let name = running.name.clone();
        let output = running.output();
        let reading = async {
            match output {
                Some(mut output) => output.read_to_end(&mut bytes).await,
                None => Ok(0),
            }
        };
        // Killing it at its limit ends the reading too.
        let (read, ended) = futures::join!(reading, running.end(observer));
        ended?;
        read.map_err(|error| ToolError::Io { program: name, error })?;
        Ok(bytes)
    }
}

/// A program that runs. Dropping it kills it with its children.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    group: Group,
    listening: JoinHandle<VecDeque<String>>,
    told: mpsc::Receiver<String>,
    limit: Duration,
    deadline: Instant,
    _login: Option<Login>,
}

impl Running {
    /// Its standard input, once, when it is piped. Dropping that ends the input.
    pub fn input(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Its standard output, once, when it is piped.
    pub fn output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// What it is called in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits for its end, or kills it when its time is over.
    ///
    /// # Errors
    /// When it says that it failed, or takes longer than it may.
    pub async fn end(mut self, observer: &dyn Observer) -> Result<(), ToolError> {
        let waited = tokio::time::timeout_at(self.deadline, self.wait(observer)).await;
        // What is left of its group after its own end has no business here either, and it keeps the pipe open.
        self.group.kill();
        self.hear_out(observer).await;
        match waited {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(ToolError::Failed {
                status: in_words(status),
                words: self.last_words().await,
                program: self.name,
            }),
            Ok(Err(error)) => Err(ToolError::Io {
                program: self.name,
                error,
            }),
            Err(_) => Err(ToolError::TimedOut {
                limit: self.limit,
                words: self.last_words().await,
                program: self.name,
            }),
        }
    }

    async fn wait(&mut self, observer: &dyn Observer) -> io::Result<ExitStatus> {
        loop {
            tokio::select! {
                Some(line) = self.told.recv() => observer.event(notice(&self.name, line)),
                status = self.child.wait() => return status,
            }
        }
    }

    /// Tells what it said last. Its group is killed, so the pipe ends, unless a child left the group.
    async fn hear_out(&mut self, observer: &dyn Observer) {
        let hearing = async {
            while let Some(line) = self.told.recv().await {
                observer.event(notice(&self.name, line));
            }
        };
        // What comes later is not waited for: the program itself has ended.
        let _ = tokio::time::timeout(HEAR_OUT_LIMIT, hearing).await;
    }

    async fn last_words(&mut self) -> Vec<String> {
        let words = tokio::time::timeout(HEAR_OUT_LIMIT, &mut self.listening).await;
        words.ok().and_then(Result::ok).unwrap_or_default().into()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

fn notice(program: &str, message: String) -> Event {
    Event::Notice(Notice {
        severity: program.to_owned(),
        message,
    })
}

fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Reads standard error to its end, tells each line, and gives the last ones.
async fn listen(stderr: ChildStderr, tell: mpsc::Sender<String>) -> VecDeque<String> {
    let mut last = VecDeque::new();
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    while reader
        .read_until(b'\n', &mut line)
        .await
        .is_ok_and(|read| read > 0)
    {
        let text: String = String::from_utf8_lossy(&line)
            .trim_end()
            .chars()
            .take(LINE_CHARS)
            .collect();
        line.clear();
        if text.is_empty() {
            continue;
        }
        if last.len() == LAST_WORDS {
            last.pop_front();
        }
        last.push_back(text.clone());
        // Nobody listens, or not fast enough: the program must not wait for that.
        let _ = tell.try_send(text);
    }
    last
}

/// A process group. The kernel does not give its number again while any of its processes is left.
#[derive(Debug)]
struct Group(Pid);

impl Group {
    fn of(child: &Child) -> io::Result<Self> {
        child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw)
            .map(Self)
            .ok_or_else(|| io::Error::other("the program has no process id"))
    }

    fn kill(&self) {
        // One that is gone is no error.
        let _ = kill_process_group(self.0, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::db::Silent;

    const LIMIT: Duration = Duration::from_secs(20);

    #[derive(Default)]
    struct Lines(Mutex<Vec<String>>);

    impl Observer for Lines {
        fn event(&self, event: Event) {
            if let Event::Notice(notice) = event {
                self.0.lock().unwrap().push(notice.message);
            }
        }
    }

    #[tokio::test]
    async fn output_is_read_and_standard_error_is_told() {
        let lines = Lines::default();
        let read = Call::shell("echo out; echo one >&2; echo two >&2", LIMIT)
            .read(&lines)
            .await;
        assert_eq!(read.unwrap(), b"out\n");
        assert_eq!(*lines.0.lock().unwrap(), ["one", "two"]);
    }

    #[tokio::test]
    async fn a_failure_has_its_last_words() {
        let failed = Call::shell("echo 'no such thing' >&2; exit 3", LIMIT)
            .run(&Silent)
            .await;
        assert_eq!(
            failed.unwrap_err().to_string(),
            "run command: exit code 3: no such thing"
        );
    }

    /// A time that only this test sleeps for, so that a process which does is its child.
    fn seconds() -> String {
        format!("{}.{}", 10_000 + fastrand::u32(..80_000), std::process::id())
    }

    /// Waits until a process sleeps for this long, or until none does.
    async fn wait_until(sleeps: bool, seconds: &str) {
        let command = format!("sleep\0{seconds}\0").into_bytes();
        let there = || {
            let mut processes = std::fs::read_dir("/proc").unwrap().flatten();
            processes.any(|process| std::fs::read(process.path().join("cmdline")).is_ok_and(|c| c == command))
        };
        let waiting = async {
            while there() != sleeps {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LIMIT, waiting).await.unwrap();
    }

    #[tokio::test]
    async fn children_are_killed_with_a_program_that_takes_too_long() {
        let seconds = seconds();
        let call = Call::shell(
            &format!("echo begun >&2; sleep {seconds} & wait"),
            Duration::from_secs(1),
        );
        let ended = call.run(&Silent).await.unwrap_err();
        assert!(
            matches!(&ended, ToolError::TimedOut { words, .. } if words == &["begun"]),
            "{ended}"
        );
        wait_until(false, &seconds).await;
    }

    #[tokio::test]
    async fn children_are_killed_with_a_run_that_is_dropped() {
        let seconds = seconds();
        let running = Call::shell(&format!("sleep {seconds} & wait"), LIMIT)
            .start()
            .unwrap();
        wait_until(true, &seconds).await;
        drop(running);
        wait_until(false, &seconds).await;
    }
}
