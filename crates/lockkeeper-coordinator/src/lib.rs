//! The coordinator: a store, an election, agents' sessions, the rollout driver and the services.
//!
//! | module | what it holds |
//! |---|---|
//! | [`store`] | the port to coordination state, on etcd and on an embedded file |
//! | [`session`] | this coordinator's presence in the store |
//! | [`election`] | who leads, and under which epoch |
//! | [`keeper`] | one lease, kept alive |
//! | [`term`] | everything that hangs on one session |
//! | [`agents`] | connected agents, their leases, drain reports |
//! | [`leader`] | what only the leader does |
//! | [`services`] | the gRPC services |
//! | [`server`] | a coordinator process |
//! | [`records`], [`view`] | what stands in the store, and this coordinator's picture of it |
//! | [`moving`] | a fleet's state, taken from one store to another |
//! | [`telemetry`] | logs and traces |
//! | [`clock`] | the boot-time clock that leases are measured with |
//! | [`world`] | what a coordinator asks of the world around it, beside the store |

pub mod agents;
pub mod clock;
pub mod election;
pub mod keeper;
pub mod leader;
pub mod moving;
pub mod records;
pub mod server;
pub mod services;
pub mod session;
pub mod store;
pub mod telemetry;
pub mod term;
pub mod view;
pub mod world;
