//! What is particular to MariaDB behind the database port; what all dialects share is in `tests/conformance`.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helper functions"
)]

mod barrier;
mod crash;
mod preflight;
mod scripts;
mod support;
mod takeover;
