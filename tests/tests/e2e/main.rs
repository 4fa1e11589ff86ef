//! Every test that needs more than one part: one binary, one module per subject.

mod agent_run;
mod bad_input;
mod break_glass;
mod client;
mod external;
mod failing_migration;
#[expect(dead_code, reason = "the modules that use the rest come one by one")]
mod fleet;
mod foreign_writer;
mod grpcurl;
mod harness;
mod in_doubt;
mod killed_leader;
mod load;
mod many;
mod no_coordinator;
mod operators_day;
mod paused_agent;
mod regions;
mod small;
mod steering;
mod store_back;
mod traces;
