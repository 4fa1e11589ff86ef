//! `lockkeeper migrate sql`, as people and scripts call it: the real binary on SQLite files and real servers.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helper functions"
)]

mod backup;
mod bad_input;
mod constructs;
mod crash;
mod diff;
mod layouts;
mod ledgers;
mod lint;
mod many;
mod new;
mod prompts;
mod rehearse;
mod round_trip;
mod schemas;
mod servers;
mod signals;
mod support;
mod target;
mod verbs;
