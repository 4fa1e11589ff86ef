//! The verdict.

use lockkeeper_proto::v1;
use serde::Serialize;

use super::audit::Audit;
use crate::exit::Exit;
use crate::output;
use crate::text::{millis, target_state};

/// Most failed writes that are told one by one.
const FAILURES_SHOWN_MAX: usize = 5;

/// What came of the demo. The names are part of the interface.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Summary {
    /// Replicas of release 1 that wrote from the beginning.
    pub(super) agents: u32,
    /// Replicas of release 2 that waited for the new schema, in all regions together.
    pub(super) agents_waiting: u32,
    pub(super) regions: usize,
    pub(super) writes_acknowledged: usize,
    pub(super) writes_found: usize,
    pub(super) writes_lost: usize,
    pub(super) writes_doubled: usize,
    /// Refusals by the database's own fence; each such write was tried again.
    pub(super) writes_refused: u64,
    pub(super) writes_failed: usize,
    /// Why some of them failed.
    pub(super) failures: Vec<String>,
    /// Writes whose answer was lost and that are there.
    pub(super) writes_unknown_found: usize,
    /// Rows that nobody claims to have written.
    pub(super) writes_unclaimed: usize,
    /// Decided by the database: rows just before opening that were not there just after drained.
    pub(super) writes_while_fenced: u64,
    /// Rows from before the demo that are not there.
    pub(super) old_rows_lost: usize,
    pub(super) longest_pause_ms: u64,
    pub(super) leader_changes: usize,
    /// The leader that was killed, and in which state of the first region.
    pub(super) killed: Option<Killed>,
    pub(super) targets: Vec<Target>,
    /// What release 1 is told where it no longer fits.
    pub(super) fenced_reason: Option<String>,
    /// Everything that speaks against the promises; empty when all were held.
    pub(super) broken: Vec<String>,
    pub(super) duration_ms: u64,
    pub(super) ok: bool,
    /// The whole rollout's state.
    #[serde(skip)]
    pub(super) state: v1::RolloutState,
}

/// How the leader was killed.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Killed {
    pub(super) coordinator: String,
    /// The first region's state at that moment.
    pub(super) during: String,
}

/// A region's target.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) fence_ms: Option<i64>,
    pub(super) migrate_ms: Option<i64>,
    pub(super) verify_ms: Option<i64>,
    pub(super) total_ms: Option<i64>,
    pub(super) state: String,
    /// Why it is there, when there is something to say.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) reason: String,
}

impl Target {
    pub(super) fn of(target: &v1::RolloutTarget) -> Self {
        Self {
            name: target.name.clone(),
            from: target.from.clone(),
            to: target.to.clone(),
            fence_ms: millis(target.fence_time),
            migrate_ms: millis(target.migrate_time),
            verify_ms: millis(target.verify_time),
            total_ms: millis(target.total_time),
            state: target_state(target.state()),
            reason: target.reason.clone(),
        }
    }
}

/// Rows that came while the target was fenced, as its row invariants tell: `count` first, `sum` second. `None`: they
/// were not asked both times.
pub(super) fn rows_while_fenced(target: &v1::RolloutTarget) -> Option<u64> {
    let [count, sum] = target.invariants.as_slice() else {
        return None;
    };
    let (before, after): (i64, i64) = (count.before.parse().ok()?, count.after.parse().ok()?);
    if sum.before.is_empty() || sum.after.is_empty() {
        return None;
    }
    // As many came as went: at least one of each.
    let swapped = u64::from(sum.before != sum.after);
    Some(before.abs_diff(after).max(swapped))
}

impl Summary {
    /// Adds a region's audit.
    pub(super) fn add(&mut self, audit: &Audit) {
        self.writes_acknowledged += audit.acknowledged;
        self.writes_found += audit.found;
        self.writes_lost += audit.lost;
        self.writes_doubled += audit.doubled;
        self.writes_refused += audit.refused;
        self.writes_failed += audit.failed;
        let room = FAILURES_SHOWN_MAX.saturating_sub(self.failures.len());
        self.failures.extend(audit.failures.iter().take(room).cloned());
        self.writes_unknown_found += audit.unknown_found;
        self.writes_unclaimed += audit.unclaimed;
        self.old_rows_lost += audit.old_lost;
    }

