//! Deterministic simulation: the real coordinators, agents and rollout driver, on a simulated network, store and database,
//! in virtual time. One seed decides everything that is left to chance, so a failure can be seen again.
//!
//! | module | what it holds |
//! |---|---|
//! | [`run`] | one seed, from the first process to the verdict |
//! | [`fleet`] | coordinators, agents, writers: the processes |
//! | [`operator`] | who declares, begins rollouts, decides |
//! | [`chaos`] | what goes wrong, and when |
//! | [`checker`] | the promises, asked of everything that happens |
//! | [`node`] | a process: it runs, is paused, is dead; its clock |
//! | [`net`] | connections between processes |
//! | [`store`] | the store port's model |
//! | [`database`] | the database port's model |
//! | [`chance`], [`trace`] | the seed, and the story that it gives |
//!
//! What is real: everything of `lockkeeper-coordinator` but its stores on etcd and on a file, `lockkeeper-agent`, the
//! engine's planning and running, and the gRPC between them. What is simulated: what they reach through ports.

pub mod chance;
pub mod chaos;
pub mod checker;
pub mod database;
pub mod fleet;
pub mod net;
pub mod node;
pub mod operator;
pub mod run;
pub mod store;
pub mod trace;
