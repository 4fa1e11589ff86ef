//! Tells a person, on standard error, what the agent sees.

use lockkeeper_agent::{Agent, LinkState, TargetView};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::say;

/// Reports until it is dropped.
#[derive(Debug)]
pub(super) struct Reporter {
    _tasks: JoinSet<()>,
}

impl Reporter {
    pub(super) fn start(agent: &Agent) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(report(agent.link(), link_text));
        for target in agent.targets() {
            if let Some(view) = agent.watch(target) {
                let target = target.to_owned();
                tasks.spawn(report(view, move |view| Some(view_text(&target, view))));
            }
        }
        Self { _tasks: tasks }
    }
}

/// Says every change once; the same text again is no news.
async fn report<T>(mut values: watch::Receiver<T>, text: impl Fn(&T) -> Option<String>) {
    let mut said = None;
    loop {
        let now = text(&values.borrow_and_update());
        if let Some(now) = now
            && said.as_ref() != Some(&now)
        {
            say(&now);
            said = Some(now);
        }
        if values.changed().await.is_err() {
            return;
        }
    }
}

fn link_text(state: &LinkState) -> Option<String> {
    match state {
        LinkState::Connecting { last_error } => last_error
            .as_ref()
            .map(|error| format!("no coordinator: {error}")),
        LinkState::Connected { coordinator } => Some(format!("registered with {coordinator}")),
        // Whoever waits for the agent is told these.
        LinkState::Superseded { .. } | LinkState::Rejected { .. } | LinkState::Closed => None,
    }
}

pub(super) fn view_text(target: &str, view: &TargetView) -> String {
    match view {
        TargetView::Open { gate_epoch, version } => {
            format!("{target}: open at version {version} ({gate_epoch})")
        }
        TargetView::Fenced(fence) => format!("{target}: {fence}"),
    }
}
