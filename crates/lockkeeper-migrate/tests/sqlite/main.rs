//! What is particular to SQLite behind the database port; what all dialects share is in `tests/conformance`.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helper functions"
)]

mod barrier;
mod loss;
mod scripts;
mod standalone;
mod support;
mod takeover;