    /// Holds the numbers against the promises.
    pub(super) fn judge(&mut self) {
        let mut broken = std::mem::take(&mut self.broken);
        let mut must_be_none = |what: &str, count: u64| {
            if count > 0 {
                broken.push(format!("{count} {what}"));
            }
        };
        must_be_none("acknowledged writes are lost", self.writes_lost as u64);
        must_be_none("writes are there more than once", self.writes_doubled as u64);
        must_be_none("writes failed", self.writes_failed as u64);
        must_be_none(
            "writes came while their region was fenced",
            self.writes_while_fenced,
        );
        must_be_none(
            "rows are there that nobody claims to have written",
            self.writes_unclaimed as u64,
        );
        must_be_none("rows from before are gone", self.old_rows_lost as u64);
        if self.writes_acknowledged == 0 {
            broken.push("nothing was written".to_owned());
        }
        for target in self.targets.iter().filter(|t| t.state != "DONE") {
            broken.push(format!("{} is {}: {}", target.name, target.state, target.reason));
        }
        self.ok = broken.is_empty() && self.state == v1::RolloutState::Done;
        self.broken = broken;
    }

    pub(super) fn exit(&self) -> Exit {
        if self.ok {
            return Exit::Ok;
        }
        match self.state {
            v1::RolloutState::Aborted | v1::RolloutState::RolledBack => Exit::EndedOtherwise,
            v1::RolloutState::Held => Exit::Held,
            v1::RolloutState::Running
            | v1::RolloutState::Paused
            | v1::RolloutState::Approval
            | v1::RolloutState::Bake
            | v1::RolloutState::Window => Exit::TimedOut,
            v1::RolloutState::Done | v1::RolloutState::Unspecified => Exit::WrongState,
        }
    }

    /// The summary in words.
    pub(super) fn text(&self) -> String {
        let ms = |ms: Option<i64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
        let row = |t: &Target| {
            vec![
                t.name.clone(),
                format!("{} -> {}", t.from, t.to),
                ms(t.fence_ms),
                ms(t.migrate_ms),
                ms(t.verify_ms),
                ms(t.total_ms),
                t.state.clone(),
            ]
        };
        let header = [
            "TARGET", "VERSION", "FENCE", "MIGRATE", "VERIFY", "TOTAL", "STATE",
        ];
        let mut text = format!(
            "\n{}\n",
            output::table(&header, &self.targets.iter().map(row).collect::<Vec<_>>())
        );
        let mut line = |what: &str, value: String| text += &format!("{what:<24}{value}\n");
        line("writes acknowledged", self.writes_acknowledged.to_string());
        line("  found", self.writes_found.to_string());
        line("  lost", self.writes_lost.to_string());
        line("  doubled", self.writes_doubled.to_string());
        line("  while fenced", self.writes_while_fenced.to_string());
        line("refused, tried again", self.writes_refused.to_string());
        line("failed", self.writes_failed.to_string());
        for failure in &self.failures {
            line("", failure.clone());
        }
        if self.writes_unknown_found > 0 {
            line("answer lost, but there", self.writes_unknown_found.to_string());
        }
        #[expect(clippy::cast_precision_loss, reason = "seconds for people")]
        let seconds = |ms: u64| format!("{:.1} s", ms as f64 / 1000.0);
        line("longest pause", seconds(self.longest_pause_ms));
        let killed = self
            .killed
            .as_ref()
            .map(|k| format!(" ({} was killed during {})", k.coordinator, k.during));
        line(
            "leader changes",
            format!("{}{}", self.leader_changes, killed.unwrap_or_default()),
        );
        if let Some(reason) = &self.fenced_reason {
            line("release 1 is told", reason.clone());
        }
        line("took", seconds(self.duration_ms));
        match self.ok {
            true => text += "\nevery promise was held\n",
            false => text += &format!("\nNOT every promise was held:\n  {}\n", self.broken.join("\n  ")),
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(count: (&str, &str), sum: (&str, &str)) -> v1::RolloutTarget {
        let invariant = |name: &str, (before, after): (&str, &str)| v1::RowInvariantResult {
            name: name.to_owned(),
            before: before.to_owned(),
            after: after.to_owned(),
        };
        v1::RolloutTarget {
            invariants: vec![invariant("count", count), invariant("sum", sum)],
            ..v1::RolloutTarget::default()
        }
    }

    #[test]
    fn the_database_counts_what_came_while_fenced() {
        assert_eq!(rows_while_fenced(&target(("10", "10"), ("55", "55"))), Some(0));
        assert_eq!(rows_while_fenced(&target(("10", "12"), ("55", "78"))), Some(2));
        assert_eq!(
            rows_while_fenced(&target(("10", "10"), ("55", "56"))),
            Some(1),
            "one went and one came"
        );
        assert_eq!(
            rows_while_fenced(&target(("10", ""), ("55", ""))),
            None,
            "not asked the second time"
        );
        assert_eq!(rows_while_fenced(&v1::RolloutTarget::default()), None);
    }
}
