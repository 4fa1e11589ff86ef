//! What a person sees: bars on a terminal, lines elsewhere. All on standard error.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use lockkeeper_proto::v1;
use tokio::time::Instant;

use crate::text::target_state;

/// How often lines tell how many writes there were, and at most name what is being waited for.
const WRITES_EVERY: Duration = Duration::from_secs(3);
const WAITS_EVERY: Duration = Duration::from_secs(1);

/// Over which time writes per second are counted.
const RATE_OVER: Duration = Duration::from_secs(1);

/// States on the way of a target that goes well, in order.
const WAY: [v1::TargetState; 7] = [
    v1::TargetState::Pending,
    v1::TargetState::Preflight,
    v1::TargetState::Fencing,
    v1::TargetState::Migrating,
    v1::TargetState::Verifying,
    v1::TargetState::Opening,
    v1::TargetState::Done,
];

/// Everything that is shown at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Scene {
    /// Coordinator and epoch; `None`: nobody leads.
    pub(super) leader: Option<(String, String)>,
    /// Agents by state.
    pub(super) agents: v1::AgentCounts,
    /// Each region.
    pub(super) regions: Vec<Region>,
}

/// One region at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Region {
    pub(super) name: &'static str,
    /// Whether the gate is closed.
    pub(super) closed: bool,
    /// Version at the last opening.
    pub(super) version: String,
    /// Place in the rollout.
    pub(super) state: v1::TargetState,
    /// Why it is there.
    pub(super) reason: String,
    /// What is being waited for.
    pub(super) waiting: Vec<String>,
    /// Acknowledged writes so far.
    pub(super) acked: usize,
}

/// Draws scenes.
#[derive(Debug)]
pub(super) struct Screen {
    began: Instant,
    bars: Option<Bars>,
    shown: Scene,
    writes_told: Instant,
    waits_told: Option<Instant>,
    rates: HashMap<&'static str, Rate>,
}

#[derive(Debug)]
struct Bars {
    all: MultiProgress,
    head: ProgressBar,
    regions: HashMap<&'static str, (ProgressBar, ProgressBar)>,
}

/// Writes per second, counted anew every [`RATE_OVER`].
#[derive(Debug)]
struct Rate {
    since: Instant,
    acked: usize,
    per_second: f64,
}

impl Rate {
    fn count(&mut self, acked: usize) -> f64 {
        let passed = self.since.elapsed();
        if passed >= RATE_OVER {
            #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
            let more = acked.saturating_sub(self.acked) as f64;
            *self = Self {
                since: Instant::now(),
                acked,
                per_second: more / passed.as_secs_f64(),
            };
        }
        self.per_second
    }
}

