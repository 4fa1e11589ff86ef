//! What only the leader does: adopt targets, and carry rollouts through.
//!
//! | module | what it holds |
//! |---|---|
//! | [`writer`] | commits that are guarded by the leader's key and every record's revision |
//! | [`access`] | a target's DSN, database and migrations, as the leader finds them |
//! | [`adopt`] | the first gate of a declared target, and the gate of one that has seen more than the store |
//! | [`external`] | another migrator's commands, and what its status says |
//! | [`generation`] | what the targets have seen, and a generation that is larger |
//! | [`health`] | whether a wave that bakes is well |
//! | [`recall`] | what the store recalls of a target, and whether the target is ahead of it |
//! | [`rollout`] | one rollout: waves |
//! | [`target`] | one target of a rollout: commands of the state machine, carried out |
//! | [`fence`] | closing, draining, raising the barrier |
//! | [`unfinished`] | what is left of a rollout whose creation was cut off |
//! | [`waits`] | what is being waited for right now, for people |
//! | [`window`] | whether targets may start at this time of the day |
//! | [`run`] | the leader's tasks, from election to loss |

pub mod access;
pub mod adopt;
pub mod external;
pub mod fence;
pub mod generation;
pub mod health;
pub mod recall;
pub mod rollout;
pub mod run;
pub mod target;
pub mod unfinished;
pub mod waits;
pub mod window;
pub mod writer;
