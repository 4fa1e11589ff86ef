//! `lockkeeper migrate sql`, as people and scripts call it: the real binary on SQLite files.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helper functions"
)]

mod bad_input;
mod diff;
mod many;
mod prompts;
mod round_trip;
mod support;