impl Screen {
    pub(super) fn new(regions: &[&'static str]) -> Self {
        let now = Instant::now();
        let bars = std::io::stderr().is_terminal().then(|| Bars::new(regions));
        Self {
            began: now,
            bars,
            shown: Scene::default(),
            writes_told: now,
            waits_told: None,
            rates: HashMap::new(),
        }
    }

    /// Tells one thing.
    pub(super) fn say(&self, text: impl std::fmt::Display) {
        let line = format!("{:6.1} s  {text}", self.began.elapsed().as_secs_f64());
        match &self.bars {
            // A terminal that has gone away is no reason to stop.
            Some(bars) => drop(bars.all.println(line)),
            None => eprintln!("{line}"),
        }
    }

    /// Shows a moment.
    pub(super) fn show(&mut self, scene: Scene) {
        self.tell_changes(&scene);
        if let Some(bars) = &self.bars {
            bars.draw(&scene, &mut self.rates);
        } else {
            self.tell_numbers(&scene);
        }
        self.shown = scene;
    }

    fn tell_changes(&self, scene: &Scene) {
        if scene.leader != self.shown.leader {
            match &scene.leader {
                Some((coordinator, epoch)) => self.say(format_args!("{coordinator} leads as {epoch}")),
                None => self.say("nobody leads"),
            }
        }
        for region in &scene.regions {
            let before = self.shown.regions.iter().find(|r| r.name == region.name);
            if before.map_or(v1::TargetState::Unspecified, |r| r.state) != region.state {
                let reason = if region.reason.is_empty() {
                    String::new()
                } else {
                    format!(": {}", region.reason)
                };
                self.say(format_args!(
                    "{:<10}  {}{reason}",
                    region.name,
                    target_state(region.state)
                ));
            }
        }
    }

    fn tell_numbers(&mut self, scene: &Scene) {
        let waits: Vec<_> = scene
            .regions
            .iter()
            .filter_map(|r| Some((r.name, waiting(r)?)))
            .collect();
        if !waits.is_empty() && self.waits_told.is_none_or(|told| told.elapsed() >= WAITS_EVERY) {
            waits
                .iter()
                .for_each(|(region, waits)| self.say(format_args!("{region:<10}  {waits}")));
            self.waits_told = Some(Instant::now());
        }
        if self.writes_told.elapsed() >= WRITES_EVERY {
            let writes: Vec<String> = scene
                .regions
                .iter()
                .map(|r| format!("{} {}", r.name, r.acked))
                .collect();
            self.say(format_args!(
                "writes: {}; agents: {}",
                writes.join(", "),
                agents(&scene.agents)
            ));
            self.writes_told = Instant::now();
        }
    }
}

impl Bars {
    fn new(regions: &[&'static str]) -> Self {
        let all = MultiProgress::new();
        let plain = |template: &str| {
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
        };
        let line = |template| {
            let bar = all.add(ProgressBar::new(WAY.len() as u64 - 1));
            bar.set_style(plain(template).progress_chars("=> "));
            bar
        };
        let head = line("{wide_msg}");
        let of_region = |region: &&'static str| {
            (
                *region,
                (
                    line("{prefix:<10} [{bar:14}] {wide_msg}"),
                    line("           {wide_msg}"),
                ),
            )
        };
        let regions = regions.iter().map(of_region).collect();
        Self { all, head, regions }
    }

    fn draw(&self, scene: &Scene, rates: &mut HashMap<&'static str, Rate>) {
        let leader = match &scene.leader {
            Some((coordinator, epoch)) => format!("{coordinator} ({epoch})"),
            None => "nobody".to_owned(),
        };
        self.head
            .set_message(format!("leader     {leader}   agents: {}", agents(&scene.agents)));
        for region in &scene.regions {
            let Some((bar, waits)) = self.regions.get(region.name) else {
                continue;
            };
            let rate = rates
                .entry(region.name)
                .or_insert_with(|| Rate {
                    since: Instant::now(),
                    acked: region.acked,
                    per_second: 0.0,
                })
                .count(region.acked);
            if let Some(place) = WAY.iter().position(|state| *state == region.state) {
                bar.set_position(place as u64);
            }
            let gate = if region.closed { "closed" } else { "open" };
            let state = target_state(region.state);
            bar.set_prefix(region.name);
            let at = match region.version.as_str() {
                "" => String::new(),
                version => format!(" at {version}"),
            };
            bar.set_message(format!(
                "{state:<9} {} writes, {rate:.0}/s, {gate}{at}",
                region.acked
            ));
            waits.set_message(waiting(region).unwrap_or_default());
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        // The summary says it all.
        let _ = self.all.clear();
    }
}

/// What a region waits for: the first thing, and how many more.
fn waiting(region: &Region) -> Option<String> {
    let first = region.waiting.first()?;
    Some(match region.waiting.len() {
        1 => format!("waits for {first}"),
        n => format!("waits for {first}; and {} more", n - 1),
    })
}

fn agents(counts: &v1::AgentCounts) -> String {
    let v1::AgentCounts {
        open,
        draining,
        fenced,
        waiting,
        lost,
    } = counts;
    format!("{open} open, {draining} draining, {fenced} fenced, {waiting} waiting, {lost} lost")
}
