//! What operators rule about a rollout while it is under way, and what each ruling does: one exhaustive match over
//! rulings, where each either says what it changes or why it makes no sense now.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{AbortWay, Event, HeldAt, Plan, State, Target, TargetInWave, Turn, Wait, Window, step, turn};
use crate::id::TargetName;
use crate::time::WallTime;
use crate::version::SchemaVersion;

/// What stands about a whole rollout, beside an abort.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
pub struct Steering {
    /// No target starts.
    #[serde(default)]
    pub paused: bool,
    /// The waves that a person approved, as indexes.
    #[serde(default)]
    pub approved: BTreeSet<usize>,
}

/// What an operator rules.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ruling {
    /// Start no more targets.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Let a wave start; `None`: the one that waits for it.
    Approve(Option<usize>),
    /// End the rollout.
    Abort(AbortWay),
    /// Let held targets go on.
    Retry,
    /// Leave a target out.
    Skip(TargetName),
    /// Open a held target's gate, though nothing has verified it.
    ForceOpen(TargetName),
    /// Say what became of the statement in doubt on a held target, and let that target go on.
    Resolve {
        /// The target.
        target: TargetName,
        /// The version whose statement is in doubt.
        version: SchemaVersion,
        /// What became of it.
        outcome: StatementOutcome,
    },
}

/// What became of a statement in doubt, as a person says who has looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StatementOutcome {
    /// It took effect: go on behind it.
    Done,
    /// It did not, or what it left has been removed: run it again.
    NotDone,
}

impl fmt::Display for StatementOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::NotDone => "not-done",
        })
    }
}

impl fmt::Display for Ruling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pause => f.write_str("pause"),
            Self::Resume => f.write_str("resume"),
            Self::Approve(None) => f.write_str("approve"),
            Self::Approve(Some(wave)) => write!(f, "approve wave {wave}"),
            Self::Abort(AbortWay::RollBack) => f.write_str("abort, roll back"),
            Self::Abort(AbortWay::Reopen) => f.write_str("abort, reopen"),
            Self::Abort(AbortWay::Hold) => f.write_str("abort, hold"),
            Self::Retry => f.write_str("retry"),
            Self::Skip(target) => write!(f, "skip {target}"),
            Self::ForceOpen(target) => write!(f, "force-open {target}"),
            Self::Resolve {
                target,
                version,
                outcome,
            } => write!(f, "resolve {target}: version {version} is {outcome}"),
        }
    }
}

/// One target of a rollout.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// Its name.
    pub name: &'a TargetName,
    /// Index of its wave.
    pub wave: usize,
    /// Since when it stands where it stands.
    pub since: WallTime,
    /// Where it stands.
    pub target: &'a Target,
}

impl Member<'_> {
    /// What the schedule needs to know of it.
    #[must_use]
    pub fn in_wave(&self) -> TargetInWave {
        TargetInWave {
            wave: self.wave,
            state: self.target.state,
            since: self.since,
        }
    }
}

/// What a ruling is about.
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    /// What the schedule goes by.
    pub plan: &'a Plan,
    /// What was ruled before.
    pub steering: &'a Steering,
    /// Whether the rollout is being aborted.
    pub aborting: bool,
    /// Its targets.
    pub members: &'a [Member<'a>],
    /// When.
    pub now: WallTime,
}

/// What a ruling changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The ruling, with what was left open filled in.
    pub ruling: Ruling,
    /// What stands from now on.
    pub steering: Steering,
    /// What becomes of targets at once: their index, and how they stand from now on.
    pub moves: Vec<(usize, Target)>,
    /// What follows, for people: where a pause takes effect, for example.
    pub note: String,
}

/// Why a ruling makes no sense now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such target or wave.
    #[error("{0}")]
    Unknown(String),
    /// It does not fit where the rollout stands.
    #[error("{0}")]
    State(String),
}

fn refused<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::State(why.into()))
}

/// What `ruling` does to the rollout of `picture`. `reason` is what targets are told.
///
/// # Errors
/// It makes no sense; nothing changes.
pub fn decide(picture: &Picture<'_>, ruling: Ruling, reason: &str) -> Result<Decided, Refusal> {
    if picture.members.iter().all(|m| m.target.state.is_final()) {
        return refused("the rollout has ended");
    }
    match ruling {
        Ruling::Pause => pause(picture),
        Ruling::Resume => resume(picture),
        Ruling::Approve(wave) => approve(picture, wave),
        // Asked again, it is for those targets that were held after it, for example because reverting failed.
        Ruling::Abort(way) => Ok(picture.unchanged(Ruling::Abort(way), picture.under_way())),
        Ruling::Retry => retry(picture),
        Ruling::Skip(target) => skip(picture, target, reason),
        Ruling::ForceOpen(target) => force_open(picture, target),
        Ruling::Resolve { .. } => resolve(picture, ruling),
    }
}

fn pause(picture: &Picture<'_>) -> Result<Decided, Refusal> {
    if picture.aborting {
        return refused("the rollout is being aborted");
    }
    if picture.steering.paused {
        return refused("the rollout is paused already");
    }
    let mut decided = picture.unchanged(Ruling::Pause, picture.under_way());
    decided.steering.paused = true;
    Ok(decided)
}

