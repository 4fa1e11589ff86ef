//! `lockkeeper agent run -- CMD…`: stop, migrate, start, for a program that knows nothing of it.
//!
//! The program runs only while this process holds a permit for each of its targets. When one is fenced the program
//! is asked to end, then killed, and only when its last process has gone are the permits given back: that is the ack
//! which the rollout waits for. The time for ending gently is cut short by the end of the write lease, after which
//! nobody waits for this agent any more.

use std::process::ExitStatus;
use std::time::Duration;

use clap::Args;
use futures::future::select_all;
use lockkeeper_agent::{Agent, AgentError, Fence, Instant, OnLoss, Permit};
use lockkeeper_coordinator::telemetry;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use super::flags::{Registration, agent_failure, build_failure};
use super::report::Reporter;
use super::say;
use crate::exit::{Exit, Failure};
use lockkeeper_migrate::process::{ProcessGroup, Stopped, exit_code, signalled_code};

/// Without renewals the program is stopped when this part of the lease is left: early enough to end gently before
/// its end, late enough that two coordinators can be tried.
const LEASE_LEFT_FRACTION: u32 = 5;

/// Pause before trying again when one target closed while another one's permit was being taken.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Run a program while its databases are open at a schema version that fits.
///
/// Registers, waits until every target is open at a version that fits, then starts CMD. When a target is fenced, or
/// no coordinator renews the write lease, CMD is stopped (SIGTERM, then SIGKILL after the grace) and started again
/// when all are open. When CMD ends by itself its exit code is passed on; SIGTERM and SIGINT are forwarded to it and
/// end this too.
#[derive(Debug, Args)]
pub(crate) struct RunCommand {
    #[command(flatten)]
    registration: Registration,
    /// How long CMD may take to end after SIGTERM; the write lease's end cuts it short
    #[arg(long, env = "LOCKKEEPER_GRACE", value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    grace: Duration,
    /// Keep CMD running when no coordinator can be reached; only for targets whose database refuses writes by itself
    /// while it is fenced (strength barrier)
    #[arg(long, env = "LOCKKEEPER_GO_ON_WITHOUT_COORDINATOR")]
    go_on_without_coordinator: bool,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

impl RunCommand {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let on_loss = if self.go_on_without_coordinator {
            OnLoss::GoOn
        } else {
            OnLoss::Stop
        };
        let mut builder = self.registration.builder();
        for target in self.registration.target_names() {
            builder = builder.on_loss(target, on_loss);
        }
        let agent = builder
            .metadata(telemetry::inject)
            .trace_fences(|span, traceparent| telemetry::continue_trace(span, Some(traceparent)))
            .build()
            .map_err(|error| build_failure(&error))?;
        let _reporter = Reporter::start(&agent);
        let mut supervisor = Supervisor {
            agent: &agent,
            command: &self.command,
            grace: self.grace,
            signals: Signals::new()?,
        };
        let end = supervisor.supervise().await;
        if let Err(error) = agent.shutdown().await {
            say(format_args!("shutting down: {error}"));
        }
        match end? {
            // The program's own code, which is none of ours; what had to be tidied up is.
            code @ 1.. => std::process::exit(code),
            _ => Ok(Exit::Ok),
        }
    }
}

/// Keeps one program running with the gates.
struct Supervisor<'a> {
    agent: &'a Agent,
    command: &'a [String],
    grace: Duration,
    signals: Signals,
}

/// Why the program does not go on as it was.
enum Event {
    Ended(ExitStatus),
    Fenced(String),
    /// Nobody renews the lease, which ends at this time.
    LeaseRunsOut(Option<Instant>),
    Signal(Signal),
}

/// What follows when the program has stopped.
enum Next {
    /// The end, with this exit code.
    End(i32),
    /// Another start; after a lease that ran out, with one that ends later than that.
    Again { lease_beyond: Option<Instant> },
}

