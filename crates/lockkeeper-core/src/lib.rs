//! The pure core of lockkeeper: words, ids, fencing numbers and state machines.
//!
//! Nothing here does I/O, reads a clock, spawns a task or knows a database: time comes in as data
//! ([`time::Instant`]), events come in, decisions go out. Production code, tests and checkers use the same items.
//!
//! | module | what it holds |
//! |---|---|
//! | [`id`] | names and ids, parsed once at the edge |
//! | [`epoch`] | the two fencing numbers: leader epoch (`e1.42`) and gate epoch (`g7`) |
//! | [`version`] | schema versions, their order per layout, ranges and *fits* |
//! | [`time`] | instants and durations as data |
//! | [`gate`] | a target's switch in the store |
//! | [`row`] | the target's own record of its gate: who may take it, close it, open it; what the barrier says |
//! | [`commit`] | guards: what a commit in the store depends on |
//! | [`lease`] | write leases: the holder's deadline and the granter's deadline |
//! | [`presence`] | when a coordinator may grant, and when it must give its session up |
//! | [`permits`] | the agent's side of one target: what may be written now, what was promised |
//! | [`drain`] | the coordinator's lease book, and the leader's verdict *drained* |
//! | [`spec`] | what operators declare: targets and rollouts |
//! | [`rollout`] | one target's way through a rollout: `step(state, event) -> (state, commands)` |
//! | [`invariant`] | the promises I1 to I6 as predicates |
//! | [`mutation`] | seeded bugs for the model checker; not compiled into the product |

pub mod commit;
pub mod drain;
pub mod epoch;
pub mod gate;
pub mod id;
pub mod invariant;
pub mod lease;
pub mod mutation;
pub mod permits;
pub mod presence;
pub mod rollout;
pub mod row;
pub mod spec;
pub mod strength;
pub mod time;
pub mod version;
