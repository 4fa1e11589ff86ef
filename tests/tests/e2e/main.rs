//! Every test that needs more than one part: one binary, one module per subject.

#[expect(dead_code, reason = "the modules that use the rest come one by one")]
mod fleet;
mod harness;
mod killed_leader;
mod load;
mod paused_agent;
mod regions;