fn resume(picture: &Picture<'_>) -> Result<Decided, Refusal> {
    if !picture.steering.paused {
        return refused("the rollout is not paused");
    }
    let mut decided = picture.unchanged(Ruling::Resume, String::new());
    decided.steering.paused = false;
    Ok(decided)
}

fn approve(picture: &Picture<'_>, wave: Option<usize>) -> Result<Decided, Refusal> {
    let wave = match wave.or_else(|| picture.wave_to_approve()) {
        Some(wave) => wave,
        None => return refused("no wave waits for an approval"),
    };
    match picture.plan.waves.get(wave) {
        None => {
            let last = picture.plan.waves.len().saturating_sub(1);
            return Err(Refusal::Unknown(format!(
                "there is no wave {wave}: the last is {last}"
            )));
        }
        Some(terms) if !terms.approve => return refused(format!("wave {wave} asks for no approval")),
        Some(_) if picture.steering.approved.contains(&wave) => {
            return refused(format!("wave {wave} is approved already"));
        }
        Some(_) => {}
    }
    let mut decided = picture.unchanged(Ruling::Approve(Some(wave)), String::new());
    decided.steering.approved.insert(wave);
    Ok(decided)
}

fn retry(picture: &Picture<'_>) -> Result<Decided, Refusal> {
    if picture.steering.paused {
        return refused("the rollout is paused: resume it first");
    }
    let moves: Vec<(usize, Target)> = picture
        .members
        .iter()
        .enumerate()
        .filter_map(|(i, m)| Some((i, step(m.target, Event::RetryRequested).ok()?)))
        .collect();
    if moves.is_empty() {
        return refused("no target of the rollout is held");
    }
    Ok(Decided {
        moves,
        ..picture.unchanged(Ruling::Retry, String::new())
    })
}

fn skip(picture: &Picture<'_>, target: TargetName, reason: &str) -> Result<Decided, Refusal> {
    let index = picture.find(&target)?;
    match step(
        picture.members[index].target,
        Event::SkipRequested(reason.to_owned()),
    ) {
        Ok(skipped) => Ok(Decided {
            moves: vec![(index, skipped)],
            ..picture.unchanged(Ruling::Skip(target), String::new())
        }),
        Err(rejected) => {
            let state = rejected.state;
            let why = match state {
                State::Baking | State::Held(HeldAt::Opened) => {
                    "it is at the new version: abort, or let it be".to_owned()
                }
                State::Held(HeldAt::Fenced) => {
                    "its gate is closed, and nobody else would open it: abort, or force-open it".to_owned()
                }
                state if state.is_final() => "it has come to its end".to_owned(),
                _ => "it is under way".to_owned(),
            };
            refused(format!("target {target} cannot be skipped: {why}"))
        }
    }
}

fn force_open(picture: &Picture<'_>, target: TargetName) -> Result<Decided, Refusal> {
    let index = picture.find(&target)?;
    match picture.members[index].target.state {
        State::Held(HeldAt::Fenced) => Ok(picture.unchanged(
            Ruling::ForceOpen(target),
            "the target stays held, its gate open at what its ledger says, until the rollout is retried or aborted, or the target skipped".to_owned(),
        )),
        _ => refused(format!(
            "target {target} is not held behind a closed gate: only such a gate is opened by force"
        )),
    }
}

/// The doubt itself is the database's to confirm: the target's leader looks before it records anything.
fn resolve(picture: &Picture<'_>, ruling: Ruling) -> Result<Decided, Refusal> {
    let Ruling::Resolve { target, .. } = &ruling else {
        return refused("it resolves nothing");
    };
    if picture.steering.paused {
        return refused("the rollout is paused: resume it first");
    }
    match picture.members[picture.find(target)?].target.state {
        State::Held(HeldAt::Fenced) => Ok(picture.unchanged(
            ruling,
            "the leader records it in the target's journal, then retries the target".to_owned(),
        )),
        _ => refused(format!(
            "target {target} is not held behind a closed gate: no rollout waits for an answer about it"
        )),
    }
}

