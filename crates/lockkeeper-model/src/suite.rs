//! The runs.

use crate::config::{Adapter, Budget, Config, Renewals, Time};
use crate::database::Statement;
use lockkeeper_core::strength::Strength;

const NONE: Budget = Budget {
    crashes: 0,
    joins: 0,
    depositions: 0,
    vanishings: 0,
    lost_answers: 0,
    lost_sessions: 0,
    stalls: 0,
    duplicates: 0,
    losses: 0,
    moves: 0,
    renewals: 0,
    permits: 0,
    transactions: 0,
    failures: 0,
    aborts: 0,
    rollouts: 0,
    releases: 0,
    restores: 0,
};

/// Ticks of a quick run.
const QUICK_TICKS: u64 = 3;

/// Every configuration within bounds for every test run: fewer ticks, and no message that comes twice.
#[must_use]
pub fn quick() -> Vec<Config> {
    let mut runs = all();
    for run in &mut runs {
        run.budget.duplicates = 0;
        if let Time::Ticks { ticks, closed_by, .. } = &mut run.time {
            *ticks = (*ticks).min(QUICK_TICKS);
            *closed_by = 0;
        }
    }
    runs
}

/// Every configuration.
#[must_use]
pub fn all() -> Vec<Config> {
    let mut runs = barrier();
    runs.extend(cooperative());
    runs
}

fn barrier() -> Vec<Config> {
    let leaders = Config::barrier(
        "leaders",
        "elections, crashes, takeovers, commits without an answer",
        Budget {
            crashes: 1,
            depositions: 1,
            lost_answers: 1,
            ..NONE
        },
    );
    let hands = Config::barrier(
        "hands",
        "database sessions that are lost in the middle of a commit",
        Budget {
            crashes: 1,
            lost_sessions: 2,
            ..NONE
        },
    );
    let bare = Config {
        statement: Statement::Bare,
        ..Config::barrier(
            "bare",
            "statements that run outside of any transaction",
            Budget {
                crashes: 1,
                depositions: 1,
                lost_sessions: 1,
                ..NONE
            },
        )
    };
    let writers = Config::barrier(
        "writers",
        "writers that are no agents, with old snapshots",
        Budget {
            crashes: 1,
            transactions: 2,
            ..NONE
        },
    );
    let agents = Config {
        agents: vec![Some(1)],
        ..Config::barrier(
            "agents",
            "an agent that goes on without a coordinator; messages lost, twice, late",
            Budget {
                crashes: 1,
                duplicates: 1,
                losses: 1,
                permits: 1,
                ..NONE
            },
        )
    };
    let ways_back = Config::barrier(
        "ways back",
        "failing migrations and aborts",
        Budget {
            crashes: 1,
            lost_answers: 1,
            failures: 1,
            aborts: 1,
            ..NONE
        },
    );
    let restored = Config::barrier(
        "restored store",
        "the store goes back to before the election, and gives its epoch again",
        Budget {
            restores: 1,
            crashes: 1,
            ..NONE
        },
    );
    let released = Config::barrier(
        "released",
        "every coordinator is lost, a person releases the fence by hand, and one comes back",
        Budget {
            crashes: 2,
            joins: 1,
            releases: 1,
            transactions: 1,
            ..NONE
        },
    );
    let stalled = Config {
        agents: vec![Some(1)],
        strength: Strength::Cooperative,
        ..Config::barrier(
            "stalled",
            "a coordinator whose watch brings nothing any more, on a target that has to wait for it",
            Budget { stalls: 1, ..NONE },
        )
    };
    vec![
        leaders, hands, bare, writers, agents, ways_back, restored, released, stalled,
    ]
}

fn cooperative() -> Vec<Config> {
    let leases = Config::cooperative(
        "leases",
        "write leases and acks alone, clocks at the end of the margin",
        5,
        Budget {
            renewals: 1,
            permits: 1,
            ..NONE
        },
    );
    let prompt = Config {
        adapter: Adapter::WritesAtOnce,
        ..Config::cooperative(
            "prompt",
            "writes without an adapter, which take no time",
            4,
            Budget {
                renewals: 1,
                permits: 1,
                ..NONE
            },
        )
    };
    let sessions = Config {
        renewals: Renewals::Lost,
        adapter: Adapter::WritesAtOnce,
        ..Config::cooperative(
            "sessions",
            "sessions that run out or vanish while the leases under them live on",
            5,
            Budget {
                vanishings: 1,
                renewals: 1,
                permits: 1,
                ..NONE
            },
        )
    };
    let starts = Config {
        agents: vec![Some(1), None],
        ..Config::cooperative(
            "starts",
            "a replica that starts again while its older process lives on",
            4,
            Budget {
                moves: 1,
                permits: 1,
                ..NONE
            },
        )
    };
    let joiners = Config {
        agents: vec![None],
        joined: 1,
        ..Config::cooperative(
            "joiners",
            "a coordinator that joins while a gate is being closed",
            3,
            Budget {
                joins: 1,
                moves: 1,
                renewals: 1,
                permits: 1,
                ..NONE
            },
        )
    };
    let successors = Config {
        adapter: Adapter::WritesAtOnce,
        time: Time::Ticks {
            ticks: 5,
            closed_by: 0,
            coordinators: 100,
            agents: 91,
        },
        ..Config::cooperative(
            "successors",
            "a leader that is new, after a session of another coordinator has vanished",
            5,
            Budget {
                vanishings: 1,
                depositions: 1,
                permits: 1,
                ..NONE
            },
        )
    };
    let again = Config::cooperative(
        "again",
        "two rollouts, one after the other",
        1,
        Budget {
            rollouts: 1,
            renewals: 1,
            permits: 1,
            ..NONE
        },
    );
    vec![leases, prompt, sessions, starts, joiners, successors, again]
}

/// What COOPERATIVE assumes, taken away: each of these breaks I1, and must.
#[must_use]
pub fn assumptions() -> Vec<Config> {
    let [leases] = ["leases"].map(|name| all().into_iter().find(|config| config.name == name));
    let Some(leases) = leases else { return Vec::new() };
    let slow = Config {
        name: "slow clock",
        about: "an agent's clock that runs 40 % slow, outside of the margin",
        time: Time::Ticks {
            ticks: 5,
            closed_by: 1,
            coordinators: 100,
            agents: 60,
        },
        ..leases.clone()
    };
    let paused = Config {
        name: "paused agent",
        about: "an agent that is stopped between the check and the write",
        adapter: Adapter::Pauses,
        ..leases
    };
    vec![slow, paused]
}
