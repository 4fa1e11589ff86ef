//! Compares what was acknowledged with what the databases hold.

use std::collections::{HashMap, HashSet};

use super::database::Contents;
use super::journal::Tally;

/// What was found about the writes of one region.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Audit {
    /// Writes that the database acknowledged.
    pub(super) acknowledged: usize,
    /// Acknowledged writes that are there, whole.
    pub(super) found: usize,
    /// Acknowledged writes that are not there, or not whole.
    pub(super) lost: usize,
    /// Numbers that are there more than once.
    pub(super) doubled: usize,
    /// Writes that failed for sure, and those of unknown outcome that are not there.
    pub(super) failed: usize,
    /// Why they failed, one line each.
    pub(super) failures: Vec<String>,
    /// Writes of unknown outcome that are there.
    pub(super) unknown_found: usize,
    /// Numbers that are there though nobody claims to have written them: refused or failed writes with an effect.
    pub(super) unclaimed: usize,
    /// Refusals by the database's fence; each was tried again.
    pub(super) refused: u64,
    /// Rows from before the demo that are not there.
    pub(super) old_lost: usize,
}

/// Audits one region. `rows` is how many orders it held before, with negative numbers.
pub(super) fn audit<'a>(contents: &Contents, tallies: impl Iterator<Item = &'a Tally>, rows: i64) -> Audit {
    let orders = counted(&contents.orders.new);
    let payments = contents.payments.as_ref().map(|rows| counted(&rows.new));
    let is_whole = |number: i64| {
        orders.contains_key(&number) && payments.as_ref().is_none_or(|paid| paid.contains_key(&number))
    };
    let mut audit = Audit::default();
    let mut claimed = HashSet::new();
    for tally in tallies {
        audit.acknowledged += tally.acked.len();
        audit.refused += tally.refused;
        audit.failures.extend(
            tally
                .failed
                .iter()
                .map(|(number, why)| format!("{number}: {why}")),
        );
        for (number, _) in &tally.acked {
            claimed.insert(*number);
            match is_whole(*number) {
                true => audit.found += 1,
                false => audit.lost += 1,
            }
        }
        for (number, why) in &tally.unknown {
            claimed.insert(*number);
            match orders.contains_key(number) {
                true => audit.unknown_found += 1,
                false => audit.failures.push(format!("{number}: {why}; it is not there")),
            }
        }
    }
    audit.failed = audit.failures.len();
    let twice = |counted: &HashMap<i64, usize>| {
        counted
            .iter()
            .filter(|(_, n)| **n > 1)
            .map(|(number, _)| *number)
            .collect()
    };
    let mut doubled: HashSet<i64> = twice(&orders);
    doubled.extend(payments.as_ref().map(twice).unwrap_or_default());
    let tables = || {
        [Some(&contents.orders), contents.payments.as_ref()]
            .into_iter()
            .flatten()
    };
    let old_doubled: i64 = tables().map(|rows| rows.old - rows.old_distinct).sum();
    audit.doubled = doubled.len() + usize::try_from(old_doubled).unwrap_or_default();
    audit.unclaimed = orders
        .keys()
        .filter(|number| **number >= 0 && !claimed.contains(number))
        .count();
    let old_lost = tables().map(|table| rows - table.old_distinct).max();
    audit.old_lost = old_lost.map_or(0, |lost| usize::try_from(lost).unwrap_or_default());
    audit
}

fn counted(numbers: &[i64]) -> HashMap<i64, usize> {
    let mut counted = HashMap::with_capacity(numbers.len());
    for number in numbers {
        *counted.entry(*number).or_insert(0) += 1;
    }
    counted
}

/// The longest pause that a writer saw, in milliseconds: between two acknowledgements of one replica, and between
/// two of a region, which is what its users saw when one release handed over to the other.
pub(super) fn longest_pause_ms<'a>(tallies: impl Iterator<Item = &'a Tally>) -> u64 {
    let mut of_region = Vec::new();
    let mut longest = 0;
    for tally in tallies {
        let mut times: Vec<u64> = tally.acked.iter().map(|(_, at)| *at).collect();
        longest = longest.max(longest_gap(&mut times));
        of_region.append(&mut times);
    }
    longest.max(longest_gap(&mut of_region))
}

fn longest_gap(times: &mut [u64]) -> u64 {
    times.sort_unstable();
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::database::Rows;

    fn tally(acked: &[i64], unknown: &[i64]) -> Tally {
        Tally {
            acked: acked.iter().map(|n| (*n, 0)).collect(),
            unknown: unknown.iter().map(|n| (*n, String::new())).collect(),
            ..Tally::default()
        }
    }

    fn table(numbers: &[i64]) -> Rows {
        let (old, new): (Vec<i64>, Vec<i64>) = numbers.iter().partition(|n| **n < 0);
        let distinct: HashSet<_> = old.iter().collect();
        Rows {
            new,
            old: old.len() as i64,
            old_distinct: distinct.len() as i64,
        }
    }

    fn audited(orders: &[i64], payments: Option<&[i64]>, tally: &Tally, rows: i64) -> Audit {
        let contents = Contents {
            orders: table(orders),
            payments: payments.map(table),
        };
        audit(&contents, [tally].into_iter(), rows)
    }

    #[test]
    fn whatever_is_acknowledged_must_be_there_once() {
        let good = audited(&[-2, -1, 7, 8], Some(&[-2, -1, 7, 8]), &tally(&[7, 8], &[]), 2);
        assert_eq!(
            good,
            Audit {
                acknowledged: 2,
                found: 2,
                ..Audit::default()
            }
        );
        let bad = audited(&[-1, 7, 7, 9], None, &tally(&[7, 8], &[]), 2);
        assert_eq!(
            (bad.found, bad.lost, bad.doubled, bad.unclaimed, bad.old_lost),
            (1, 1, 1, 1, 1)
        );
        let old = audited(&[-2, -1], Some(&[-1, -1]), &tally(&[], &[]), 2);
        assert_eq!((old.doubled, old.old_lost), (1, 1));
    }

    #[test]
    fn an_order_without_its_payment_is_lost_and_a_second_payment_is_a_double() {
        let half = audited(&[7, 8], Some(&[7, 7]), &tally(&[7, 8], &[]), 0);
        assert_eq!((half.found, half.lost, half.doubled), (1, 1, 1));
    }

    #[test]
    fn an_unknown_outcome_is_looked_up() {
        let unknown = audited(&[7], None, &tally(&[], &[7, 8]), 0);
        assert_eq!(
            (unknown.unknown_found, unknown.failed, unknown.unclaimed),
            (1, 1, 0)
        );
    }

    #[test]
    fn a_hand_over_is_a_pause_of_the_region() {
        let at = |times: &[u64]| Tally {
            acked: times.iter().map(|t| (0, *t)).collect(),
            ..Tally::default()
        };
        assert_eq!(longest_pause_ms([at(&[10, 30, 20])].iter()), 10);
        assert_eq!(longest_pause_ms([at(&[0, 100]), at(&[700, 750])].iter()), 600);
        assert_eq!(
            longest_pause_ms([at(&[0, 500]), at(&[100, 200, 300, 400])].iter()),
            500
        );
    }
}