impl Picture<'_> {
    fn unchanged(&self, ruling: Ruling, note: String) -> Decided {
        Decided {
            ruling,
            steering: self.steering.clone(),
            moves: Vec::new(),
            note,
        }
    }

    fn find(&self, target: &TargetName) -> Result<usize, Refusal> {
        let found = self.members.iter().position(|m| m.name == target);
        found.ok_or_else(|| Refusal::Unknown(format!("target {target} is not part of the rollout")))
    }

    /// The next wave that asks for an approval and has none, even while something else keeps it waiting.
    fn wave_to_approve(&self) -> Option<usize> {
        let targets: Vec<TargetInWave> = self.members.iter().map(Member::in_wave).collect();
        let running = Steering {
            paused: false,
            ..self.steering.clone()
        };
        match turn(&targets, self.plan, &running, Window::Open, self.now) {
            Turn::Wait(Wait::Approval { wave }) => Some(wave),
            Turn::Wait(Wait::Paused | Wait::Bake { .. } | Wait::Window { .. })
            | Turn::Start(_)
            | Turn::Baked { .. }
            | Turn::StopTheRest(_)
            | Turn::Nobody => None,
        }
    }

    /// The next safe point: what has closed its gate goes to its end first.
    fn under_way(&self) -> String {
        let fenced = self.members.iter().filter(|m| !m.target.state.is_resting());
        let names: Vec<&str> = fenced.map(|m| m.name.as_str()).collect();
        match names.as_slice() {
            [] => "at once: no target is under way".to_owned(),
            names => format!("next safe point: {} under way", names.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::GateEpoch;
    use crate::invariant;
    use crate::rollout::{OnFailure, WaveTerms};

    fn plan() -> Plan {
        let asks = WaveTerms {
            approve: true,
            ..WaveTerms::default()
        };
        Plan {
            waves: vec![WaveTerms::default(), asks],
            on_failure: OnFailure::Rollback,
            max_fenced: None,
        }
    }

    fn rulings(target: &TargetName) -> Vec<Ruling> {
        vec![
            Ruling::Pause,
            Ruling::Resume,
            Ruling::Approve(None),
            Ruling::Approve(Some(1)),
            Ruling::Abort(AbortWay::RollBack),
            Ruling::Abort(AbortWay::Reopen),
            Ruling::Abort(AbortWay::Hold),
            Ruling::Retry,
            Ruling::Skip(target.clone()),
            Ruling::ForceOpen(target.clone()),
            Ruling::Resolve {
                target: target.clone(),
                version: "3".into(),
                outcome: StatementOutcome::Done,
            },
        ]
    }

    fn at(state: State) -> Target {
        Target {
            state,
            gate_epoch: Some(GateEpoch(8)),
            ..Target::new(OnFailure::Rollback)
        }
    }

    fn decided(
        target: &Target,
        next: State,
        steering: &Steering,
        ruling: Ruling,
    ) -> Result<Decided, Refusal> {
        let (a, b): (TargetName, TargetName) = ("s/a".parse().unwrap(), "s/b".parse().unwrap());
        let next = at(next);
        let member = |name, wave, target| Member {
            name,
            wave,
            since: WallTime(0),
            target,
        };
        let members = [member(&a, 0, target), member(&b, 1, &next)];
        let picture = Picture {
            plan: &plan(),
            steering,
            aborting: false,
            members: &members,
            now: WallTime(1),
        };
        decide(&picture, ruling, "why")
    }

    #[test]
    fn every_ruling_in_every_state_is_refused_or_leads_to_a_state_that_has_a_way_on() {
        let name: TargetName = "s/a".parse().unwrap();
        for state in crate::rollout::step::tests::STATES {
            for paused in [false, true] {
                for ruling in rulings(&name) {
                    let steering = Steering {
                        paused,
                        approved: BTreeSet::new(),
                    };
                    let before = at(state);
                    let Ok(decided) = decided(&before, State::Pending, &steering, ruling.clone()) else {
                        continue;
                    };
                    for (index, after) in &decided.moves {
                        assert_eq!(*index, 0, "{ruling:?} moved a target that it does not name");
                        assert_eq!(invariant::progress(after), Ok(()), "{state:?} + {ruling:?}");
                        assert_eq!(
                            invariant::opens_verified(&before, after),
                            Ok(()),
                            "{state:?} + {ruling:?}"
                        );
                        assert!(!state.is_final(), "{ruling:?} moved {state:?}, which is final");
                        assert!(
                            !paused || after.state.is_resting(),
                            "{ruling:?} starts a paused rollout"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_rollout_that_has_ended_takes_no_ruling() {
        let name: TargetName = "s/a".parse().unwrap();
        for ruling in rulings(&name) {
            let ended = decided(&at(State::Done), State::Skipped, &Steering::default(), ruling);
            assert_eq!(ended, Err(Refusal::State("the rollout has ended".to_owned())));
        }
    }

    #[test]
    fn an_approval_finds_the_wave_that_waits_for_it_and_is_given_once() {
        let none = Steering::default();
        let done = at(State::Done);
        let first = decided(&done, State::Pending, &none, Ruling::Approve(None)).unwrap();
        assert_eq!(first.ruling, Ruling::Approve(Some(1)));
        let again = decided(&done, State::Pending, &first.steering, Ruling::Approve(Some(1)));
        assert_eq!(
            again,
            Err(Refusal::State("wave 1 is approved already".to_owned()))
        );
        let early = decided(
            &at(State::Migrating),
            State::Pending,
            &none,
            Ruling::Approve(None),
        );
        assert_eq!(
            early,
            Err(Refusal::State("no wave waits for an approval".to_owned()))
        );
    }

    #[test]
    fn a_pause_names_the_next_safe_point() {
        let none = Steering::default();
        let paused = decided(&at(State::Migrating), State::Pending, &none, Ruling::Pause).unwrap();
        assert_eq!(paused.note, "next safe point: s/a under way");
        assert!(paused.steering.paused && paused.moves.is_empty());
    }
}
