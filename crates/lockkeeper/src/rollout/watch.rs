//! Following a rollout to its end, over losses of the coordinator that tells of it.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use lockkeeper_proto::v1;
use lockkeeper_proto::v1::rollout_service_client::RolloutServiceClient;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tonic::Code;

use super::show;
use crate::client::{ServerFlag, refused, request};
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use crate::text::target_state;

/// How progress is shown on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Bars, on a terminal.
    Drawn,
    /// A line per change.
    Logged,
}

/// Pause before another coordinator is asked.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

/// How long no coordinator may answer before the command gives up.
const RECONNECT_PATIENCE: Duration = Duration::from_secs(60);

/// Follows until the rollout ends or is held, or `timeout` has passed. SIGTERM and SIGINT detach: the rollout goes
/// on.
pub(super) async fn follow(
    server: &ServerFlag,
    id: &str,
    timeout: Option<Duration>,
    format: Format,
    style: Style,
) -> Result<Exit, Failure> {
    let mut screen = Screen::new(style);
    let failed = |e: std::io::Error| Failure::new(Exit::Error, format!("listen for signals: {e}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let over = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    let detached = |why: &str| {
        Failure::new(Exit::TimedOut, format!("{why}; rollout {id} goes on")).hint(format!(
            "`lockkeeper rollout watch {id}` follows it, `lockkeeper rollout abort {id}` stops it"
        ))
    };
    let rollout = tokio::select! {
        last = to_the_end(server, id, format, &mut screen) => last?,
        () = over => return Err(detached("timed out")),
        _ = terminate.recv() => return Err(detached("SIGTERM")),
        _ = interrupt.recv() => return Err(detached("interrupted")),
    };
    drop(screen);
    if format != Format::Json {
        output::print(format, &show::json(&rollout), |_| show::text(&rollout))?;
    }
    Ok(match rollout.state() {
        v1::RolloutState::Done => Exit::Ok,
        v1::RolloutState::Held => Exit::Held,
        v1::RolloutState::Aborted | v1::RolloutState::RolledBack => Exit::EndedOtherwise,
        v1::RolloutState::Running
        | v1::RolloutState::Paused
        | v1::RolloutState::Approval
        | v1::RolloutState::Bake
        | v1::RolloutState::Window
        | v1::RolloutState::Unspecified => Exit::Error,
    })
}

async fn to_the_end(
    server: &ServerFlag,
    id: &str,
    format: Format,
    screen: &mut Screen,
) -> Result<v1::Rollout, Failure> {
    let mut answered = Instant::now();
    let mut revision = 0;
    loop {
        match once(server, id, format, screen, &mut answered, &mut revision).await {
            Ok(Some(rollout)) => return Ok(rollout),
            Ok(None) => {}
            Err(failure) if failure.exit == Exit::Usage || answered.elapsed() > RECONNECT_PATIENCE => {
                return Err(failure);
            }
            Err(failure) => screen.note(&format!("{}; asking another coordinator", failure.message())),
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

/// Follows through one connection. `None`: it ended before the rollout did.
async fn once(
    server: &ServerFlag,
    id: &str,
    format: Format,
    screen: &mut Screen,
    answered: &mut Instant,
    revision: &mut u64,
) -> Result<Option<v1::Rollout>, Failure> {
    let mut client = RolloutServiceClient::new(server.connect().await?);
    let message = v1::WatchRolloutRequest {
        id: id.to_owned(),
        after_revision: *revision,
    };
    let mut changes = match client.watch_rollout(request(message)).await {
        Ok(changes) => changes.into_inner(),
        Err(status) => {
            // Another store, to which the fleet was moved, counts anew.
            *revision = 0;
            return Err(refused(status));
        }
    };
    loop {
        let change = match changes.message().await {
            Ok(Some(change)) => change,
            Ok(None) => return Ok(None),
            Err(status) if status.code() == Code::NotFound => return Err(refused(status)),
            Err(_) => return Ok(None),
        };
        *answered = Instant::now();
        let Some(rollout) = change.rollout else { continue };
        *revision = rollout.revision;
        if format == Format::Json {
            output::write(&format!("{}\n", show::json(&rollout)))?;
        }
        screen.show(&rollout);
        if ends_here(rollout.state()) {
            return Ok(Some(rollout));
        }
    }
}

/// Whether nothing more comes: ended, or held.
fn ends_here(state: v1::RolloutState) -> bool {
    match state {
        v1::RolloutState::Held
        | v1::RolloutState::Done
        | v1::RolloutState::Aborted
        | v1::RolloutState::RolledBack => true,
        v1::RolloutState::Unspecified
        | v1::RolloutState::Running
        | v1::RolloutState::Paused
        | v1::RolloutState::Approval
        | v1::RolloutState::Bake
        | v1::RolloutState::Window => false,
    }
}

/// Progress on standard error.
struct Screen {
    bars: Option<(MultiProgress, BTreeMap<String, ProgressBar>)>,
    last: BTreeMap<String, String>,
    /// What the rollout as a whole waited for last.
    waiting: String,
}

impl Screen {
    fn new(style: Style) -> Self {
        let drawn = style == Style::Drawn && std::io::stderr().is_terminal();
        Self {
            bars: drawn.then(|| (MultiProgress::new(), BTreeMap::new())),
            last: BTreeMap::new(),
            waiting: String::new(),
        }
    }

    fn note(&self, text: &str) {
        match &self.bars {
            // The bars are drawn again below it.
            Some((all, _)) => drop(all.println(text)),
            None => eprintln!("{text}"),
        }
    }

    fn show(&mut self, rollout: &v1::Rollout) {
        let waiting = rollout.waiting.as_ref().map(show::waiting).unwrap_or_default();
        if waiting != self.waiting && !waiting.is_empty() {
            self.note(&waiting);
        }
        self.waiting = waiting;
        for target in &rollout.targets {
            let mut line = target_state(target.state());
            if !target.reason.is_empty() {
                line = format!("{line}: {}", target.reason);
            }
            match &mut self.bars {
                Some((all, bars)) => {
                    let bar = bars
                        .entry(target.name.clone())
                        .or_insert_with(|| bar(all, &target.name));
                    bar.set_position(position(target.state()));
                    bar.set_message(line);
                }
                None if self.last.get(&target.name) != Some(&line) => {
                    eprintln!("{} {line}", target.name);
                    self.last.insert(target.name.clone(), line);
                }
                None => {}
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Some((_, bars)) = &self.bars {
            bars.values().for_each(ProgressBar::abandon);
        }
    }
}

fn bar(all: &MultiProgress, name: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:24} [{bar:24}] {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    all.add(ProgressBar::new(6))
        .with_style(style.progress_chars("=> "))
        .with_prefix(name.to_owned())
}

/// How far along the main path a state lies.
fn position(state: v1::TargetState) -> u64 {
    match state {
        v1::TargetState::Unspecified | v1::TargetState::Pending => 0,
        v1::TargetState::Preflight => 1,
        v1::TargetState::Fencing => 2,
        v1::TargetState::Migrating | v1::TargetState::RollingBack | v1::TargetState::Held => 3,
        v1::TargetState::Verifying => 4,
        v1::TargetState::Opening | v1::TargetState::Baking => 5,
        v1::TargetState::Done
        | v1::TargetState::Aborted
        | v1::TargetState::RolledBack
        | v1::TargetState::Skipped => 6,
    }
}
