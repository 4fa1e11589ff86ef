//! The adapter on real databases: what each strength does with a late write, and how a transaction waits for a gate.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helper functions"
)]

#[path = "../agent/fake.rs"]
#[expect(dead_code, reason = "the agent's own tests use the rest")]
mod fake;

mod bootstrap;
mod keeper;
mod pooler;
mod retries;
mod strengths;
mod subject;
