//! One run of a command of an external migrator: in its own process group, with its DSN in the environment.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;

use crate::process::{ProcessGroup, Stopped};

/// How long a command may take to end after TERM, before its group is killed.
const TERM_GRACE: Duration = Duration::from_secs(5);

/// Most of a command's output that is kept for its rule, in bytes. Everything is logged.
const KEPT_MAX: usize = 1 << 20;

/// Lines that may wait to be told. A command that prints faster waits.
const LINES_MAX: usize = 256;

/// How long output of processes that a command left behind is waited for.
const HEAR_OUT: Duration = Duration::from_millis(500);

/// What of this process's environment a command gets: no other target's DSN.
const PASSED_ON: [&str; 6] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// A command, ready to run. `Debug` leaves the environment out, which holds the DSN.
pub struct Call {
    program: String,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    working_dir: Option<PathBuf>,
    /// Never shown.
    secret: Option<String>,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call")
            .field("program", &self.program)
            .field("arguments", &self.arguments)
            .finish_non_exhaustive()
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; `None`: by a signal.
    pub code: Option<i32>,
    /// What it printed, both streams, cut at a limit.
    pub printed: String,
    /// Whether its time was up.
    pub timed_out: bool,
}

/// A command that could not be run, or not be ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It cannot be started.
    #[error("start {program}: {reason}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        reason: std::io::Error,
    },
    /// Its processes are still there, although killed.
    #[error("end {program}: its processes are still there, although killed")]
    Stuck {
        /// The program.
        program: String,
    },
}

impl Call {
    /// A call of `argv`, whose first text is the program.
    #[must_use]
    pub fn new(argv: &[String]) -> Self {
        let mut words = argv.iter().cloned();
        Self {
            program: words.next().unwrap_or_default(),
            arguments: words.collect(),
            environment: BTreeMap::new(),
            working_dir: None,
            secret: None,
        }
    }

    /// Sets variables.
    #[must_use]
    pub fn environment(mut self, variables: &BTreeMap<String, String>) -> Self {
        self.environment.extend(variables.clone());
        self
    }

    /// Sets the variable that holds the DSN. `secret`, a password, is cut out of whatever is printed.
    #[must_use]
    pub fn dsn(mut self, variable: &str, dsn: String, secret: Option<&str>) -> Self {
        self.environment.insert(variable.to_owned(), dsn);
        self.secret = secret.filter(|secret| !secret.is_empty()).map(str::to_owned);
        self
    }

    /// Sets the folder that it runs in.
    #[must_use]
    pub fn working_dir(mut self, dir: Option<PathBuf>) -> Self {
        self.working_dir = dir;
        self
    }

    /// Runs it, and ends it after `limit`: TERM to the whole group, KILL some seconds later. Returns when no process of
    /// the group is left. Dropped, it kills the group.
    ///
    /// # Errors
    /// It cannot be started, or its processes cannot be ended.
    pub async fn run(self, limit: Duration, tell: &(dyn Fn(&str) + Sync)) -> Result<Ended, RunError> {
        let (mut group, mut lines) = self.start()?;
        let mut printed = String::new();
        let mut hear = |line: String| {
            let line = match &self.secret {
                Some(secret) => line.replace(secret.as_str(), "***"),
                None => line,
            };
            tell(&line);
            if printed.len() + line.len() < KEPT_MAX {
                printed.push_str(&line);
                printed.push('\n');
            }
        };
        let deadline = tokio::time::sleep(limit);
        tokio::pin!(deadline);
        let mut timed_out = false;
        let status = loop {
            tokio::select! {
                Some(line) = lines.recv() => hear(line),
                status = group.ended() => break status.ok(),
                () = &mut deadline => {
                    timed_out = true;
                    break None;
                }
            }
        };
        // What the program left behind goes with it, and what it printed last is heard first.
        let stopped = match status {
            Some(_) => {
                hear_out(&mut lines, &mut hear).await;
                group.stop(Signal::TERM, TERM_GRACE).await
            }
            None => {
                let stopped = group.stop(Signal::TERM, TERM_GRACE).await;
                hear_out(&mut lines, &mut hear).await;
                stopped
            }
        };
        let last = match stopped {
            Stopped::Gently(last) | Stopped::Killed(last) => last,
            Stopped::Stuck => {
                return Err(RunError::Stuck {
                    program: self.program,
                });
            }
        };
        Ok(Ended {
            code: status.or(last).and_then(|status: ExitStatus| status.code()),
            printed,
            timed_out,
        })
    }

    fn start(&self) -> Result<(ProcessGroup, mpsc::Receiver<String>), RunError> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(
                PASSED_ON
                    .iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            )
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(dir) = &self.working_dir {
            command.current_dir(dir);
        }
        let failed = |reason| RunError::Start {
            program: self.program.clone(),
            reason,
        };
        let mut group = ProcessGroup::spawn(&mut command).map_err(failed)?;
        let (teller, lines) = mpsc::channel(LINES_MAX);
        let (out, err) = group.output();
        if let Some(out) = out {
            tokio::spawn(read(out, teller.clone()));
        }
        if let Some(err) = err {
            tokio::spawn(read(err, teller));
        }
        Ok((group, lines))
    }
}

/// Ends with the stream, or with whoever listens.
async fn read(stream: impl AsyncRead + Unpin + Send, teller: mpsc::Sender<String>) {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    while stream.read_until(b'\n', &mut line).await.is_ok_and(|n| n > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        if teller.send(text).await.is_err() {
            return;
        }
    }
}

async fn hear_out(lines: &mut mpsc::Receiver<String>, hear: &mut (impl FnMut(String) + Send)) {
    let all = async {
        while let Some(line) = lines.recv().await {
            hear(line);
        }
    };
    let _ = tokio::time::timeout(HEAR_OUT, all).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Call {
        Call::new(&["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()])
    }

    #[tokio::test]
    async fn both_streams_are_told_line_by_line_without_the_password() {
        let heard = std::sync::Mutex::new(Vec::new());
        let call =
            shell("echo $DSN; echo bad >&2; exit 4").dsn("DSN", "x://u:hush@h".to_owned(), Some("hush"));
        let told = |line: &str| heard.lock().unwrap().push(line.to_owned());
        let ended = call.run(Duration::from_secs(10), &told).await.unwrap();
        assert_eq!((ended.code, ended.timed_out), (Some(4), false));
        let heard = heard.into_inner().unwrap();
        assert!(
            heard.contains(&"x://u:***@h".to_owned()) && heard.contains(&"bad".to_owned()),
            "{heard:?}"
        );
        assert!(!ended.printed.contains("hush"));
    }

    #[tokio::test]
    async fn a_command_that_ignores_term_is_killed_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("alive");
        let script = format!(
            "trap '' TERM; (trap '' TERM; while :; do date >{}; sleep 0.05; done) & wait",
            file.display()
        );
        let ended = shell(&script)
            .run(Duration::from_millis(300), &|_| {})
            .await
            .unwrap();
        assert!(ended.timed_out);
        assert!(file.exists());
        std::fs::remove_file(&file).unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!file.exists(), "a child goes on");
    }

    #[tokio::test]
    async fn nothing_of_the_environment_is_passed_on_but_what_is_named() {
        let ended = shell("env").run(Duration::from_secs(10), &|_| {}).await.unwrap();
        assert!(!ended.printed.contains("CARGO_"), "{}", ended.printed);
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let call = Call::new(&["/nowhere/migrator".to_owned()]);
        let error = call.run(Duration::from_secs(1), &|_| {}).await.unwrap_err();
        assert!(error.to_string().contains("/nowhere/migrator"));
    }
}
