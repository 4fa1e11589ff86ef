//! A program and all its children, in a process group of their own.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::{sleep, timeout};

/// How often it is looked whether the group's last process has gone: the kernel tells only of the first.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long killed processes may take to go away.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// A shell's exit code for a program that a signal ended is this and the signal's number.
const SIGNALLED: i32 = 128;

/// A running program with its children.
#[derive(Debug)]
pub struct ProcessGroup {
    child: Child,
    id: Pid,
}

/// How a stopped group ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// All its processes ended when asked.
    Gently(Option<ExitStatus>),
    /// Some had to be killed.
    Killed(Option<ExitStatus>),
    /// Some are still there, although killed: stuck in the kernel.
    Stuck,
}

impl ProcessGroup {
    /// Starts `program`. Standard input, output and error are this process's own.
    ///
    /// # Errors
    /// As the system says.
    pub fn start(program: &str, arguments: &[String]) -> io::Result<Self> {
        Self::spawn(Command::new(program).args(arguments))
    }

    /// Starts a command in a group of its own.
    ///
    /// # Errors
    /// As the system says.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        let id = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        let id = id.ok_or_else(|| io::Error::other("the program has no process id"))?;
        Ok(Self { child, id })
    }

    /// The piped output and error streams, once.
    pub fn output(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.child.stdout.take(), self.child.stderr.take())
    }

    /// The group's id, which is the program's.
    #[must_use]
    pub fn id(&self) -> i32 {
        self.id.as_raw_nonzero().get()
    }

    /// Waits until the program itself ends; its children may go on.
    ///
    /// # Errors
    /// As the system says.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Asks every process to end, and kills what is left after `limit`.
    pub async fn stop(&mut self, signal: Signal, limit: Duration) -> Stopped {
        self.signal(signal);
        if let Ok(status) = timeout(limit, self.gone()).await {
            return Stopped::Gently(status);
        }
        self.signal(Signal::KILL);
        match timeout(KILL_TIMEOUT, self.gone()).await {
            Ok(status) => Stopped::Killed(status),
            Err(_) => Stopped::Stuck,
        }
    }

    async fn gone(&mut self) -> Option<ExitStatus> {
        let status = self.child.wait().await.ok();
        while self.has_processes() {
            sleep(LOOK_EVERY).await;
        }
        status
    }

    /// Zombies do not count: they write nothing, and in a container nobody may ever collect them.
    fn has_processes(&self) -> bool {
        test_kill_process_group(self.id).is_ok() && has_living_member(self.id())
    }

    /// A group that is gone already is no error.
    fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.id, signal);
    }
}

/// Whether any process of group `id` is alive. Where that cannot be seen, it is.
fn has_living_member(id: i32) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return true;
    };
    processes.flatten().any(|process| {
        let stat = std::fs::read_to_string(process.path().join("stat"));
        stat.is_ok_and(|stat| is_living_member(&stat, id))
    })
}

/// Reads `pid (name) state parent group …`; the name may hold anything.
fn is_living_member(stat: &str, id: i32) -> bool {
    let mut fields = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace())
        .into_iter()
        .flatten();
    let state = fields.next();
    let group = fields.nth(1).and_then(|group| group.parse::<i32>().ok());
    group == Some(id) && !matches!(state, Some("Z" | "X"))
}

impl Drop for ProcessGroup {
    /// Reached with processes left only when this program fails: none may go on writing without its keeper.
    fn drop(&mut self) {
        if self.child.id().is_some() {
            self.signal(Signal::KILL);
        }
    }
}

/// The exit code that passes `status` on.
#[must_use]
pub fn exit_code(status: ExitStatus) -> i32 {
    status
        .code()
        .or_else(|| status.signal().map(|signal| SIGNALLED + signal))
        .unwrap_or(SIGNALLED)
}

/// The exit code of a program that was ended by `signal`.
#[must_use]
pub fn signalled_code(signal: Signal) -> i32 {
    SIGNALLED + signal.as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> ProcessGroup {
        ProcessGroup::start("/bin/sh", &["-c".to_owned(), script.to_owned()]).unwrap()
    }

    #[tokio::test]
    async fn a_program_that_ends_when_asked_is_not_killed() {
        let mut group = shell("trap 'exit 3' TERM; while :; do sleep 0.01; done");
        sleep(Duration::from_millis(200)).await;
        match group.stop(Signal::TERM, Duration::from_secs(10)).await {
            Stopped::Gently(Some(status)) => assert_eq!(exit_code(status), 3),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn children_that_ignore_the_signal_are_killed_and_waited_for() {
        let mut group = shell("(trap '' TERM; while :; do sleep 0.01; done) & wait");
        sleep(Duration::from_millis(200)).await;
        assert!(matches!(
            group.stop(Signal::TERM, Duration::from_millis(200)).await,
            Stopped::Killed(_)
        ));
        assert!(!group.has_processes(), "a child outlived its program");
    }

    #[tokio::test]
    async fn the_program_ending_does_not_end_its_children() {
        let mut group = shell("sleep 60 & exit 7");
        assert_eq!(exit_code(group.ended().await.unwrap()), 7);
        assert!(group.has_processes());
        assert!(matches!(
            group.stop(Signal::TERM, Duration::from_secs(10)).await,
            Stopped::Gently(_)
        ));
        assert!(!group.has_processes());
    }

    #[test]
    fn a_zombie_is_no_living_member() {
        assert!(is_living_member("7 (a) b) S 1 42 42 0", 42));
        assert!(!is_living_member("7 (sh) Z 1 42 42 0", 42));
        assert!(!is_living_member("7 (sh) S 42 1 42 0", 42));
    }

    #[tokio::test]
    async fn a_program_that_a_signal_ended_gives_the_shells_code() {
        let mut group = shell("kill -TERM $$");
        assert_eq!(exit_code(group.ended().await.unwrap()), 143);
        assert_eq!(signalled_code(Signal::INT), 130);
    }
}