impl Supervisor<'_> {
    /// Returns the exit code to end with.
    async fn supervise(&mut self) -> Result<i32, Failure> {
        let mut lease_beyond = None;
        loop {
            let permits = tokio::select! {
                biased;
                signal = self.signals.next() => return Ok(signalled_code(signal)),
                permits = take_all(self.agent, lease_beyond) => permits.map_err(|error| agent_failure(&error))?,
            };
            match self.run_once(&permits).await? {
                Next::End(code) => return Ok(code),
                Next::Again { lease_beyond: beyond } => lease_beyond = beyond,
            }
            drop(permits);
            say("the program is stopped; it starts again when every target is open");
        }
    }

    /// Runs the program until it has ended, or must not go on.
    async fn run_once(&mut self, permits: &[Permit]) -> Result<Next, Failure> {
        let (program, arguments) = self
            .command
            .split_first()
            .ok_or_else(|| Failure::usage("no command is given"))?;
        let mut group = ProcessGroup::start(program, arguments)
            .map_err(|error| Failure::new(Exit::Usage, format!("start {program}: {error}")))?;
        say(format_args!("started {program} (pid {})", group.id()));
        let event = tokio::select! {
            status = group.ended() => {
                Event::Ended(status.map_err(|e| Failure::new(Exit::Error, format!("wait for {program}: {e}")))?)
            }
            why = any_revoked(permits) => Event::Fenced(why),
            end = lease_runs_out(permits, self.grace) => Event::LeaseRunsOut(end),
            signal = self.signals.next() => Event::Signal(signal),
        };
        let lease_left = permits.iter().filter_map(Permit::remaining).min();
        let limit = lease_left.map_or(self.grace, |left| left.min(self.grace));
        Ok(match event {
            Event::Ended(status) => {
                // Children that it left behind hold connections too.
                tell(group.stop(Signal::TERM, limit).await);
                Next::End(exit_code(status))
            }
            Event::Fenced(why) => {
                say(format_args!("stopping {program} within {limit:?}: {why}"));
                tell(group.stop(Signal::TERM, limit).await);
                Next::Again { lease_beyond: None }
            }
            Event::LeaseRunsOut(end) => {
                say(format_args!(
                    "stopping {program} within {limit:?}: no coordinator renews the write lease, which is about to end"
                ));
                tell(group.stop(Signal::TERM, limit).await);
                Next::Again { lease_beyond: end }
            }
            Event::Signal(signal) => Next::End(match tell(group.stop(signal, limit).await) {
                Some(status) => exit_code(status),
                None => signalled_code(signal),
            }),
        })
    }
}

/// Says what had to be done to a program that did not end when asked.
fn tell(stopped: Stopped) -> Option<ExitStatus> {
    match stopped {
        Stopped::Gently(status) => status,
        Stopped::Killed(status) => {
            say("the program did not end in time and was killed");
            status
        }
        Stopped::Stuck => {
            say("the program was killed, and some of its processes are still there");
            None
        }
    }
}

/// A permit for every target, or none: one that is held while another is waited for would keep its fence from
/// draining. None either while the shortest lease does not go beyond the time given: a program that has just been
/// stopped because its lease ran out is not started again with the rest of it.
async fn take_all(agent: &Agent, lease_beyond: Option<Instant>) -> Result<Vec<Permit>, AgentError> {
    loop {
        agent.register_and_wait().await?;
        let all: Result<Vec<Permit>, Fence> = agent
            .targets()
            .map(|target| agent.try_write_labelled(target, "lockkeeper agent run"))
            .collect();
        match all {
            Ok(permits) if lease_beyond.is_none() || lease_end(&permits) > lease_beyond => {
                return Ok(permits);
            }
            Ok(_) | Err(_) => sleep(RETRY_PAUSE).await,
        }
    }
}

/// Ends when a target is fenced, and says why.
async fn any_revoked(permits: &[Permit]) -> String {
    let revoked = permits
        .iter()
        .map(|permit| Box::pin(async move { (permit.target(), permit.revoked().await) }));
    let ((target, fence), _, _) = select_all(revoked).await;
    format!("{target}: {fence}")
}

/// Ends when little is left of the shortest lease, with that lease's end.
async fn lease_runs_out(permits: &[Permit], grace: Duration) -> Option<Instant> {
    let mut longest = Duration::ZERO;
    while let Some(left) = permits.iter().filter_map(Permit::remaining).min() {
        longest = longest.max(left);
        let needed = grace.min(longest / LEASE_LEFT_FRACTION);
        if left <= needed {
            return lease_end(permits);
        }
        sleep(left - needed).await;
    }
    std::future::pending().await
}

fn lease_end(permits: &[Permit]) -> Option<Instant> {
    permits.iter().filter_map(Permit::deadline).min()
}

/// The signals that end this program.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::new(Exit::Error, format!("listen for signals: {error}")))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.interrupt.recv() => Signal::INT,
        }
    }
}
