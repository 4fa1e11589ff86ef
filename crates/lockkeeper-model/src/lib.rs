//! Model checking of the fence.
//!
//! The checker takes the same code that production runs, `lockkeeper-core`, and puts a small store, a small database
//! and small processes around it. It then tries every order in which their steps can happen, with every fault that a
//! configuration allows, and asks the promises I1 to I6 after each step.
//!
//! | module | what it holds |
//! |---|---|
//! | [`store`] | the model store: guards, leases, late transactions, going back |
//! | [`database`] | the model database: gate row, triggers, snapshots, sessions that stop anywhere |
//! | [`words`] | the names of the one small fleet |
//! | [`config`] | what a run explores: who takes part, how time goes, how often each fault happens |
//! | [`fleet`] | everything as one value, and what can happen to it next |
//! | [`suite`] | the runs: configurations, and the assumptions of cooperative targets |
//! | [`seeded`] | the seeded bugs, and what each must come to |
//! | [`check`] | one run through stateright, and its figures |

pub mod check;
pub mod config;
pub mod database;
pub mod fleet;
pub mod seeded;
pub mod store;
pub mod suite;
pub mod words;
