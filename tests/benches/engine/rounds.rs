//! Runs contenders in alternation and times them.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::Instant;

use crate::contenders::{Call, Contender};
use crate::servers::Server;
use crate::sets::Set;

/// How often `status` is timed a round: it is so short that one call says little.
const STATUS_CALLS: usize = 5;

/// A number of rounds on one server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rounds<'a> {
    pub(crate) server: &'a Server,
    pub(crate) count: usize,
}

/// What one contender took, round by round.
#[derive(Debug)]
pub(crate) struct Times {
    pub(crate) contender: Contender,
    pub(crate) rounds: Vec<Duration>,
}

impl Rounds<'_> {
    /// Applies `set` to a fresh database per contender and round.
    pub(crate) fn apply(self, set: &Set, contenders: &[Contender]) -> Result<Vec<Times>> {
        self.alternate(contenders, |contender| {
            let database = self.server.fresh()?;
            let took = time(&mut contender.apply(self.server.dialect(), set, &database)?)?;
            self.server.drop(&database)?;
            Ok(took)
        })
    }

    /// Asks for the status of a database where all of `set` is applied, by the same contender.
    pub(crate) fn status(self, set: &Set, contenders: &[Contender]) -> Result<Vec<Times>> {
        let dialect = self.server.dialect();
        let mut ready = Vec::new();
        for contender in contenders {
            let database = self.server.fresh()?;
            contender.apply(dialect, set, &database)?.run()?;
            if contender.status(dialect, set, &database)?.is_some() {
                ready.push((*contender, database));
            }
        }
        let asked = ready.iter().map(|(contender, _)| *contender).collect::<Vec<_>>();
        self.alternate(&asked, |wanted| {
            let (_, database) = ready
                .iter()
                .find(|(c, _)| *c == wanted)
                .context("find its database")?;
            let mut total = Duration::ZERO;
            for _ in 0..STATUS_CALLS {
                let call = wanted.status(dialect, set, database)?;
                total += time(&mut call.context("ask for the status")?)?;
            }
            Ok(total / u32::try_from(STATUS_CALLS)?)
        })
    }

    fn alternate(
        self,
        contenders: &[Contender],
        mut once: impl FnMut(Contender) -> Result<Duration>,
    ) -> Result<Vec<Times>> {
        let start = |contender: &Contender| Times {
            contender: *contender,
            rounds: Vec::new(),
        };
        let mut times = contenders.iter().map(start).collect::<Vec<_>>();
        for round in 0..self.count {
            // Each round starts with another one, so that nobody always runs on a warm or a busy server.
            for at in 0..times.len() {
                let place = (at + round) % times.len();
                let contender = times[place].contender;
                let took = once(contender).with_context(|| format!("run {contender}"))?;
                times[place].rounds.push(took);
            }
        }
        Ok(times)
    }
}

fn time(call: &mut Call) -> Result<Duration> {
    let began = Instant::now();
    call.run()?;
    Ok(began.elapsed())
}
