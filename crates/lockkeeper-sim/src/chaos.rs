//! What goes wrong, and when.

use std::time::Duration;

use crate::chance::Chance;
use crate::fleet::Fleet;
use crate::node::Node;
use crate::store::{Manners, STORE};
use crate::tell;

/// Faults that overlap at most.
const AT_ONCE: usize = 4;

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Pause,
    Kill,
    Cut,
    CutStore,
    CutDatabase,
    StoreManners,
    StoreLeader,
    WatchesBreak,
    DatabaseRestart,
    SessionEnds,
    Slow,
}

const FAULTS: [Fault; 14] = [
    Fault::Pause,
    Fault::Pause,
    Fault::Pause,
    Fault::Kill,
    Fault::Kill,
    Fault::Cut,
    Fault::CutStore,
    Fault::CutDatabase,
    Fault::StoreManners,
    Fault::StoreLeader,
    Fault::WatchesBreak,
    Fault::DatabaseRestart,
    Fault::SessionEnds,
    Fault::Slow,
];

/// Lets things go wrong for a while. Gives how many did.
pub async fn rage(fleet: &Fleet, chance: &Chance, time: Duration) -> usize {
    let end = tokio::time::Instant::now() + time;
    let mut under_way = tokio::task::JoinSet::new();
    let mut faults = 0;
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(chance.millis(100, 6000)).await;
        while under_way.try_join_next().is_some() {}
        if under_way.len() >= AT_ONCE {
            continue;
        }
        let Some(fault) = chance.one_of(&FAULTS).copied() else {
            continue;
        };
        faults += 1;
        under_way.spawn(happen(fault, fleet.clone(), chance.fork()));
    }
    while under_way.join_next().await.is_some() {}
    faults
}

/// Everything works again.
pub fn heal(fleet: &Fleet) {
    tell!(fleet.trace, "chaos", "everything is mended");
    fleet.net.mend();
    fleet.store.set_manners(Manners::default());
}

async fn happen(fault: Fault, fleet: Fleet, chance: Chance) {
    // Faults that last longer than leases are the interesting ones.
    let time = if chance.percent(30) {
        chance.millis(3000, 25_000)
    } else {
        chance.millis(50, 4000)
    };
    let nodes = fleet.living();
    let Some(node) = chance.one_of(&nodes).cloned() else {
        return;
    };
    match fault {
        Fault::Pause => fleet.pause(&node, time).await,
        Fault::Kill => fleet.kill_and_restart(&node, time).await,
        Fault::Cut => {
            if let Some(other) = chance.one_of(&nodes) {
                cut(&fleet, &chance, &node, other.name(), time).await;
            }
        }
        Fault::CutStore => cut(&fleet, &chance, &node, STORE, time).await,
        Fault::CutDatabase => {
            if let Some(server) = chance.one_of(&fleet.servers) {
                cut(&fleet, &chance, &node, server.name(), time).await;
            }
        }
        Fault::StoreManners => {
            let manners = Manners {
                answers_lost: 15,
                applied_late: 10,
                stale_reads: 20,
                long_leases: 50,
            };
            tell!(fleet.trace, STORE, "behaves badly for {} ms", time.as_millis());
            fleet.store.set_manners(manners);
            tokio::time::sleep(time).await;
            fleet.store.set_manners(Manners::default());
        }
        Fault::StoreLeader => {
            tell!(fleet.trace, STORE, "changes its leader");
            fleet.store.renew_all_leases();
            fleet.store.break_watches();
        }
        Fault::WatchesBreak => {
            tell!(fleet.trace, STORE, "breaks every watch");
            fleet.store.break_watches();
        }
        Fault::DatabaseRestart => {
            if let Some(server) = chance.one_of(&fleet.servers) {
                tell!(fleet.trace, server.name(), "restarts");
                server.restart(time.min(Duration::from_secs(5))).await;
            }
        }
        Fault::SessionEnds => {
            if let Some(server) = chance.one_of(&fleet.servers) {
                server.end_somebody();
            }
        }
        Fault::Slow => {
            tell!(fleet.trace, "net", "is slow for {} ms", time.as_millis());
            fleet.net.set_slow(Duration::from_millis(600));
            tokio::time::sleep(time).await;
            fleet.net.set_slow(Duration::ZERO);
        }
    }
}

/// Cuts the way between a process and something, in one direction or in both.
async fn cut(fleet: &Fleet, chance: &Chance, node: &Node, other: &str, time: Duration) {
    let (there, back) = [(true, true), (true, false), (false, true)][chance.below(3)];
    tell!(
        fleet.trace,
        node.name(),
        "is cut from {other} for {} ms (there {there}, back {back})",
        time.as_millis()
    );
    fleet.net.set_cut(node.name(), other, there);
    fleet.net.set_cut(other, node.name(), back);
    tokio::time::sleep(time).await;
    fleet.net.set_cut(node.name(), other, false);
    fleet.net.set_cut(other, node.name(), false);
}
