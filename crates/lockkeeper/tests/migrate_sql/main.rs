//! `lockkeeper migrate sql`, as people and scripts call it: the real binary, most of it on SQLite files.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helper functions"
)]

mod bad_input;
mod diff;
mod lint;
mod many;
mod new;
mod prompts;
mod round_trip;
mod schemas;
mod servers;
mod support;
mod verbs;
